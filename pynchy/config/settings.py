"""The settings: each with its default, its kind and what it means, in this one table.

The rule that keeps it so: a setting is one line here, and docs/config.md is written from these lines. They are read
once, at the start, into a frozen `Config` (see `pynchy.config.sources`); nothing looks a setting up later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from pynchy.config.paths import Home
from pynchy.config.timezone import is_zone
from pynchy.config.values import (
    API_URL,
    DOWNLOADS,
    EGRESS,
    GIB,
    IMAGE,
    KIB,
    LANGUAGE,
    MIB,
    NAME,
    PROXY,
    SPEECH_MODEL,
    Cap,
    HostList,
    Line,
    Money,
    Seconds,
    Size,
    Words,
)
from pynchy.files.disk import Threshold
from pynchy.model import DAY, HOUR, MINUTE, SECOND
from pynchy_agent.values import Choice, Flag, Kind, Number, Unfit, Whole

T = TypeVar("T")

#: Dollars that may be spent with an API key where nobody has said how many: one group's in a day, and everybody's.
DAY_DOLLARS: Final = 5.0
TOTAL_DAY_DOLLARS: Final = 15.0


@attrs.frozen
class AbsolutePath(Kind[Path | None]):
    """A place on this machine; the user's own folder may be ``~``. Nothing where it is empty."""

    @property
    def expected(self) -> str:
        return "an absolute path"

    def _take(self, value: object) -> Path | None:
        if not (text := Line()._take(value)):
            return None
        path = Path(text).expanduser()
        if not path.is_absolute():
            raise Unfit
        return path


@attrs.frozen
class Zone(Kind[str]):
    """A time zone of the IANA list, or nothing."""

    @property
    def expected(self) -> str:
        return "a time zone such as Europe/Berlin"

    def _take(self, value: object) -> str:
        if (text := Line()._take(value)) and not is_zone(text):
            raise Unfit
        return text


def setting(default: T, kind: Kind[Any], doc: str) -> T:
    """One setting. It is an attrs field; its type is that of its default."""
    return attrs.field(default=default, metadata={"kind": kind, "doc": doc})


@attrs.frozen
class Assistant:
    """Who it is, and where its people live."""

    name: str = setting(
        "Pynchy", NAME, "what it is called; the trigger of new groups is @ and this"
    )
    timezone: str = setting("", Zone(), "the people's time zone; empty: the machine's")
    has_own_number: bool = setting(
        False, Flag(), "its WhatsApp account is its own, so replies need no name in front"
    )


@attrs.frozen
class Container:
    """The boxes agents live in."""

    engine: str = setting(
        "auto",
        Choice(("auto", "docker", "podman", "container", "bwrap")),
        "what runs them; auto: the first that answers",
    )
    image: str = setting(
        "localhost/pynchy-agent:latest", IMAGE, "the image of docker, podman and container"
    )
    command: tuple[str, ...] = setting((), Words(), "what to start in it; empty: our agent")
    memory: int = setting(
        2 * GIB, Size(64 * MIB, 1024 * GIB), "memory of one container, swap included"
    )
    cpus: float = setting(1.5, Number(0.1, 256), "processors of one container")
    pids: int = setting(512, Whole(32, 65536), "processes and threads in one container")
    nofile: int = setting(4096, Whole(64, 1_048_576), "open files of one process")
    file_size: int = setting(1 * GIB, Size(MIB, 1024 * GIB), "the largest file one may write")
    tmp: int = setting(512 * MIB, Size(MIB, 1024 * GIB), "space in /tmp, which is memory")
    prewarm: int = setting(
        0,
        Whole(0, 100),
        "containers that are started before anybody asks, for the groups that spoke last",
    )
    require_patched: bool = setting(
        False, Flag(), "refuse an engine whose version has a known escape, instead of warning"
    )
    mount_allowlist: Path | None = setting(  # noqa: RUF009 - an attrs field, as all here
        None,
        AbsolutePath(),
        "what may be mounted from the host; empty: mount-allowlist.json in PYNCHY_HOME",
    )


