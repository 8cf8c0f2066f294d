"""The other assistants that `just bench --peers` measures: how each is installed, set up, started and spoken to.

Each is taken from its registry at a fixed version, with its dependencies as they were on the day after its release, and
set up as its own documentation says, with as little as it needs: a model on loopback, a key that opens nothing, one
local door, no messenger. What comes up by default stays as it is.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import attrs

from pynchy.config.paths import Home
from tests.benchmarks.recorder import MODEL
from tests.end_to_end.house import Talk

PATIENCE = 60.0  # seconds for one answer, or for one command
KEY = "sk-ant-opens-nothing"
TOKEN = "0123456789abcdef0123456789abcdef"  # of a local door; it is on a loopback of its own

Say = Callable[[str], float]  # says the words, waits for the whole answer; when they were sent


class Trouble(Exception):
    """Why a system is not measured, in words for the page."""


@attrs.frozen
class Place:
    """Where one system is installed and lives while it is measured."""

    installed: Path
    home: Path
    model: int  # the port of the model on loopback
    engine: str  # of containers, for the one that has them

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.model}"


@attrs.frozen
class System:
    """One assistant."""

    name: str  # as its registry has it
    version: str
    program: str  # within what was installed
    start: Sequence[str]  # its daemon, in the foreground
    ready: str  # what the line says that it writes then
    door: Callable[[Place], AbstractContextManager[Say]]
    spoken: str  # the door, in words
    port: int = 0  # which listens then
    install: Callable[[System, Path], None] | None = None  # None: it is there
    prepare: Callable[[Place], Mapping[str, str]] = lambda _: {}  # before its first start; more env
    introduce: Callable[[Place], None] = lambda _: None  # while it runs for the first time

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    def argv_shown(self) -> str:
        """How a person would type it."""
        words = (each for each in self.start if "{" not in each and each != "--set")
        return " ".join([Path(self.program).name, *words])

    def argv(self, place: Place) -> list[str]:
        words = {"engine": place.engine, "url": place.url}
        return [str(place.installed / self.program), *(each.format(**words) for each in self.start)]


def environment(place: Place, more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of whoever measures: no credential, no proxy, no setting."""
    temporary = place.home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        "HOME": str(place.home),
        "TMPDIR": str(temporary),
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


# --- how they are installed ------------------------------------------------------------------------


def _run(argv: Sequence[str | Path], limit: float, **more: Any) -> None:
    """A command that must succeed within its limit."""
    name = f"{Path(argv[0]).name} {argv[1]}"
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
            text=True,
            **more,
        )
    except FileNotFoundError:
        raise Trouble(f"{Path(argv[0]).name} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise Trouble(f"`{name}` took more than {limit:g} s") from None
    if done.returncode != 0:
        last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")
        raise Trouble(f"`{name}` ended with {done.returncode}: {last.strip()[:200]}")


INSTALLING = 600.0  # seconds for one of them


def _from_pypi(as_of: str, *more: str) -> Callable[[System, Path], None]:
    def install(system: System, folder: Path) -> None:
        _run(["uv", "venv", "--quiet", "--no-project", "--python", sys.executable, folder], 60)
        wanted = [f"{system.name}=={system.version}", *more]
        into = ["--quiet", "--compile-bytecode", "--python", str(folder)]
        _run(["uv", "pip", "install", *into, "--exclude-newer", as_of, *wanted], INSTALLING)

    return install


NODE = "24.21.0"


def _from_npm(as_of: str) -> Callable[[System, Path], None]:
    """It, and the interpreter that it asks for: Node comes from the same registry."""

    def install(system: System, folder: Path) -> None:
        machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine())
        if machine is None:
            raise Trouble(f"the registry has no Node for {platform.machine()}")
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--before", as_of]
        wanted = [f"{system.name}@{system.version}", f"node-linux-{machine}@{NODE}"]
        _run(["npm", "install", *options, *wanted], INSTALLING, cwd=folder)
        shutil.copytree(folder / "node_modules" / f"node-linux-{machine}", folder / "node")

    return install


# --- how they are spoken to ------------------------------------------------------------------------


