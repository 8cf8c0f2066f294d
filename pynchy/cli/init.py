"""`pynchy init`: guided set-up, from nothing to an assistant that answers.

The rule that keeps it so: a step first looks whether it is done, and looks again after it has done
something; it keeps nothing of its own, so that it may be run as often as one likes. What a step does
is what a command of its own does, too. Nobody is asked anything without a terminal: there the flags say
what is wanted, and what they do not say is left alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from pynchy.cli.client import AGAIN, Failure, NotRunning, open_connection, printable
from pynchy.cli.edit import set_secret, set_setting
from pynchy.config import itself
from pynchy.config.paths import Home
from pynchy.config.settings import CREDENTIALS, Config
from pynchy.config.sources import ConfigError, from_environ
from pynchy.daemon.lock import is_held
from pynchy.exits import Exit
from pynchy.logs import escape
from pynchy.store import whatsapp_session as session

if TYPE_CHECKING:
    from pynchy.doctor.checks import Patient

ENGINES: Final = ("auto", "docker", "podman", "container", "bwrap")


@attrs.frozen
class Flags:
    """What the command line says; None where it says nothing."""

    only_look: bool
    credential: str | None  # "-", "env", or a file
    offline: bool
    no_online: bool
    model: str | None
    day_dollars: float | None
    total_dollars: float | None
    timezone: str | None
    engine: str | None
    image: bool | None
    whatsapp: bool | None
    phone: str
    main: str | None
    voice: bool | None
    service: bool | None
    skip: tuple[str, ...]
    as_json: bool

    @property
    def may_ask(self) -> bool:
        """Whether a person sits there who can be asked."""
        return sys.stdin.isatty() and sys.stdout.isatty() and not self.as_json


@attrs.frozen
class Seen:
    """What a step found: whether it is done, and else how one does it."""

    done: bool
    told: str
    advice: str = ""


@attrs.frozen
class Step:
    """One step. ``look`` changes nothing; ``act`` does it, or raises a ClickException with why not."""

    look: Callable[[Patient], Seen]
    act: Callable[[Patient, Flags], None]
    wanted: Callable[[Flags], bool | None]  # None: nobody has said, so ask
    question: str = ""
    code: Exit = Exit.OURS


# --- the steps -----------------------------------------------------------------------------------


def _look_home(patient: Patient) -> Seen:
    there = patient.home.store.is_dir() and patient.home.run.is_dir()
    return Seen(there, str(patient.home.root), "it is made at the first start")


def _make_home(patient: Patient, flags: Flags) -> None:
    patient.home.make()


def _look_credential(patient: Patient) -> Seen:
    config = _config(patient)
    if config.model.offline:
        return Seen(True, "none needed: model.offline is set")
    advice = "--credential FILE, - for stdin, or env; or --offline"
    if config.credential is None:
        return Seen(False, "there is none: the offline model answers", advice)
    from pynchy.config.sources import find

    origin = find(patient.environ).credential_origin
    return Seen(True, f"{config.credential.kind}, from {origin}")


def _set_credential(patient: Patient, flags: Flags) -> None:
    home = patient.home
    if flags.offline:
        set_setting(home.config, "model", "offline", "true")
        return
    while True:
        secret = _read_credential(patient, flags)
        kind = "oauth" if secret.startswith("sk-ant-oat") else "api_key"
        try:
            if not secret.isascii() or not secret.isprintable() or " " in secret:
                raise click.ClickException("expected a key of printable characters without spaces")
            if not flags.no_online:
                _try(kind, secret, _config(patient))
            break
        except click.ClickException as error:
            if flags.credential is not None:  # nobody is there to give another
                raise
            click.echo(f"  {escape(error.format_message())}")
    name = next(name for name, each in CREDENTIALS.items() if each == kind)
    set_secret(home.env, name, secret, instead_of=CREDENTIALS)
    if _config(patient).model.offline:
        set_setting(home.config, "model", "offline", "false")


def _read_credential(patient: Patient, flags: Flags) -> str:
    if flags.credential == "env":
        found = [patient.environ.get(name, "").strip() for name in CREDENTIALS]
        if not any(found):
            raise click.ClickException(f"the environment has no {' and no '.join(CREDENTIALS)}")
        return next(each for each in found if each)
    if flags.credential is not None:
        try:
            with click.open_file(flags.credential, encoding="utf-8") as file:
                return str(file.read(10_000)).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.ClickException(f"{flags.credential}: {error}") from None
    click.echo(
        "A key for Claude: paste an API key (https://console.anthropic.com), or what `claude setup-token`\n"
        "prints. It is kept in .env for you alone, and no container ever sees it. It is not shown here.\n"
        "Just Enter: none for now, and a built-in scripted model answers."
    )
    secret = str(click.prompt("Key", hide_input=True, default="", show_default=False)).strip()
    if not secret:
        raise _Skipped("no key: the offline model answers; pynchy init asks again")
    return secret


def _try(kind: str, secret: str, config: Config) -> None:
    """See that the API accepts it, before anything is written."""
    import time

    import trio

    from pynchy.gateway.exchange import UpstreamUnreachable
    from pynchy.gateway.upstream import credential_of, try_credential
    from pynchy.gateway.way import way_of

    key = credential_of(kind, secret)
    ask = partial(
        try_credential,
        key,
        base_url=config.model.base_url,
        way=way_of(config.gateway),
        now=time.time(),
    )
    try:
        verdict = trio.run(ask)
    except UpstreamUnreachable as error:
        odd = "" if secret.startswith("sk-ant-") else " (Anthropic's begin with sk-ant-)"
        click.echo(f"  it could not be tried: {error}; it is kept all the same{odd}")
        click.echo("  to give another: pynchy init --credential -")
        return
    if verdict.status == 401:
        raise click.ClickException("the API refuses this key; nothing was written")
    click.echo("  the API accepts it" if verdict.status < 300 else "  the API knows it")


def _look_model(patient: Patient) -> Seen:
    config = _config(patient)
    name = config.model.name
    if config.model.offline or config.credential is None:
        return Seen(True, "the built-in one")
    return Seen(_is_set(patient, "model", "name"), name or "the agent's own choice", "--model NAME")


def _choose_model(patient: Patient, flags: Flags) -> None:
    name = flags.model
    if name is None:
        from pynchy.gateway.prices import price_of, resolved

        for alias in ("haiku", "sonnet", "opus"):
            price = price_of(resolved(alias))
            told = f"${price.input:g} a million tokens read, ${price.output:g} written"
            click.echo(f"  {alias}: {told}")
        name = str(click.prompt("Model", default=_config(patient).model.name or "sonnet"))
    _set(patient, "model", "name", json.dumps(name.strip()))


def _look_budget(patient: Patient) -> Seen:
    from pynchy.actions.usage import budget_of

    config = _config(patient)
    limits = budget_of(config.budget, billed=config.is_billed)
    day, total = (
        "no limit" if most is None else f"${most / 1e6:.2f}"
        for most in (limits.day_money, limits.all_money)
    )
    told = f"a day and group: {day}; all groups: {total}"
    if not config.is_billed:
        why = "a subscription is paid already" if config.credential else "nothing is paid"
        return Seen(True, f"{told} ({why})")
    return Seen(_is_set(patient, "budget", "day_dollars"), told, "--day-dollars AMOUNT")


def _set_budget(patient: Patient, flags: Flags) -> None:
    from pynchy.actions.usage import budget_of

    limits = budget_of(_config(patient).budget, billed=True)
    day, total = flags.day_dollars, flags.total_dollars
    if day is None:
        click.echo("  What may a day cost, in dollars? What comes after that waits. 0: no limit.")
        default = (limits.day_money or 0) / 1e6
        day = click.prompt("One group", default=default, type=click.FloatRange(0, 1_000_000))
    if total is None and flags.day_dollars is None:
        default = (limits.all_money or 0) / 1e6
        total = click.prompt("All groups", default=default, type=click.FloatRange(0, 1_000_000))
    _set(patient, "budget", "day_dollars", str(day))
    if total is not None:
        _set(patient, "budget", "total_day_dollars", str(total))


def _look_timezone(patient: Patient) -> Seen:
    name = _config(patient).assistant.timezone
    if _is_set(patient, "assistant", "timezone"):
        return Seen(True, name)
    return Seen(False, f"{name}, as this machine's", "--timezone ZONE")


def _set_timezone(patient: Patient, flags: Flags) -> None:
    from pynchy.config.timezone import is_zone

    name = flags.timezone
    while name is None or not is_zone(name):
        if name is not None:
            told = f"{name!r}: expected a time zone such as Europe/Berlin"
            if flags.timezone is not None:
                raise click.ClickException(told)
            click.echo(f"  {escape(told)}")
        name = str(click.prompt("Your time zone", default=_config(patient).assistant.timezone))
    _set(patient, "assistant", "timezone", json.dumps(name))


def _is_set(patient: Patient, section: str, key: str) -> bool:
    """Whether somebody has said it: not its default, nor what the machine says."""
    from pynchy.config.sources import find

    found = find(patient.environ).origins.get((section, key), "")
    return bool(found) and not found.startswith(("the machine", "unknown"))


def _set(patient: Patient, section: str, key: str, value: str) -> None:
    patient.home.make()
    set_setting(patient.home.config, section, key, value)


def _look_runtime(patient: Patient) -> Seen:
    if patient.runtime is None:
        return Seen(False, patient.no_runtime, "install one of them, then: pynchy init")
    return Seen(True, f"{patient.runtime.name} answers")


def _set_engine(patient: Patient, flags: Flags) -> None:
    if flags.engine is not None:
        set_setting(patient.home.config, "container", "engine", f'"{flags.engine}"')
    elif patient.runtime is None:
        raise click.ClickException("no working sandbox was found")


def _look_image(patient: Patient) -> Seen:
    import trio

    from pynchy.doctor import checks

    found = trio.run(checks.check_image, patient)
    return Seen(found.level == "ok", found.what, found.advice)


def _build_image(patient: Patient, flags: Flags) -> None:
    if patient.runtime is None:
        raise click.ClickException("no engine, no image")
    _run([str(patient.build), patient.runtime.name], why="the image was not built")


def _look_whatsapp(patient: Patient) -> Seen:
    try:
        linked = session.linked(patient.home.store / session.NAME, ours=False) is not None
    except session.Unreadable as error:
        return Seen(False, f"cannot be told: {error}", "pynchy auth whatsapp asks WhatsApp")
    if linked and _config(patient).whatsapp.enabled:
        return Seen(True, "linked and switched on")
    return Seen(False, "not linked", "--whatsapp, or later: pynchy auth whatsapp")


def _link_whatsapp(patient: Patient, flags: Flags) -> None:
    phone = ["--phone", flags.phone] if flags.phone else []
    main = ["--main", flags.main] if flags.main else []
    _run([*_PYNCHY, "auth", "whatsapp", *phone, *main], why="WhatsApp was not linked")


def _look_main(patient: Patient) -> Seen:
    chats = _main_chats(patient.home)
    told = ", ".join(chats)
    if _look_whatsapp(patient).done and len(chats) < 2:
        return Seen(False, f"{told} alone", "--main self, or pynchy auth whatsapp --main CHAT")
    return Seen(True, told)


def _main_chats(home: Home) -> list[str]:
    """Main's chats, from the daemon, or from the rows of one that is down."""
    from pynchy.model import MAIN, MAIN_CONSOLE
    from pynchy.store import groups
    from pynchy.store.connection import open_reader

    try:
        with open_connection(home) as connection:
            listed: list[dict[str, Any]] = connection.ask("groups.list")
        return [chat for group in listed if group["main"] for chat in group["chats"]]
    except NotRunning:
        if not home.database.exists():
            return [MAIN_CONSOLE]  # the first start registers it
        with open_reader(home.database) as reader:
            return [*groups.chats_of(reader, MAIN)] or [MAIN_CONSOLE]


