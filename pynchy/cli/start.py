"""Start the daemon in this process, as `pynchy run` does.

On a terminal the chat with main comes along, as a process of its own that speaks to the control
socket like any other client: the daemon stays what it is everywhere else, and a chat that is killed,
left or hung up ends it in order. Elsewhere it says ``ready`` on stdout and runs until a signal; it
asks nothing of anybody, ever. # invariant 72

The rule that keeps it so: only a start's order and its exit code are decided here.
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import attrs

from pynchy import logs
from pynchy.config import itself
from pynchy.config.settings import Config
from pynchy.config.sources import ConfigError, from_environ
from pynchy.daemon.lock import AlreadyRunning
from pynchy.exits import Exit, is_of_disk, of_disk

if TYPE_CHECKING:
    from pynchy.daemon.service_files import Manager

LONG: Final = 1024 * 1024  # bytes of a file that nobody rotates
SERVICE: Final = (
    "PYNCHY_SERVICE"  # as in `pynchy.daemon.service_files`, which a plain start does not load here
)
NO_CREDENTIAL: Final = (
    "no credential: pynchy init asks for one, or put ANTHROPIC_API_KEY=… or "
    "CLAUDE_CODE_OAUTH_TOKEN=… into {env}, or start with --offline"
)
OFFLINE: Final = (
    "*** OFFLINE MODEL *** Answers are scripted, not Claude's; all else is real. Say help to it.\n"
    "For Claude: pynchy init, or put ANTHROPIC_API_KEY=… or CLAUDE_CODE_OAUTH_TOKEN=… into {env}"
)


def start(flags: Mapping[str, object]) -> Exit:
    """Run the daemon until it is told to stop. Every way to fail has its exit code and a sentence."""
    manager = _take_manager()
    code, sentences = _start(flags, manager)
    if manager is not None:
        line = logs.escape(" ".join("; ".join(sentences).split()))  # a word ends with its line
        manager.tell(f"STATUS={line or 'stopped'}")
    for sentence in sentences:
        _tell(f"pynchy: {logs.escape(sentence)}")
    return code


def _take_manager() -> Manager | None:
    if "NOTIFY_SOCKET" not in os.environ:
        return None
    from pynchy.daemon import service_files

    return service_files.take_manager(os.environ)


def _start(flags: Mapping[str, object], manager: Manager | None) -> tuple[Exit, Sequence[str]]:
    kept_by = os.environ.get(SERVICE)
    if kept_by == "launchd":
        _shorten_stderr()
    try:
        config = from_environ(os.environ, flags)
        terminal = _is_terminal()
        if config.credential is None and not config.model.offline:
            if not terminal:
                return Exit.CONFIG, (NO_CREDENTIAL.format(env=config.home.env),)
            config = attrs.evolve(config, model=attrs.evolve(config.model, offline=True))
        # Nobody rotates launchd's file. A journal, or a container's log, may be all that one looks at.
        quiet = "warning" if terminal else "error" if kept_by == "launchd" else ""
        _set_up_log(config, stderr_level=quiet or config.logging.level)
        if kept_by:
            return _run_as_service(config, manager)
        return _run(config, manager, terminal=terminal)
    except ConfigError as error:
        return Exit.CONFIG, error.problems
    except OSError as error:  # of the log, before there is a daemon
        if not is_of_disk(error):
            raise
        code, told = of_disk(error)
        return code, (told,)


def _shorten_stderr() -> None:
    """Empty the file that stderr is, if it has grown: it is opened for appending."""
    with suppress(OSError):
        seen = os.fstat(2)
        if stat.S_ISREG(seen.st_mode) and seen.st_size > LONG:
            os.ftruncate(2, 0)


def _is_terminal() -> bool:
    """Whether a person is at a terminal. A closed stream is None."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)


def _set_up_log(config: Config, *, stderr_level: str) -> None:
    logs.configure(
        logs.Setup(
            file=config.home.log,
            level=config.logging.level,
            stderr_level=stderr_level,
            as_json=config.logging.json,
            rotate=config.logging.rotate,
            keep=config.logging.keep,
            secrets=(config.credential.secret,) if config.credential else (),
        )
    )


