"""`pynchy auth`: link a messenger account."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from pynchy.cli import main_chat
from pynchy.cli.client import NotRunning, Refused, open_connection
from pynchy.cli.edit import set_setting
from pynchy.config import itself
from pynchy.config.environ import for_whatsapp
from pynchy.config.paths import Home
from pynchy.config.settings import Assistant, Config, Gateway
from pynchy.config.sources import ConfigError, from_environ
from pynchy.exits import Exit


@click.group()
def command() -> None:
    """Link a messenger account.

    \b
    pynchy auth whatsapp
    """


@command.command("whatsapp")
@click.option("--png", type=click.Path(path_type=Path), help="Write each code to this file too.")
@click.option("--phone", default="", metavar="N", help="A code to type in, for this number.")
@click.option("--again", is_flag=True, help="Link again, even if an account is linked.")
@click.option(
    "--main",
    "wanted",
    callback=main_chat.parse,
    metavar="CHAT",
    help="Main's chat: an id, a number, self or none. Without it you are asked.",
)
def whatsapp(png: Path | None, phone: str, again: bool, wanted: str | None) -> None:
    """Link WhatsApp: scan the code with Settings, Linked devices.

    With --phone, type the code on that phone instead. An account that is already linked stays
    linked; use --main to change main's chat, and --again to replace the link (chats are kept).
    Without a terminal, main becomes your chat with yourself, unless main already has one.

    \b
    pynchy auth whatsapp
    pynchy auth whatsapp --phone "+49 170 1234567"
    pynchy auth whatsapp --again
    """
    phone, given = re.sub(r"[^0-9]", "", phone).removeprefix("00"), phone
    if given and not (phone and re.fullmatch(r"[0-9\s+()./-]+", given)):
        raise click.UsageError("--phone: expected a number with its country code")
    home = Home.of(os.environ)
    home.make()
    _try_to_write(home)
    with _lent_by_the_daemon(home, force=again) as connected:
        if connected:
            click.echo(f"Linked already, and connected: {connected}")
            number, groups = connected, list[tuple[str, str]]()
        else:
            number, groups = _link(home, png=png, phone=phone, again=again)
    _use(home, number, wanted, groups)


@contextlib.contextmanager
def _lent_by_the_daemon(home: Home, *, force: bool) -> Iterator[str]:
    """Have a daemon that runs leave the link alone for the length of the block; or what it is connected
    as, if it is and there is no ``force``."""
    with contextlib.ExitStack() as stack:
        connected = ""
        with contextlib.suppress(NotRunning, Refused):  # it is down, or runs without WhatsApp
            connection = stack.enter_context(open_connection(home))
            connected = str(connection.ask("whatsapp.lend", force=force)["number"])
        yield connected


def _try_to_write(home: Home) -> None:
    """Raise OSError where a link could not be kept, before a phone is asked for it."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    os.close(os.open(_log(home), flags, 0o600))
    with tempfile.TemporaryFile(dir=home.store) as file:
        file.write(bytes(4096))


def _log(home: Home) -> Path:
    return home.logs / "whatsapp.log"


def _link(
    home: Home, *, png: Path | None, phone: str, again: bool
) -> tuple[str, list[tuple[str, str]]]:
    """Link the account: its id, and the groups that it is in as far as they were told."""
    number, groups = _try_to_link(home, png=png, phone=phone, again=again)
    if not number:
        click.echo("The phone has removed this link. Link it again:")
        number, groups = _try_to_link(home, png=png, phone=phone, again=False)
    if not number:
        _fail("the phone has removed the link, and linking again failed: try --again")
    return number, groups


def _environ() -> dict[str, str]:
    """What the linking process is started with; a configuration that cannot be read names no proxy, which
    is said."""
    try:
        gateway = from_environ(os.environ).gateway
    except ConfigError as error:
        gateway = Gateway()
        click.echo(f"pynchy: {error}\npynchy: no gateway.proxy or ca_file is used", err=True)
    return for_whatsapp(
        os.environ, proxy=gateway.proxy, ca_file=gateway.ca_file, no_proxy=gateway.no_proxy
    )


