"""Decide who may use the page: hosts, origins, the link, the cookie, and the ops allowed.

A page on loopback is within reach of every page that the browser shows: through names that resolve
to 127.0.0.1, forms and images, frames. So each request says by which name we were called and which page
asks, and both must be us; and but for the empty page itself it carries a secret that only the person who
started us was shown.

Rules. The rule that keeps it so: nothing is asked of the world; a request is its headers.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs

from pynchy.limits import CLIENTS

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_SESSIONS: Final = CLIENTS.browsers
COOKIE_AGE: Final = CLIENTS.cookie
MAX_BODY: Final = CLIENTS.request

#: Ops of the control socket that the page may use. What is not here is for the command line.
LOOKS: Final = frozenset(
    {
        "approvals",
        "audit",
        "bill",
        "history",
        "outbox",
        "runs",
        "status",
        "tasks.list",
        "tasks.show",
        "usage",
        "why",
    }
)
ACTS: Final = frozenset(
    {
        "approve",
        "deny",
        "groups.pause",
        "groups.resume",
        "groups.stop",
        "send",
        "tasks.pause",
        "tasks.resume",
        "tasks.run",
    }
)

HEADERS: Final[Mapping[str, str]] = {
    # Nothing but our own files, nothing inline, nothing from elsewhere; and nobody's frame.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


@attrs.frozen
class Request:
    """The parts of a request that decide. Missing headers are None."""

    method: str
    host: str | None
    origin: str | None
    site: str | None  # Sec-Fetch-Site
    content_type: str | None


@attrs.frozen
class Refused:
    """A refusal, with a status and a sentence for the person."""

    status: int
    code: str
    reason: str


def hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    found = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", host.lower(), re.ASCII)
    return found[1] if found else ""


def refusal(request: Request, names: frozenset[str], *, public: bool) -> Refused | None:
    """Why a request is refused for any sender, or None.

    ``names`` are host names we accept besides those of loopback. ``public`` are the empty page and its
    files, which other sites may link to.
    """
    name = hostname(request.host or "")
    if not name or name not in LOOPBACK | names:
        return Refused(421, "host", "this is not the address of this page")
    if request.method not in ("GET", "POST"):
        return Refused(405, "method", "GET or POST")
    posts = request.method == "POST"
    if (
        (posts and request.origin is None)
        or (request.origin is not None and not _same(request.origin, request.host))
        or ((posts or not public) and request.site not in (None, "same-origin"))
    ):
        return Refused(403, "origin", "another page asked")
    kind = (request.content_type or "").partition(";")[0].strip().lower()
    if posts and kind != "application/json":
        return Refused(415, "content_type", "application/json is expected")
    return None


def _same(origin: str, host: str | None) -> bool:
    try:
        found = urlsplit(origin)
    except ValueError:
        return False
    return found.scheme in ("http", "https") and found.netloc.lower() == (host or "").lower()


@attrs.define(eq=False)
class Sessions:
    """The sign-in link, valid once, and the browsers that are signed in.

    Both end with the process.
    """

    _new_secret: Callable[[], str]
    _open: dict[str, None] = attrs.field(factory=dict)
    token: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.token = self._new_secret()

    def enter(self, token: str) -> str | None:
        """Exchange the link's token for a cookie value. The link is invalid then, and a new one is made."""
        given = token.encode("utf-8", "surrogatepass")  # JSON may say anything
        if not hmac.compare_digest(given, self.token.encode()):
            return None
        self.token = self._new_secret()
        session = self._new_secret()
        self._open[session] = None
        while len(self._open) > MAX_SESSIONS:
            del self._open[next(iter(self._open))]
        return session

    def knows(self, session: str | None) -> bool:
        """Whether this cookie belongs to a signed-in browser. Compares it with all of them, whatever it finds."""
        given = (session or "").encode()
        found = False
        for each in self._open:
            found |= hmac.compare_digest(given, each.encode())
        return found

    def leave(self, session: str) -> None:
        """Sign a browser out."""
        self._open.pop(session, None)


def cookie_name(port: int) -> str:
    """The cookie's name, with the port in it: browsers share cookies between ports."""
    return f"pynchy-{port}"


def cookie_of(header: str | None, name: str) -> str | None:
    """The value of one cookie in a Cookie header."""
    for part in (header or "").split(";"):
        found, equals, value = part.strip().partition("=")
        if equals and found == name:
            return value
    return None