def _choose_main(patient: Patient, flags: Flags) -> None:
    if not _look_whatsapp(patient).done:
        raise click.ClickException("WhatsApp is not linked, so main has the console alone")
    chosen = ["--main", flags.main] if flags.main else []
    _run([*_PYNCHY, "auth", "whatsapp", *chosen], why="main has no such chat")


def _look_voice(patient: Patient) -> Seen:
    import trio

    from pynchy.doctor import checks

    found, config = trio.run(checks.check_voice, patient), _config(patient)
    on = config.voice.enabled or bool(config.whatsapp.transcribe)
    return Seen(on and found.level == "ok", found.what, "--voice, or later: pynchy voice install")


def _install_voice(patient: Patient, flags: Flags) -> None:
    try:
        _run([*_PYNCHY, "voice", "install"], why="voice notes are kept as files")
    except click.ClickException as error:
        if flags.voice:
            raise
        raise _Skipped(f"{error.format_message()}; to try again: pynchy voice install") from None


def _look_service(patient: Patient) -> Seen:
    if (file := patient.service_file) is not None:
        return Seen(True, str(file))
    return Seen(False, "not installed: it ends with the terminal", "--service")


def _install_service(patient: Patient, flags: Flags) -> None:
    config = _config(patient)
    if config.credential is None and not config.model.offline:
        told = "a service needs a credential, or --offline"
        raise click.ClickException(told) if flags.service else _Skipped(told)
    if os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("CLAUDE_CODE_OAUTH_TOKEN"):
        click.echo("  a service does not see your shell's environment: --credential env keeps it")
    _run([*_PYNCHY, "service", "install"], why="the service was not installed")


