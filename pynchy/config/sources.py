"""Read the settings once from flags, the environment, ``.env`` and ``config.toml`` into a `Config`.

Order, first wins: flags, ``PYNCHY_<SECTION>_<KEY>`` in the environment, the same names in ``PYNCHY_HOME/.env``,
``config.toml``. Unknown names are errors that name the nearest; so are values that are not of their setting's kind.

The rule that keeps it so: all mistakes are reported together, each with its place. Nothing is written.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs

from pynchy.config.dotenv import BadEnvFile, Entry, entries
from pynchy.config.paths import Home
from pynchy.config.settings import CREDENTIALS, SECTIONS, Config, Credential
from pynchy.config.timezone import machine_timezone
from pynchy_agent.values import Kind, Wrong

_PREFIX: Final = "PYNCHY_"
# The second is said by our own service file, the third is for our own tests.
_NOT_SETTINGS: Final = ("PYNCHY_HOME", "PYNCHY_SERVICE", "PYNCHY_TEST_")


class ConfigError(Exception):
    """The user's configuration cannot be used: one sentence for each thing that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Given(NamedTuple):
    """A value somebody gave: for which setting, what, and where."""

    section: str
    key: str
    value: object
    where: str  # "config.toml:3, limits.idle"


@attrs.frozen
class Found:
    """All that was found, right or wrong. ``origins`` says where each value in force was set; a setting
    that is missing from it has its default."""

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
        kind: Kind[Any] = attrs.fields_dict(SECTIONS[section])[key].metadata["kind"]
        try:
            values[section][key] = kind.parse(raw)
            origins[section, key] = where
        except Wrong as error:
            problems.append(f"{where}: {error}")
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
    """The credential in force now: the environment's, else that of ``.env``; None if it cannot be read."""
    problems: list[str] = []
    found, _ = _credential(environ, _read_env(home.env, problems, []), problems)
    return None if problems else found