@attrs.frozen
class Limits:
    """How many, and how long."""

    containers: int = setting(
        5, Whole(1, 1000), "containers at once, of all groups together; one is kept for main"
    )
    idle: float = setting(
        30 * MINUTE,
        Seconds(0, 24 * HOUR),
        "a container stays warm this long after a turn, unless someone waits for its slot",
    )
    progress: float = setting(
        10 * MINUTE,
        Seconds(1, 24 * HOUR),
        "a turn without a sign of life ends; a tool's own timeout extends it",
    )
    turn: float = setting(
        60 * MINUTE, Seconds(1, 7 * 24 * HOUR), "a turn ends at the latest, whatever it says"
    )
    close_grace: float = setting(
        10 * SECOND, Seconds(0, 10 * MINUTE), "from the request to close to the stop"
    )
    stop_grace: float = setting(10 * SECOND, Seconds(0, 10 * MINUTE), "from the stop to the kill")
    drain: float = setting(
        15 * SECOND, Seconds(0, 10 * MINUTE), "a daemon that stops lets turns finish this long"
    )
    outage: float = setting(
        6 * HOUR,
        Seconds(0, 7 * 24 * HOUR),
        "how long a message is kept and tried again while the model or the engine does not answer",
    )
    engine_wait: float = setting(
        60 * SECOND, Seconds(0, HOUR), "a start waits this long for an engine that is not up"
    )

    @property
    def stopping(self) -> float:
        """Seconds that a stop in order gives to turns and their containers, at most."""
        return self.drain + self.close_grace + self.stop_grace


@attrs.frozen
class Model:
    """Who answers."""

    name: str = setting(
        "sonnet",
        Line(),
        "the model, by its name or an alias that the agent knows (sonnet, opus, haiku); empty: the agent's own choice",
    )
    compact_at: int = setting(
        160_000,
        Whole(67_000, 967_000),
        "tokens of a conversation; a longer one is shortened before it goes on: all of it is read with each message",
    )
    base_url: str = setting(
        "https://api.anthropic.com",
        API_URL,
        "what speaks the Messages API; with or without /v1 at its end",
    )
    web_search: str = setting(
        "auto",
        Choice(("auto", "yes", "no")),
        "whether it searches the web for agents that may reach the internet; auto: Anthropic's does, another is asked",
    )
    offline: bool = setting(
        False, Flag(), "use the built-in scripted model: no account, no network, no cost"
    )


@attrs.frozen
class Budget:
    """What may be spent, at list prices. 0 is no limit. Where nothing is set, an API key has a limit a day; a
    subscription is paid already, and has none."""

    run_dollars: float = setting(0.0, Money(most=1_000_000), "one container, from start to exit")
    run_tokens: int = setting(0, Whole(0, 10**12), "the same in tokens, in and out")
    day_dollars: float | None = setting(
        None,
        Cap(Money(most=1_000_000)),
        f"one group, one day; empty: {DAY_DOLLARS:g} with an API key",
    )
    day_tokens: int = setting(0, Whole(0, 10**12), "the same in tokens, in and out")
    total_day_dollars: float | None = setting(
        None,
        Cap(Money(most=1_000_000)),
        f"all groups together, one day; empty: {TOTAL_DAY_DOLLARS:g} with an API key",
    )


@attrs.frozen
class Effects:
    """What one group's agents may do by themselves within an hour. 0 is no limit. A group that comes to more is
    held back (its tasks do not run, and it sends nothing but answers to people) until you let it go on."""

    turns: int = setting(
        300,
        Whole(0, 10**6),
        "turns that nobody asked for: tasks, helpers, what wakes the agent besides people",
    )
    messages: int = setting(
        500, Whole(0, 10**6), "messages, reactions and questions, besides the answers to people"
    )
    files: int = setting(100, Whole(0, 10**6), "files sent")
    tokens: int = setting(
        20_000_000,
        Whole(0, 10**12),
        "tokens of the model, in and out, what it reads from its cache left aside; people are answered beyond it",
    )


@attrs.frozen
class Gateway:
    """The only way out of a container."""

    egress: str = setting(
        "public",
        EGRESS,
        "what agents reach besides the model; public: the internet, not this machine or its LAN",
    )
    proxy: str = setting(
        "",
        PROXY,
        "an HTTP proxy on the way to the model API, to WhatsApp and for agents; the environment's is not used",
    )
    no_proxy: tuple[str, ...] = setting(
        (), HostList(), "hosts that are reached without the proxy; this machine always is"
    )
    ca_file: Path | None = setting(  # noqa: RUF009 - an attrs field, as all here
        None,
        AbsolutePath(),
        "certificates to trust instead of the usual ones, also in agents' containers, for a proxy that looks into TLS",
    )


@attrs.frozen
class Disk:
    """Room on the disk, and who may take how much of it."""

    free: int = setting(
        1 * GIB,
        Size(0, 1024 * GIB),
        "with less than this free no new run is started; messages are kept as long as can be",
    )
    free_percent: float = setting(
        5.0, Number(0, 90), "the same as a share of the disk; the larger of the two counts"
    )
    group: int = setting(
        5 * GIB,
        Size(0, 1024 * GIB),
        "all files of one group; a run that comes near it is ended. 0: no limit",
    )
    group_files: int = setting(250_000, Whole(0, 10**9), "their number; 0: no limit")

    @property
    def threshold(self) -> Threshold:
        return Threshold(bytes=self.free, share=self.free_percent / 100)