STEPS: Final[dict[str, Step]] = {
    "home": Step(_look_home, _make_home, lambda flags: True),
    "credential": Step(
        _look_credential,
        _set_credential,
        lambda flags: True if flags.credential is not None or flags.offline else None,
        code=Exit.CONFIG,  # it asks by itself
    ),
    "model": Step(  # these three ask by themselves
        _look_model,
        _choose_model,
        lambda flags: None if flags.model is None else True,
        code=Exit.CONFIG,
    ),
    "budget": Step(
        _look_budget,
        _set_budget,
        lambda flags: None if flags.day_dollars is None and flags.total_dollars is None else True,
        code=Exit.CONFIG,
    ),
    "timezone": Step(
        _look_timezone,
        _set_timezone,
        lambda flags: None if flags.timezone is None else True,
        code=Exit.CONFIG,
    ),
    "runtime": Step(_look_runtime, _set_engine, lambda flags: True, code=Exit.NO_RUNTIME),
    "image": Step(
        _look_image,
        _build_image,
        lambda flags: flags.image,
        "Build the agent's image now? (a minute or two)",
    ),
    "whatsapp": Step(
        _look_whatsapp,
        _link_whatsapp,
        lambda flags: True if flags.phone else flags.whatsapp,
        "Link WhatsApp now? (your phone in hand)",
    ),
    "main": Step(
        _look_main,
        _choose_main,
        lambda flags: True if flags.main else None,
        "Choose which WhatsApp chat governs it?",
    ),
    "voice": Step(
        _look_voice,
        _install_voice,
        lambda flags: flags.voice,
        "Understand voice notes? (some 180 MB are fetched once; no note leaves this machine)",
    ),
    "service": Step(
        _look_service,
        _install_service,
        lambda flags: flags.service,
        "Start it now, and whenever the machine starts?",
    ),
}


