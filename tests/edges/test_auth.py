"""`pynchy auth whatsapp`: what it says, and what it writes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from pynchy.cli import auth
from pynchy.cli.edit import set_setting

AUTH = (sys.executable, "-m", "pynchy", "auth", "whatsapp")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "[whatsapp]\nenabled = true\n"),
        ("[model]\noffline = true\n", "[model]\noffline = true\n\n[whatsapp]\nenabled = true\n"),
        (
            "[whatsapp] # mine\nenabled = false\nread_receipts = true\n[model]\nname = 'x'\n",
            "[whatsapp] # mine\nenabled = true\nread_receipts = true\n[model]\nname = 'x'\n",
        ),
    ],
)
def test_it_is_switched_on_and_all_else_is_left(
    tmp_path: Path, before: str | None, after: str
) -> None:
    path = tmp_path / "config.toml"
    if before is not None:
        path.write_text(before)
    set_setting(path, "whatsapp", "enabled", "true")
    assert path.read_text() == after
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        AUTH,
        env={**os.environ, "PYNCHY_HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "not linked: failed to dial" in done.stderr
    assert not (tmp_path / "config.toml").exists()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("timeout", "nobody scanned a code in time"),
        ("info query returned status 429: rate-overlimit", "too many codes"),
        ("info query returned status 400: bad-request", "no such number"),
        ("no connection", "did not connect within a minute"),
        ("i/o timeout", "i/o timeout"),
    ],
)
def test_why_it_is_not_linked_is_told_in_words(
    reason: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        auth._show({"line": "failed", "reason": reason}, png=None)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("written", ["+49 (170) 123-4567", "0049.170/1234567", "49 170 1234567"])
def test_a_number_may_be_written_as_people_do(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def link(home: object, *, phone: str, **_: object) -> NoReturn:
        asked.append(phone)
        raise SystemExit(0)

    monkeypatch.setattr(auth, "_link", link)
    monkeypatch.setenv("PYNCHY_HOME", str(tmp_path))
    CliRunner().invoke(auth.command, ["whatsapp", "--phone", written], catch_exceptions=False)
    assert asked == ["491701234567"]


def test_a_number_is_a_number(tmp_path: Path) -> None:
    done = subprocess.run(
        [*AUTH, "--phone", "me"],
        env={**os.environ, "PYNCHY_HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
