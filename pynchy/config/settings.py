"""Every setting with its default and its limits.

Order, first wins: flags, ``PYNCHY_<SECTION>_<KEY>`` in the environment, the same names in
``PYNCHY_HOME/.env``, ``config.toml``. Unknown names are errors that name the nearest; so are values
that are not what they should be.

The rule that keeps it so: read once, at the door, from what is handed in, into a frozen `Config`.
Nothing below the door looks a setting up. A setting is one line with its default and what it means;
docs/config.md is written from these lines.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import attrs

from pynchy.config.dotenv import BadEnvFile, Entry, entries
from pynchy.config.paths import Home
from pynchy.model import DAY, HOUR, MINUTE, SECOND

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

T = TypeVar("T")


class ConfigError(Exception):
    """The user's configuration cannot be used: one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


# --- what a value may be -------------------------------------------------------------------------


class NotOne(ValueError):
    """The value is not of its kind."""


@attrs.frozen
class Kind:
    """A sort of value: its name in errors and docs, and how to read it. Raises ValueError."""

    expected: str
    read: Callable[[object], object]


def _text(raw: object) -> str:
    if not isinstance(raw, str) or any(ord(char) < 32 or ord(char) == 127 for char in raw):
        raise NotOne
    return raw.strip()


def _name(raw: object) -> str:
    if not (text := _text(raw)) or len(text) > 64:
        raise NotOne
    return text


def _image(raw: object) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", text := _text(raw)):
        raise NotOne
    return text


def _flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    if isinstance(raw, str) and raw.strip().lower() in words:
        return words[raw.strip().lower()]
    raise NotOne


def _number(raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise NotOne
    value = float(raw)
    if value - value != 0.0:  # an infinity or NaN
        raise NotOne
    return value


_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.ASCII | re.IGNORECASE)
_TIME_UNITS: Final = {
    "": 1.0,
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "minute": MINUTE,
    "h": HOUR,
    "hour": HOUR,
    "d": 24 * HOUR,
    "day": 24 * HOUR,
}
_SIZE_UNITS: Final = {"": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB}


def _amount(raw: object, units: Mapping[str, float]) -> float:
    if isinstance(raw, str):
        if not (found := _AMOUNT.fullmatch(raw)):
            raise NotOne
        unit = found[2].lower()
        if unit not in units:
            unit = unit.removesuffix("s")
        if unit not in units:
            raise NotOne
        return float(found[1]) * units[unit]
    return _number(raw)


def _words(raw: object) -> tuple[str, ...]:
    items = _split(raw) if isinstance(raw, str) else raw
    if not isinstance(items, list):
        raise NotOne
    return tuple(_name_or_longer(item) for item in items)


def _split(text: str) -> object:
    """Words as a shell takes them, or a list as config.toml has it."""
    if text.lstrip().startswith("["):
        import tomllib  # here: hardly any start has a list outside of its file

        found = tomllib.loads(f"words = {text}")  # its errors are ValueErrors
        if len(found) > 1:
            raise NotOne
        return found["words"]
    import shlex  # here: as above

    return shlex.split(text)


def _name_or_longer(raw: object) -> str:
    if not (text := _text(raw)):
        raise NotOne
    return text


def _path(raw: object) -> Path | None:
    text = _text(raw)
    if not text:
        return None
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise NotOne
    return path


def _url(raw: object) -> str:
    text = _text(raw)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise NotOne
    return text.rstrip("/")


def _proxy(raw: object) -> str:
    text = _text(raw)
    if text and not re.fullmatch(r"https?://[^\s/?#@]+/?", text):
        raise NotOne
    return text.rstrip("/")


def _zone(raw: object) -> str:
    text = _text(raw)
    if text and not is_zone(text):
        raise NotOne
    return text


def is_zone(name: str) -> bool:
    """Whether this is a time zone of the IANA list, such as ``Europe/Berlin``."""
    from zoneinfo import ZoneInfo  # here: most starts never need it

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return False
    return True


