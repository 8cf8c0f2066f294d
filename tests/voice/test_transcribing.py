"""Voice notes turned into words by the real whisper.cpp, in sandboxes of the real engines.

`.ci/voice` brings the packages, a model and spoken words. Without them what needs them is skipped.
"""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from pynchy.config.paths import Home
from pynchy.config.settings import Assistant, Config, Container, Voice, WhatsApp
from pynchy.config.sources import from_environ
from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.runtime import Installation, Runtime
from pynchy.model import ChatId, Group, GroupId, Message, Micros, SenderId
from pynchy.text.triggers import is_trigger
from pynchy.voice.transcriber import OFF, NotTranscribed, Transcriber
from tests.edges.fake_whatsapp import CHAT, OTHER
from tests.edges.test_whatsapp import connected, incoming, terms
from tests.voice.lab import MODEL

INSTALL = "0123abcd"
HANG = 110.0


@pytest.fixture
def lab() -> Path:
    """The packages, the model and the spoken words, where they were made."""
    place = os.environ.get("PYNCHY_TEST_VOICE")
    if not place:
        pytest.skip("no model and no speech here: .ci/voice makes them")
    return Path(place)


@pytest.fixture
async def runtime(runtime_name: str, tmp_path: Path, agent_image: str) -> AsyncIterator[Runtime]:
    ours = Installation(INSTALL, agent_image, tmp_path / "sandboxes", os.environ)
    runtime = await open_runtime(runtime_name, ours)
    with trio.fail_after(HANG):
        yield runtime
    assert await runtime.list() == []  # nothing of a note outlives it


def transcriber(
    runtime: Runtime, root: Path, image: str, *, own: tuple[str, ...] = (), **more: object
) -> Transcriber:
    config = Config(
        home=Home(root),
        assistant=Assistant(name="Andy"),
        container=Container(image=image),
        whatsapp=WhatsApp(transcribe=own),
        voice=Voice(enabled=True, model=MODEL),
    )
    return Transcriber(attrs.evolve(config, **more), runtime, INSTALL)  # type: ignore[arg-type]


async def test_spoken_words_are_words_and_a_name_at_their_start_calls(
    lab: Path, runtime: Runtime, agent_image: str
) -> None:
    hears = transcriber(runtime, lab, agent_image)
    text = await hears.text(lab / "speech" / "andy.ogg")
    assert text == "[voice note] Andy, send the list to Anna."
    group = Group(GroupId("family"), "Family", trigger="Andy", requires_trigger=True, is_main=False)
    note = Message(ChatId("1@g.us"), "V1", SenderId("49@s.whatsapp.net"), "Ann", Micros(1), text)
    assert is_trigger(note, group)
    assert not is_trigger(attrs.evolve(note, text="[voice note] Send Andy the list."), group)


@pytest.mark.runtime("bwrap")
@pytest.mark.parametrize(("note", "word"), [("mother.ogg", "mother"), ("weather.ogg", "weather")])
async def test_voices_and_rates_of_all_kinds_are_listened_to(
    lab: Path, runtime: Runtime, agent_image: str, note: str, word: str
) -> None:
    words = await transcriber(runtime, lab, agent_image).words(lab / "speech" / note)
    assert word in words.lower()


@pytest.mark.runtime("bwrap")
async def test_two_notes_at_once_and_no_more(lab: Path, runtime: Runtime, agent_image: str) -> None:
    hears = transcriber(runtime, lab, agent_image)
    heard: list[str] = []
    most = 0

    async def listen() -> None:
        heard.append(await hears.text(lab / "speech" / "andy.ogg"))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(listen)
        while len(heard) < 4:
            most = max(most, len(await runtime.list()))
            await trio.sleep(0.05)
    assert heard == ["[voice note] Andy, send the list to Anna."] * 4
    assert most <= 2


@pytest.mark.parametrize("content", [b"", b"no sound at all", b"OggS" + bytes(4000)])
async def test_what_is_no_sound_is_said_to_be_none(  # threat P7
    lab: Path, runtime: Runtime, agent_image: str, tmp_path: Path, content: bytes
) -> None:
    note = tmp_path / "note.ogg"
    note.write_bytes(content)
    text = await transcriber(runtime, lab, agent_image).text(note)
    assert text.startswith("[voice note: could not be transcribed (it is no sound file")
    assert note.read_bytes() == content


