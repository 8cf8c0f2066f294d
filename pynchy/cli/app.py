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

#: What nobody should be led to by a slip of the keyboard.
DESTRUCTIVE: Final = frozenset(
    {"restore", "import", "forget", "remove", "delete", "uninstall", "unmount"}
)

#: What people type, and is called something else here.
MEANT: Final = {
    "start": "pynchy run (in this terminal), or pynchy service start (in the background)",
    "stop": "pynchy service stop, or Ctrl-C where pynchy run runs",
    "restart": "pynchy service restart, or Ctrl-C where pynchy run runs and then pynchy run",
    "login": "pynchy init (Claude's key or token), or pynchy auth whatsapp (link a number)",
    "ask": 'pynchy send main "your question", or pynchy chat',
    "list": "pynchy groups list, pynchy tasks list or pynchy approvals list",
    "setup": "pynchy init",
    "update": "pynchy upgrade",
}


class _Lazy(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        match args:
            case ["version"]:
                args = ["--version"]  # click asks the options again, and ends there
            case ["help", *words]:
                args = [*words, "--help"]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if (meant := MEANT.get(args[0])) is not None:
                raise click.UsageError(f"There is no {args[0]!r}: {meant}", ctx) from None
            from difflib import get_close_matches  # here: only mistakes need it

            near = get_close_matches(args[0], COMMANDS, n=1)
            if near and near[0] not in DESTRUCTIVE:
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
    except click.UsageError as error:
        # The suggestions are click's, in groups of commands: pynchy groups remov
        if near := getattr(error, "possibilities", None):
            harmless = [name for name in near if name not in DESTRUCTIVE]
            near[:] = harmless if near[0] in harmless else []
        raise
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
