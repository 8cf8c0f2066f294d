"""What the owner is told when only they can help: on the console, and on the desktop."""

import os
import select
from pathlib import Path

import pytest
import trio

from pynchy.daemon import desktop
from tests.end_to_end.house import HANG, running


def stand_in(folder: Path, name: str, *lines: str) -> Path:
    """A program of that name; where it writes its arguments, a line each."""
    folder.mkdir(exist_ok=True)
    said = folder / "said"
    program = folder / name
    program.write_text("\n".join(["#!/bin/sh", f'printf "%s\\n" "$@" >> {said}', *lines]) + "\n")
    program.chmod(0o755)
    return said


@pytest.mark.parametrize("name", ["osascript", "notify-send"])
async def test_title_and_text_are_two_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    said = stand_in(tmp_path / "bin", name)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    await desktop.notify("Pynchy", 'whatsapp: "; do shell script "<b>')
    words = said.read_text().splitlines()
    assert words[-2:] == ["Pynchy", 'whatsapp: "; do shell script " b ']
    assert words[:-2] == list(desktop.PROGRAMS[name])


async def test_where_there_is_no_desktop_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    await desktop.notify("Pynchy", "text")
    (tmp_path / "notify-send").write_text("no program at all")
    (tmp_path / "notify-send").chmod(0o755)
    with trio.fail_after(30):
        await desktop.notify("Pynchy", "text")


@pytest.mark.runtime("bwrap")
def test_the_owner_hears_of_a_lost_link_elsewhere(tmp_path: Path) -> None:
    """The daemon runs on; its owner hears of it on the console and on the desktop, once."""
    # invariant 73
    said = stand_in(tmp_path / "bin", "notify-send", f"echo > {tmp_path / 'bin' / 'done'}")
    os.mkfifo(tmp_path / "bin" / "done")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    words = "whatsapp: logged_out (not linked; link it: pynchy auth whatsapp)"
    with running(tmp_path / "home", "bwrap", "whatsapp.enabled=true", PATH=path) as daemon:
        shown = os.open(tmp_path / "bin" / "done", os.O_RDONLY | os.O_NONBLOCK)
        assert select.select([shown], [], [], HANG)[0]
        os.close(shown)
        with daemon.talk() as talk:
            assert talk.call("status")["channels"]["whatsapp"] == words.removeprefix("whatsapp: ")
            talk.say("hello")
            talk.wait(lambda event: event["event"] == "message" and words not in event["text"])
            said_here = [each["text"] for each in talk.call("history", chat="console:main")]
    assert sum(words in text for text in said_here) == 1
    assert said.read_text().splitlines()[-2:] == ["Pynchy", words]
