"""Call the model API with the real key: Anthropic, or any endpoint that speaks the Messages API.

The key is known here and nowhere else. It is added to what leaves and never to what comes back:
response headers pass an allowlist, error bodies are searched for it, and no exception text of the
HTTP library is repeated, since those can hold headers.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, Final

import attrs
import trio

from pynchy.gateway.exchange import (
    Headers,
    UpstreamFailure,
    UpstreamRequest,
    UpstreamResponse,
    UpstreamUnreachable,
)
from pynchy.gateway.way import DIRECT, Way
from pynchy.reader_budget import Reader, TooManyPieces

if TYPE_CHECKING:
    import httpx

ANTHROPIC: Final = "https://api.anthropic.com"
_OAUTH_BETA: Final = "oauth-2025-04-20"
_PASSED: Final = frozenset({
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
})  # fmt: skip
_PASSED_PREFIX: Final = "anthropic-ratelimit-"
_ERROR_BODY: Final = 256 << 10  # bytes of an error that are read
_SMALLEST: Final = 16  # bytes of its pieces, on average


@attrs.frozen
class ApiKey:
    """A key of the API console."""

    secret: str = attrs.field(repr=False)

    def headers(self, betas: str) -> dict[str, str]:
        return {"x-api-key": self.secret, **({"anthropic-beta": betas} if betas else {})}


@attrs.frozen
class OAuthToken:
    """A token of a subscription (``claude setup-token``)."""

    secret: str = attrs.field(repr=False)

    def headers(self, betas: str) -> dict[str, str]:
        names = [name for name in betas.split(",") if name] + [_OAUTH_BETA]
        return {"authorization": f"Bearer {self.secret}", "anthropic-beta": ",".join(names)}


def credential_of(kind: str, secret: str) -> ApiKey | OAuthToken:
    """What is sent for a secret of a kind, as the configuration names kinds."""
    return OAuthToken(secret) if kind == "oauth" else ApiKey(secret)


@asynccontextmanager
async def open_anthropic(
    credential: ApiKey | OAuthToken,
    *,
    base_url: str = ANTHROPIC,
    way: Way = DIRECT,
    patience: float = 600.0,
) -> AsyncIterator[Anthropic]:
    """A client of the API for the length of the block. It connects when it is first used.

    ``patience`` is how many seconds may pass without a byte of an answer.
    """
    upstream = Anthropic(credential, base_url.rstrip("/"), way, patience)
    try:
        yield upstream
    finally:
        await upstream.close()


@attrs.frozen
class Verdict:
    """The API's reply to a credential: its status, and how far its clock is ahead of ``now``."""

    status: int
    ahead: float | None  # seconds; None where it names no time


async def try_credential(
    credential: ApiKey | OAuthToken,
    *,
    base_url: str = ANTHROPIC,
    way: Way = DIRECT,
    now: float,
) -> Verdict:
    """Ask the API the one question that costs nothing: which models there are.

    Raises `UpstreamUnreachable` if nobody answers.
    """
    async with open_anthropic(credential, base_url=base_url, way=way, patience=20.0) as upstream:
        return await upstream.list_models(now=now)


def _unreachable(error: httpx.HTTPError) -> UpstreamUnreachable:
    import httpx

    who = "the proxy" if isinstance(error, httpx.ProxyError) else "the model API"
    never = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
    return UpstreamUnreachable(f"{who} did not answer ({type(error).__name__})", refused=never)


