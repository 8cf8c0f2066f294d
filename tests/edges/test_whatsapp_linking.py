"""Linking: what the throw-away process says of it, and what a person sees."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pynchy.cli.auth import _show

FAKE = Path(__file__).with_name("fake_whatsapp.py")


def pair(tmp_path: Path, *steps: list[str], phone: str = "") -> tuple[int, list[dict[str, Any]]]:
    """What the process says when this happens, with its input open as long as it likes."""
    argv = [sys.executable, str(FAKE), json.dumps(steps), str(tmp_path / "store"), "--pair"]
    flags = ["--log", str(tmp_path / "log"), *(["--phone", phone] if phone else [])]
    with subprocess.Popen([*argv, *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            lines = [json.loads(line) for line in child.stdout]
            return child.wait(timeout=120), lines
        finally:
            child.kill()


def test_codes_are_shown_until_one_is_taken(tmp_path: Path) -> None:
    code, lines = pair(
        tmp_path, ["qr", "first"], ["qr", "second"], ["login", "success"], ["linked"], ["connected"]
    )
    assert code == 0
    assert [line.get("data") for line in lines[:2]] == ["first", "second"]
    assert lines[2] == {"line": "linked", "number": "4917@s.whatsapp.net", "new": True}
    assert [(line["line"], line["name"]) for line in lines[3:]] == [
        ("chat", "Family"),  # to choose main from
        ("chat", "Chess club"),
    ]
    assert (tmp_path / "store" / "whatsapp.db").stat().st_mode & 0o777 == 0o600


def test_a_phone_gets_a_code_to_type_in_once(tmp_path: Path) -> None:
    steps = [["qr", "first"], ["qr", "second"], ["linked"], ["connected"]]
    code, lines = pair(tmp_path, *steps, phone="+49 170 1234567")
    assert code == 0
    assert [line["code"] for line in lines if line["line"] == "code"] == ["CODE-4567"]
    assert [line for line in lines if line["line"] == "qr"] == []


@pytest.mark.parametrize("word", ["timeout", "err-client-outdated"])
def test_an_attempt_that_fails_says_why_and_ends(tmp_path: Path, word: str) -> None:
    code, lines = pair(tmp_path, ["qr", "first"], ["login", word])
    assert (code, lines[-1]) == (1, {"line": "failed", "reason": word})


def test_a_code_is_shown_in_a_picture_for_its_reader_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    png = tmp_path / "code.png"
    assert not _show({"line": "qr", "data": "https://example.org/#1"}, png=png)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.stat().st_mode & 0o777 == 0o600
    assert "Linked devices" in capsys.readouterr().out
    assert _show({"line": "linked", "number": "4917@s.whatsapp.net", "new": True}, png=png)
    with pytest.raises(SystemExit):
        _show({"line": "failed", "reason": "timeout"}, png=png)
    assert "nobody scanned a code in time" in capsys.readouterr().err
