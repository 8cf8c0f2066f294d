"""`pynchy voice`: understand voice notes. They are turned into words on this machine, in a sandbox without network."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pynchy.cli.client import AGAIN, Failure, printable
from pynchy.cli.edit import set_setting
from pynchy.cli.progress import growing
from pynchy.config.paths import Home, part_of
from pynchy.config.settings import Config
from pynchy.config.sources import ConfigError, from_environ
from pynchy.daemon.lock import is_held
from pynchy.exits import Exit
from pynchy.files.disk import spell_bytes

if TYPE_CHECKING:
    from pynchy.container.engines.runtime import Runtime


@click.group()
def command() -> None:
    """Understand voice notes: install what it takes, and try it.

    \b
    pynchy voice install
    pynchy voice try note.ogg
    """


@command.command("install")
@click.option("--model", help="Another model, such as small or base.en; it is remembered.")
def install(model: str | None) -> None:
    """Fetch the packages and the model, once, and switch it on.

    What is there already is not fetched again. A download that breaks off goes on where it was.

    \b
    pynchy voice install
    pynchy voice install --model small
    """
    home = Home.of(os.environ)
    home.make()
    if model is not None:
        from pynchy.config.values import SPEECH_MODEL

        if wrong := SPEECH_MODEL.wrong(model):
            raise click.UsageError(f"--model: {wrong}")
        set_setting(home.config, "voice", "model", f'"{model}"')
    config = _config(home)
    _install_packages(config, engine=_with_runtime(config, _name_of))
    _fetch_model(config)
    set_setting(home.config, "voice", "enabled", "true")
    click.echo("Voice notes are understood from now on. To try it: pynchy voice try FILE")
    if is_held(home.lock):
        click.echo(AGAIN)


def _install_packages(config: Config, *, engine: str) -> None:
    from pynchy.voice import packages, parts

    wanted = parts.parts_of(config.home, config.voice, engine=engine)
    if not parts.packages_lack(wanted):
        click.echo(f"packages for Python {wanted.python}: there")
        return
    click.echo(f"packages for Python {wanted.python}: some 30 MB are fetched ...")
    try:
        packages.install(wanted)
    except packages.NotInstalled as error:
        raise Failure(str(error), Exit.OURS) from None


def _fetch_model(config: Config) -> None:
    from pynchy.gateway.way import way_of
    from pynchy.voice import download, models, parts

    voice = config.voice
    file = config.home.voice / models.file_of(voice.model)
    if not parts.wrong_with(file, voice.model):
        click.echo(f"model {voice.model}: there, {spell_bytes(file.stat().st_size)}")
        return
    url = f"{voice.url}/{file.name}"
    known = models.KNOWN.get(voice.model)
    click.echo(
        f"model {voice.model}: {spell_bytes(known.size) if known else 'size not known'} from {url}"
    )
    gateway = config.gateway
    route = download.Route(way_of(gateway).proxy_to(url), gateway.ca_file)

    def begun(have: int, whole: int) -> None:
        if have:
            click.echo(f"  {spell_bytes(have)} are there already; it goes on from there")

    try:
        with growing(part_of(file), known.size if known else 0, f"model {voice.model}"):
            found = download.fetch(url, file, route=route, begun=begun)
        download.take(file, voice.model, found)
    except download.NotFetched as error:
        by_hand = f"Fetched in another way it belongs at {file}; then run this again"
        raise Failure(f"{error}\n{by_hand}", Exit.OURS) from None
    checked = (
        "as published"
        if known
        else "of a model that is not in our list, so nothing to compare it with"
    )
    click.echo(f"  {spell_bytes(file.stat().st_size)}, SHA-256 {found} ({checked})")


@command.command("try")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def try_out(file: Path) -> None:
    """Turn a sound file into words as a voice note would be, and say how long it took.

    \b
    pynchy voice try note.ogg
    """
    import attrs

    from pynchy.voice.transcriber import NotTranscribed

    home = Home.of(os.environ)
    home.make()
    config = _config(home)
    config = attrs.evolve(config, voice=attrs.evolve(config.voice, enabled=True))
    began = time.monotonic()
    try:
        words = _with_runtime(config, partial(_words, config, file.absolute()))
    except NotTranscribed as error:
        why = f"{file} could not be transcribed: {error}"
        raise Failure("\n".join(filter(None, [why, error.beside])), Exit.OURS) from None
    click.echo(printable(words or "(no words could be made out)"))
    click.echo(f"{time.monotonic() - began:.1f} s", err=True)


async def _name_of(runtime: Runtime) -> str:
    return runtime.name


async def _words(config: Config, file: Path, runtime: Runtime) -> str:
    from pynchy.config.installation import install_id
    from pynchy.voice.transcriber import Transcriber

    return await Transcriber(config, runtime, install_id(config.home)).words(file)


def _with_runtime(config: Config, do: Callable[[Runtime], Awaitable[str]]) -> str:
    """What is done with the engine that a start would choose."""
    import trio

    from pynchy.config import installation
    from pynchy.container.engines.choice import open_runtime
    from pynchy.container.engines.runtime import Installation, NoRuntime

    home, engine = config.home, config.container.engine
    ours = Installation(
        installation.install_id(home), config.container.image, home.sandboxes, os.environ
    )

    async def run() -> str:
        auto = engine == "auto"
        last = installation.last_engine(home) if auto else None
        return await do(await open_runtime(None if auto else engine, ours, last=last))

    try:
        return trio.run(run)
    except NoRuntime as error:
        raise Failure(str(error), Exit.NO_RUNTIME) from None


def _config(home: Home) -> Config:
    try:
        return from_environ(os.environ)
    except ConfigError as error:
        problems = "\n".join(error.problems)
        raise Failure(
            f"fix the configuration in {home.root} first:\n{problems}", Exit.CONFIG
        ) from None