TEXT: Final = Kind("a text of one line", _text)
NAME: Final = Kind("a name of 1 to 64 characters", _name)
IMAGE: Final = Kind("the name of an image, with a tag or a digest", _image)
FLAG: Final = Kind("true or false", _flag)
WORDS: Final = Kind(
    'a list of texts, such as ["python3", "-m", "agent"], or the same as a line of a shell', _words
)
PATH: Final = Kind("an absolute path", _path)
API_URL: Final = Kind(
    "an http or https address without a query",
    lambda raw: _url(raw).removesuffix("/messages").removesuffix("/v1").rstrip("/"),
)
PROXY: Final = Kind(
    "the address of an HTTP proxy without a password, as http://proxy:3128 (a socks proxy does not do)",
    _proxy,
)
ZONE: Final = Kind("a time zone such as Europe/Berlin", _zone)


def number(least: float, most: float) -> Kind:
    def read(raw: object) -> float:
        if not least <= (value := _number(raw)) <= most:
            raise NotOne
        return value

    return Kind(f"a number from {least:g} to {most:g}", read)


def count(least: int, most: int) -> Kind:
    def read(raw: object) -> int:
        value = _number(raw)
        if value != int(value) or not least <= value <= most:
            raise NotOne
        return int(value)

    return Kind(f"a whole number from {least} to {most}", read)


def seconds(least: float, most: float) -> Kind:
    def read(raw: object) -> float:
        if not least <= (value := _amount(raw, _TIME_UNITS)) <= most:
            raise NotOne
        return value

    return Kind(
        f'a time such as 90, "30 min" or "1 h", from {spell_time(least)} to {spell_time(most)}',
        read,
    )


def seconds_or_zero(least: float, most: float) -> Kind:
    within = seconds(least, most)

    def read(raw: object) -> object:
        value = _amount(raw, _TIME_UNITS)
        return 0.0 if value == 0 else within.read(raw)

    return Kind(f"0, or {within.expected}", read)


def size(least: int, most: int) -> Kind:
    def read(raw: object) -> int:
        if not least <= (value := _amount(raw, _SIZE_UNITS)) <= most:
            raise NotOne
        return int(value)

    return Kind(
        f'a size such as "512m" or "2g", from {spell_size(least)} to {spell_size(most)}', read
    )


def choice(*words: str) -> Kind:
    def read(raw: object) -> str:
        if (text := _text(raw).lower()) not in words:
            raise NotOne
        return text

    return Kind("one of " + ", ".join(words), read)


def spell_time(value: float) -> str:
    for unit, length in (("d", 24 * HOUR), ("h", HOUR), ("min", MINUTE)):
        if value >= length and value % length == 0:
            return f"{value / length:g} {unit}"
    return f"{value:g} s"


def spell_size(value: int) -> str:
    for unit, length in (("g", GIB), ("m", MIB), ("k", KIB)):
        if value >= length and value % length == 0:
            return f"{value // length}{unit}"
    return str(value)