def _run_as_service(config: Config, manager: Manager | None) -> tuple[Exit, Sequence[str]]:
    """Run under a service manager, which restarts us: after recent crashes, wait first, longer each time."""
    import time

    from pynchy.daemon import service_files

    starts = config.home.starts
    if wait := service_files.slow_down(starts, now=time.time()):
        told = f"it has crashed lately, so this start waits {wait:g} s first"
        if manager is not None:
            manager.starting(told, wait)
        _tell(f"pynchy: {told}")
        time.sleep(wait)
    code, sentences = _run(config, manager, terminal=False)
    if code is Exit.OK:
        starts.unlink(missing_ok=True)
    return code, sentences


def _run(config: Config, manager: Manager | None, *, terminal: bool) -> tuple[Exit, Sequence[str]]:
    import trio

    try:
        return trio.run(_live, config, manager, terminal), ()
    except KeyboardInterrupt:  # before the daemon listened for it
        return Exit.INTERRUPTED if terminal else Exit.OK, ()
    except BaseException as error:
        code, message = verdict(error)
        if code is Exit.OURS:
            logs.logger.opt(exception=error).critical("the daemon failed")
            message = f"the daemon failed: {message}; {config.home.log} says more"
        return code, (message,)


async def _live(config: Config, manager: Manager | None, terminal: bool) -> Exit:
    import trio

    from pynchy.daemon import wiring

    watchdog = trio.CancelScope()
    limits = config.limits
    code = Exit.OK

    async def live_signs(manager: Manager) -> None:
        with watchdog:
            while True:  # what systemd asks for: a loop that hangs gives none
                manager.tell("WATCHDOG=1")
                await trio.sleep(manager.beat)

    async with trio.open_nursery() as nursery:

        def ready() -> None:
            gc.freeze()  # what a start has made stays: no later look for garbage goes through it
            for warning in config.warnings:
                logs.logger.warning("{}", warning)
            if config.model.offline:
                _tell(OFFLINE.format(env=config.home.env))
            if manager is not None:
                offline = "ready; the offline model answers" if config.model.offline else "ready"
                manager.tell("READY=1", f"STATUS={offline}")
                if manager.beat:
                    nursery.start_soon(live_signs, manager)
            if terminal:
                nursery.start_soon(_chat, config)
            else:
                with suppress(OSError):  # nobody need listen
                    os.write(1, b"ready\n")

        def stopping(reason: str) -> None:
            nonlocal code
            if terminal and reason == "SIGINT":
                code = Exit.INTERRUPTED
            if manager is not None:
                manager.stopping("stopping: turns are given their time to end", limits.stopping)

        try:
            if manager is not None:
                manager.starting("starting", limits.engine_wait)
            await wiring.run(config, ready=ready, stopping=stopping)
        finally:
            watchdog.cancel()
    return code


async def _chat(config: Config) -> None:
    """The chat on this terminal. When it is left, the daemon is told to stop as by a signal.

    Not after Ctrl-C, which reached both of us: a second signal would mean "at once". And not when the
    chat ended because the daemon did: nobody would catch the signal any more.
    """
    import trio

    done = await trio.run_process(
        itself.argv("pynchy", "chat"),
        env=os.environ | {"PYNCHY_HOME": str(config.home.root)},
        stdin=None,
        check=False,
    )
    if done.returncode not in (Exit.INTERRUPTED, -signal.SIGINT, Exit.NOT_RUNNING):
        signal.raise_signal(signal.SIGTERM)


def verdict(error: BaseException) -> tuple[Exit, str]:
    """What an end means: the exit code of the first cause that has one, and its sentence."""
    from pynchy.cli import verdicts

    causes = list(_leaves(error))
    for cause in causes:
        if isinstance(cause, AlreadyRunning):
            return Exit.ALREADY_RUNNING, f"{cause}; talk to it with: pynchy chat"
        if (found := verdicts.verdict(cause)) is not None:
            return found
    return Exit.OURS, f"{type(causes[0]).__name__}: {causes[0]}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _tell(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
