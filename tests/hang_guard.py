"""A time limit of its own for every test and every play: what hangs says where, and ends.

A pytest plugin that `conftest.py` registers, and a block (`limit`) for the long proofs that pytest does not run. Limits
guard against hanging; no test measures itself by them. A machine that is much slower sets PYNCHY_TEST_SLOWNESS to a
number by which all of them are multiplied.

At the limit an alarm raises `Hung` in the main thread, wherever that is: in a test's own code, in trio's loop under a
real or a mock clock, in a wait for a process. It is no `Exception`, so nothing takes it for a finding to be
shrunk or retried, and it comes again every few seconds, should something have swallowed it. The test fails with
its traceback and the others go on. If that does not help, because the thread is in code that no signal
interrupts, all stacks are printed and the process exits.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # the one stderr that is not captured
from hypothesis import settings

LIMIT: Final = 120.0  # seconds for the setup, the call and the teardown of a test, each
AGAIN: Final = 5.0  # seconds until the alarm is repeated
LAST: Final = 60.0  # seconds after the limit until the process exits


class Hung(BaseException):
    """Something took longer than its limit."""


def slowness() -> float:
    return float(os.environ.get("PYNCHY_TEST_SLOWNESS", "1"))


@contextmanager
def limit(
    seconds: float, what: str, *, told: int | None = None, last: float = LAST
) -> Iterator[None]:
    """Raise `Hung` in the block if it takes longer; exit the process if that is not enough. Main thread only.

    ``told`` is the descriptor that stacks are printed to then, in place of stderr.
    """
    seconds *= slowness()

    def alarm(number: int, frame: object) -> None:
        raise Hung(f"{what}: more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, alarm)
    faulthandler.dump_traceback_later(
        seconds + last, exit=True, file=sys.stderr if told is None else told
    )
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def limit_of(item: pytest.Item) -> float:
    """Seconds that a test may take: what its mark says, else `LIMIT`. With more examples of a property, more."""
    mark = item.get_closest_marker("limit")
    seconds = LIMIT if mark is None else float(mark.args[0])
    if item.get_closest_marker("hypothesis") is not None:
        seconds *= max(1.0, settings().max_examples / 100)
    return seconds


@contextmanager
def _guarded(item: pytest.Item, phase: str) -> Iterator[None]:
    told = item.config.stash.get(fault_handler_stderr_fd_key, None)
    with limit(limit_of(item), f"{phase} of {item.nodeid}", told=told):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _guarded(item, "setup"):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _guarded(item, "call"):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with _guarded(item, "teardown"):
        yield
