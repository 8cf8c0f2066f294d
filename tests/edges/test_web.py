"""The page's server over real HTTP on loopback, as a process of its own beside a small daemon."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from pynchy.config.paths import Home
from pynchy.web import journal
from pynchy.web.page import MAX_STREAMS, static_files
from tests.edges.small_daemon import running
from tests.edges.web_page import HANG, Web, served


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A page with no daemon, shared by the tests that need none."""
    with served(tmp_path_factory.mktemp("web") / "home") as page:
        yield page


def test_the_empty_page_is_anybodys_and_the_rest_is_not(web: Web) -> None:
    for path, (content, kind) in static_files().items():
        status, headers, body = web.ask(path, Cookie="")
        assert (status, body, headers["content-type"]) == (200, content, kind)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
    for path in ("/news", "/log", "/nowhere", "/static/../gate.py", "/static/%2e%2e/gate.py"):
        assert web.ask(path, Cookie="")[0] == 401
    for path in ("/ask/status", "/runlog", "/logout"):
        assert web.ask(path, {}, Cookie="")[0] == 401
        assert web.ask(path, {}, Cookie=f"pynchy-{web.port}={web.token}")[0] == 401


def test_another_name_another_page_or_a_form_gets_nothing(web: Web) -> None:
    assert web.ask("/", Host="evil.example")[0] == 421
    assert web.ask("/", Host=f"evil.example:{web.port}")[0] == 421
    login = {"token": web.token}
    assert web.ask("/login", login, Origin="http://evil.example")[0] == 403
    assert web.ask("/login", login, Origin="")[0] == 403
    assert web.ask("/login", login, Sec_Fetch_Site="same-site")[0] == 403
    assert web.ask("/login", login, Content_Type="text/plain")[0] == 415
    assert web.ask("/login", login, method="PUT")[0] == 405
    assert web.ask("/login", {"token": "x"})[0] == 401
    assert web.ask("/login", {"token": 7})[0] == 401
    assert web.ask("/login", raw=b"no json")[0] == 400
    assert web.ask("/login", raw=b"[" * 100_000)[0] == 400
    assert web.ask("/login", raw=b'{"token": "\\udcff"}')[0] == 401
    assert web.ask("/login", raw=b"[]")[0] == 400
    assert web.ask("/login", raw=b" " * 300_000)[0] == 400


def test_a_link_opens_one_browser_and_the_next_is_shown(web: Web) -> None:
    used = web.token
    web.enter()
    assert web.links[-1].startswith("for another browser: http://127.0.0.1:")
    assert web.token != used
    assert web.ask("/login", {"token": used})[0] == 401
    assert web.ask("/ask/status", {})[0] == 503  # nobody runs
    assert json.loads(web.ask("/ask/status", {})[2])["code"] == "not_running"
    for op in ("backup", "groups.add", "groups.set", "mounts.reload", "watch", "x/../status"):
        assert web.ask(f"/ask/{op}", {})[0] == 404
    assert web.ask("/ask/status", {"id": 7})[0] == 400
    assert web.ask("/ask/status", {"op": "backup"})[0] == 400
    assert web.ask("/runlog", {"run": "../../store/pynchy.db"})[0] == 404
    assert web.ask("/ask/status", {}, Sec_Fetch_Site="cross-site")[0] == 403
    assert web.ask("/news", Origin="http://evil.example")[0] == 403
    browser = web.cookie
    status, headers, _ = web.ask("/logout", {})
    assert status == 200
    assert "Max-Age=0" in headers["set-cookie"]
    assert web.ask("/ask/status", {}, Cookie=browser)[0] == 401
    web.cookie = ""


