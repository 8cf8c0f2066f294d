"""Fetch a model once: what is there of it is gone on with, and nothing is taken that is not what it should be."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from pynchy.config.paths import part_of
from pynchy.files.writing import sync
from pynchy.voice.models import KNOWN, MAGIC

SILENCE: Final = 60.0  # seconds without a byte, after which it is given up
CHUNK: Final = 1 << 20


class NotFetched(Exception):
    """Why the model is not there, and what to do about it."""


@attrs.frozen
class Route:
    """The way to the internet: a proxy, if any, and the certificates to trust instead of the usual ones."""

    proxy: str | None = None
    ca_file: Path | None = None


def fetch(url: str, file: Path, *, route: Route, begun: Callable[[int, int], None]) -> str:
    """Put what is at ``url`` into ``file``, whole or not at all; returns its SHA-256.

    ``begun`` is told how many bytes are there already, and how many there will be. If the connection breaks, what came
    stays beside the file, and the next call goes on from there. Raises `NotFetched`.
    """
    part = part_of(file)
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    try:
        with _opened(url, have, route) as answer:
            if have and answer.status != 206:
                have = 0
            whole = have + int(answer.headers.get("content-length") or 0)
            begun(have, whole)
            with part.open("ab" if have else "wb") as out:
                while chunk := answer.read(CHUNK):
                    out.write(chunk)
            if part.stat().st_size < whole:  # the library does not say so
                raise ConnectionError(f"it broke off after {part.stat().st_size} of {whole} bytes")
    except urllib.error.HTTPError as error:
        error.close()  # it is an answer, too, with its connection
        if error.code != 416:  # there is no more of it: what is there is all, or is something else
            raise NotFetched(f"{url}: {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        again = "; what came of it is kept, and the same command goes on with it"
        kept = again if part.exists() and part.stat().st_size else ""
        raise NotFetched(f"{url}: {_words(error)}{kept}") from None
    sync(part)
    return hash_of(part)


def take(file: Path, model: str, found: str) -> None:
    """Give what was fetched its place, if it is the model. Raises `NotFetched`, and removes what is not."""
    part, known = part_of(file), KNOWN.get(model)
    if known is not None and found != known.sha256:
        part.unlink()
        raise NotFetched(
            f"what came is not the model {model} as it is published (its SHA-256 is {found}); it was removed. "
            "Is voice.url right? Try again, or choose another model"
        )
    with part.open("rb") as opened:
        beginning = opened.read(len(MAGIC))
    if beginning != MAGIC:
        part.unlink()
        raise NotFetched(
            "what came is no model of whisper.cpp; it was removed. Is voice.url right?"
        )
    part.chmod(0o644)  # the sandbox's user reads it; its folder is for us alone
    part.replace(file)


def hash_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def _opened(url: str, have: int, route: Route) -> Iterator[http.client.HTTPResponse]:
    proxies = {urlsplit(url).scheme: route.proxy, "https": route.proxy} if route.proxy else {}
    context = ssl.create_default_context(cafile=route.ca_file and str(route.ca_file))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )
    request = urllib.request.Request(url, headers={"user-agent": "pynchy"})  # noqa: S310 - http or https
    if have:
        request.add_header("range", f"bytes={have}-")
    with opener.open(request, timeout=SILENCE) as answer:
        yield answer


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error) or type(error).__name__