def _ask(port: int, method: str, path: str, body: object) -> Any:
    """One call of a local API, and its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request(method, path, json.dumps(body), {"content-type": "application/json"})
    with connection.getresponse() as answer:
        text = answer.read()
    if answer.status not in (200, 201):
        raise Trouble(f"{method} {path} was answered with {answer.status}: {text[:200]!r}")
    return json.loads(text)


def _over_http(
    port: int, path: str, body: Callable[[str], object], **headers: str
) -> Callable[[Place], AbstractContextManager[Say]]:
    """A connection that is kept, and a request for each message."""
    named = {"content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}

    @contextmanager
    def door(place: Place) -> Iterator[Say]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.connect()

        def say(words: str) -> float:
            data = json.dumps(body(words)).encode()
            began = time.perf_counter()
            connection.request("POST", path, data, named)
            with connection.getresponse() as answer:
                text = answer.read()
            if answer.status != 200:
                raise Trouble(f"a message was answered with {answer.status}: {text[:200]!r}")
            return began

        try:
            yield say
        finally:
            connection.close()

    return door


def _completions(
    port: int, model: str, more: Mapping[str, str] = {}, **headers: str
) -> Callable[[Place], AbstractContextManager[Say]]:
    """A chat completions API; ``more`` goes into each request's body."""

    def body(words: str) -> object:
        return {"model": model, "messages": [{"role": "user", "content": words}], **more}

    return _over_http(port, "/v1/chat/completions", body, **headers)


