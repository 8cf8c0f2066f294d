"""Configuration: what is read, in which order, and how a mistake is told."""

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.config.settings import SECTIONS, Config, Credential
from pynchy.config.sources import ConfigError, from_environ
from pynchy.config.timezone import machine_timezone
from pynchy.config.values import GIB, Size, spell_size, spell_time
from pynchy.model import HOUR
from pynchy_agent.values import Kind


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def read(home: Path, *, flags: dict[str, object] | None = None, **environ: str) -> Config:
    return from_environ({"PYNCHY_HOME": str(home), **environ}, flags)


def problems(home: Path, *, flags: dict[str, object] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(home, flags=flags, **environ)
    return list(caught.value.problems)


# Times in seconds, sizes in bytes. A default that is changed on purpose is changed here too, and told in CHANGELOG.md.
DEFAULTS = {
    "assistant": {
        "name": "Pynchy",
        "has_own_number": False,
    },
    "container": {
        "engine": "auto",
        "image": "localhost/pynchy-agent:latest",
        "command": (),
        "memory": 2_147_483_648,  # 2g
        "cpus": 1.5,
        "pids": 512,
        "nofile": 4_096,
        "file_size": 1_073_741_824,  # 1g
        "tmp": 536_870_912,  # 512m
        "prewarm": 0,
        "require_patched": False,
        "mount_allowlist": None,
    },
    "limits": {
        "containers": 5,
        "idle": 1_800,  # 30 min
        "progress": 600,  # 10 min
        "turn": 3_600,  # 1 h
        "close_grace": 10,  # 10 s
        "stop_grace": 10,  # 10 s
        "drain": 15,  # 15 s
        "outage": 21_600,  # 6 h
        "engine_wait": 60,  # 1 min
    },
    "model": {
        "name": "sonnet",
        "compact_at": 160_000,
        "base_url": "https://api.anthropic.com",
        "web_search": "auto",
        "offline": False,
    },
    "budget": {
        "run_dollars": 0,
        "run_tokens": 0,
        "day_dollars": None,  # 5 with an API key
        "day_tokens": 0,
        "total_day_dollars": None,  # 15 with an API key
    },
    "effects": {
        "turns": 300,
        "messages": 500,
        "files": 100,
        "tokens": 20_000_000,
    },
    "gateway": {
        "egress": "public",
        "no_proxy": (),
        "proxy": "",
        "ca_file": None,
    },
    "disk": {
        "free": 1_073_741_824,  # 1g
        "free_percent": 5,
        "group": 5_368_709_120,  # 5g
        "group_files": 250_000,
    },
    "keeping": {
        "hour": 4,
        "settle": 60,  # 1 min
        "copies": 3,
        "weeks": 3,
        "messages": 0,
        "logs": 2_592_000,  # 30 d
        "usage": 34_560_000,  # 400 d
    },
    "whatsapp": {
        "enabled": False,
        "media_limit": 33_554_432,  # 32m
        "transcribe": (),
        "read_receipts": False,
    },
    "voice": {
        "enabled": False,
        "model": "base",
        "url": "https://huggingface.co/ggerganov/whisper.cpp/resolve/main",
        "language": "",
        "folder": None,
    },
    "logging": {
        "level": "info",
        "json": False,
        "rotate": 10_485_760,  # 10m
        "keep": 5,
    },
}


def test_a_home_without_files_gives_the_defaults_that_were_agreed(home: Path) -> None:
    config = read(home, TZ="Europe/Berlin")
    found = {name: attrs.asdict(getattr(config, name)) for name in SECTIONS}
    assert found["assistant"].pop("timezone") == "Europe/Berlin"  # the machine's
    assert found == DEFAULTS
    assert config.credential is None
    assert config.home.root == home


def test_flags_beat_the_environment_beats_env_file_beats_config_toml(home: Path) -> None:
    (home / "config.toml").write_text("[limits]\ncontainers = 1\nidle = 1\nturn = 1\ndrain = 1\n")
    (home / ".env").write_text(
        "PYNCHY_LIMITS_CONTAINERS=2\nPYNCHY_LIMITS_IDLE=2\nPYNCHY_LIMITS_TURN=2\n"
    )
    limits = read(
        home,
        flags={"limits.containers": "4"},
        PYNCHY_LIMITS_CONTAINERS="3",
        PYNCHY_LIMITS_IDLE="3",
    ).limits
    assert (limits.containers, limits.idle, limits.turn, limits.drain) == (4, 3, 2, 1)


# invariant 163
@pytest.mark.parametrize(
    ("toml", "environ", "flags", "says"),
    [
        ("[limits]\nidel = 3\n", {}, {}, ["limits.idel", "did you mean limits.idle?"]),
        ("[limit]\nidle = 3\n", {}, {}, ["limit: unknown section", "did you mean limits?"]),
        ("idle = 3\n", {}, {}, ["idle: unknown section"]),
        ("limits = 3\n", {}, {}, ["expected a section, [limits]"]),
        ("[limits\n", {}, {}, ["config.toml: "]),
        ("", {"PYNCHY_LIMITS_IDEL": "3"}, {}, ["did you mean PYNCHY_LIMITS_IDLE?"]),
        ("", {"PYNCHY_IDLE": "3"}, {}, ["the environment, PYNCHY_IDLE: unknown setting"]),
        ("", {}, {"limits.idel": "3"}, ["the command line", "did you mean limits.idle?"]),
        ("", {}, {"offline": True}, ["the command line, offline: unknown section"]),
    ],
)
def test_a_name_that_is_not_a_setting_is_an_error_that_names_the_nearest(
    home: Path, toml: str, environ: dict[str, str], flags: dict[str, object], says: list[str]
) -> None:
    (home / "config.toml").write_text(toml)
    (problem,) = problems(home, flags=flags, **environ)
    for words in says:
        assert words in problem


def test_names_of_others_are_left_alone(home: Path) -> None:
    read(home, PYNCHY_TEST_RUNTIMES="bwrap", HOME="/", LIMITS_IDEL="3")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("limits.idle", "soon", 'a time such as 90, "30 min" or "1 h"'),
        ("limits.idle", -1, "a time"),
        ("limits.idle", True, "a time"),
        ("limits.idle", "1e999", "a time"),
        ("limits.idle", float("nan"), "a time"),
        ("limits.idle", "25 h", "from 0 s to 1 d"),
        ("limits.containers", 0, "a whole number from 1 to 1000"),
        ("limits.containers", 1.5, "a whole number"),
        ("limits.containers", "many", "a whole number"),
        ("container.memory", "2 parsecs", 'a size such as "512m"'),
        ("container.engine", "lxc", "one of auto, docker, podman, container, bwrap"),
        ("container.image", "--privileged", "the name of an image"),
        ("container.image", "a b", "the name of an image"),
        ("container.command", [1], "a list of texts"),
        ("container.command", "[1]", "a list of texts"),
        ("container.command", '["sh", ', "a list of texts"),
        ("container.command", '["sh"]\nmodel = 1', "a list of texts"),
        ("container.command", "sh -c 'a b", "a list of texts"),
        ("container.mount_allowlist", "relative", "an absolute path"),
        ("model.offline", "perhaps", "true or false"),
        ("gateway.proxy", "socks5://localhost:1080", "a socks proxy does not do"),
        ("gateway.proxy", "http://me:word@proxy:3128", "without a password"),
        ("gateway.no_proxy", "http://example.org", "expected hosts with commas between them"),
        ("gateway.no_proxy", "10.0.0.0/99", "expected hosts with commas between them"),
        ("model.base_url", "ftp://x", "an http or https address"),
        ("model.base_url", "https://key@host", "an http or https address"),
        ("assistant.name", "", "a name of 1 to 64 characters"),
        ("assistant.name", "a\nb", "a name"),
        ("assistant.timezone", "IST-2", "a time zone"),  # invariant 128
        ("assistant.timezone", "../../etc/passwd", "a time zone"),
        ("assistant.timezone", "Europe/Nowhere", "a time zone"),
    ],
)
def test_a_bad_value_says_where_it_is_and_what_was_expected(
    home: Path, key: str, value: object, expected: str
) -> None:
    (problem,) = problems(home, flags={key: value})
    assert f"the command line, {key}: expected" in problem
    assert expected in problem


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("limits.idle", "1 h", HOUR),
        ("limits.idle", "90 seconds", 90.0),
        ("limits.idle", "1.5 min", 90.0),
        ("limits.idle", 90, 90.0),
        ("limits.idle", "0", 0.0),
        ("container.memory", "4G", 4 * GIB),
        ("container.memory", "1024 MiB", GIB),
        ("container.engine", "Podman", "podman"),
        ("container.image", "x/y@sha256:" + "0" * 64, "x/y@sha256:" + "0" * 64),
        ("container.command", "python3 -m mine", ("python3", "-m", "mine")),
        ("container.command", ["a b", "c"], ("a b", "c")),
        ("container.command", '["sh", "-c", "a b"]', ("sh", "-c", "a b")),
        ("container.command", " ['sh', '-c', 'a, b'] ", ("sh", "-c", "a, b")),
        ("container.command", "sh -c 'a b'", ("sh", "-c", "a b")),
        ("model.offline", "YES", True),
        ("model.base_url", "http://127.0.0.1:4000/", "http://127.0.0.1:4000"),
        ("model.base_url", "http://127.0.0.1:4000/v1", "http://127.0.0.1:4000"),
        ("model.base_url", "https://gate.example//v1", "https://gate.example"),
        ("model.base_url", "https://gate.example/v1/messages", "https://gate.example"),
        ("model.base_url", "https://gate.example/anthropic/v1/", "https://gate.example/anthropic"),
        ("gateway.proxy", "http://proxy:3128/", "http://proxy:3128"),
        ("gateway.proxy", "", ""),
        (
            "gateway.no_proxy",
            ".Corp.example, 10.0.0.1/8 ::1,*",
            (".corp.example", "10.0.0.0/8", "::1", "*"),
        ),
        ("gateway.no_proxy", "", ()),
        ("assistant.name", " Käthe ", "Käthe"),
        ("assistant.timezone", "Europe/Berlin", "Europe/Berlin"),
    ],
)
def test_values_as_people_write_them(home: Path, key: str, value: object, seen: object) -> None:
    section, _, name = key.partition(".")
    assert getattr(getattr(read(home, flags={key: value}), section), name) == seen


