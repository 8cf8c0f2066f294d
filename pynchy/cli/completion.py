"""`pynchy completion`: print the shell code that completes this command."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_PYNCHY_COMPLETE"  # what click looks for in a program of our name


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion code for SHELL. `pynchy` must be on PATH.

    \b
    pynchy completion bash >~/.local/share/bash-completion/completions/pynchy
    pynchy completion zsh >~/.zfunc/_pynchy
    pynchy completion fish >~/.config/fish/completions/pynchy.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None  # the choice has only those that click has
    click.echo(complete(context.find_root().command, {}, "pynchy", VARIABLE).source())