def spell_value(value: object, expected: str) -> str:
    """A value of a kind as a person would write it; nothing for what is empty."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float() if expected.startswith("a time"):
            return spell_time(value)
        case int() if expected.startswith("a size"):
            return spell_size(value)
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case tuple():
            import shlex  # here: only what is shown needs it

            return shlex.join(map(str, value))
        case None:
            return ""
    return str(value)


def setting(default: T, kind: Kind, doc: str) -> T:
    """One setting. It is an attrs field; its type is that of its default."""
    return attrs.field(default=default, metadata={"kind": kind, "doc": doc})


# --- the settings --------------------------------------------------------------------------------


@attrs.frozen
class Assistant:
    """Who it is, and where its people live."""

    name: str = setting(
        "Pynchy", NAME, "what it is called; the trigger of new groups is @ and this"
    )
    timezone: str = setting("", ZONE, "the people's time zone; empty: the machine's")
    has_own_number: bool = setting(
        False, FLAG, "its WhatsApp account is its own, so replies need no name in front"
    )


@attrs.frozen
class Container:
    """The boxes agents live in."""

    engine: str = setting(
        "auto",
        choice("auto", "docker", "podman", "container", "bwrap"),
        "what runs them; auto: the first that answers",
    )
    image: str = setting(
        "localhost/pynchy-agent:latest", IMAGE, "the image of docker, podman and container"
    )
    command: tuple[str, ...] = setting((), WORDS, "what to start in it; empty: our agent")
    memory: int = setting(
        2 * GIB, size(64 * MIB, 1024 * GIB), "memory of one container, swap included"
    )
    cpus: float = setting(1.5, number(0.1, 256), "processors of one container")
    pids: int = setting(512, count(32, 65536), "processes and threads in one container")
    nofile: int = setting(4096, count(64, 1_048_576), "open files of one process")
    file_size: int = setting(1 * GIB, size(MIB, 1024 * GIB), "the largest file one may write")
    tmp: int = setting(512 * MIB, size(MIB, 1024 * GIB), "space in /tmp, which is memory")
    prewarm: int = setting(
        0,
        count(0, 100),
        "containers that are started before anybody asks, for the groups that spoke last",
    )
    require_patched: bool = setting(
        False, FLAG, "refuse an engine whose version has a known escape, instead of warning"
    )
    mount_allowlist: Path | None = setting(  # noqa: RUF009 - an attrs field, as all here
        None,
        PATH,
        "what may be mounted from the host; empty: mount-allowlist.json in PYNCHY_HOME",
    )


@attrs.frozen
class Limits:
    """How many, and how long."""

    containers: int = setting(
        5, count(1, 1000), "containers at once, of all groups together; one is kept for main"
    )
    idle: float = setting(
        30 * MINUTE,
        seconds(0, 24 * HOUR),
        "a container stays warm this long after a turn, unless someone waits for its slot",
    )
    progress: float = setting(
        10 * MINUTE,
        seconds(1, 24 * HOUR),
        "a turn without a sign of life ends; a tool's own timeout extends it",
    )
    turn: float = setting(
        60 * MINUTE, seconds(1, 7 * 24 * HOUR), "a turn ends at the latest, whatever it says"
    )
    close_grace: float = setting(
        10 * SECOND, seconds(0, 10 * MINUTE), "from the request to close to the stop"
    )
    stop_grace: float = setting(10 * SECOND, seconds(0, 10 * MINUTE), "from the stop to the kill")
    drain: float = setting(
        15 * SECOND, seconds(0, 10 * MINUTE), "a daemon that stops lets turns finish this long"
    )
    outage: float = setting(
        6 * HOUR,
        seconds(0, 7 * 24 * HOUR),
        "how long a message is kept and tried again while the model or the engine does not answer",
    )
    engine_wait: float = setting(
        60 * SECOND, seconds(0, HOUR), "a start waits this long for an engine that is not up"
    )

    @property
    def stopping(self) -> float:
        """Seconds that a stop in order gives to turns and their containers, at most."""
        return self.drain + self.close_grace + self.stop_grace


@attrs.frozen
class Model:
    """Who answers."""

    name: str = setting("", TEXT, "the model; empty: the agent's own default")
    base_url: str = setting(
        "https://api.anthropic.com",
        API_URL,
        "what speaks the Messages API; with or without /v1 at its end",
    )
    offline: bool = setting(
        False, FLAG, "use the built-in scripted model: no account, no network, no cost"
    )


@attrs.frozen
class Budget:
    """What may be spent. 0 is no limit."""

    run_dollars: float = setting(0.0, number(0, 1e6), "one container, from start to exit")
    run_tokens: int = setting(0, count(0, 10**12), "the same in tokens, in and out")
    day_dollars: float = setting(0.0, number(0, 1e6), "one group, one day")
    day_tokens: int = setting(0, count(0, 10**12), "the same in tokens, in and out")
    total_day_dollars: float = setting(0.0, number(0, 1e6), "all groups together, one day")


@attrs.frozen
class Effects:
    """What one group's agents may do by themselves within an hour. 0 is no limit. A group that comes to more is
    held back (its tasks do not run, and it sends nothing but answers to people) until you let it go on."""

    turns: int = setting(
        300,
        count(0, 10**6),
        "turns that nobody asked for: tasks, helpers, what wakes the agent besides people",
    )
    messages: int = setting(
        500, count(0, 10**6), "messages, reactions and questions, besides the answers to people"
    )
    files: int = setting(100, count(0, 10**6), "files sent")
    tokens: int = setting(
        20_000_000,
        count(0, 10**12),
        "tokens of the model, in and out, what it reads from its cache left aside; people are answered beyond it",
    )


@attrs.frozen
class Gateway:
    """The only way out of a container."""

    egress: str = setting(
        "public",
        choice("none", "allowlist", "public"),
        "what agents reach besides the model; public: the internet, not this machine or its LAN",
    )
    proxy: str = setting(
        "",
        PROXY,
        "an HTTP proxy on the way to the model API and to WhatsApp; the environment's is not used",
    )
    ca_file: Path | None = setting(  # noqa: RUF009 - an attrs field, as all here
        None,
        PATH,
        "certificates to trust there instead of the usual ones, for a proxy that looks into TLS",
    )


@attrs.frozen
class Disk:
    """Room on the disk, and who may take how much of it."""

    free: int = setting(
        1 * GIB,
        size(0, 1024 * GIB),
        "with less than this free no new run is started; messages are kept as long as can be",
    )
    free_percent: float = setting(
        5.0, number(0, 90), "the same as a share of the disk; the larger of the two counts"
    )
    group: int = setting(
        5 * GIB,
        size(0, 1024 * GIB),
        "all files of one group; a run that comes near it is ended. 0: no limit",
    )
    group_files: int = setting(250_000, count(0, 10**9), "their number; 0: no limit")


@attrs.frozen
class Keeping:
    """What is kept, and for how long."""

    hour: int = setting(
        4, count(0, 23), "when the nightly round is, by the clock of assistant.timezone"
    )
    settle: float = setting(
        1 * MINUTE, seconds(0, DAY), "from the start until a round that was missed is made up for"
    )
    copies: int = setting(
        3, count(0, 1000), "nightly copies of the database to keep in store/backups; 0: make none"
    )
    weeks: int = setting(3, count(0, 520), "and of so many weeks before those, one copy each")
    messages: float = setting(
        0,
        seconds_or_zero(30 * DAY, 3650 * DAY),
        "what was said, in and out, once it is answered; 0: for ever",
    )
    logs: float = setting(
        30 * DAY, seconds(HOUR, 3650 * DAY), "logs of runs, and command files that were refused"
    )
    usage: float = setting(400 * DAY, seconds(DAY, 3650 * DAY), "what was spent, and on what")


@attrs.frozen
class WhatsApp:
    """The WhatsApp account."""

    enabled: bool = setting(False, FLAG, "connect to WhatsApp; set by `pynchy auth`")
    media_limit: int = setting(
        32 * MIB, size(0, GIB), "the largest file that is fetched for an agent"
    )
    transcribe: tuple[str, ...] = setting(
        (), WORDS, "a command that is given a voice note's path and prints its words; empty: none"
    )
    read_receipts: bool = setting(False, FLAG, "mark messages as read when they are answered")


@attrs.frozen
class Logging:
    """What is told, and where it is kept."""

    level: str = setting(
        "info",
        choice("debug", "info", "warning", "error"),
        "debug shows the text of messages, never secrets",
    )
    json: bool = setting(False, FLAG, "one JSON object a line instead of text for people")
    rotate: int = setting(10 * MIB, size(64 * KIB, GIB), "a new file when the log is this large")
    keep: int = setting(5, count(1, 1000), "old files to keep")


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
    logging: Logging = Logging()
    credential: Credential | None = None
    warnings: tuple[str, ...] = ()


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
    "logging": Logging,
}
CREDENTIALS: Final = {"ANTHROPIC_API_KEY": "api_key", "CLAUDE_CODE_OAUTH_TOKEN": "oauth"}
_PREFIX: Final = "PYNCHY_"
# The second is said by our own service file, the third is for our own tests.
_NOT_SETTINGS: Final = ("PYNCHY_HOME", "PYNCHY_SERVICE", "PYNCHY_TEST_")


# --- reading them --------------------------------------------------------------------------------


class Given(NamedTuple):
    """A value somebody gave: for which setting, what, and where."""

    section: str
    key: str
    value: object
    where: str  # "config.toml:3, limits.idle"


@attrs.frozen
class Found:
    """All that was found, right or wrong. ``origins`` says where each value in force was given; a
    setting that is not in it has its default."""

    home: Home
    values: Mapping[str, Mapping[str, object]]
    origins: Mapping[tuple[str, str], str]
    credential: Credential | None
    credential_origin: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def from_environ(environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Config:
    """Read the whole configuration, or raise `ConfigError` with everything that is wrong with it.

    ``flags`` are settings by dotted name ("model.offline"), stronger than all else. Reads ``.env``
    and ``config.toml`` below PYNCHY_HOME where they exist; writes nothing.
    """
    found = find(environ, flags)
    if found.problems:
        raise ConfigError(found.problems)
    sections = {name: SECTIONS[name](**found.values[name]) for name in SECTIONS}
    return Config(home=found.home, **sections, credential=found.credential, warnings=found.warnings)


def find(environ: Mapping[str, str], flags: Mapping[str, object] | None = None) -> Found:
    """What `from_environ` reads, with where it was found, and every mistake instead of an error."""
    home = Home.of(environ)
    problems: list[str] = []
    warnings: list[str] = []
    env_file = _read_env(home.env, problems, warnings)
    given = [
        *_from_table(*_read_toml(home.config, problems), problems),
        *_from_names(
            ((name, value, f".env:{line}") for name, value, line in env_file.values()), problems
        ),
        *_from_names(
            ((name, value, "the environment") for name, value in environ.items()), problems
        ),
        *_from_flags(flags or {}, problems),
    ]
    values: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    origins: dict[tuple[str, str], str] = {}
    for section, key, raw, where in given:
        kind: Kind = attrs.fields_dict(SECTIONS[section])[key].metadata["kind"]
        try:
            values[section][key] = kind.read(raw)
            origins[section, key] = where
        except (ValueError, OverflowError):
            problems.append(f"{where}: expected {kind.expected}, found {_shown(raw)}")
    credential, credential_origin = _credential(environ, env_file, problems)
    if not values["assistant"].get("timezone"):
        zone = machine_timezone(environ)
        values["assistant"]["timezone"] = zone or "UTC"
        origins["assistant", "timezone"] = "the machine" if zone else "unknown, so UTC"
        if zone is None:
            warnings.append(
                "the machine's time zone cannot be told, so times are in UTC: set assistant.timezone"
            )
    return Found(
        home, values, origins, credential, credential_origin, tuple(problems), tuple(warnings)
    )


def _read_env(path: Path, problems: list[str], warnings: list[str]) -> dict[str, Entry]:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                warnings.append(f"{path} can be read by others: chmod 600 {path}")
            return {entry.name: entry for entry in entries(file.read())}
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
    except BadEnvFile as error:
        problems.append(f"{path}, {error}")
    return {}


def _read_toml(path: Path, problems: list[str]) -> tuple[Mapping[str, object], Mapping[str, int]]:
    """The file's tables, and the lines that its names are on."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}, {}
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
        return {}, {}
    import tomllib  # here: most starts have no such file

    try:
        text = data.decode("utf-8-sig")
        return tomllib.loads(text), _toml_lines(text)
    except UnicodeDecodeError as error:
        problems.append(f"{path}: not UTF-8 at byte {error.start}")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: {error}")
    return {}, {}


