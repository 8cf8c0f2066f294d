"""Starting the daemon in this process: what `pynchy run` does.

On a terminal the chat with main comes along, as a process of its own that speaks to the control
socket like any other client: the daemon stays what it is everywhere else, and a chat that is killed,
left or hung up ends it in order. Elsewhere it says ``ready`` on stdout and runs until a signal; it
asks nothing of anybody, ever. # invariant 72

The rule that keeps it so: only a start's order and its exit code are decided here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

import attrs

from pynchy import logs
from pynchy.config import Config, ConfigError, from_environ
from pynchy.exits import Exit
from pynchy.home import NotPrivate
from pynchy.lock import AlreadyRunning

SERVICE: Final = "PYNCHY_SERVICE"  # as in `pynchy.service`, which a plain start does not load here
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
    try:
        config = from_environ(os.environ, flags)
        terminal = _is_terminal()
        if config.credential is None and not config.model.offline:
            if not terminal:
                return _fail(Exit.CONFIG, NO_CREDENTIAL.format(env=config.home.env))
            config = attrs.evolve(config, model=attrs.evolve(config.model, offline=True))
        _set_up_log(config, terminal=terminal)
        if os.environ.get(SERVICE):
            return _run_as_service(config)
        return _run(config, terminal=terminal)
    except ConfigError as error:
        return _fail(Exit.CONFIG, *error.problems)


def _is_terminal() -> bool:
    """Whether somebody sits there. A stream that is closed is None."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams)


def _set_up_log(config: Config, *, terminal: bool) -> None:
    logs.configure(
        logs.Setup(
            file=config.home.log,
            level=config.logging.level,
            stderr_level="warning" if terminal else config.logging.level,
            as_json=config.logging.json,
            rotate=config.logging.rotate,
            keep=config.logging.keep,
            secrets=(config.credential.secret,) if config.credential else (),
        )
    )


def _run_as_service(config: Config) -> Exit:
    """Run where a manager starts us again: the more often of late, the longer it waits first."""
    import time

    from pynchy import service

    starts = config.home.starts
    if wait := service.slow_down(starts, now=time.time()):
        _tell(f"pynchy: it did not end in order lately, so this start waits {wait:g} s first")
        time.sleep(wait)
    code = _run(config, terminal=False)
    if code is Exit.OK:
        starts.unlink(missing_ok=True)
    return code


def _run(config: Config, *, terminal: bool) -> Exit:
    import trio

    try:
        trio.run(_live, config, terminal)
    except KeyboardInterrupt:
        return Exit.OK
    except BaseException as error:
        code, message = verdict(error)
        if code is Exit.OURS:
            logs.logger.opt(exception=error).critical("the daemon failed")
            message = f"the daemon failed: {message}; {config.home.log} says more"
        return _fail(code, message)
    return Exit.OK


async def _live(config: Config, terminal: bool) -> None:
    import trio

    from pynchy import daemon, service

    manager, beat = service.take_watchdog(os.environ)
    watchdog = trio.CancelScope()

    async def live_signs() -> None:
        with watchdog:
            while True:  # what systemd asks for: a loop that hangs gives none
                service.notify(manager, "WATCHDOG=1")
                await trio.sleep(beat)

    async with trio.open_nursery() as nursery:

        def ready() -> None:
            for warning in config.warnings:
                logs.logger.warning("{}", warning)
            if config.model.offline:
                _tell(OFFLINE.format(env=config.home.env))
            service.notify(manager, "READY=1")
            if beat:
                nursery.start_soon(live_signs)
            if terminal:
                nursery.start_soon(_chat, config)
            else:
                with suppress(OSError):  # nobody need listen
                    os.write(1, b"ready\n")

        try:
            await daemon.run(config, ready=ready)
        finally:
            service.notify(manager, "STOPPING=1")
            watchdog.cancel()


async def _chat(config: Config) -> None:
    """The chat on this terminal. When it is left, the daemon is told to stop as by a signal.

    Not after Ctrl-C, which reached both of us: a second signal would mean "at once". And not when the
    chat ended because the daemon did: nobody would catch the signal any more.
    """
    import trio

    done = await trio.run_process(
        [sys.executable, "-m", "pynchy", "chat"],
        env=os.environ | {"PYNCHY_HOME": str(config.home.root)},
        stdin=None,
        check=False,
    )
    if done.returncode not in (130, -signal.SIGINT, Exit.NOT_RUNNING):
        signal.raise_signal(signal.SIGTERM)


def verdict(error: BaseException) -> tuple[Exit, str]:
    """What an end means: the exit code of the first cause that has one, and its sentence."""
    from pynchy.container.runtime import NoRuntime
    from pynchy.store.database import StoreError

    causes = list(_leaves(error))
    for cause in causes:
        match cause:
            case NoRuntime():
                return Exit.NO_RUNTIME, str(cause)
            case StoreError():
                return Exit.STORE, str(cause)
            case AlreadyRunning():
                return Exit.ALREADY_RUNNING, f"{cause}; talk to it with: pynchy chat"
            case ConfigError() | NotPrivate():
                return Exit.CONFIG, str(cause)
            case PermissionError() | FileExistsError() | NotADirectoryError():
                return Exit.CONFIG, f"{cause.filename}: {cause.strerror}"
    return Exit.OURS, f"{type(causes[0]).__name__}: {causes[0]}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def _fail(code: Exit, *sentences: str) -> Exit:
    for sentence in sentences:
        _tell(f"pynchy: {logs.escape(sentence)}")
    return code


def _tell(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
