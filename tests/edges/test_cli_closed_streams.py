"""No command ends in a traceback because stdin, stdout or stderr is closed, or cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import trio

from pynchy.cli.app import pynchy
from pynchy.config.paths import Home
from tests.edges.small_daemon import running

#: They fetch from the network, or change the machine; what they do with streams is click's, as the others'.
_REACHING = {
    ("toolbox", "install"),
    ("voice", "install"),
    ("service", "install"),
    ("service", "uninstall"),
}


def every_command(group: click.Group, *before: str) -> list[tuple[str, ...]]:
    """The words of each command, and of each group of commands."""
    found: list[tuple[str, ...]] = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((*before, name))
        if isinstance(command, click.Group):
            found += every_command(command, *before, name)
    return found


def arguments(words: tuple[str, ...]) -> list[str]:
    """Something for each argument that the command demands."""
    command: click.Command | None = pynchy
    for word in words:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    return ["1" for each in command.params if isinstance(each, click.Argument) and each.required]


COMMANDS = every_command(pynchy)

#: Runs each line of stdin as a command in a process of its own, begun with closed streams as Python sees them.
EACH = """
import os, signal, sys
lines = sys.stdin.read().splitlines()
import pynchy.__main__ as program, pynchy.cli.app
for line in lines:
    child = os.fork()
    if child == 0:
        signal.alarm(2 if line == "web" else 60)  # it goes on until it is told to stop
        os.close(0)
        os.close(1)
        sys.stdin = sys.__stdin__ = sys.stdout = sys.__stdout__ = None
        sys.argv = ["pynchy", *line.split()]
        print("==", line, file=sys.stderr, flush=True)
        program.main()
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), file=sys.stderr, flush=True)
"""


async def test_every_command_can_do_without_stdin_and_stdout(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    lines = ["", "--version", "--help", "send --help"]
    for words in COMMANDS:
        if words not in _REACHING:
            lines.append(" ".join([*words, *arguments(words)]))
    async with running(home):
        done = await trio.run_process(
            [sys.executable, "-c", EACH],
            stdin="\n".join(lines).encode(),
            env={"PYNCHY_HOME": str(home.root), "HOME": str(tmp_path), "PATH": "/nowhere"},
            capture_stdout=True,
            capture_stderr=True,
        )
    said = done.stderr.decode()
    assert said.count("== ") == len(lines)
    tails = {each.split("\n", 1)[0]: each for each in said.split("== ")[1:]}
    assert "ended -14" in tails.pop("web")  # SIGALRM
    assert not [each for each in tails.values() if "Traceback" in each or "ended -" in each]
    assert done.stdout == b""


def pynchy_in(home: Path, redirected: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "pynchy", *words],
        env={"PYNCHY_HOME": str(home), "HOME": str(home.parent), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["chat"], 4),
        (["groups", "forget", "x"], 1),
        (["--version"], 0),
        (["run"], 78),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("redirected", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_shell_may_close_them(
    tmp_path: Path, redirected: str, words: list[str], code: int
) -> None:
    done = pynchy_in(tmp_path / "home", redirected, *words)
    assert b"Traceback" not in done.stderr
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["groups", "--help"]])
def test_a_full_disk_is_a_sentence(tmp_path: Path, words: list[str]) -> None:
    done = pynchy_in(tmp_path / "home", ">/dev/full", *words)
    assert b"Traceback" not in done.stderr
    assert b"No space left on device" in done.stderr
    assert done.returncode != 0