_HEAD: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")


def _toml_lines(text: str) -> dict[str, int]:
    """On which line each section and each key begins: for people, so a guess is good enough."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if head := _HEAD.match(line):
            section = _bare(head[1])
            found.setdefault(section, number)
        elif key := _KEY.match(line):
            found.setdefault(f"{section}.{_bare(key[1])}".lstrip("."), number)
    return found


def _bare(name: str) -> str:
    return "".join(char for char in name if char not in "\"' ")


def _from_table(
    table: Mapping[str, object], lines: Mapping[str, int], problems: list[str]
) -> Iterator[Given]:
    def place(name: str) -> str:
        return f"config.toml:{lines[name]}, {name}" if name in lines else f"config.toml, {name}"

    for section, content in table.items():
        if section not in SECTIONS:
            problems.append(f"{place(section)}: unknown section{_nearest(section, SECTIONS)}")
        elif not isinstance(content, dict):
            problems.append(f"{place(section)}: expected a section, [{section}]")
        else:
            for key, value in content.items():
                where = place(f"{section}.{key}")
                if _known(section, key, where, problems):
                    yield Given(section, key, value, where)


def _from_names(names: Iterable[tuple[str, str, str]], problems: list[str]) -> Iterator[Given]:
    known = {f"{_PREFIX}{s}_{k}".upper(): (s, k) for s in SECTIONS for k in _keys(s)}
    for name, value, file in names:
        if name in known:
            yield Given(*known[name], value, f"{file}, {name}")
        elif name.startswith(_PREFIX) and not name.startswith(_NOT_SETTINGS):
            problems.append(f"{file}, {name}: unknown setting{_nearest(name, known)}")


def _from_flags(flags: Mapping[str, object], problems: list[str]) -> Iterator[Given]:
    for name, value in flags.items():
        section, _, key = name.partition(".")
        where = f"the command line, {name}"
        if section not in SECTIONS:
            problems.append(f"{where}: unknown section{_nearest(section, SECTIONS)}")
        elif _known(section, key, where, problems):
            yield Given(section, key, value, where)


def _keys(section: str) -> list[str]:
    return [field.name for field in attrs.fields(SECTIONS[section])]


def _known(section: str, key: str, where: str, problems: list[str]) -> bool:
    if key in _keys(section):
        return True
    everything = {f"{name}.{key}": name for name in SECTIONS for key in _keys(name)}
    problems.append(f"{where}: unknown key{_nearest(f'{section}.{key}', everything)}")
    return False


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # here: only mistakes need it

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 60 else text[:57] + "…"


def _credential(
    environ: Mapping[str, str], env_file: Mapping[str, Entry], problems: list[str]
) -> tuple[Credential | None, str]:
    file = {name: (entry.value, f".env:{entry.line}") for name, entry in env_file.items()}
    outside = {name: (value, "the environment") for name, value in environ.items()}
    for names in (outside, file):
        for name, kind in CREDENTIALS.items():
            secret, where = names.get(name, ("", ""))
            if secret := secret.strip():
                where = f"{where}, {name}"
                if not re.fullmatch(r"[!-~]+", secret):
                    problems.append(
                        f"{where}: expected a key of printable characters without spaces"
                    )
                return Credential(kind, secret), where
    return None, ""


def credential_now(environ: Mapping[str, str], home: Home) -> Credential | None:
    """The credential as it stands now, where one can be read: the environment's, else that of ``.env``."""
    problems: list[str] = []
    found, _ = _credential(environ, _read_env(home.env, problems, []), problems)
    return None if problems else found


def machine_timezone(environ: Mapping[str, str]) -> str | None:
    """The machine's own zone by its IANA name; UTC where it has none, None where its name cannot be told."""
    named = environ.get("TZ", "").strip().removeprefix(":")
    if named and named not in ("/etc/localtime", "localtime"):
        return _zone_at(named)
    try:
        return _zone_at(str(Path("/etc/localtime").readlink()))
    except FileNotFoundError:
        return _zone_in_words() or "UTC"
    except OSError:  # it is a copy, which does not say of what
        return _zone_in_words()


def _zone_in_words() -> str | None:
    """The zone that Debian's /etc/timezone names."""
    try:
        return _zone_at(Path("/etc/timezone").read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return None


def _zone_at(place: str) -> str | None:
    """The zone of a name, or of a file with one below a zoneinfo folder."""
    name = place.rpartition("/zoneinfo/")[2].removeprefix("posix/").removeprefix("right/")
    return name if name and not name.startswith("/") and is_zone(name) else None