# --- doing them ----------------------------------------------------------------------------------

AT_START: Final = (
    "credential",
    "model",
    "budget",
    "timezone",
    "runtime",
)  # what is read once, at the start
_PYNCHY: Final = tuple(itself.argv("pynchy"))


class _Skipped(Exception):
    """The person would rather not."""


@click.command()
@click.option("--check", "only_look", is_flag=True, help="Look at every step; change nothing.")
@click.option(
    "--credential",
    metavar="SOURCE",
    help="Where the key is: a file, - for stdin, or env for your shell's environment.",
)
@click.option("--offline", is_flag=True, help="No key: the built-in scripted model answers.")
@click.option("--no-online", is_flag=True, help="Keep the key without asking the API about it.")
@click.option("--model", metavar="NAME", help="Who answers: sonnet, opus, haiku or a full name.")
@click.option(
    "--day-dollars",
    type=click.FloatRange(0, 1_000_000),
    help="What a group may cost a day; 0: any.",
)
@click.option(
    "--total-dollars", type=click.FloatRange(0, 1_000_000), help="The same of all groups together."
)
@click.option("--timezone", metavar="ZONE", help="Your time zone, as Europe/Berlin.")
@click.option("--engine", type=click.Choice(ENGINES), help="What holds the agents.")
@click.option("--image/--no-image", default=None, help="Build the agent's image, if it is old.")
@click.option("--whatsapp/--no-whatsapp", default=None, help="Link WhatsApp.")
@click.option(
    "--phone", default="", metavar="N", help="Link by a code to type in, for this number."
)
@click.option("--main", metavar="CHAT", help="Main's chat: an id, a number, self or none.")
@click.option("--voice/--no-voice", default=None, help="Understand voice notes.")
@click.option("--service/--no-service", default=None, help="Install it as a service, and start it.")
@click.option("--skip", multiple=True, type=click.Choice(tuple(STEPS)), help="Not this step.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text; asks nothing.")
def command(**options: Any) -> None:
    """Set it up, step by step. Run again, it asks only for what is missing.

    Without a terminal it asks nothing: steps without an option are left out. A step that fails ends
    it with that step's exit code; earlier steps stay done.

    \b
    pynchy init
    pynchy init --check
    pynchy init --credential - --service <key.txt
    pynchy init --offline --engine bwrap --no-service
    """
    flags = Flags(**options)
    if flags.credential is not None and flags.offline:
        raise click.UsageError("--credential and --offline exclude each other")
    rows: list[dict[str, str]] = []
    code = Exit.OK
    for number, (name, step) in enumerate(STEPS.items(), start=1):
        try:
            state, told = _take(name, step, flags)
        except click.Abort:
            click.echo("\nStopped; what was done stays. To go on: pynchy init", err=True)
            raise SystemExit(Exit.INTERRUPTED) from None
        rows.append({"step": name, "state": state, "told": told})
        if not flags.as_json:
            click.echo(printable(f"{number}/{len(STEPS)}  {name:10}  {state:7}  {told}"))
        if state == "failed":
            code = step.code
            break
    if flags.as_json:
        click.echo(json.dumps(rows, indent=2))
    elif code is Exit.OK and not flags.only_look:
        changed = any(row["state"] == "made" and row["step"] in AT_START for row in rows)
        if changed and is_held(Home.of(os.environ).lock):
            click.echo(AGAIN)
        installed = rows[-1]["state"] in ("done", "made")
        click.echo('Now: pynchy send main "hello"' if installed else "Now: pynchy run")
    raise SystemExit(code)


