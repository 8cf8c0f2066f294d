"""Run the commands a newcomer runs, for real, and write down what they said: `just transcripts`.

Everything is real but the model, which is the offline one, and the names of folders. A test sees that
every command on the page is one that there is.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parent
PAGE: Final = DOCS / "transcripts.md"
YOU: Final = "/home/you"
MOST: Final = 40  # lines of one answer

INTRO: Final = """\
# What it looks like

Written by `just transcripts`: each command below was run, in this order, on an empty home, and said
this. The answers are the offline model's; folders are called as yours may be.
"""

# Sections: a title, a sentence, whether the daemon runs, and the commands.
SECTIONS: Final[list[tuple[str, str, bool, list[str]]]] = [
    (
        "The first minutes",
        "Nothing is there yet. `--check` only looks; without a terminal the flags say what is wanted.",
        False,
        [
            "pynchy status",
            "pynchy init --check",
            "pynchy init --offline --engine bwrap",
            "pynchy config show --changed",
            "pynchy doctor",
        ],
    ),
    (
        "With the daemon running",
        "In another terminal: `pynchy run`.",
        True,
        [
            'pynchy send main "hello"',
            "pynchy status",
            "pynchy why",
            "pynchy why 1",
            'pynchy tasks add main "echo good morning" --cron "0 8 * * 1-5" --name briefing',
            "pynchy tasks",
            "pynchy runs",
            "pynchy usage",
            "pynchy metrics",
            "pynchy backup",
            "pynchy export main main.tar.gz",
        ],
    ),
    (
        "With the daemon down",
        "What the rows say they say all the same.",
        False,
        ["pynchy status", "pynchy why", "pynchy tasks run briefing"],
    ),
    (
        "Wrong permissions",
        "Others may read the database, and the doctor fixes it.",
        False,
        ["pynchy doctor --fix"],
    ),
    (
        "A mistake in the configuration",
        '`config.toml` says `[limits]`, `idel = "10 min"`.',
        False,
        ["pynchy config check", "pynchy run"],
    ),
    (
        "A new version",
        "With the daemon up or down.",
        False,
        ["pynchy upgrade --check"],
    ),
]


def environment(home: Path) -> dict[str, str]:
    keep = ("PATH", "LANG", "PYTHONPATH")
    ours = {name: os.environ[name] for name in keep if name in os.environ}
    return {**ours, "HOME": str(home), "TZ": "Europe/Berlin", "USER": "you"}


def say(command: str, home: Path) -> tuple[str, int]:
    argv = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(
        argv,
        env=environment(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    text = done.stdout.replace(str(home), YOU).replace(str(DOCS.parent), f"{YOU}/pynchy")
    text = re.sub(r"process \d+", "process 4711", text)
    lines = text.rstrip("\n").split("\n")
    if len(lines) > MOST:
        lines[MOST // 2 : -4] = ["…"]
    return "\n".join(lines), done.returncode


@contextmanager
def daemon(home: Path) -> Iterator[None]:
    argv = [sys.executable, "-m", "pynchy", "run"]
    with subprocess.Popen(
        argv,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.terminate()
            process.wait(60)


def write() -> Iterator[str]:
    yield INTRO
    with tempfile.TemporaryDirectory(prefix="you-") as folder:
        home = Path(folder)
        for title, sentence, runs, commands in SECTIONS:
            yield f"## {title}\n\n{sentence}\n"
            if title.startswith("Modes"):
                (home / ".pynchy" / "store" / "pynchy.db").chmod(0o644)
            elif title.startswith("A mistake"):
                with (home / ".pynchy" / "config.toml").open("a") as file:
                    file.write('\n[limits]\nidel = "10 min"\n')
            elif title.startswith("A new"):
                kept = (home / ".pynchy" / "config.toml").read_text()
                (home / ".pynchy" / "config.toml").write_text(kept.partition("\n[limits]")[0])
            if runs:
                with daemon(home):
                    yield from _shown(commands, home)
            else:
                yield from _shown(commands, home)


def _shown(commands: list[str], home: Path) -> Iterator[str]:
    for command in commands:
        text, code = say(command, home)
        exits = f"\n(exit code {code})" if code else ""
        yield f"```console\n$ {command}\n{text}{exits}\n```\n"


if __name__ == "__main__":
    PAGE.write_text("\n".join(write()).rstrip() + "\n", encoding="utf-8")
