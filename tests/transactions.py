"""Transactions of the store at a moment that a test chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from pynchy.model import Micros
from pynchy.store.database import Tx

P = ParamSpec("P")
T = TypeVar("T")


def at(now: Micros, fn: Callable[Concatenate[Tx, P], T]) -> Callable[Concatenate[Tx, P], T]:
    """``fn`` as it would be called at ``now``, whatever the store's clock says."""

    def moved(tx: Tx, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return fn(tx.at(now), *args, **kwargs)

    return moved
