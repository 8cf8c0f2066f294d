"""The uv that fetches what is installed: where it is found, and whom it trusts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pynchy.config import uv
from pynchy.config.environ import CERTIFICATES
from tests.end_to_end.test_toolbox import wheel
from tests.internet import Internet

ROOT = Path(__file__).parents[2]


def test_the_one_of_the_checkout_is_found_without_being_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("tools/bin", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "uv").touch(mode=0o755)
    monkeypatch.setattr(uv, "TOOLS", tmp_path / "tools")
    path = {"PATH": str(tmp_path / "elsewhere")}
    assert uv.find(path) == str(tmp_path / "tools" / "bin" / "uv")
    (tmp_path / "tools" / "bin" / "uv").unlink()
    assert uv.find(path) == str(tmp_path / "elsewhere" / "uv")
    assert uv.find({"PATH": str(tmp_path)}) is None


def test_an_empty_store_is_not_asked_and_a_choice_of_the_user_stands(tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.write_text("certificates")
    empty.touch()
    assert uv.trusting({"A": "b"}, stores=(empty, tmp_path / "none")) == {"A": "b"}
    assert uv.trusting({}, stores=(empty, full)) == {"UV_SYSTEM_CERTS": "1"}
    assert uv.trusting({"UV_SYSTEM_CERTS": "0"}, stores=(full,)) == {"UV_SYSTEM_CERTS": "0"}


def test_it_trusts_a_package_index_that_the_machine_trusts(
    tmp_path: Path, internet: Internet
) -> None:
    """In the shell of set-up and in our own commands; by itself it does not."""
    name = wheel(internet.site("pypi.org")).name
    internet.page("pypi.org", "simple/greeting/index.html", f'<a href="/{name}">{name}</a>')
    unset = {
        name for name in os.environ if name in CERTIFICATES or name.startswith(("UV_", "PIP_"))
    }
    plain = {name: value for name, value in os.environ.items() if name not in unset}
    program = uv.find(plain)
    assert program is not None

    def install(name: str, before: str, env: dict[str, str]) -> int:
        line = (
            f'{before} "$0" pip install --no-cache --no-config --target {tmp_path / name} greeting'
        )
        script = ["bash", "-c", line, program]
        return subprocess.run(internet.command(script), cwd=ROOT, env=env, check=False).returncode

    assert install("alone", "", plain) != 0
    assert install("ours", "", uv.trusting(plain)) == 0
    assert install("shell", ". requirements/certificates.sh;", plain) == 0
    assert (tmp_path / "shell" / "greeting.py").is_file()