def test_everything_that_is_wrong_is_told_at_once(home: Path) -> None:
    (home / "config.toml").write_text('[limits]\nidle = "soon"\nidel = 1\n')
    (home / ".env").write_text("what is this\n")
    assert len(problems(home, PYNCHY_LIMITS_TURN="x")) == 4


def test_every_default_is_a_value_its_own_kind_takes() -> None:
    for cls in SECTIONS.values():
        for field in attrs.fields(cls):
            kind: Kind[object] = field.metadata["kind"]
            default = field.default
            raw = list(default) if isinstance(default, tuple) else default
            assert raw is None or kind.parse(raw) == default, field.name
            assert field.metadata["doc"]


def test_no_section_has_an_underscore_so_names_in_the_environment_are_unambiguous() -> None:
    assert not [name for name in SECTIONS if "_" in name]


@pytest.mark.parametrize(
    ("environ", "env_file", "seen"),
    [
        ({"ANTHROPIC_API_KEY": "sk-ant-1"}, "", Credential("api_key", "sk-ant-1")),
        ({}, "CLAUDE_CODE_OAUTH_TOKEN=sk-oat\n", Credential("oauth", "sk-oat")),
        ({"ANTHROPIC_API_KEY": "  "}, "ANTHROPIC_API_KEY=\n", None),
        (
            {"CLAUDE_CODE_OAUTH_TOKEN": "new"},
            "ANTHROPIC_API_KEY=old\n",
            Credential("oauth", "new"),
        ),
    ],
)
def test_the_credential_comes_from_the_environment_or_the_env_file(
    home: Path, environ: dict[str, str], env_file: str, seen: Credential | None
) -> None:
    (home / ".env").write_text(env_file)
    assert read(home, flags=None, **environ).credential == seen