def _take(name: str, step: Step, flags: Flags) -> tuple[str, str]:
    """One step: "done" before, "made" now, "skipped", "todo" or "failed"; and a sentence."""
    if name in flags.skip:
        return "skipped", "as you said"
    patient = _examine()
    seen = step.look(patient)
    if flags.only_look:
        return ("done", seen.told) if seen.done else ("todo", _with_advice(seen))
    if seen.done and not _replaces(name, flags):
        return "done", seen.told
    wanted = step.wanted(flags)
    if wanted is None and flags.may_ask:
        wanted = not step.question or click.confirm(step.question, default=name != "whatsapp")
    if not wanted:
        return "skipped", _with_advice(seen)
    try:
        step.act(patient, flags)
    except _Skipped as error:
        return "skipped", str(error)
    except click.ClickException as error:
        return "failed", f"{escape(error.format_message())}; {seen.advice}".rstrip("; ")
    seen = step.look(_examine())
    return ("made", seen.told) if seen.done else ("failed", _with_advice(seen))


def _replaces(name: str, flags: Flags) -> bool:
    """Whether the flags ask for something else than what is there."""
    asked: dict[str, bool] = {
        "credential": flags.credential is not None or flags.offline,
        "model": flags.model is not None,
        "budget": flags.day_dollars is not None or flags.total_dollars is not None,
        "timezone": flags.timezone is not None,
        "runtime": flags.engine is not None,
        "main": flags.main is not None,
    }
    return asked.get(name, False)


def _with_advice(seen: Seen) -> str:
    return f"{seen.told}; {seen.advice}" if seen.advice else seen.told


def _examine() -> Patient:
    import trio

    from pynchy.doctor import checks

    home = Home.of(os.environ)
    try:
        from_environ(os.environ)
    except ConfigError as error:
        problems = "\n".join(escape(each) for each in error.problems)
        raise Failure(
            f"fix the configuration in {home.root} first:\n{problems}", Exit.CONFIG
        ) from None
    return trio.run(partial(checks.examine, os.environ, user_home=Path.home()))


def _config(patient: Patient) -> Config:
    assert patient.config is not None  # `_examine` saw to it
    return patient.config


def _run(argv: list[str], *, why: str) -> None:
    """Let a command of its own talk to the person."""
    sys.stdout.flush()
    try:
        done = subprocess.run(argv, check=False)
    except OSError as error:
        raise click.ClickException(f"{why}: {error}") from None
    if done.returncode:
        raise click.ClickException(f"{why} ({done.returncode})")
