"""A runtime that is demanded is never skipped, and the last line says what was tested."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ONE_TEST = "def test_it(runtime_name: str) -> None:\n    print('in', runtime_name)\n"
ENGINE = "#!/bin/sh\nexit {status}\n"


def run_suite(folder: Path, checkout: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A suite of one test for each runtime, with podman here and docker that does not answer."""
    (folder / "test_one.py").write_text(ONE_TEST)
    for name, status in (("podman", 0), ("docker", 1)):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(ENGINE.format(status=status))
        program.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {k: v for k, v in os.environ.items() if k != "PYNCHY_TEST_RUNTIMES"}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.conftest", "-q", f"--rootdir={folder}"),
            *("-k", "podman or docker", str(folder / "test_one.py")),
        ],
        cwd=checkout,
        env=environ | env | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_not_here_is_skipped_and_said(tmp_path: Path, checkout: Path) -> None:
    done = run_suite(tmp_path, checkout)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    tested, _, missing = done.stdout.splitlines()[-2].partition("; not here: ")
    assert tested == "runtimes tested: podman"
    assert "docker" in missing.split(", ")


def test_what_is_demanded_and_not_here_fails(tmp_path: Path, checkout: Path) -> None:
    done = run_suite(tmp_path, checkout, PYNCHY_TEST_RUNTIMES="podman,docker")
    assert done.returncode == 1, done.stdout
    assert "docker does not answer, and PYNCHY_TEST_RUNTIMES demands it" in done.stdout


@pytest.mark.parametrize("names", ["dokcer", "bwrap,lxc"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, checkout: Path, names: str) -> None:
    done = run_suite(tmp_path, checkout, PYNCHY_TEST_RUNTIMES=names)
    assert done.returncode == 4, done.stdout
    assert "PYNCHY_TEST_RUNTIMES names" in done.stdout + done.stderr
