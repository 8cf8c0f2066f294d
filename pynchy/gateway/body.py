"""What may stand in the body of a model call.

Pure. The bytes are decoded strictly, once, and what is forwarded is written anew from what was
checked: no reader further on can find something in it that was not seen here.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import attrs

from pynchy.gateway.exchange import RunIdentity
from pynchy.gateway.policy import MAX_BODY, Refusal

MAX_DEPTH: Final = 100
MAX_TOKENS: Final = 300_000  # pieces of JSON: values, keys, brackets
MAX_OUTPUT: Final = 256_000  # what max_tokens may ask for


@attrs.frozen
class Call:
    """A checked body: what the ledger must know, what is sent."""

    model: str
    max_tokens: int
    stream: bool
    document: dict[str, Any] = attrs.field(repr=False)

    def encode(self) -> bytes:
        return json.dumps(
            self.document, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()


def check(who: RunIdentity, raw: bytes, *, counting: bool) -> Call:
    """Decode and check the body of a call; raises `Refusal`."""
    document = decode(raw)
    model = document.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= 128:
        raise _bad("model must be a name")
    if who.models and model not in who.models:
        raise Refusal(403, "permission_error", f"this group may not use {model[:60]!r}")
    stream = document.get("stream", False)
    if not isinstance(stream, bool):
        raise _bad("stream must be true or false")
    max_tokens = 0
    if not counting:
        max_tokens = document.get("max_tokens")  # type: ignore[assignment]  # looked at next
        if type(max_tokens) is not int or not 0 < max_tokens <= MAX_OUTPUT:
            raise _bad(f"max_tokens must be from 1 to {MAX_OUTPUT}")
    return Call(model, max_tokens, stream, document)


def decode(raw: bytes) -> dict[str, Any]:
    """One strict JSON object, or a `Refusal`."""
    if len(raw) > MAX_BODY:
        raise Refusal(413, "request_too_large", f"more than {MAX_BODY >> 20} MiB")
    _check_shape(raw)
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_int,
            parse_float=_float,
        )
    except (ValueError, RecursionError):
        raise _bad("the body is not JSON") from None
    if not isinstance(value, dict):
        raise _bad("the body is not a JSON object")
    return value


# The optional closing quote makes an unclosed string one token too: a scan is linear, always.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],]', re.DOTALL)


def _check_shape(raw: bytes) -> None:
    """Bound depth and number of values before a recursive parser sees the bytes."""
    depth = 0
    for count, match in enumerate(_TOKEN.finditer(raw)):
        token = raw[match.start()]
        if token in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise _bad(f"more than {MAX_DEPTH} levels deep")
        elif token in b"}]":
            depth -= 1
        if count > MAX_TOKENS:
            raise _bad("too many values")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _bad("a key appears twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _bad(f"{name} is not a JSON number")


def _int(digits: str) -> int:
    if len(digits) > 32:
        raise _bad("a number with too many digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits) if len(digits) <= 400 else float("inf")
    if value - value != 0.0:
        raise _bad("a number beyond a double")
    return value


def _bad(message: str) -> Refusal:
    return Refusal(400, "invalid_request_error", message)