def test_no_secret_is_ever_shown(home: Path) -> None:
    secret = "sk-ant-canary"
    assert secret not in repr(read(home, ANTHROPIC_API_KEY=secret))
    (home / ".env").write_text(f"ANTHROPIC_API_KEY={secret} and more\nX='{secret}\n")
    assert secret not in str(problems(home))
    assert secret not in str(problems(home, ANTHROPIC_API_KEY=f"{secret} {secret}"))


def test_an_env_file_that_others_can_read_is_warned_of(home: Path) -> None:
    (home / ".env").write_text("")
    (home / ".env").chmod(0o644)
    assert "chmod 600" in read(home).warnings[0]
    (home / ".env").chmod(0o600)
    assert read(home).warnings == ()


@pytest.mark.parametrize(
    ("tz", "seen"),
    [
        ("Europe/Berlin", "Europe/Berlin"),
        (":Asia/Kolkata", "Asia/Kolkata"),
        (":/usr/share/zoneinfo/Asia/Kolkata", "Asia/Kolkata"),
        ("/usr/share/zoneinfo/posix/Asia/Kolkata", "Asia/Kolkata"),
        ("IST-2", None),
        ("/home/me/zone", None),
    ],
)
def test_the_zone_that_the_environment_names(tz: str, seen: str | None) -> None:
    assert machine_timezone({"TZ": tz}) == seen


