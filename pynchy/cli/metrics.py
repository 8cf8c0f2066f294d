"""`pynchy metrics`: print metrics for monitoring, as OpenMetrics text."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pynchy.cli.client import ask


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write to this file, at once and whole: for node_exporter's textfile collector.",
)
def command(output: Path | None) -> None:
    """Print the running daemon's metrics in the text format that Prometheus reads.

    \b
    pynchy metrics
    pynchy metrics --output /var/lib/node_exporter/pynchy.prom
    """
    text = str(ask("metrics")["text"])
    if output is None:
        click.echo(text, nl=False)
        return
    aside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(output)
    finally:
        aside.unlink(missing_ok=True)
