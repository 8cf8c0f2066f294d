"""What a shell is given to complete words, tried in that shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    (tmp_path / "completion").write_text(script("bash"))
    program = tmp_path / "pynchy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pynchy "$@"\n')
    program.chmod(0o755)
    words = typed.split(" ")
    ask = (
        f". '{tmp_path}/completion'; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        "_pynchy_completion pynchy; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", ask],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == offered
