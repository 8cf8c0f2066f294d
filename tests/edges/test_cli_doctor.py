"""What the doctor says in the end, and what it says that it fixed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from pynchy.container.spec import ENGINE_NAMES


def doctor(home: Home, *argv: str, engine: str = "bwrap") -> subprocess.CompletedProcess[str]:
    environ = {
        **{
            name: value
            for name, value in os.environ.items()
            if name in ENGINE_NAMES | {"XDG_RUNTIME_DIR"}
        },
        "PYNCHY_HOME": str(home.root),
        "PYNCHY_CONTAINER_ENGINE": engine,
        "HOME": str(home.root.parent),
        "PATH": os.environ["PATH"],
    }
    return subprocess.run(
        [sys.executable, "-m", "pynchy", "doctor", *argv],
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_it_ends_with_how_it_is_and_says_what_was_fixed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    home.store.chmod(0o755)
    home.env.write_text("ANTHROPIC_API_KEY=sk-ant-planted\n")
    home.env.chmod(0o644)
    ill = doctor(home)
    assert ill.returncode == 1
    assert "2 failed" in ill.stdout.splitlines()[-1]
    assert "pynchy doctor --fix can fix 2 of them" in ill.stdout.splitlines()[-1]
    assert ill.stderr == ""
    fixed = doctor(home, "--fix")
    assert fixed.returncode == 0
    assert "failed" not in fixed.stdout.splitlines()[-1]
    assert [line.split(": ")[0] for line in fixed.stderr.splitlines()] == [
        "fixed folders",
        "fixed env file",
    ]
    assert home.store.stat().st_mode & 0o777 == 0o700
    assert "planted" not in ill.stdout + fixed.stdout + fixed.stderr


@pytest.mark.runtime("podman", "docker")
def test_before_the_first_start_it_sees_what_the_engine_enforces(
    runtime_name: str, tmp_path: Path
) -> None:
    home = Home(tmp_path / "home")
    rows = json.loads(doctor(home, "--json", engine=runtime_name).stdout)
    found = {row["check"]: row for row in rows}
    if os.environ.get("PYNCHY_TEST_ROOTLESS"):
        assert found["limits"]["what"] == "not enforced: cpus"
        assert "delegated" in found["limits"]["advice"]
    else:
        assert (found["limits"]["level"], found["limits"]["what"]) == ("ok", "all enforced")
    assert found["storage"]["what"].startswith("overlay")
    assert not home.root.exists(), "a look makes nothing"
