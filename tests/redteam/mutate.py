"""Very many inputs in a short time: honest ones with bytes changed, to each reader of what others write.

Where the properties of hypothesis look for what is said wrongly, this looks for what should not happen at all: an
error that a reader does not own to. ``python -m tests.redteam.mutate --inputs 1000000``; a seed brings a run back.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from pynchy import dotenv
from pynchy.chat import commands, text, whatsapp_lines, whatsapp_read
from pynchy.container import mounts
from pynchy.gateway import body, hello, hosts
from pynchy.gateway.exchange import Egress, Limits, RunIdentity
from pynchy.gateway.policy import Refusal
from pynchy.groups import settings
from pynchy.ipc import policy, requests
from pynchy.logs import escape
from pynchy.model import ChatId, Group, GroupId, Message, Micros, RunId, SenderId
from pynchy.schedule import times
from pynchy_agent import wire
from tests.edges.fake_whatsapp import message, protobufs_alone

WORDS: Final = [
    b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"NaN", b"1e999", b"-0", b"9" * 30, b'"', b"\\u0000", b"{", b"}", b"[" * 40,
    b"\r\n", b"\n", b":", b",", b"../", b"%00", "\u202e".encode(), "\u3164".encode(), b"null",
    b"<internal>", b"</internal>",
    b"```", b"@lid", b"*/1", b"/approve ", b"xn--", b"::1", b"169.254.169.254",
]  # fmt: skip


@attrs.frozen
class Reader:
    """Something that reads other people's bytes, honest examples, and the errors that it may raise."""

    name: str
    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = ()


def readers() -> Iterator[Reader]:
    frames = tuple(
        wire.encode_frame(each)
        for each in (
            wire.Ready(),
            wire.Accepted(prompts=("a" * 36,)),
            wire.Result(text="hello", answered=("a" * 36,), session=None),
        )
    )
    yield Reader("stdout of a container", _frames, frames, (wire.BadFrame,))
    asked = wire.encode_command(wire.Command("send_message", {"text": "hello", "sender": "x"}))
    other = wire.encode_command(wire.Command("request_mount", {"path": "/srv/x", "writable": True}))
    yield Reader("command files", _command, (asked, other), (wire.BadFrame,))
    call = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[]}'
    yield Reader("bodies of calls", _body, (call,), (Refusal,))
    yield Reader("hellos of TLS", hello.server_name, (_hello(),), (Refusal,))
    places = (b"example.org:443", b"[2001:db8::1]:443", b"http://example.org/x?y=z")
    yield Reader("places to connect to", _place, places, (Refusal, ValueError))
    yield Reader("the allowlist", mounts.parse_allowlist, (_ALLOWLIST,), (mounts.BadAllowlist,))
    yield Reader(
        ".env", dotenv.parse_env, (b"A=b\nexport C=\"d\\n\"\nE='f' # g\n",), (dotenv.BadEnvFile,)
    )
    lines = (b"0 9 * * 1-5", b"*/5 0-6 1,15 * *", b"2026-03-01T09:00:00+01:00", b"3600")
    yield Reader("schedules", _schedule, lines, (times.BadSchedule,))
    said = (
        b"@Pynchy /stop",
        b"/approve K7M2-9QXD",
        "\u2068@Pynchy\u2069 hello <internal>x</internal>".encode(),
    )
    yield Reader("words of a chat", _words, said)
    yield Reader(
        "settings of a group", _settings, (_SETTINGS,), (settings.BadSettings, wire.BadFrame)
    )
    yield Reader("lines of the bridge", _bridge, (_BRIDGE,), (whatsapp_lines.BadLine,))
    yield Reader("events of WhatsApp", *_whatsapp())


_ALLOWLIST: Final = (
    b'{"allowedRoots":[{"path":"~/projects","allowReadWrite":true,"description":"x"}],'
    b'"blockedPatterns":["*.key"],"nonMainReadOnly":true}'
)
_SETTINGS: Final = (
    b'{"mounts":[{"path":"/srv/x","name":"x","writable":false}],"egress":"allowlist","hosts":["*.example.org"],'
    b'"models":["m"],"server_tools":["web_search"],"budget":{"day_dollars":2.5}}'
)
_BRIDGE: Final = (
    b'{"chat":"1@g.us","id":"A","sender":"2@s.whatsapp.net","sender_name":"x","sent_at":1,"text":"hi","quoted":null,'
    b'"attachments":[{"path":"a.jpg","media_type":"image/jpeg","size":1}]}'
)
_WHO: Final = RunIdentity(
    run=RunId("a" * 16), group=GroupId("family"), token="t" * 64, models=(), server_tools=frozenset(),
    egress=Egress(kind="public", patterns=(), denied=()), limits=Limits(),
)  # fmt: skip
_WINTER: Final = Micros(1_768_000_000_000_000)  # a day of 2026
_GROUP: Final = Group(
    folder=GroupId("family"), name="Family", trigger="Pynchy", requires_trigger=True, is_main=False
)
_MAIN: Final = attrs.evolve(_GROUP, folder=GroupId("main"), is_main=True)


def _frames(data: bytes) -> None:
    decoder = wire.FrameDecoder()
    half = len(data) // 2
    for part in (data[:half], data[half:], b"\n"):
        list(decoder.feed(part))


