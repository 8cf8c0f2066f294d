"""The command `pynchy` itself: a group that imports a command when it is asked for."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import click

from pynchy import __version__
from pynchy.exits import Exit, of_disk

COMMANDS: Final = (
    "init",
    "run",
    "chat",
    "send",
    "status",
    "groups",
    "mounts",
    "voice",
    "tasks",
    "why",
    "usage",
    "history",
    "memory",
    "audit",
    "approvals",
    "backup",
    "restore",
    "upgrade",
    "export",
    "import",
    "auth",
    "config",
    "metrics",
    "doctor",
    "toolbox",
    "completion",
    "service",
    "logs",
    "runs",
    "web",
)

_MODULES: Final = {"import": "import_home"}  # a word of Python's is no name of a module


class _Lazy(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # here: only mistakes need it

            if near := get_close_matches(args[0], COMMANDS, n=1):
                raise click.UsageError(f"{error.message} Did you mean {near[0]}?", ctx) from None
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = _MODULES.get(cmd_name, cmd_name)
        command: click.Command = import_module(f"pynchy.cli.{module}").command
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _told():  # --help writes here already
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Ctrl-C ends the command. That is no error to report, but has its own exit code."""
        try:
            with _told():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(err=True)  # after the ^C that the terminal shows
            raise click.exceptions.Exit(Exit.INTERRUPTED) from None


@contextmanager
def _told() -> Iterator[None]:
    """Turn a failure that has a sentence for a person into it; a bug goes on as it is."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, click.ClickException):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # whoever read us has seen enough, and click knows it
        if (failure := _failure(error)) is None:
            raise
        raise failure from error


def _failure(error: Exception) -> click.ClickException | None:
    """What a failure means that the command itself has no message for; None if it is a bug."""
    from pynchy.cli.client import Failure  # most commands end otherwise
    from pynchy.cli.verdicts import verdict

    if (found := verdict(error)) is not None:
        return Failure(found[1], found[0])
    if isinstance(error, OSError):
        code, told = of_disk(error)
        return Failure(f"{told}; pynchy doctor may say more", code)
    return None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="pynchy %(version)s")
def pynchy() -> None:
    """A personal assistant: chats in, sandboxed Claude agents, replies out.

    \b
    pynchy init                    set it up, step by step
    pynchy run                     start it and chat with it
    pynchy send main "hello"       send a message and print the answer
    pynchy status                  show its state

    All its data is in PYNCHY_HOME (~/.pynchy).
    """