def _try_to_link(
    home: Home, *, png: Path | None, phone: str, again: bool
) -> tuple[str, list[tuple[str, str]]]:
    """One try; no number if the account that was linked is not linked any more."""
    # In a process of its own, which is thrown away: the library cannot stop waiting for a phone.
    child = subprocess.Popen(
        [
            *itself.argv("pynchy.whatsapp.bridge", str(home.store)),
            "--log",
            str(_log(home)),
            "--pair",
            *(["--again"] if again else []),
            *(["--phone", phone] if phone else []),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environ(),
        start_new_session=True,
    )
    number, groups, unlinked, taken = "", [], False, False
    try:
        assert child.stdout is not None
        for raw in child.stdout:
            line = json.loads(raw)
            if line["line"] == "chat":
                groups.append((line["chat"], line["name"]))
            elif line["line"] == "unlinked":
                unlinked = True
            elif line["line"] == "taken":
                taken = True
                click.echo("The phone has taken the code. Connecting …")
            elif _show(line, png=png):
                number = line["number"]
    except KeyboardInterrupt:
        if taken and not number:
            raise click.ClickException(
                "interrupted after the phone took the code: run this again to see if it is linked"
            ) from None
        if not number:
            raise click.ClickException("not linked: interrupted") from None
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.wait()
        if png is not None:
            png.unlink(missing_ok=True)  # it would link whoever finds it in time
    if not number and not unlinked:
        _fail(f"the process that links ended and did not say why; see {_log(home)}")
    return number, groups


def _show(line: dict[str, Any], *, png: Path | None) -> bool:
    """Show what came of the attempt so far; whether it is linked."""
    match line["line"]:
        case "qr":
            _show_qr(line["data"], png=png)
        case "code":
            click.echo(f"Type this code in on the phone, under Linked devices: {line['code']}")
        case "linked":
            click.echo(f"{'Linked' if line['new'] else 'Linked already'}: {line['number']}")
            if doubt := line.get("doubt"):
                click.echo(f"That is what this machine knows; WhatsApp could not be asked: {doubt}")
                click.echo("To link again: pynchy auth whatsapp --again")
            return True
        case "failed":
            _fail(_words(line["reason"]))
        case "state":  # the bridge itself could not go on
            _fail(line["detail"])
    return False


def _words(reason: str) -> str:
    """What the library's reason, or one of ours, means for a person."""
    if reason == "timeout":
        return "nobody scanned a code in time; try again"
    return next((words for sign, words in _REASONS if sign in reason), reason)


_REASONS = (
    ("err-client-outdated", "WhatsApp does not accept this version of the library; upgrade Pynchy"),
    ("err-scanned-without-multidevice", "the phone's WhatsApp is too old to link devices"),
    (
        "no connection",
        "the phone took the code, but WhatsApp did not connect within a minute; run this again, "
        "and if it says that nothing is linked, remove the new device on the phone",
    ),
    ("429: rate-overlimit", "WhatsApp was asked for too many codes; wait an hour, or scan a code"),
    ("400: bad-request", "WhatsApp knows no such number; give it with its country code"),
)


def _show_qr(data: str, *, png: Path | None) -> None:
    import qrcode

    code = qrcode.QRCode(border=2, error_correction=qrcode.ERROR_CORRECT_L)  # the smallest
    code.add_data(data)
    code.make()
    # On a terminal black on white, whatever its own colours are.
    code.print_ascii(out=sys.stdout, tty=sys.stdout.isatty(), invert=not sys.stdout.isatty())
    click.echo(
        "Scan it: WhatsApp, Settings, Linked devices. The first lasts a minute, each later one 20 s."
    )
    if png is not None:
        os.close(os.open(png, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with png.open("wb") as file:
            code.make_image().save(file)


def _fail(reason: str) -> NoReturn:
    click.echo(f"pynchy: not linked: {reason}", err=True)
    raise SystemExit(Exit.OURS)


def _use(home: Home, number: str, wanted: str | None, groups: list[tuple[str, str]]) -> None:
    """Have the daemon use it, now or at its next start, with main in the chat that is chosen."""
    try:
        config: Config | None = from_environ(os.environ)
    except ConfigError:
        config = None
    if config is None or not config.whatsapp.enabled:
        set_setting(home.config, "whatsapp", "enabled", "true")
        click.echo(f"Switched on in {home.config}; restart Pynchy if it runs.")
    assistant = Assistant().name if config is None else config.assistant.name
    main_chat.settle(home, wanted, own=number, groups=groups, assistant=assistant)
    try:
        with open_connection(home) as connection:
            if config is not None and config.whatsapp.enabled:
                connection.ask("whatsapp.start")
    except NotRunning:
        click.echo("Start it with: pynchy run")
    except Refused:  # it knows no such op, for it was started before
        click.echo("Pynchy runs without WhatsApp yet; restart it.")
