"""The daemon's log: one line an event, with secrets removed.

``from pynchy.logs import logger`` is loguru's logger, imported at the first line that is really
written: it costs a fifth of a start (45 of 250 ms), and a start has little to tell before it is ready.

Lines go to PYNCHY_HOME/logs/pynchy.log, which rotates, and to stderr. Whatever a name or an error
contains, it stays one entry: control characters are escaped, what is long is cut, and known secrets
and whatever looks like a key are blacked out. Text of messages belongs to DEBUG alone.

The rule that keeps it so: this is the one module that imports loguru and sets it up. What it knows is
how lines look and where they go, never what they say.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from pynchy.text import safe

if TYPE_CHECKING:
    from loguru import Logger, Record

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_ENTRY: Final = 8 * 1024  # characters
PATIENCE: Final = 500  # milliseconds to wait for a reader of stderr
_KEY: Final = re.compile(r"sk-[A-Za-z0-9_-]{8,}")


@attrs.frozen
class Setup:
    """Where lines go, from which level up, and what must never be in one."""

    file: Path | None
    level: str = "info"
    stderr_level: str = "info"
    as_json: bool = False
    rotate: int = 10 * 1024 * 1024
    keep: int = 5
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)


class _LazyLogger:
    """A stand-in for loguru's logger, which it imports for the first line that is written."""

    def __init__(self) -> None:
        self._setup: Setup | None = None
        self._loaded: Logger | None = None

    def configure(self, setup: Setup) -> None:
        self._setup = setup
        self._loaded = None
        if "loguru" in sys.modules:
            self._load()

    def _load(self) -> Logger:
        if self._loaded is None:
            # It reads these as it is imported, and one that it cannot read would end the daemon.
            for name in [name for name in os.environ if name.startswith("LOGURU_")]:
                del os.environ[name]
            from loguru import logger as real

            if self._setup is not None:
                _set_up(real, self._setup)
            self._loaded = real
        return self._loaded

    def debug(self, message: object, *args: object, **kwargs: object) -> None:
        setup = self._setup
        if setup and "debug" not in (setup.level, setup.stderr_level):
            return  # the commonest line, and nobody wants it: not worth an import
        self._load().opt(depth=1).debug(cast("str", message), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)


_lazy: Final = _LazyLogger()
logger: Final = cast("Logger", _lazy)


def configure(setup: Setup) -> None:
    """Send lines there from now on, and see that uncaught exceptions are among them.

    Exceptions of the main thread, of other threads and of callbacks that have nobody to raise to.
    """
    _lazy.configure(setup)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logger.opt(exception=(kind, error, trace)).critical("uncaught exception")


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread else "?"
    error = args.exc_value or args.exc_type()
    logger.opt(exception=error).critical("uncaught exception in thread {}", name)


def _unraisable(args: Any) -> None:  # sys.UnraisableHookArgs exists for type checkers only
    what = f"{args.err_msg or 'exception nobody could be told of'}: {args.object!r}"
    error = args.exc_value or args.exc_type()
    logger.opt(exception=error).error("{}", what)


# --- loguru, set up ------------------------------------------------------------------------------


def _set_up(real: Logger, setup: Setup) -> None:
    real.remove()
    # Each sink catches its own errors: a full disk costs lines, never the daemon.
    # diagnose would print the values of variables, and values may be secrets.
    common: dict[str, Any] = {"catch": True, "backtrace": False, "diagnose": False}
    real.add(
        _Stderr(),
        level=setup.stderr_level.upper(),
        format=_Lines(setup.secrets, as_json=setup.as_json),
        **common,
    )
    if setup.file is not None:
        real.add(
            setup.file,
            level=setup.level.upper(),
            format=_Lines(setup.secrets, as_json=setup.as_json),
            rotation=setup.rotate,
            retention=setup.keep,
            encoding="utf-8",
            errors="backslashreplace",
            opener=lambda path, flags: os.open(path, flags, 0o600),
            **common,
        )
    _listen_to_logging(real)


@attrs.define
class _Stderr:
    """The present stderr, which may have been replaced since; nothing is written if it is closed.

    A pipe that nobody reads any more costs lines and one short wait, never the daemon.
    """

    stuck: bool = False

    def __call__(self, line: str) -> None:
        if sys.stderr is None:
            return
        try:
            descriptor = sys.stderr.fileno()
        except (OSError, ValueError):  # it is no file
            sys.stderr.write(line)
            return
        door = select.poll()
        door.register(descriptor, select.POLLOUT)
        data = line.encode("utf-8", "backslashreplace")
        for start in range(0, len(data), select.PIPE_BUF):  # so much fits whenever anything does
            self.stuck = not door.poll(0 if self.stuck else PATIENCE)
            if self.stuck:
                return
            os.write(descriptor, data[start : start + select.PIPE_BUF])


@attrs.frozen
class _Lines:
    """A loguru format: makes the line itself, and hands loguru a template that says "this line"."""

    secrets: tuple[str, ...] = attrs.field(repr=False)
    as_json: bool

    def __call__(self, record: Record) -> str:
        render = render_json if self.as_json else render_line
        record["extra"]["_line"] = render(record, self.secrets)
        return "{extra[_line]}\n"


def render_line(record: Record, secrets: tuple[str, ...]) -> str:
    """An entry for people: one line, and an exception's lines set off below it."""
    when = record["time"].strftime("%Y-%m-%d %H:%M:%S")
    facts = " ".join(f"{key}={value}" for key, value in record["extra"].items() if key[0] != "_")
    text = " ".join(part for part in (record["message"], f"({facts})" if facts else "") if part)
    line = f"{when} {record['level'].name:<8} {escape(text, secrets)}"
    trace = [f"  | {escape(part, secrets)}" for part in _trace(record)]
    return "\n".join([line, *trace])


def render_json(record: Record, secrets: tuple[str, ...]) -> str:
    """An entry for programs: one object on one line."""
    entry: dict[str, object] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name.lower(),
        "message": escape(record["message"], secrets),
        "where": f"{record['name']}:{record['line']}",
    }
    for key, value in record["extra"].items():
        if key[0] != "_":
            entry[key] = escape(str(value), secrets)
    if trace := _trace(record):
        entry["exception"] = [escape(part, secrets) for part in trace]
    return json.dumps(entry)


def _trace(record: Record) -> list[str]:
    """An exception's lines; of a long one the beginning and, worth more, the end."""
    found = record["exception"]
    if found is None or found.value is None:
        return []
    lines = [
        line
        for block in traceback.format_exception(found.type, found.value, found.traceback)
        for line in block.rstrip("\n").split("\n")
    ]
    return lines if len(lines) <= 80 else [*lines[:20], "…", *lines[-59:]]


def escape(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Text that can neither begin a new entry, nor colour a terminal, nor give a secret away."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    text = _KEY.sub("[secret]", text)
    if len(text) > MAX_ENTRY:
        text = f"{text[:MAX_ENTRY]}… ({len(text)} characters)"
    return safe.escaped(text)


def _listen_to_logging(real: Logger) -> None:
    """Pass on what libraries log through the standard library."""
    import logging

    class ToLoguru(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = min(max(record.levelno // 10 * 10, 10), 50)
            name = logging.getLevelName(level)
            real.opt(exception=record.exc_info).log(
                name, "{}: {}", record.name, record.getMessage()
            )

    logging.basicConfig(handlers=[ToLoguru()], level=logging.WARNING, force=True)