def _command(data: bytes) -> None:
    command = wire.decode_command(data)
    if command.name in policy.COMMANDS and policy.misfit(command.name, command.args) is None:
        shown = requests.Request(GroupId("family"), command.name, command.args)
        assert requests.read(shown.canonical) == shown
        for line in requests.lines(shown):
            assert line.isprintable()


def _body(data: bytes) -> None:
    body.at_once(body.check(_WHO, data, counting=False, user="u"))


def _place(data: bytes) -> None:
    for read in (hosts.parse_authority, hosts.parse_url):
        try:
            to = read(data)
        except Refusal:
            continue
        assert to
    hosts.check_pattern(data.decode("latin-1"))


def _schedule(data: bytes) -> None:
    words = data.decode("utf-8", "replace")
    kind = "once" if "T" in words[:20] else "interval" if words.isdecimal() else "cron"
    value = int(words) if kind == "interval" else words
    found = times.parse(kind, value, timezone="Europe/Berlin", now=_WINTER, from_main=False)
    times.next_slot(found, _WINTER)


def _words(data: bytes) -> None:
    words = data.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    said = Message(
        chat=ChatId("1@g.us"), id="A", sender=SenderId("2@s"), sender_name=words, sent_at=Micros(0), text=words
    )  # fmt: skip
    for group in (_GROUP, _MAIN):
        order = commands.parse(said, group)
        if order is not None:
            commands.refusal(order, said, group)
            requests.read_code(order.argument)
        text.is_trigger(said, group)
    assert text.clean_name(words)
    shown = text.clean_reply(words)
    assert all(len(piece) <= text.REPLY_LIMIT for piece in text.split_reply(shown or ""))
    assert "\n" not in escape(words)
    assert requests.visible(words).isprintable()


def _settings(data: bytes) -> None:
    settings.read(wire.loads_strict(data))


def _bridge(data: bytes) -> None:
    whatsapp_lines.message_in(whatsapp_lines.decode(data))


def _hello() -> bytes:
    name = b"example.org"
    names = len(name).to_bytes(2, "big") + name
    entry = (len(names) + 1).to_bytes(2, "big") + b"\x00" + names
    extension = b"\x00\x00" + len(entry).to_bytes(2, "big") + entry
    inner = b"\x03\x03" + b"r" * 32 + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    inner += len(extension).to_bytes(2, "big") + extension
    whole = b"\x01" + len(inner).to_bytes(3, "big") + inner
    return b"\x16\x03\x01" + len(whole).to_bytes(2, "big") + whole


def _whatsapp() -> tuple[Callable[[bytes], object], tuple[bytes, ...], tuple[type[Exception], ...]]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from neonize.proto import Neonize_pb2 as neonize
    from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as wa

    own = whatsapp_read.Own(number="4917@s.whatsapp.net", lid="8001@lid", name="Pynchy")

    def event(**fields: Any) -> bytes:
        made = message("A", chat="120363000000000001", body=wa.Message(**fields))
        return bytes(made.SerializeToString())

    def read(data: bytes) -> None:
        made = neonize.Message()
        made.ParseFromString(data)
        whatsapp_read.read(made, own=own, number_of=lambda _: None)

    return (
        read,
        (
            event(conversation="hello @Pynchy"),
            event(imageMessage={"caption": "look", "mimetype": "image/png"}),
            event(pollCreationMessageV4={"message": {"pollCreationMessage": {"name": "When?"}}}),
            event(contactMessage={"displayName": "Bo", "vcard": "BEGIN:VCARD\nTEL:+49 1\n"}),
            event(
                protocolMessage={
                    "type": 14,
                    "key": {"ID": "X"},
                    "editedMessage": {"conversation": "x"},
                }
            ),
        ),
        (DecodeError,),
    )


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The bytes with a few changes: one flipped, some cut, doubled, or words put in."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + dice.randrange(1, 33)]
            case 3:
                changed[at:at] = dice.choice(WORDS)
            case _:
                changed[at : at + 1] = dice.randbytes(1)
    return bytes(changed)


def attack(reader: Reader, inputs: int, dice: random.Random) -> tuple[int, list[str]]:
    """So many inputs to one reader: how many it took for honest, and what should not have happened."""
    taken, wrong = 0, []
    pool = list(reader.seeds)
    for _ in range(inputs):
        data = mutated(dice.choice(pool), dice)
        try:
            reader.read(data)
        except reader.errors:
            continue
        except Exception as error:
            wrong.append(f"{reader.name}: {error!r} for {data!r}"[:2000])
            if len(wrong) >= 5:
                break
            continue
        taken += 1
        if len(data) < 2_000:  # what passes is where the next ones begin
            if len(pool) < 200:
                pool.append(data)
            else:
                pool[dice.randrange(len(reader.seeds), 200)] = data
    return taken, wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam.mutate", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    print(f"seed {seed}")
    sound, total = True, 0
    with protobufs_alone():
        every = list(readers())
        each = asked.inputs // len(every) + 1
        for reader in every:
            began = time.monotonic()
            taken, wrong = attack(reader, each, random.Random(f"{seed} {reader.name}"))
            total += each
            print(
                f"{reader.name}: {each} inputs, {taken} taken, {time.monotonic() - began:.0f} s",
                flush=True,
            )
            for line in wrong:
                print(f"WRONG: {line}", flush=True)
            sound = sound and not wrong
    print(f"{total} inputs in all")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
