"""What a shell is given to complete words, tried in that shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from pynchy.config.paths import Home
from pynchy.model import ChatId, GroupId, Micros
from pynchy.store import groups
from tests.edges.small_daemon import running
from tests.transactions import at

PYNCHY = (sys.executable, "-m", "pynchy")


def script(shell: str) -> str:
    argv = [*PYNCHY, "completion", shell]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_us(shell: str) -> None:
    assert f"_PYNCHY_COMPLETE={shell}_complete" in script(shell)


def test_another_shell_is_refused() -> None:
    done = subprocess.run([*PYNCHY, "completion", "tcsh"], capture_output=True, timeout=60)
    assert done.returncode == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pynchy doc", {"doctor"}),
        ("pynchy tasks re", {"remove", "resume"}),
        ("pynchy doctor --on", {"--online"}),
    ],
)
def test_bash_completes_words(tmp_path: Path, typed: str, offered: set[str]) -> None:
    assert completed(tmp_path, typed) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
async def test_it_completes_names_that_only_the_daemon_knows(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    async with running(home) as daemon:
        for folder in ("family", "fishing"):
            await daemon.store.call(
                at(Micros(0), groups.register),
                folder=GroupId(folder),
                name=folder,
                chats=(ChatId(f"console:{folder}"), ChatId(f"{folder}@g.us")),
                trigger="Pynchy",
                requires_trigger=True,
            )
        for typed, offered in (
            ("pynchy groups pause fa", {"family"}),
            ("pynchy send f", {"family", "fishing"}),  # and of a messenger's chats none
            ("pynchy logs --group fi", {"fishing"}),
            ("pynchy tasks add fi", {"fishing"}),
        ):
            found = await trio.to_thread.run_sync(completed, tmp_path, typed, home.root)
            assert found == offered, typed
    down = await trio.to_thread.run_sync(completed, tmp_path, "pynchy send f", home.root)
    assert down == set()


def completed(folder: Path, typed: str, home: Path | None = None) -> set[str]:
    """What bash offers for the last word."""
    (folder / "completion").write_text(script("bash"))
    program = folder / "pynchy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pynchy "$@"\n')
    program.chmod(0o755)
    words = typed.split(" ")
    ask = (
        f". '{folder}/completion'; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        "_pynchy_completion pynchy; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    where = {} if home is None else {"PYNCHY_HOME": str(home)}
    done = subprocess.run(
        ["bash", "-c", ask],
        env={**os.environ, **where, "PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())