def test_the_cookie_is_for_this_page_and_for_no_script(web: Web) -> None:
    status, headers, _ = web.ask("/login", {"token": web.token})
    web.links.append(web.line())
    assert status == 200
    said = headers["set-cookie"].split("; ")
    assert said[0].startswith(f"pynchy-{web.port}=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(said)
    assert "Secure" not in said
    behind_tls = f"https://127.0.0.1:{web.port}"
    status, headers, _ = web.ask("/login", {"token": web.token}, Origin=behind_tls)
    web.links.append(web.line())
    assert "Secure" in headers["set-cookie"].split("; ")


def test_it_listens_on_loopback_alone(web: Web) -> None:
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", web.port)) != 0


def test_a_port_that_is_taken_is_said(web: Web, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pynchy", "web", "--port", str(web.port)],
        env=os.environ | {"PYNCHY_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 1
    assert f"port {web.port}: Address already in use" in done.stderr


def test_streams_are_bounded_and_free_again_when_their_reader_goes(tmp_path: Path) -> None:
    with served(tmp_path / "home") as web:
        web.enter()
        streams = [web.stream("/news") for _ in range(MAX_STREAMS)]
        for stream in streams:
            found = stream.__enter__()
            assert next(found) == {"event": "hello"}
        assert web.ask("/news")[0] == 429
        for stream in streams:
            stream.__exit__(None, None, None)
        assert web.process.poll() is None
        deadline = time.monotonic() + HANG
        while not web.streams():  # it hears of each goodbye in its own time
            assert time.monotonic() < deadline
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(HANG) == 0
        assert web.process.stderr is not None
        assert web.process.stderr.read() == ""


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[Home, Web]]:
    home = Home(folder / "home")
    with served(home.root) as web:
        await trio.to_thread.run_sync(web.enter)
        yield home, web


async def test_what_the_daemon_says_reaches_the_browser_and_that_it_went_and_came(
    tmp_path: Path,
) -> None:
    async with both(tmp_path) as (home, web):
        thread = trio.to_thread.run_sync
        with web.stream("/news") as news:
            assert await thread(next, news) == {"event": "hello"}
            assert await thread(next, news) == {"event": "down"}
            for _ in range(2):  # it comes up twice, and nobody asks at intervals
                async with running(home) as daemon:
                    assert await thread(next, news) == {"event": "up", "steps": []}
                    status, _, body = await thread(partial(web.ask, "/ask/status", {}))
                    assert (status, json.loads(body)["running"]) == (200, True)
                    said = {"chat": "console:main", "text": "hi", "message_id": "12345678"}
                    status, _, body = await thread(partial(web.ask, "/ask/send", said))
                    assert status == 200
                    assert json.loads(body)["folder"] == "main"
                    daemon.watching.changed()
                    assert await thread(next, news) == {"event": "changed", "steps": []}
                    refused = {"chat": "49123@s.whatsapp.net", "text": "hi"}
                    status, _, body = await thread(partial(web.ask, "/ask/send", refused))
                    assert status == 409
                    assert json.loads(body)["code"] == "not_a_console"
                assert await thread(next, news) == {"event": "down"}


async def test_the_log_is_followed_over_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "pynchy.log"
    send, receive = trio.open_memory_channel[str](1000)

    async def tell(lines: list[str]) -> None:
        for line in lines:
            await send.send(line)

    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.follow, log, tell)
            await trio.testing.wait_all_tasks_blocked()
            log.write_text("one\ntwo\nhal")
            assert [await receive.receive() for _ in range(2)] == ["one", "two"]
            with log.open("a") as file:
                file.write("f\n")
                file.flush()
                assert await receive.receive() == "half"
                log.rename(tmp_path / "pynchy.1.log")
                file.write("last\n")
            log.write_text("first\n")
            assert [await receive.receive() for _ in range(2)] == ["last", "first"]
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:  # who comes later sees the end of what is there
            log.write_text("x" * 1000 + "\n" + "y\n" * journal.TAIL)
            nursery.start_soon(journal.follow, log, tell)
            assert await receive.receive() == "y"
            nursery.cancel_scope.cancel()


def test_the_log_of_a_run_is_found_by_its_id_alone(tmp_path: Path) -> None:
    (tmp_path / "20260101T000000Z-0123456789abcdef.log").write_text("what happened")
    assert journal.run_log(tmp_path, "0123456789abcdef") == "what happened"
    for run in ("", "*", "0123456789abcde?", "../0123456789abcdef", "f" * 16):
        assert journal.run_log(tmp_path, run) is None


def test_the_link_is_in_no_argument_of_the_browser_that_is_opened(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    for name in ("xdg-open", "open"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$@" >{opened}.part && mv {opened}.part {opened}\n')
        program.chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with served(tmp_path / "home", "--open", env=environ) as page:
        deadline = time.monotonic() + HANG
        while not opened.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (argument,) = opened.read_text().split()
        assert page.token not in argument
        file = Path(argument.removeprefix("file://"))
        assert page.links[0] in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
        page.process.terminate()
        page.process.wait(HANG)
        assert not file.exists()
