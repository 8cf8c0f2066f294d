"""Readers of bytes that somebody else wrote: who gives way, who pays, who is ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from pynchy.reader_budget import (
    BURST,
    FREE_PIECES,
    PASS_BYTES,
    PASS_PIECES,
    SHARE,
    Account,
    Reader,
    TooManyPieces,
    charged_to,
)


def play(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_others_have_their_turn_while_somebody_reads() -> None:  # threat N9
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def main() -> None:
        nonlocal turns
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            reader = Reader("it")
            for _ in range(100 * PASS_PIECES):
                await reader.took(1)
            assert turns >= 90
            turns = 0
            for _ in range(10):
                await reader.took(PASS_BYTES)
            assert turns >= 9
            nursery.cancel_scope.cancel("done")

    play(main)


def test_small_pieces_are_borne_up_to_a_number() -> None:  # threat N9
    async def main() -> None:
        reader = Reader("the body", 256)
        for _ in range(FREE_PIECES):
            await reader.took(1)
        with pytest.raises(TooManyPieces, match="the body comes in too many small pieces"):
            await reader.took(1)
        large = Reader("the body", 256)
        for _ in range(4 * FREE_PIECES):
            await large.took(256)
        large.start_again()
        await large.took(1)

    play(main)


def test_who_used_more_than_its_share_waits_for_it_one_reader_at_a_time() -> None:  # threat N9
    async def main() -> None:
        account, went_on = Account(), []
        began = trio.current_time()

        async def read(number: int) -> None:
            reader = Reader("it")
            await reader.took(1)
            went_on.append((number, trio.current_time() - began))
            account.charge(0.015)

        account.charge(BURST + 0.015)
        with charged_to(account):
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(read, number)
        step = 0.015 / SHARE
        times = sorted(when for _, when in went_on)
        assert times == pytest.approx([step, 2 * step, 3 * step], rel=0.1)

    play(main)


def test_nobody_waits_for_ever() -> None:
    async def main() -> None:
        account = Account()
        account.charge(1_000_000)
        began = trio.current_time()
        with charged_to(account):
            await Reader("it").took(1)
        assert trio.current_time() - began <= BURST / SHARE + 1
        await Reader("another, of no account").took(1)

    play(main)