@attrs.frozen
class Keeping:
    """What is kept, and for how long."""

    hour: int = setting(
        4, Whole(0, 23), "when the nightly round is, by the clock of assistant.timezone"
    )
    settle: float = setting(
        1 * MINUTE, Seconds(0, DAY), "from the start until a round that was missed is made up for"
    )
    copies: int = setting(
        3, Whole(0, 1000), "nightly copies of the database to keep in store/backups; 0: make none"
    )
    weeks: int = setting(3, Whole(0, 520), "and of so many weeks before those, one copy each")
    messages: float = setting(
        0,
        Seconds(30 * DAY, 3650 * DAY, or_zero=True),
        "what was said, in and out, once it is answered; 0: for ever",
    )
    logs: float = setting(
        30 * DAY, Seconds(HOUR, 3650 * DAY), "logs of runs, and command files that were refused"
    )
    usage: float = setting(400 * DAY, Seconds(DAY, 3650 * DAY), "what was spent, and on what")


@attrs.frozen
class WhatsApp:
    """The WhatsApp account."""

    enabled: bool = setting(False, Flag(), "connect to WhatsApp; set by `pynchy auth`")
    media_limit: int = setting(
        32 * MIB, Size(0, GIB), "the largest file that is fetched for an agent"
    )
    transcribe: tuple[str, ...] = setting(
        (),
        Words(),
        "your own command instead of `voice`: in its sandbox it is given a note's path and prints the words",
    )
    read_receipts: bool = setting(False, Flag(), "mark messages as read when they are answered")


@attrs.frozen
class Voice:
    """Voice notes, turned into words in a sandbox without network."""

    enabled: bool = setting(
        False, Flag(), "turn voice notes into words; set by `pynchy voice install`"
    )
    model: str = setting(
        "base",
        SPEECH_MODEL,
        "the model of whisper.cpp; larger ones hear better and take longer, those with .en know English alone",
    )
    url: str = setting(
        "https://huggingface.co/ggerganov/whisper.cpp/resolve/main",
        DOWNLOADS,
        "where `pynchy voice install` fetches models: this, and /ggml-MODEL.bin",
    )
    language: str = setting(
        "",
        LANGUAGE,
        "the language that people speak; empty: it is recognised in each note",
    )
    folder: Path | None = setting(  # noqa: RUF009 - an attrs field, as all here
        None,
        AbsolutePath(),
        "what the command of whatsapp.transcribe may read there, as /opt/voice/own",
    )


@attrs.frozen
class Logging:
    """What is told, and where it is kept."""

    level: str = setting(
        "info",
        Choice(("debug", "info", "warning", "error")),
        "debug shows the text of messages, never secrets",
    )
    json: bool = setting(False, Flag(), "one JSON object a line instead of text for people")
    rotate: int = setting(10 * MIB, Size(64 * KIB, GIB), "a new file when the log is this large")
    keep: int = setting(5, Whole(1, 1000), "old files to keep")


@attrs.frozen(repr=False)
class Credential:
    """What opens the model API. Never shown: not by repr, not in an error."""

    kind: str  # "api_key" or "oauth"
    secret: str

    def __repr__(self) -> str:
        return f"Credential({self.kind})"


@attrs.frozen
class Config:
    """Everything a start needs to know. ``warnings``: sentences for the log, none of them fatal."""

    home: Home
    assistant: Assistant = Assistant()
    container: Container = Container()
    limits: Limits = Limits()
    model: Model = Model()
    budget: Budget = Budget()
    effects: Effects = Effects()
    gateway: Gateway = Gateway()
    disk: Disk = Disk()
    keeping: Keeping = Keeping()
    whatsapp: WhatsApp = WhatsApp()
    voice: Voice = Voice()
    logging: Logging = Logging()
    credential: Credential | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_billed(self) -> bool:
        """Whether what calls of the model cost is on a bill."""
        kind = None if self.credential is None or self.model.offline else self.credential.kind
        return kind == "api_key"


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "assistant": Assistant,
    "container": Container,
    "limits": Limits,
    "model": Model,
    "budget": Budget,
    "effects": Effects,
    "gateway": Gateway,
    "disk": Disk,
    "keeping": Keeping,
    "whatsapp": WhatsApp,
    "voice": Voice,
    "logging": Logging,
}
CREDENTIALS: Final = {"ANTHROPIC_API_KEY": "api_key", "CLAUDE_CODE_OAUTH_TOKEN": "oauth"}