@contextmanager
def _over_websocket(place: Place) -> Iterator[Say]:
    """Text frames both ways; what nanobot's own page does. The answer ends with an event that says so."""
    with socket.create_connection(("127.0.0.1", 8765), PATIENCE) as ours:
        key = base64.b64encode(os.urandom(16)).decode()
        ours.sendall(
            f"GET /?client_id=bench HTTP/1.1\r\nhost: 127.0.0.1:8765\r\nupgrade: websocket\r\n"
            f"connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )
        stream = ours.makefile("rb")
        if b" 101 " not in (line := stream.readline()):
            raise Trouble(f"the websocket was answered with {line!r}")
        while stream.readline().strip():
            pass

        def frame() -> tuple[int, bytes]:
            kind, size = stream.read(2)
            if size == 126:
                (size,) = struct.unpack("!H", stream.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", stream.read(8))
            return kind & 15, stream.read(size)

        def send(kind: int, data: bytes) -> None:
            assert len(data) < 126, "what we say is short"
            ours.sendall(
                bytes([128 | kind, 128 | len(data)]) + bytes(4) + data
            )  # masked with zeros

        def until(event: str) -> None:
            while True:
                kind, data = frame()
                if kind == 9:
                    send(10, data)
                elif kind == 8:
                    raise Trouble("it closed the websocket")
                elif kind == 1 and json.loads(data).get("event") == event:
                    return

        def say(words: str) -> float:
            began = time.perf_counter()
            send(1, words.encode())
            until("turn_end")
            return began

        until("ready")
        yield say


# --- each of them ----------------------------------------------------------------------------------


@contextmanager
def _our_console(place: Place) -> Iterator[Say]:
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(str(Home(place.home).control_socket))
        talk = Talk(f"console:bench{time.time_ns()}", ours)
        talk.call("attach", chat=talk.chat)
        # A folder of its own: its first message meets no container that is warm.
        talk.call("groups.add", chat=talk.chat, folder=talk.chat[8:], requires_trigger=False)

        def say(words: str) -> float:
            began = time.perf_counter()
            talk.say(words)
            talk.reply()
            return began

        yield say


def _pynchy(place: Place) -> Mapping[str, str]:
    return {
        "PYNCHY_HOME": str(place.home),
        "PYNCHY_DISK_FREE": "1m",
        "PYNCHY_DISK_FREE_PERCENT": "0",
        "ANTHROPIC_API_KEY": KEY,
    }


def _nanobot(place: Place) -> Mapping[str, str]:
    websocket = {"enabled": True, "host": "127.0.0.1", "port": 8765, "allowFrom": ["*"]}
    _write(
        place.home / ".nanobot" / "config.json",
        {
            "agents": {"defaults": {"model": MODEL, "provider": "anthropic"}},
            "providers": {"anthropic": {"apiKey": KEY, "apiBase": place.url}},
            "gateway": {"port": 18790},
            "channels": {"websocket": websocket | {"websocketRequiresToken": False}},
        },
    )
    return {}


def _openclaw(place: Place) -> Mapping[str, str]:
    model = {"id": MODEL, "name": "Loopback", "reasoning": False, "input": ["text"]}
    prices = dict.fromkeys(("input", "output", "cacheRead", "cacheWrite"), 0)
    provider = {"baseUrl": place.url, "apiKey": KEY, "api": "anthropic-messages"}
    size = {"cost": prices, "contextWindow": 200_000, "maxTokens": 8192}
    _write(
        place.home / ".openclaw" / "openclaw.json",
        {
            "gateway": {
                "mode": "local",
                "port": 18789,
                "bind": "loopback",
                "auth": {"mode": "token", "token": TOKEN},
                "http": {"endpoints": {"chatCompletions": {"enabled": True}}},
            },
            "agents": {"defaults": {"model": {"primary": f"loopback/{MODEL}"}}},
            "models": {
                "mode": "merge",
                "providers": {"loopback": {**provider, "models": [model | size]}},
            },
            "logging": {"file": str(place.home / "openclaw.log")},
        },
    )
    node = place.installed / "node" / "bin"
    return {"PATH": f"{node}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _hermes(place: Place) -> Mapping[str, str]:
    model = {"provider": "custom", "default": MODEL, "base_url": f"{place.url}/v1", "api_key": KEY}
    _write(place.home / ".hermes" / "config.yaml", {"model": model})  # JSON is YAML
    return {
        "API_SERVER_ENABLED": "true",
        "API_SERVER_HOST": "127.0.0.1",
        "API_SERVER_PORT": "8642",
        "API_SERVER_KEY": TOKEN,
    }


def _copaw(place: Place) -> Mapping[str, str]:
    program = place.installed / "bin" / "copaw"
    env = environment(place, {})
    _run([program, "init", "--defaults", "--accept-security"], PATIENCE, env=env, cwd=place.home)
    return {}


def _copaw_model(place: Place) -> None:
    """Its own page does this, too: a provider of one's own, and that it is the one to ask."""
    kind = {"default_base_url": place.url, "chat_model": "AnthropicChatModel"}
    provider = {"id": "loopback", "name": "Loopback", "models": [{"id": MODEL, "name": MODEL}]}
    _ask(8088, "POST", "/api/models/custom-providers", provider | kind)
    _ask(8088, "PUT", "/api/models/loopback/config", {"api_key": KEY})
    active = {"provider_id": "loopback", "model": MODEL, "scope": "global"}
    _ask(8088, "PUT", "/api/models/active", active)


def _letta(place: Place) -> Mapping[str, str]:
    program = place.installed / "bin" / "letta"
    model = ["--base-url", f"{place.url}/v1", "--api-key", KEY]
    agent = ["--name", "bench", "--model", f"openai-compatible/{MODEL}", "--personality", "blank"]
    for words in (
        ["backend", "local"],
        ["connect", "openai-compatible", *model],
        ["agents", "create", *agent],
    ):
        _run([program, *words], PATIENCE, env=environment(place, {}), cwd=place.home)
    return {}


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def ours(version: str) -> System:
    return System(
        name="Pynchy",
        version=version,
        program="pynchy",
        start=["run", "--set", "container.engine={engine}", "--set", "model.base_url={url}"],
        ready="ready",
        door=_our_console,
        spoken="the control socket",
        prepare=_pynchy,
    )


OTHERS = (
    System(
        name="nanobot-ai",
        version="0.3.5",
        install=_from_pypi("2026-09-16"),
        program="bin/nanobot",
        start=["gateway", "--foreground"],
        ready="WebSocket server listening",
        port=8765,
        prepare=_nanobot,
        door=_over_websocket,
        spoken="its websocket",
    ),
    System(
        name="openclaw",
        version="2026.9.6",
        install=_from_npm("2026-09-26"),
        program="node_modules/.bin/openclaw",
        start=["gateway", "run"],
        ready="[gateway] ready",
        port=18789,
        prepare=_openclaw,
        door=_completions(18789, "openclaw", {"user": "bench"}, authorization=f"Bearer {TOKEN}"),
        spoken="its chat completions API",
    ),
    System(
        name="hermes-agent",
        version="0.19.0",
        install=_from_pypi("2026-07-21", "aiohttp"),  # its API server asks for it
        program="bin/hermes",
        start=["gateway", "run", "-v"],  # else it does not say that it is ready
        ready="Gateway running",
        port=8642,
        prepare=_hermes,
        door=_completions(
            8642, "hermes-agent", authorization=f"Bearer {TOKEN}", X_Hermes_Session_Id="bench"
        ),
        spoken="its chat completions API",
    ),
    System(
        name="copaw",
        version="1.0.2",
        install=_from_pypi("2026-04-10"),
        program="bin/copaw",
        start=["app", "--port", "8088"],
        ready="Uvicorn running",
        port=8088,
        prepare=_copaw,
        introduce=_copaw_model,
        door=_over_http(
            8088,
            "/api/console/chat",
            lambda words: {
                "input": [{"role": "user", "content": [{"type": "text", "text": words}]}],
                "session_id": "bench",
                "user_id": "bench",
                "channel": "console",
                "stream": True,
            },
        ),
        spoken="its console's API",
    ),
    System(
        name="letta",
        version="0.34.12",
        install=_from_pypi("2026-10-13"),
        program="bin/letta",
        start=["server", "--listen", "ws://127.0.0.1:4500", "--openai-api"],
        ready="Listening on",
        port=4500,
        prepare=_letta,
        door=_completions(4500, "bench"),
        spoken="its chat completions API",
    ),
)
