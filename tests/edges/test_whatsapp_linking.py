"""Linking: what the throw-away process says of it, and what a person sees."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pynchy.cli.auth import _show
from pynchy.store import whatsapp_session as session

from .test_whatsapp import link

FAKE = Path(__file__).with_name("fake_whatsapp.py")


def pair(
    tmp_path: Path, *steps: list[Any], phone: str = "", again: bool = False
) -> tuple[int, list[dict[str, Any]]]:
    """What the process says when this happens, with its input open as long as it likes."""
    argv = [sys.executable, str(FAKE), json.dumps(steps), str(tmp_path / "store"), "--pair"]
    flags = ["--log", str(tmp_path / "log"), *(["--phone", phone] if phone else [])]
    flags += ["--again"] if again else []
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
    assert lines.pop(2) == {"line": "taken"}
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


def test_a_code_that_is_taken_without_a_connection_is_given_up(tmp_path: Path) -> None:
    code, lines = pair(tmp_path, ["waits", 0.2], ["qr", "first"], ["login", "success"])
    assert code == 1
    assert lines[1:] == [{"line": "taken"}, {"line": "failed", "reason": "no connection"}]


LOGGED_OUT = ["unlinked", "LoggedOutEv", {"OnConnect": True, "Reason": 2}]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (["connected"], {"line": "linked", "number": "4917@s.whatsapp.net", "new": False}),
        (LOGGED_OUT, {"line": "unlinked"}),
        (
            ["return", "no such host"],
            {
                "line": "linked",
                "number": "4917@s.whatsapp.net",
                "new": False,
                "doubt": "no such host",
            },
        ),
    ],
)
def test_a_link_that_we_have_is_asked_about(
    tmp_path: Path, step: list[Any], said: dict[str, Any]
) -> None:
    link(tmp_path / "store")
    code, lines = pair(tmp_path, step)
    assert (code, lines[0]) == (0, said)
    left = session.linked(tmp_path / "store" / session.NAME, ours=True)
    assert (left is None) is (step is LOGGED_OUT)


def test_a_new_link_takes_the_place_of_the_old_one_once_it_is_made(tmp_path: Path) -> None:
    link(tmp_path / "store")
    path = tmp_path / "store" / session.NAME
    code, lines = pair(tmp_path, ["qr", "first"], ["login", "timeout"], again=True)
    assert (code, [line["line"] for line in lines]) == (1, ["qr", "failed"])
    session.settle(path)
    account = session.linked(path, ours=True)
    assert account is not None
    assert account.lid == "8001:3@lid"  # the old one
    code, lines = pair(tmp_path, ["qr", "first"], ["linked"], ["connected"], again=True)
    assert code == 0
    assert [line["line"] for line in lines[:2]] == ["qr", "linked"]
    session.settle(path)
    account = session.linked(path, ours=True)
    assert account is not None
    assert account.lid == ""


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