async def test_what_is_missing_is_named(runtime: Runtime, agent_image: str, tmp_path: Path) -> None:
    (note := tmp_path / "note.ogg").write_bytes(b"OggS")
    hears = transcriber(runtime, tmp_path, agent_image)
    with pytest.raises(
        NotTranscribed, match=r"packages for Python .* not installed.*voice install"
    ):
        await hears.words(note)
    assert await transcriber(runtime, tmp_path, agent_image, voice=Voice()).text(note) == OFF
    assert "No such file" in await hears.text(tmp_path / "gone.ogg")


async def test_an_own_command_sees_the_note_and_no_network(
    runtime: Runtime, agent_image: str, tmp_path: Path
) -> None:
    (note := tmp_path / "note.ogg").write_bytes(bytes(1 << 20))
    (own := tmp_path / "own").mkdir()
    (own / "say").write_text('wc -c <"$1"; grep -c : /proc/net/dev; id -u; ls "$(dirname "$0")"\n')
    own.chmod(0o755)
    hears = transcriber(
        runtime, tmp_path, agent_image, own=("sh", "/opt/voice/own/say"), voice=Voice(folder=own)
    )
    size, interfaces, user, seen = (await hears.words(note)).split()
    assert (int(size), interfaces, seen) == (1 << 20, "1", "say")
    assert user != "0"


@pytest.mark.runtime("bwrap")
@pytest.mark.parametrize(
    ("own", "why"),
    [
        (("nowhere",), "is not in the sandbox"),
        (("sh", "-c", "exit 9"), "ended with 9"),
        (("yes",), "have no end"),
        (("sh", "-c", "sleep 99"), "took longer than 1 s"),
        (("sh", "-c", "kill -9 $$"), "killed"),
    ],
)
async def test_a_command_that_fails_costs_the_words_and_nothing_else(
    runtime: Runtime, agent_image: str, tmp_path: Path, own: tuple[str, ...], why: str
) -> None:
    (note := tmp_path / "note.ogg").write_bytes(b"OggS")
    hears = transcriber(runtime, tmp_path, agent_image, own=own)
    text = await attrs.evolve(hears, seconds=1 if "sleep 99" in own else 60).text(note)
    assert text.startswith("[voice note: could not be transcribed (")
    assert why in text


@pytest.mark.runtime("bwrap")
async def test_a_note_from_whatsapp_comes_as_its_words_and_holds_up_nobody(
    lab: Path, runtime: Runtime, agent_image: str, tmp_path: Path
) -> None:
    """Over the real bridge process: fetched by it, turned into words in a sandbox by the daemon."""
    note = str(lab / "speech" / "andy.ogg")
    steps: list[list[Any]] = [["file", note, "V1", CHAT], ["messages", 1], ["messages", 1, OTHER]]
    how = attrs.evolve(
        terms(tmp_path, ["connected"], *steps, chats=(CHAT, OTHER)),
        media_limit=1 << 20,
        transcribe=transcriber(runtime, lab, agent_image).text,
    )
    async with connected(how) as channel:
        told = [(await incoming(channel)).message for _ in range(3)]
    assert [(message.chat.partition("@")[0], message.text) for message in told] == [
        (OTHER, "message 0"),
        (CHAT, "[voice note] Andy, send the list to Anna."),
        (CHAT, "message 0"),
    ]
    (kept,) = told[1].attachments
    assert (tmp_path / "media" / kept.path).read_bytes() == Path(note).read_bytes()


@pytest.mark.runtime("bwrap")
def test_one_word_to_init_switches_it_on(lab: Path, tmp_path: Path, runtime_name: str) -> None:
    """Packages and model are there already, as after an installation that ended before the last step."""
    home = Home(tmp_path / "home")
    home.make()
    home.voice.symlink_to(lab / "voice")
    home.config.write_text(f'[voice]\nmodel = "{MODEL}"\n')
    environ = {
        "PATH": os.environ["PATH"],
        "PYNCHY_HOME": str(home.root),
        "HOME": str(tmp_path),
        "PYNCHY_CONTAINER_ENGINE": "bwrap",
    }

    def pynchy(*words: str) -> str:
        argv = [sys.executable, "-m", "pynchy", *words]
        done = subprocess.run(
            argv, env=environ, capture_output=True, text=True, timeout=HANG, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert f"voice       made     by the model {MODEL}, in bwrap" in pynchy(
        "init", "--offline", "--voice", "--no-service", "--no-whatsapp"
    )
    assert from_environ({"PYNCHY_HOME": str(home.root)}).voice.enabled
    assert pynchy("voice", "try", str(lab / "speech" / "andy.ogg")) == (
        "Andy, send the list to Anna.\n"
    )
