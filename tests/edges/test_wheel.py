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


def test_the_guest_brings_its_skills(uv: str, checkout: Path, tmp_path: Path) -> None:
    project = tmp_path / "agent"
    shutil.copytree(checkout / "agent", project, symlinks=True)
    names = build(uv, project, tmp_path)
    skills = {path.name for path in (checkout / "agent" / "skills").iterdir()}
    assert len(skills) >= 3
    assert {f"pynchy_agent/skills/{name}/SKILL.md" for name in skills} <= set(names)
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
