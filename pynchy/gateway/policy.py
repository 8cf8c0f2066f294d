"""Which methods, paths, headers and betas may pass the gateway. All others are refused.

Pure: a request's head goes in, what to forward or a `Refusal` comes out. Credentials that a
container sends are compared with its run token and then dropped; nothing of them is forwarded.
"""

from __future__ import annotations

import hmac
import json
import re
from typing import Final

import attrs

from pynchy.gateway.exchange import COUNT_TOKENS, MESSAGES, Headers, RunIdentity
from pynchy.limits import GATEWAY

MAX_HEAD: Final = GATEWAY.head
MAX_BODY: Final = GATEWAY.body
MAX_PHRASE: Final = 400  # characters; a host name alone may have 253


@attrs.frozen
class Refusal(Exception):
    """Why something is refused, in words that the agent may read. ``closed``: a setting of the group refuses it."""

    status: int
    kind: str
    message: str
    closed: bool = False

    def body(self) -> bytes:
        """The refusal as the Messages API writes its errors."""
        error = {"type": self.kind, "message": f"pynchy gateway: {self.message}"}
        return json.dumps({"type": "error", "error": error}).encode()

    def phrase(self) -> bytes:
        """The refusal in the status line: of a refused tunnel many programs show nothing else."""
        plain = "".join(c if c.isascii() and c.isprintable() else "?" for c in self.message)
        return plain[:MAX_PHRASE].encode()


@attrs.frozen
class Head:
    """A request's parsed head. Nothing in it is trusted."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


@attrs.frozen
class Admitted:
    """A model call whose head may pass."""

    path: str
    target: str  # the path, with its query where it has one
    headers: Headers

    @property
    def betas(self) -> str:
        return dict(self.headers).get("anthropic-beta", "")


# The CLI asks for the beta variant of both; no other query means anything to us.
_TARGETS: Final = {
    b"/v1/messages": MESSAGES,
    b"/v1/messages?beta=true": MESSAGES,
    b"/v1/messages/count_tokens": COUNT_TOKENS,
    b"/v1/messages/count_tokens?beta=true": COUNT_TOKENS,
}

_FORWARDED: Final = frozenset({
    b"anthropic-version",
    b"user-agent",
    b"x-app",
    b"x-stainless-arch",
    b"x-stainless-lang",
    b"x-stainless-os",
    b"x-stainless-package-version",
    b"x-stainless-retry-count",
    b"x-stainless-runtime",
    b"x-stainless-runtime-version",
    b"x-stainless-timeout",
})  # fmt: skip
_PLAIN_VALUE: Final = re.compile(rb"[\x20-\x7e]{1,256}")

# Betas that change how a model reads, thinks, writes or caches. Not here, and so dropped: what
# reaches other services or keeps things at the provider (files, MCP, code execution, skills,
# managed agents, memory, batches, server-side search and fetch, advisors), what spends more per
# token than the ledger knows (fast mode), and `oauth`, which the host adds where it is true.
SAFE_BETAS: Final = frozenset({
    "advanced-tool-use",
    "cache-diagnosis",
    "claude-code",
    "claude-code-side-query",
    "compact",
    "context-1m",
    "context-hint",
    "context-management",
    "effort",
    "extended-cache-ttl",
    "fine-grained-tool-streaming",
    "inline-tools",
    "interleaved-thinking",
    "mid-conversation-system",
    "mid-conversation-system-clear-at",
    "mid-conversation-tool-changes",
    "model-context-window-exceeded",
    "output-128k",
    "per-turn-control",
    "prompt-caching",
    "prompt-caching-evict",
    "prompt-caching-scope",
    "redact-thinking",
    "resumption",
    "structured-outputs",
    "task-budgets",
    "thinking-binding-controls",
    "thinking-display-updates",
    "thinking-resumption",
    "thinking-token-count",
    "timing",
    "token-counting",
    "token-efficient-tools",
    "tool-examples",
    "tool-provenance",
    "tool-search-tool",
})  # fmt: skip
_BETA: Final = re.compile(r"([a-z0-9-]{1,64})-(?:20\d{2}-\d{2}-\d{2}|20\d{6})", re.ASCII)


def admit(who: RunIdentity, head: Head) -> Admitted:
    """Decide which parts of a model call's head are passed on; raises `Refusal`. Call `check_framing` first."""
    if not _token_fits(who.token, head):
        raise Refusal(401, "authentication_error", "this is not the token of this run")
    path = _TARGETS.get(head.target)
    if path is None:
        raise Refusal(403, "permission_error", "only /v1/messages and its count_tokens pass here")
    if head.method != b"POST":
        raise Refusal(405, "invalid_request_error", "only POST passes here")
    kind = head.values(b"content-type")
    if len(kind) != 1 or kind[0].split(b";")[0].strip().lower() != b"application/json":
        raise Refusal(415, "invalid_request_error", "the body must be application/json")
    if head.values(b"content-encoding"):
        raise Refusal(415, "invalid_request_error", "the body must not be compressed")
    return Admitted(path, head.target.decode(), _forwarded(head))


def check_framing(head: Head) -> None:
    """Refuse what two parsers could read differently, before anything else."""
    if sum(len(name) + len(value) + 4 for name, value in head.headers) > MAX_HEAD:
        raise Refusal(431, "request_too_large", f"more than {MAX_HEAD >> 10} KiB of head")
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if lengths and codings:
        raise Refusal(400, "invalid_request_error", "a length and a transfer coding")
    if len(lengths) > 1 or len(codings) > 1:
        raise Refusal(400, "invalid_request_error", "two lengths")
    # A target that names its host may come without, as programs that speak HTTP/1.0 send it.
    named = head.method == b"CONNECT" or head.target[:7].lower() == b"http://"
    given = len(head.values(b"host"))
    if given > 1 or (given == 0 and not named):
        raise Refusal(400, "invalid_request_error", "exactly one host, please")
    if lengths and int(lengths[0]) > MAX_BODY:
        raise Refusal(413, "request_too_large", f"more than {MAX_BODY >> 20} MiB")
    if head.values(b"upgrade") and head.target.startswith(
        b"/"
    ):  # a host of theirs is not told of it
        raise Refusal(400, "invalid_request_error", "no upgrades")


def _token_fits(token: str, head: Head) -> bool:
    given = [value for value in head.values(b"x-api-key") if value]
    for value in head.values(b"authorization"):
        scheme, _, rest = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        given.append(rest.strip())
    wanted = token.encode()
    # All of them must fit, and there must be one: compared without a hint of how far it fits.
    fits = [hmac.compare_digest(value, wanted) for value in given]
    return bool(wanted) and bool(fits) and all(fits)


def _forwarded(head: Head) -> Headers:
    passed = [("content-type", "application/json")]
    for name, value in head.headers:
        if name in _FORWARDED and _PLAIN_VALUE.fullmatch(value):
            passed.append((name.decode("ascii"), value.decode("ascii")))
    betas = safe_betas(b",".join(head.values(b"anthropic-beta")))
    if betas:
        passed.append(("anthropic-beta", ",".join(betas)))
    return tuple(passed)


def safe_betas(asked: bytes) -> list[str]:
    """Those of the asked betas that may pass, each once, in their order."""
    kept: dict[str, None] = {}
    for name in asked.decode("latin-1").split(","):
        match = _BETA.fullmatch(name.strip())
        if match is not None and match.group(1) in SAFE_BETAS:
            kept[name.strip()] = None
    return list(kept)
