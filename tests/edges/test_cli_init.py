"""`pynchy init`: every step seen undone and done, by flags and on a terminal, once and again."""

import json
import os
import stat
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from pynchy.actions.usage import budget_of
from pynchy.cli.edit import set_secret, set_setting
from pynchy.config.dotenv import parse_env
from pynchy.config.paths import Home
from pynchy.config.sources import from_environ
from pynchy.daemon.lock import open_lock
from tests.http_server import QuietHandler, open_http_server
from tests.terminal import Terminal, terminal

KEY = "sk-ant-api03-planted"
TOKEN = "sk-ant-oat01-planted"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def environment(home: Home, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYNCHY_HOME": str(home.root),
        "HOME": str(home.root.parent),
        "PYNCHY_CONTAINER_ENGINE": "bwrap",
        **more,
    }


def init(
    home: Home, *arguments: str, stdin: str = "", **more: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pynchy", "init", *arguments],
        env=environment(home, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def states(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    return {row["step"]: row["state"] for row in json.loads(done.stdout)}


@contextmanager
def model_api(status: int) -> Iterator[str]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

    with open_http_server(Handler) as url:
        yield url


@pytest.mark.runtime("bwrap")
def test_looking_changes_nothing(home: Home, runtime_name: str) -> None:
    done = init(home, "--check", "--json")
    assert states(done) == {
        "home": "todo",
        "credential": "todo",
        "model": "done",  # the built-in one, which costs nothing
        "budget": "done",
        "timezone": "todo",
        "runtime": "done",
        "image": "done",
        "whatsapp": "todo",
        "main": "done",
        "voice": "todo",
        "service": "todo",
    }
    assert not home.root.exists()


@pytest.mark.runtime("bwrap")
def test_flags_say_all_and_again_it_is_all_done(home: Home, runtime_name: str) -> None:
    flags = ("--offline", "--engine", "bwrap", "--no-service", "--json")
    first = init(home, *flags)
    assert first.returncode == 0, first.stderr
    assert states(first)["credential"] == "made"
    text = home.config.read_text()
    second = init(home, *flags)
    assert second.returncode == 0
    assert home.config.read_text().split() != []
    assert sorted(home.config.read_text().split()) == sorted(text.split())
    assert states(init(home, "--json")) == states(first) | {
        "home": "done",
        "credential": "done",
        "runtime": "done",
    }


@pytest.mark.runtime("bwrap")
def test_a_key_that_the_api_accepts_is_kept_for_its_owner_alone(
    home: Home, runtime_name: str
) -> None:
    with model_api(200) as url:
        done = init(home, "--credential", "-", stdin=f"{TOKEN}\n", PYNCHY_MODEL_BASE_URL=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "credential  made" in done.stdout
    assert "planted" not in done.stdout + done.stderr
    assert stat.S_IMODE(home.env.stat().st_mode) == 0o600
    assert parse_env(home.env.read_bytes()) == {"CLAUDE_CODE_OAUTH_TOKEN": TOKEN}
    assert from_environ({"PYNCHY_HOME": str(home.root)}).credential is not None


@pytest.mark.runtime("bwrap")
def test_a_key_that_is_refused_is_not_kept(home: Home, runtime_name: str) -> None:
    with model_api(401) as url:
        done = init(home, "--credential", "-", stdin=KEY, PYNCHY_MODEL_BASE_URL=url)
    assert done.returncode == 78
    assert "refuses this key" in done.stdout
    assert not home.env.exists()


@pytest.mark.runtime("bwrap")
def test_a_key_of_the_shell_is_kept_on_demand(home: Home, runtime_name: str) -> None:
    flags = ("--credential", "env", "--no-online")
    assert init(home, *flags, ANTHROPIC_API_KEY=KEY).returncode == 0
    assert parse_env(home.env.read_bytes()) == {"ANTHROPIC_API_KEY": KEY}
    nothing = init(home, *flags)
    assert nothing.returncode == 78
    assert "the environment has no ANTHROPIC_API_KEY" in nothing.stdout


def test_a_machine_that_cannot_hold_an_agent_ends_it_there(home: Home) -> None:
    done = init(home, "--offline", "--json", PYNCHY_CONTAINER_ENGINE="docker", PATH="/nonexistent")
    assert done.returncode == 69
    assert states(done)["runtime"] == "failed"
    assert "image" not in states(done)
    skipped = init(
        home, "--skip", "runtime", "--json", PYNCHY_CONTAINER_ENGINE="docker", PATH="/nonexistent"
    )
    assert skipped.returncode == 0


def test_a_configuration_that_cannot_be_read_comes_first(home: Home) -> None:
    home.root.mkdir()
    home.config.write_text(f'[model]\nnaem = "{KEY}"\n')
    done = init(home, "--offline")
    assert done.returncode == 78
    assert "config.toml:2, model.naem: unknown key; did you mean model.name?" in done.stderr
    assert home.config.read_text().startswith("[model]\nnaem")


@pytest.mark.runtime("bwrap")
def test_a_daemon_that_runs_is_to_be_started_again(home: Home, runtime_name: str) -> None:
    home.make()
    with open_lock(home.lock):
        assert "pynchy service restart" in init(home, "--offline").stdout
        assert "pynchy service restart" not in init(home).stdout


@pytest.mark.runtime("bwrap")
def test_a_service_without_a_credential_is_refused(home: Home, runtime_name: str) -> None:
    done = init(home, "--service")
    assert done.returncode == 1
    assert "a service needs a credential" in done.stdout


@pytest.mark.runtime("bwrap")
def test_the_service_is_installed_by_the_manager_of_this_machine(
    home: Home, runtime_name: str, tmp_path: Path
) -> None:
    manager = tmp_path / "bin" / "systemctl"
    manager.parent.mkdir()
    manager.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/log\n')
    manager.chmod(0o755)
    path = f"{manager.parent}:{os.environ['PATH']}"
    done = init(home, "--offline", "--service", PATH=path)
    assert done.returncode == 0, done.stdout
    assert 'Now: pynchy send main "hello"' in done.stdout
    assert "--user restart pynchy.service" in (tmp_path / "log").read_text()


@pytest.mark.runtime("bwrap")
def test_whatsapp_that_cannot_be_linked_is_said_and_what_was_done_stays(
    home: Home, runtime_name: str
) -> None:
    nowhere = "http://127.0.0.1:9"
    done = init(home, "--offline", "--whatsapp", "--json", HTTPS_PROXY=nowhere)
    assert done.returncode == 1
    rows = {row["step"]: row for row in json.loads(done.stdout[done.stdout.index("[\n") :])}
    assert rows["whatsapp"]["state"] == "failed"
    assert "WhatsApp was not linked (1)" in rows["whatsapp"]["told"]
    assert "failed to dial" in done.stderr
    assert rows["credential"]["state"] == "made"
    main = init(home, "--main", "self", "--json")
    assert main.returncode == 1
    assert "WhatsApp is not linked" in main.stdout


async def asked_for_a_key(at: Terminal, *, after: int = 0) -> int:
    """Wait for the question, and until what is typed is not shown: what was typed before that is thrown away."""
    seen = await at.sees("Key:", after=after)
    while termios.tcgetattr(at.master)[3] & termios.ECHO:  # noqa: ASYNC110 - a terminal has no event for it
        await trio.sleep(0.01)
    return seen


@pytest.mark.runtime("bwrap")
async def test_on_a_terminal_it_asks_and_a_key_is_not_shown(home: Home, runtime_name: str) -> None:
    with trio.fail_after(120):
        with model_api(200) as url:
            async with terminal(home, "init", **environment(home, PYNCHY_MODEL_BASE_URL=url)) as at:
                await at.sees("A key for Claude")
                seen = await asked_for_a_key(at)
                await at.types("two words\r")
                seen = await at.sees("expected a key of printable", after=seen)
                await asked_for_a_key(at, after=seen)  # once more
                await at.types(f"{KEY}\r")
                await at.sees("the API accepts it")
                await at.sees("Model [sonnet]")
                await at.types("haiku\r")
                await at.sees("One group [5.0]")
                await at.types("2.5\r")
                await at.sees("All groups [15.0]")
                await at.types("\r")
                await at.sees("Your time zone")
                await at.types("nowhere\r")
                await at.sees("expected a time zone such as")
                await at.types("Europe/Vienna\r")
                await at.sees("Link WhatsApp now?")
                await at.types("\r")  # no, unless one says so
                await at.sees("Understand voice notes?")
                await at.types("n\r")
                await at.sees("Start it now, and whenever")
                await at.types("n\r")
                await at.sees("Now: pynchy run")
                assert await at.ended() == 0
    assert b"planted" not in at.seen
    assert parse_env(home.env.read_bytes()) == {"ANTHROPIC_API_KEY": KEY}
    config = from_environ({"PYNCHY_HOME": str(home.root)})
    assert (config.model.name, config.assistant.timezone) == ("haiku", "Europe/Vienna")
    assert (config.budget.day_dollars, config.budget.total_day_dollars) == (2.5, 15.0)


@pytest.mark.runtime("bwrap")
def test_flags_say_the_model_the_cap_and_the_zone(home: Home, runtime_name: str) -> None:
    key = ("--credential", "-", "--no-online")
    first = init(home, *key, "--json", stdin=KEY)
    assert [states(first)[each] for each in ("model", "budget", "timezone")] == ["skipped"] * 3
    assert "$5.00; all groups: $15.00" in first.stdout
    said = ("--model", "opus", "--day-dollars", "0", "--timezone", "Asia/Tokyo", "--json")
    done = init(home, *said)
    assert [states(done)[each] for each in ("model", "budget", "timezone")] == ["made"] * 3
    config = from_environ({"PYNCHY_HOME": str(home.root)})
    assert (config.model.name, config.assistant.timezone) == ("opus", "Asia/Tokyo")
    assert budget_of(config.budget, billed=config.is_billed).day_money is None
    assert init(home, "--timezone", "Mars/One", "--json").returncode == 78
    paid = init(home, "--credential", "-", "--no-online", "--json", stdin=TOKEN)
    assert "a subscription is paid already" in paid.stdout


@pytest.mark.runtime("bwrap")
async def test_ctrl_c_in_the_middle_says_how_to_go_on(home: Home, runtime_name: str) -> None:
    with trio.fail_after(120):
        async with terminal(home, "init", **environment(home)) as at:
            await asked_for_a_key(at)
            await at.types("\r")  # none for now
            await at.sees("the offline model answers; pynchy init asks again")
            await at.sees("Your time zone")
            await at.types("\r")
            await at.sees("Link WhatsApp now?")
            await at.types("\x03")
            await at.sees("To go on: pynchy init")
            assert await at.ended() == 130
    assert home.store.is_dir()
    assert b"Traceback" not in at.seen


@pytest.mark.runtime("bwrap")
async def test_who_says_yes_to_a_service_without_a_key_is_told_what_it_needs(
    home: Home, runtime_name: str
) -> None:
    with trio.fail_after(120):
        async with terminal(home, "init", "--no-whatsapp", "--no-voice", **environment(home)) as at:
            await asked_for_a_key(at)
            await at.types("\r")
            await at.sees("Your time zone")
            await at.types("\r")
            await at.sees("Start it now, and whenever")
            await at.types("\r")
            await at.sees("a service needs a credential, or --offline")
            await at.sees("Now: pynchy run")
            assert await at.ended() == 0


# --- the files that it changes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"ANTHROPIC_API_KEY={KEY}\n"),
        ("# mine\nTZ=UTC\n", f"# mine\nTZ=UTC\nANTHROPIC_API_KEY={KEY}\n"),
        (
            "export CLAUDE_CODE_OAUTH_TOKEN='two\nlines'\nTZ=UTC\nANTHROPIC_API_KEY=old\n",
            f"TZ=UTC\nANTHROPIC_API_KEY={KEY}\n",
        ),
    ],
)
def test_a_key_takes_the_place_of_the_one_before(
    tmp_path: Path, before: str | None, after: str
) -> None:
    path = tmp_path / ".env"
    if before is not None:
        path.write_text(before)
    others = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")
    set_secret(path, "ANTHROPIC_API_KEY", KEY, instead_of=others)
    assert path.read_text() == after
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_setting_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[model] # mine\noffline = true\nname = 'x'\n[limits]\nidle = 1\n")
    set_setting(path, "model", "offline", "false")
    assert path.read_text() == "[model] # mine\noffline = false\nname = 'x'\n[limits]\nidle = 1\n"
    set_setting(path, "container", "engine", '"bwrap"')
    assert from_environ({"PYNCHY_HOME": str(tmp_path)}).container.engine == "bwrap"
