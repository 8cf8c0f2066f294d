"""What is installed without a checkout has all that it needs: looked at in a wheel that the real backend builds."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture
def uv(checkout: Path) -> str:
    found = shutil.which("uv", path=f"{checkout / '.tools' / 'bin'}:{os.environ['PATH']}")
    assert found is not None, "set-up installs it in .tools"
    return found


def build(uv: str, project: Path, to: Path) -> list[str]:
    """Unpack a wheel of a project; the names in it."""
    subprocess.run(
        [
            uv,
            "build",
            "--quiet",
            "--offline",
            "--wheel",
            "--out-dir",
            str(to / "dist"),
            str(project),
        ],
        check=True,
        timeout=120,
    )
    (wheel,) = (to / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(to / "site")
        return packed.namelist()


def test_the_daemon_brings_the_lock_of_the_toolbox(uv: str, checkout: Path, tmp_path: Path) -> None:
    project = tmp_path / "checkout"
    for part in ("pynchy", "requirements"):
        ours = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout / part, project / part, symlinks=True, ignore=ours)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(checkout / name, project / name)
    build(uv, project, tmp_path)
    lock = tmp_path / "site" / "pynchy" / "container" / "toolbox.lock"
    assert lock.read_bytes() == (checkout / "requirements" / "toolbox.lock").read_bytes()
    assert b"--hash=sha256:" in lock.read_bytes()


def test_the_guest_brings_its_skills(uv: str, checkout: Path, tmp_path: Path) -> None:
    project = tmp_path / "agent"
    shutil.copytree(checkout / "agent", project, symlinks=True)
    names = build(uv, project, tmp_path)
    skills = {path.name for path in (checkout / "agent" / "skills").iterdir()}
    assert len(skills) >= 3
    assert {f"pynchy_agent/skills/{name}/SKILL.md" for name in skills} <= set(names)
    assert {"pynchy_agent/shell.sh", "pynchy_agent/gitconfig"} <= set(names)
    # And whoever is installed with it finds them there, not in a checkout.
    source = (
        "from pynchy.groups.agent import own_skills; import pynchy_agent;"
        "print(own_skills(), pynchy_agent.__file__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}:{checkout}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    site = tmp_path / "site" / "pynchy_agent"
    assert found.split() == [str(site / "skills"), str(site / "__init__.py")]