@attrs.define
class Anthropic:
    """The model API as an `Upstream`."""

    name: ClassVar[str] = "anthropic"
    free: ClassVar[bool] = False
    _credential: ApiKey | OAuthToken
    _base_url: str
    _way: Way
    _patience: float
    _opening: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _client: httpx.AsyncClient | None = attrs.field(default=None, init=False)

    @property
    def billed(self) -> bool:
        return isinstance(self._credential, ApiKey)

    def renew(self, credential: ApiKey | OAuthToken) -> None:
        """Use another credential from the next call on."""
        self._credential = credential

    async def prepare(self) -> None:
        with suppress(UpstreamUnreachable):  # the first call says so
            await self._ready()

    async def _ready(self) -> httpx.AsyncClient:
        """The client. Loading the HTTP library and making it takes a third of a second, so it is done in a thread,
        and not at a start, which does not need it."""
        async with self._opening:
            if self._client is None:
                try:
                    self._client = await trio.to_thread.run_sync(self._open)
                except OSError as error:  # an SSLError is one
                    words = f"gateway.ca_file cannot be used: {error.strerror or error}"
                    raise UpstreamUnreachable(words, refused=True) from None
            return self._client

    def _open(self) -> httpx.AsyncClient:
        import httpx

        ca_file = self._way.ca_file
        tls = (
            httpx.create_ssl_context(trust_env=False)
            if ca_file is None
            else ssl.create_default_context(cafile=str(ca_file))
        )
        # Or the keys of our connections are written into the file that SSLKEYLOGFILE names.
        tls.keylog_filename = None  # type: ignore[assignment]  # None is what it is without one
        return httpx.AsyncClient(
            trust_env=False,
            proxy=self._way.proxy_to(self._base_url),
            verify=tls,
            timeout=httpx.Timeout(self._patience, connect=15.0, write=60.0, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            follow_redirects=False,  # a redirect would take the key elsewhere
        )

    async def close(self) -> None:
        if self._client is not None:
            with trio.move_on_after(2.0, shield=True):
                await self._client.aclose()

    async def list_models(self, *, now: float) -> Verdict:
        """For `try_credential`."""
        from email.utils import parsedate_to_datetime

        client = await self._ready()
        import httpx

        headers = {"anthropic-version": "2023-06-01", **self._credential.headers("")}
        try:
            answer = await client.get(f"{self._base_url}/v1/models?limit=1", headers=headers)
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        try:
            told = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
        except ValueError:
            return Verdict(answer.status_code, None)
        return Verdict(answer.status_code, told - now)

    @asynccontextmanager
    async def send(
        self, request: UpstreamRequest
    ) -> AsyncIterator[UpstreamResponse | UpstreamFailure]:
        client = await self._ready()
        import httpx

        headers = [pair for pair in request.headers if pair[0] != "anthropic-beta"]
        headers.append(("accept-encoding", "identity"))
        betas = dict(request.headers).get("anthropic-beta", "")
        headers.extend(self._credential.headers(betas).items())
        # Made by hand and not by the client, which would add the cookies of other groups' answers.
        outgoing = httpx.Request(
            "POST",
            self._base_url + request.target,
            headers=headers,
            content=request.body,
            extensions={"timeout": client.timeout.as_dict()},
        )
        try:
            response = await client.send(outgoing, stream=True)
        except httpx.HTTPError as error:
            raise _unreachable(error) from None
        chunks = _Chunks(response)
        try:
            passed = self._passed(response)
            kind = response.headers.get("content-type", "application/json")
            if response.status_code < 300:
                head = (("content-type", kind), *passed)
                yield UpstreamResponse(response.status_code, head, chunks)
            else:
                body = await self._error_body(kind, chunks)
                head = (("content-type", "application/json"), *passed)
                yield UpstreamFailure(response.status_code, head, body)
        finally:
            await chunks.finish()
            with trio.move_on_after(2.0, shield=True):
                await response.aclose()

    def _passed(self, response: httpx.Response) -> Headers:
        return tuple(
            (name.lower(), value)
            for name, value in response.headers.multi_items()
            if (name.lower() in _PASSED or name.lower().startswith(_PASSED_PREFIX))
            and self._credential.secret not in value
        )

    async def _error_body(self, kind: str, chunks: _Chunks) -> bytes:
        """An error as the API words it, without our key; whatever else it is, in our words."""
        body = bytearray()
        reader = Reader("an error of the model API", _SMALLEST)
        with suppress(UpstreamUnreachable, TooManyPieces):  # what came of it is all there is
            async for chunk in chunks:
                await reader.took(len(chunk))
                body += chunk
                if len(body) > _ERROR_BODY:
                    break
        if (
            kind.partition(";")[0].strip().lower() == "application/json"
            and len(body) <= _ERROR_BODY
        ):
            return bytes(body).replace(self._credential.secret.encode(), b"[removed]")
        return _NO_JSON


_NO_JSON: Final = b'{"type":"error","error":{"type":"api_error","message":"the model API failed without saying why"}}'


class _Chunks:
    """The body of a response as it comes; a break in it is `UpstreamUnreachable`."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_bytes()

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        import httpx

        try:
            return await anext(self._chunks)
        except httpx.HTTPError as error:
            raise UpstreamUnreachable(
                f"the model API's answer broke off ({type(error).__name__})"
            ) from None

    async def finish(self) -> None:
        """Unwind what was not read to its end.

        The library reads through generators within generators, and closing the outer one leaves the
        inner ones to the garbage collector, which trio complains of. Cancelled where they wait, they
        all unwind at once.
        """
        with trio.CancelScope() as scope:
            scope.cancel("the answer is not wanted any more")
            with suppress(UpstreamUnreachable):
                async for _ in self:
                    pass
