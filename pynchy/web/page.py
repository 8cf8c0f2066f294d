"""The web application: its files, sign-in by link, questions to the daemon, two event streams.

    GET  /  /static/…   the empty page: anybody's who calls it by its name
    POST /login         the link's token for a cookie
    POST /logout
    POST /ask/OP        an op of the control socket, from the lists in `gate`
    POST /runlog        the log of a run that is over
    GET  /news          server-sent events: something changed, the daemon is up, or down
    GET  /log           server-sent events: lines of the daemon's log

The rule that keeps it so: nothing is decided here. Who may is `gate`'s, what is true is the daemon's.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, Final

import attrs
import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pynchy.config.paths import Home
from pynchy.files.changes import Watch
from pynchy.limits import CLIENTS
from pynchy.reader_budget import Reader, TooManyPieces
from pynchy.text import safe
from pynchy.web import asking, gate, journal

SMALLEST: Final = 16  # bytes of a body's pieces, on average, once they are many
MAX_STREAMS: Final = CLIENTS.streams
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = [(n.lower().encode(), value.encode()) for n, value in gate.HEADERS.items()]
_STARTING: Final = 20  # looks for a socket that has its name and does not listen yet
_EVICTED: Final = 1.0  # seconds after which a connection that made room for others is opened again
_BETWEEN: Final = 0.2  # seconds between two of them


def static_files() -> dict[str, tuple[bytes, str]]:
    """Every file of the page by its path, with its type. There are no others."""
    folder = files("pynchy.web") / "static"
    found = {
        f"/static/{file.name}": (file.read_bytes(), TYPES[f".{file.name.rpartition('.')[2]}"])
        for file in folder.iterdir()
        if file.is_file()
    }
    return {**found, "/": found["/static/index.html"]}


@attrs.define(eq=False)
class Page:
    """The application for one home. ``entered`` is called when the link was used and is no longer valid."""

    home: Home
    sessions: gate.Sessions
    port: int
    names: frozenset[str]
    entered: Callable[[], None]
    _streams: int = 0
    _files: dict[str, tuple[bytes, str]] = attrs.field(factory=static_files)

    def app(self) -> ASGIApp:
        """The ASGI application."""
        inner = Starlette(
            routes=[
                Route("/login", self.login, methods=["POST"]),
                Route("/logout", self.logout, methods=["POST"]),
                Route("/ask/{op}", self.ask, methods=["POST"]),
                Route("/runlog", self.run_log, methods=["POST"]),
            ],
            exception_handlers={BadBody: _bad_body, ClientDisconnect: _bad_body},
        )
        return _Guarded(self, inner)

    # --- who may ---

    def refusal(self, scope: Scope) -> gate.Refused | None:
        """Why this request is refused, or None."""
        headers = _headers(scope)
        path = scope["path"]
        request = gate.Request(
            method=scope["method"],
            host=headers.get("host"),
            origin=headers.get("origin"),
            site=headers.get("sec-fetch-site"),
            content_type=headers.get("content-type"),
        )
        public = path in self._files
        if (no := gate.refusal(request, self.names, public=public)) is not None:
            return no
        if public or path == "/login" or self.sessions.knows(self._session(headers)):
            return None
        return gate.Refused(401, "login", "open the link that pynchy web shows")

    def _session(self, headers: Mapping[str, str]) -> str | None:
        return gate.cookie_of(headers.get("cookie"), gate.cookie_name(self.port))

    # --- answers ---

    def file(self, path: str) -> Response | None:
        if path not in self._files:
            return None
        content, kind = self._files[path]
        return Response(content, media_type=kind)

    async def login(self, request: Request) -> Response:
        given = (await _body(request)).get("token")
        session = self.sessions.enter(given) if isinstance(given, str) else None
        if session is None:
            return _no(401, "link", "this link was used, or is not from this start")
        self.entered()
        secure = request.headers["origin"].startswith("https:")
        return self._ok(session, age=gate.COOKIE_AGE, secure=secure)

    async def logout(self, request: Request) -> Response:
        if (session := self._session(request.headers)) is not None:
            self.sessions.leave(session)
        return self._ok("", age=0, secure=False)

    def _ok(self, session: str, *, age: int, secure: bool) -> Response:
        """Done, with a cookie for this host only, hidden from scripts and not sent from other sites."""
        response = JSONResponse({"ok": True})
        name = gate.cookie_name(self.port)
        response.set_cookie(
            name, session, max_age=age, secure=secure, httponly=True, samesite="strict"
        )
        return response

    async def ask(self, request: Request) -> Response:
        op = request.path_params["op"]
        if op not in gate.LOOKS | gate.ACTS:
            return _no(404, "unknown_op", "the page does not ask this")
        arguments = await _body(request)
        if arguments.keys() & {"id", "op"}:
            return _no(400, "bad_request", "id and op are not the page's to choose")
        try:
            result = await asking.ask(self.home.control_socket, op, arguments)
        except asking.Refused as error:
            return _no(409, error.code, str(error))
        except asking.NotRunning:
            return _no(503, "not_running", "pynchy is not running")
        except asking.NoAnswer:
            return _no(504, "no_answer", "pynchy runs and does not answer; its log may say why")
        return JSONResponse(safe.tree(result))

    async def run_log(self, request: Request) -> Response:
        run = (await _body(request)).get("run")
        text = journal.run_log(self.home.run_logs, run) if isinstance(run, str) else None
        if text is None:
            return _no(404, "no_log", "there is no log of this run yet")
        return JSONResponse({"text": safe.block(text)})

    # --- streams ---

    async def news(self, tell: Callable[[Mapping[str, object]], Awaitable[None]]) -> None:
        """Stream the daemon's events, and whether it runs, as long as the client listens."""
        with journal.watched(self.home.control_socket.parent) as folder:
            while True:
                try:
                    async with asking.open_connection(self.home.control_socket) as connection:
                        seen = await connection.ask("watch", {})
                        await tell({"event": "up", **seen})
                        while True:
                            await tell(await connection.line())
                except asking.Evicted:
                    await trio.sleep(_EVICTED)
                    continue
                except (asking.NotRunning, asking.NoAnswer, asking.Refused):
                    await tell({"event": "down"})
                await self._come_up(folder)

    async def _come_up(self, folder: Watch) -> None:
        """Wait until a daemon listens. Looks again when its socket's folder changes."""
        while True:
            await folder.changed()
            for _ in range(_STARTING):  # it has its name a moment before it listens
                if not self.home.control_socket.exists():
                    break
                try:
                    async with asking.open_connection(self.home.control_socket):
                        return
                except asking.NotRunning:
                    await trio.sleep(_BETWEEN)

    async def log(self, tell: Callable[[Mapping[str, object]], Awaitable[None]]) -> None:
        """Stream the lines of the daemon's log."""

        async def told(lines: list[str]) -> None:
            await tell({"event": "lines", "lines": lines})

        await journal.follow(self.home.log, told)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A stream of events until the client disconnects."""
        if self._streams >= MAX_STREAMS:  # said so that a browser does not ask again by itself
            await _no(429, "busy", "the page is open too often")(scope, receive, send)
            return
        source = self.news if scope["path"] == "/news" else self.log

        async def tell(event: Mapping[str, object]) -> None:
            data = f"data: {json.dumps(safe.tree(event))}\n\n".encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})

        self._streams += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                headers = [(b"content-type", b"text/event-stream")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await tell({"event": "hello"})
                await source(tell)
        finally:
            self._streams -= 1


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel("its reader has gone")


@attrs.frozen
class _Guarded:
    """Middleware that checks every request before anything else sees it."""

    page: Page
    inner: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_HEADERS]}
            await send(message)

        if (no := self.page.refusal(scope)) is not None:
            await _no(no.status, no.code, no.reason)(scope, receive, with_headers)
        elif scope["method"] == "GET" and scope["path"] in ("/news", "/log"):
            await self.page.stream(scope, receive, with_headers)
        elif scope["method"] == "GET" and (file := self.page.file(scope["path"])) is not None:
            await file(scope, receive, with_headers)
        else:
            await self.inner(scope, receive, with_headers)


class BadBody(Exception):
    """The request's body is too long or is not a JSON object."""


async def _bad_body(request: Request, error: Exception) -> Response:
    return _no(400, "bad_request", str(error))


async def _body(request: Request) -> dict[str, Any]:
    parts = bytearray()
    reader = Reader("the request", SMALLEST)
    async for chunk in request.stream():
        try:
            await reader.took(len(chunk))
        except TooManyPieces as error:
            raise BadBody(str(error)) from None
        parts += chunk
        if len(parts) > gate.MAX_BODY:
            raise BadBody(f"more than {gate.MAX_BODY} bytes")
    try:
        found = json.loads(parts)
    except (ValueError, RecursionError):
        raise BadBody("a JSON object is expected") from None
    if not isinstance(found, dict):
        raise BadBody("a JSON object is expected")
    return found


def _no(status: int, code: str, reason: str) -> Response:
    return JSONResponse({"code": code, "error": reason}, status_code=status)


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by name. Repeated ones are joined, so that they match nothing."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if key in found else text
    return found