@pytest.mark.parametrize("environ", [{}, {"TZ": ":/etc/localtime"}, {"TZ": "/etc/localtime"}])
@pytest.mark.parametrize(
    ("link", "words", "seen"),
    [
        ("/usr/share/zoneinfo/Asia/Kathmandu", None, "Asia/Kathmandu"),
        ("../usr/share/zoneinfo/Asia/Kathmandu", None, "Asia/Kathmandu"),
        ("/etc/own-zone", None, None),
        ("a copy", "Asia/Kathmandu\n", "Asia/Kathmandu"),
        ("a copy", None, None),
        ("a copy", "nonsense", None),
        (None, None, "UTC"),
    ],
)
def test_the_machines_zone(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    link: str | None,
    words: str | None,
    seen: str | None,
) -> None:
    def readlink(path: Path) -> Path:
        if link is None:
            raise FileNotFoundError
        if link == "a copy":
            raise OSError
        return Path(link)

    def read_text(path: Path, encoding: str = "") -> str:
        if words is None:
            raise FileNotFoundError
        return words

    monkeypatch.setattr(Path, "readlink", readlink)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert machine_timezone(environ) == seen


def test_a_zone_that_cannot_be_told_is_said(home: Path) -> None:
    found = read(home, TZ="IST-2")
    assert found.assistant.timezone == "UTC"
    assert "set assistant.timezone" in found.warnings[0]
    assert read(home, TZ="IST-2", PYNCHY_ASSISTANT_TIMEZONE="Asia/Jerusalem").warnings == ()


def test_the_zone_is_always_a_name(home: Path) -> None:
    assert read(home, TZ="Europe/Paris").assistant.timezone == "Europe/Paris"
    assert read(home).assistant.timezone


def test_spelled_out() -> None:
    assert [spell_time(x) for x in (0, 90, 120, 1800, 3600, 86400)] == [
        "0 s",
        "90 s",
        "2 min",
        "30 min",
        "1 h",
        "1 d",
    ]
    assert [spell_size(x) for x in (1, 1024, 512 * 1024**2, GIB)] == ["1", "1k", "512m", "1g"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("2g", 2 * GIB), ("2gb", 2 * GIB), ("2 GB", 2 * GIB), ("2GiB", 2 * GIB), ("512mb", 512 << 20), ("1 TB", 1 << 40),
     ("64 kB", 64 << 10), ("100b", 100)],
)  # fmt: skip
def test_a_size_is_understood_however_its_unit_is_written(text: str, size: int) -> None:
    assert Size(0, 1 << 50).parse(text) == size


@given(
    st.dictionaries(
        st.sampled_from(
            sorted(f"{s}.{f.name}" for s, c in SECTIONS.items() for f in attrs.fields(c))
        ),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_whatever_is_given_there_is_a_config_or_a_sentence_for_each_mistake(
    flags: dict[str, object],
) -> None:
    try:
        from_environ({"PYNCHY_HOME": "/nonexistent"}, flags)
    except ConfigError as error:
        assert len(error.problems) <= len(flags)
        assert all("expected" in problem for problem in error.problems)
