"""Each reader of what others write, with honest examples and the errors that it owns to: what is fuzzed.

One list, for `mutate` (random changes, anywhere and quick) and for `fuzz` (led by coverage). A reader here is called as
the daemon calls it, and asserts what must hold of what it has let through: that it comes back the same from whoever
reads it next, that it fits its bound, that nothing of it moves a cursor.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import attrs
import h11

from pynchy.chat import commands
from pynchy.cli.client import printable
from pynchy.config import dotenv
from pynchy.config import sources as config
from pynchy.container import spec
from pynchy.container.mounts import rules
from pynchy.control.server import mismatch
from pynchy.gateway import body, hello, hosts
from pynchy.gateway import policy as gate
from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.meter import Meter
from pynchy.gateway.policy import Refusal
from pynchy.logs import escape
from pynchy.model import (
    Attachment,
    ChatId,
    Group,
    GroupId,
    Message,
    Micros,
    Quoted,
    RunId,
    SenderId,
)
from pynchy.moving import old_home
from pynchy.policy import group_settings, requests, tools
from pynchy.policy.allowance import Budget, Egress, check_pattern
from pynchy.schedule import times
from pynchy.text import names, prompt, reply, safe, splitting, terms, triggers
from pynchy.web import gate as web
from pynchy.whatsapp import format, write
from pynchy.whatsapp import lines as whatsapp_lines
from pynchy.whatsapp import read as whatsapp_read
from pynchy_agent import archive, wire
from tests.edges.fake_whatsapp import message
from tests.rules.test_container_spec import HOST, USER, a_spec, flags_of, parse_bwrap, parse_mount

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


class Slow(Exception):
    """A reader took longer for a few kilobytes than anybody should wait."""


PATIENCE: Final = 2.0  # seconds of the processor for one input; a guard, many times what any takes


def tried(reader: Reader, data: bytes) -> bool | BaseException:
    """Whether the reader took these bytes for honest; an error that it should not have raised is the outcome itself."""
    began = time.thread_time()
    try:
        reader.read(data)
    except reader.errors:
        taken = False
    except Exception as error:
        return error
    else:
        taken = True
    if (spent := time.thread_time() - began) > PATIENCE:
        return Slow(f"{spent:.1f} s for {len(data)} bytes")
    return taken


def readers() -> Iterator[Reader]:
    """All of them, by the boundary that the bytes cross (docs/threats.md)."""
    # B1 and B2: from WhatsApp and its bridge, and the words of a chat
    yield Reader("events of WhatsApp", *_whatsapp())
    yield Reader("lines of the bridge", _bridge, (_BRIDGE,), (whatsapp_lines.BadLine,))
    said = (
        b"@Pynchy /stop",
        b"/approve K7M2-9QXD",
        "\u2068@Pynchy\u2069 hello <internal>x</internal>".encode(),
        b"2.",
    )
    yield Reader("words of a chat", _words, said)
    yield Reader("prompts", _prompt, (b"hello", b"</text></message>", _BOUNDARY.encode()))
    # B3 and B4: from a container
    frames = tuple(
        wire.encode_frame(each)
        for each in (
            wire.Ready(),
            wire.Idle(),
            wire.Accepted(prompts=("a" * 36,)),
            wire.Progress(what="Bash", timeout=600.0, session=_SESSION),
            wire.Result(text="hello", answered=("a" * 36,), session=_SESSION),
            wire.Retrying(attempt=1, delay=0.5, reason="overloaded"),
            wire.Error(kind="budget", message="no", prompts=("a" * 36,)),
        )
    )
    yield Reader("stdout of a container", _frames, frames, (wire.BadFrame,))
    yield Reader("command files", _command, tuple(_calls()), (wire.BadFrame,))
    answers = (
        b"**bold** [a](https://x.y) `code`",
        b"```python\nx\n```\n# Head",
        b"<internal>x</internal>y",
    )
    yield Reader("answers of an agent", _answer, answers)
    lines = (b"0 9 * * 1-5", b"*/5 0-6 1,15 * *", b"2026-03-01T09:00:00+01:00", b"3600")
    yield Reader("schedules", _schedule, lines, (times.BadSchedule,))
    yield Reader(
        "words to look for", _search, (b"the red bicycle", b'"a" OR b*', b"text:x NEAR(a, 3)")
    )
    yield Reader("heads of pictures", _picture, _PICTURES)
    # B6: from a container, and from the API, over the gateway
    yield Reader("HTTP of a container", _http, _REQUESTS, (Refusal, h11.RemoteProtocolError))
    call = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"tools":[]}'
    yield Reader("bodies of calls", _body, (call,), (Refusal,))
    yield Reader("answers of the API", _metered, _EVENTS)
    yield Reader("hellos of TLS", hello.server_name, (_hello(),), (Refusal,))
    places = (b"example.org:443", b"[2001:db8::1]:443", b"http://example.org/x?y=z")
    yield Reader("places to connect to", _place, places, (Refusal, ValueError))
    # B7: what becomes an argv
    yield Reader("the allowlist", rules.parse_allowlist, (_ALLOWLIST,), (rules.BadAllowlist,))
    yield Reader("config.toml", _config, (_CONFIG,), (config.ConfigError,))
    yield Reader(
        ".env", dotenv.parse_env, (b"A=b\nexport C=\"d\\n\"\nE='f' # g\n",), (dotenv.BadEnvFile,)
    )
    yield Reader(
        "settings of a group", _settings, (_SETTINGS,), (group_settings.BadSettings, wire.BadFrame)
    )
    yield Reader("argv of engines", _argv, (_MOUNTED,), (spec.BadSpec, wire.BadFrame))
    # B8: another's database, and what is kept as JSON in ours
    yield Reader("an old home", _old_home, (_OLD,), (wire.BadFrame,))
    # B9: what people, terminals and later agents are shown
    yield Reader("lines of logs", _shown, (b"a name", b"\x1b]0;x\x07", "\u202e".encode()))
    yield Reader("transcripts", _transcript, _TRANSCRIPT)
    # B10: calls of tools, before they become commands; and the owner's own two doors
    yield Reader("lines of the control socket", _control, (_OP,), (wire.BadFrame,))
    yield Reader("requests of the page", _page, (_ASKED,))


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
_BOUNDARY: Final = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
_SESSION: Final = "01234567-89ab-cdef-0123-456789abcdef"
_PICTURES: Final = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x02\x00\x08\x02",
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    b"\xff\xc0\x00\x11\x08\x00\x20\x00\x30\x03\x01\x22\x00",
)
_TOKEN: Final = "t" * 64
_REQUESTS: Final = (
    b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + _TOKEN.encode()
    + b"\r\nContent-Type: application/json\r\nanthropic-version: 2023-06-01\r\n"
    b"anthropic-beta: prompt-caching-2024-07-31,files-api-2025-04-14\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + _TOKEN.encode()
    + b"\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nProxy-Authorization: Basic "
    + b64encode(b"run:" + _TOKEN.encode()) + b"\r\n\r\n",
    b"GET http://example.org/x HTTP/1.1\r\nHost: example.org\r\nProxy-Authorization: Basic "
    + b64encode(b"run:" + _TOKEN.encode()) + b"\r\nConnection: x-a\r\nX-A: 1\r\n\r\n",
)  # fmt: skip
_EVENTS: Final = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3,'
    b'"cache_creation_input_tokens":2,"cache_creation":{"ephemeral_1h_input_tokens":1},"output_tokens":1}}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":7,'
    b'"server_tool_use":{"web_search_requests":1}}}\n\n',
    b'{"type":"message","usage":{"input_tokens":3,"output_tokens":7,"cache_read_input_tokens":5}}',
)
_CONFIG: Final = (
    b'[assistant]\nname = "Pynchy"\ntimezone = "Europe/Berlin"\n[limits]\nidle = "30 min"\n'
    b'[budget]\nday_tokens = 5000\n[container]\nengine = "bwrap"\n'
)
_MOUNTED: Final = (
    b'{"mounts":[{"source":"/srv/x","target":"/workspace/extra/x","writable":true},'
    b'{"source":"/srv/x/y","target":"/workspace/extra/x/y","writable":false}],"env":{"TZ":"Europe/Berlin"},'
    b'"image":"localhost/agent","name":"pynchy-0"}'
)
_OLD: Final = (
    b'{"registered_groups":{"1@g.us":{"folder":"family","name":"Family","trigger":"^@Andy\\\\b","requiresTrigger":'
    b'true,"containerConfig":{"additionalMounts":[{"hostPath":"/srv/x","containerPath":"x","readonly":true}]}},'
    b'"2@s.whatsapp.net":{"folder":"main","isMain":1}},"sessions":{"family":"01234567-89ab"},'
    b'"answered":{"1@g.us":"2026-01-01T00:00:00.000Z","2":1700000000},'
    b'"messages":[{"chat_jid":"1@g.us","id":"A","content":"Andy: hi","timestamp":"2026-01-01T00:00:00Z"}],'
    b'"tasks":[{"id":"t","group_folder":"family","prompt":"p","schedule_type":"cron","schedule_value":"* * * * *",'
    b'"status":"active"}]}'
)
_TRANSCRIPT: Final = (
    b'{"type":"user","message":{"content":"<prompt>\\n<message sender=\\"Bo\\" time=\\"Mon\\"><text>hi</text></message>'
    b'\\n</prompt>"}}\n{"type":"assistant","message":{"content":[{"type":"text","text":"hello"}]}}\n',
    b'{"type":"system","subtype":"compact_boundary"}\n{"type":"attachment","attachment":{"type":"queued_command",'
    b'"prompt":"x"}}\n',
)
_OP: Final = b'{"id":1,"op":"send","chat":"console:main","text":"hello","limit":3,"wait":true}'
_ASKED: Final = (
    b"POST\nlocalhost:8080\nhttp://localhost:8080\nsame-origin\napplication/json; charset=utf-8\n"
    b"pynchy-8080=abc; x=y"
)
_WHO: Final = RunIdentity(
    run=RunId("a" * 16), group=GroupId("family"), token=_TOKEN, models=(), server_tools=frozenset(),
    egress=Egress(kind="public", patterns=(), denied=()), budget=Budget(),
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
    if command.name in tools.TOOLS and tools.misfit(command.name, command.args) is None:
        shown = requests.Request(GroupId("family"), command.name, command.args)
        assert requests.read(shown.canonical) == shown
        for line in requests.lines(shown):
            assert line.isprintable()


def _body(data: bytes) -> None:
    body.at_once(body.check(_WHO, data, counting=False, user="u"))


def _place(data: bytes) -> None:
    for read in (hosts.parse_authority, lambda target: hosts.parse_url(target)[0]):
        try:
            to = read(data)
        except Refusal:
            continue
        _check_place(to)
    assert check_pattern(data.decode("latin-1")).isascii()


def _schedule(data: bytes) -> None:
    words = data.decode("utf-8", "replace")
    kind = "once" if "T" in words[:20] else "interval" if words.isdecimal() else "cron"
    value = int(words) if kind == "interval" else words
    found = times.parse(kind, value, timezone="Europe/Berlin", now=_WINTER, from_main=False)
    times.next_slot(found, _WINTER)


def _calls() -> Iterator[bytes]:
    """One call of each tool, with all its arguments."""
    for name, tool in tools.TOOLS.items():
        args = {key: _example(key, rule) for key, rule in tool.schema["properties"].items()}
        yield wire.encode_command(wire.Command(name, args))


def _example(key: str, rule: dict[str, Any]) -> object:
    fitting = {"path": "/srv/x", "host": "*.example.org", "schedule_value": "0 9 * * *"}
    match rule["type"]:
        case "boolean":
            return True
        case "integer":
            return 5
        case "array":
            return ["a", "b"]
        case _:
            return fitting.get(key) or rule.get("enum", ["x"])[0]


def _told(data: bytes) -> str:
    """Any bytes as a text that arrived as UTF-8."""
    return data.decode("utf-8", "replace")


def _words(data: bytes) -> None:
    words = _told(data)
    said = Message(
        chat=ChatId("1@g.us"), id="A", sender=SenderId("2@s"), sender_name=words, sent_at=Micros(0), text=words
    )  # fmt: skip
    for group in (_GROUP, _MAIN):
        order = commands.parse(said, group)
        if order is not None:
            commands.refusal(order, said, group)
            requests.read_code(order.argument)
        triggers.is_trigger(said, group)
    assert names.clean_name(words)
    assert triggers.chosen(words, ("yes", "no")) in {"yes", "no", None}


def _prompt(data: bytes) -> None:
    words = _told(data)
    kept = prompt.clean_text(words)
    told = prompt.Contents(
        messages=[
            prompt.PromptMessage(
                sender_name=words, sent_at=_WINTER, text=words, triggers=True, id=words,
                quoted=Quoted(id=words, sender_name=words, text=words),
                attachments=(Attachment(path=words, media_type=words, size=1, name=words),),
            )
        ],
        chat=words, said=[words], notices=[words], work=words,
        task=prompt.PromptTask(id=words, prompt=words, due_at=_WINTER, name=words),
    )  # fmt: skip
    zone = words[:40].replace("\0", "")
    shown = prompt.render_prompt(
        told, timezone=zone, now=_WINTER, boundary=_BOUNDARY, assistant=words
    )
    assert shown.count(_BOUNDARY) == 2
    _, _, rest = shown.partition(f"=== {_BOUNDARY} begin ===\n")
    inside, _, _ = rest.partition(f"\n=== {_BOUNDARY} end ===")
    root = ElementTree.fromstring(inside)  # noqa: S314  what we wrote ourselves a moment ago
    assert [each.tag for each in root] == ["task", "task", "notice", "said", "message"]
    assert [each.tag for each in root[4]] == ["quoted", "text", "attachment"]
    for each in (root[0], root[1], root[2], root[4][1]):
        assert (each.text or "") == kept, each.tag
    assert root[4].get("id", "") == prompt.clean_text(words[:128])


def _answer(data: bytes) -> None:
    words = _told(data)
    reply.hides_the_rest(words)
    shown = reply.clean_reply(words)
    if shown is not None:
        assert safe.NOTICE_MARK not in shown
        for piece in splitting.split_reply(shown):
            assert len(piece) <= splitting.REPLY_LIMIT
            assert safe.NOTICE_MARK not in format.to_whatsapp(piece)


@cache
def _index() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    db.execute("INSERT INTO words VALUES ('the red bicycle')")
    return db


def _search(data: bytes) -> None:
    for term in terms.read(_told(data), ("en", "de")):
        _index().execute("SELECT rowid FROM words WHERE words MATCH ?", (term.wider,)).fetchall()


def _picture(data: bytes) -> None:
    size = write.size_of(data)
    assert size is None or all(0 < each < 2**31 for each in size)


def _http(data: bytes) -> None:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=gate.MAX_HEAD)
    half = len(data) // 2
    for part in (data[:half], data[half:], b""):
        http.receive_data(part)
        while not isinstance(event := http.next_event(), type):  # NEED_DATA and PAUSED are classes
            if isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Request):
                _head(gate.Head(event.method, event.target, tuple(event.headers)))


def _head(head: gate.Head) -> None:
    gate.check_framing(head)
    assert not (head.values(b"content-length") and head.values(b"transfer-encoding"))
    if head.target.startswith(b"/"):
        admitted = gate.admit(_WHO, head)
        for name, value in admitted.headers:
            assert _TOKEN not in value, name
            assert value.isascii()
            assert value.isprintable()
        assert admitted.target in {path.decode() for path in _PATHS}
        return
    _check_place(
        hosts.parse_authority(head.target)
        if head.method == b"CONNECT"
        else hosts.parse_url(head.target)[0]
    )


_PATHS: Final = (
    b"/v1/messages", b"/v1/messages?beta=true",
    b"/v1/messages/count_tokens", b"/v1/messages/count_tokens?beta=true",
)  # fmt: skip


def _check_place(to: hosts.Destination) -> None:
    """What is dialled is a name or an address in one plain form, which reads as itself."""
    assert re.fullmatch(r"[a-z0-9._:-]+", to.host), to
    assert 0 < to.port < 65536
    if ":" not in to.host:
        assert hosts.parse_authority(f"{to.host}:{to.port}".encode()) == to


def _metered(data: bytes) -> None:
    for streamed in (True, False):
        meter = Meter(stream=streamed)
        for at in range(0, len(data), 7):
            meter.feed(data[at : at + 7])
        meter.end()
        for usage in (meter.usage, meter.bound(input=100, output=100, seconds=0.5)):
            assert all(value >= 0 for value in attrs.astuple(usage))


@cache
def _home() -> Path:
    return Path(tempfile.mkdtemp(prefix="pynchy-fuzz-"))


def _config(data: bytes) -> None:
    home = _home()
    (home / "config.toml").write_bytes(data)
    config.from_environ({"PYNCHY_HOME": str(home), "HOME": str(home), "TZ": "UTC"})


def _argv(data: bytes) -> None:
    wanted = wire.loads_strict(data)
    try:
        chosen = tuple(
            spec.Mount(Path(each["source"]), each["target"], each["writable"] is True)
            for each in wanted.get("mounts", [])
        )
        env = {str(key): str(value) for key, value in wanted.get("env", {}).items()}
        name, image = str(wanted.get("name", "n")), str(wanted.get("image", "i"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # our own format of this example, and no reader of the daemon's
    made = a_spec(mounts=chosen, env=env, image=image, name=name)
    plain = list(parse_bwrap(spec.bwrap_args(a_spec(mounts=(), env={}), host=HOST, user=USER)))
    given = list(parse_bwrap(spec.bwrap_args(made, host=HOST, user=USER)))
    more = [each for each in given if each not in plain]
    assert all(each in given for each in plain if each[0] != "--setenv")
    assert {each for each in more if each[0] != "--setenv"} == {
        ("--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target)
        for mount in chosen
    }
    argv = spec.docker_argv(made, user=USER)
    flags, rest = flags_of(argv)
    assert rest[0] == image
    assert flags["--name"] == [name]
    assert flags.keys() == flags_of(spec.docker_argv(a_spec(), user=USER))[0].keys() - (
        set() if "--mount" in flags else {"--mount"}
    )
    told = [parse_mount(field) for field in flags.get("--mount", [])]
    for mount in chosen:
        meant = {"type": "bind", "source": str(mount.source), "target": mount.target}
        assert (meant if mount.writable else {**meant, "readonly": ""}) in told


def _old_home(data: bytes) -> None:
    found = wire.loads_strict(data)
    problems: list[str] = []

    def part(name: str, kind: type) -> Any:
        value = found.get(name)
        return value if isinstance(value, kind) else kind()

    for group in old_home.read_groups(part("registered_groups", dict), problems):
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", group.folder)
        assert group.folder != "global"
    old_home.read_sessions(found.get("sessions"))
    old_home.read_answered(found.get("answered"))
    rows = [
        each for each in part("messages", list) if isinstance(each, dict) and each.get("chat_jid")
    ]
    old_home.read_messages(rows, names=["Andy"], problems=problems)
    for each in part("answered", dict).values():
        assert isinstance(old_home.moment(each), int)


def _shown(data: bytes) -> None:
    words = _told(data)
    assert "\n" not in escape(words)
    assert requests.visible(words).isprintable()
    assert safe.NOTICE_MARK not in requests.visible(words)
    assert not re.search(f"[\\n\\r\\x1b\\u2028\\u202e{safe.NOTICE_MARK}]", reply.within(words))
    assert reply.notice(words).count(safe.NOTICE_MARK) == 1
    assert not re.search(r"[\x1b\x07\x9b\u202e]", printable(words) + escape(words))


def _transcript(data: bytes) -> None:
    said = archive.read_transcript(data.split(b"\n"))
    for item in said:
        title = archive.title_of(item.text)
        assert re.fullmatch(r"[\w-]+", title), title
    archive.render_page(said, datetime(2026, 1, 1, tzinfo=UTC)).encode("utf-8", "surrogatepass")


async def _op(
    client: object, *, chat: str, text: str, limit: int = 3, wait: bool = False
) -> object:
    raise NotImplementedError


def _control(data: bytes) -> None:
    asked = wire.loads_strict(data)
    asked.pop("id", None)
    asked.pop("op", None)
    if mismatch(_op, asked) is None:
        assert isinstance(asked["chat"], str)
        assert type(asked.get("limit", 3)) is int


def _page(data: bytes) -> None:
    fields = iter(each.decode("latin-1") for each in data.split(b"\n"))
    method, host, origin, site, kind, cookies = (next(fields, None) for _ in range(6))
    asked = web.Request(method=method or "", host=host, origin=origin, site=site, content_type=kind)
    names = frozenset({"my.example"})
    if web.refusal(asked, names, public=False) is None:
        assert web.hostname(host or "") in web.LOOPBACK | names
        assert site in (None, "same-origin")
        assert method != "POST" or origin is not None
    sessions = web.Sessions(lambda: "s" * 43)
    assert not sessions.knows(web.cookie_of(cookies, "pynchy-8080"))
    assert sessions.enter(_told(data)) is None


def _settings(data: bytes) -> None:
    group_settings.read(wire.loads_strict(data))


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
