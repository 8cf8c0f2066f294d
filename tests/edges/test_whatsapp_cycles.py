"""Bridges over the real library come and go, killed in mid-dial or told to go, and nothing of them stays."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from pynchy.chat.channel import StateChanged
from pynchy.model import ChatId
from pynchy.whatsapp.channel import Terms
from tests.edges.whatsapp_running import no_words, open_whatsapp

from .test_whatsapp_library import link

CYCLES = int(os.environ.get("PYNCHY_TEST_CYCLES", "10"))
ENDED = StateChanged("disconnected", "the WhatsApp process ended")
HANG = 120.0  # seconds of one cycle; a hundredth of it is used

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children() -> list[str]:
    return " ".join(
        task.joinpath("children").read_text() for task in Path("/proc/self/task").iterdir()
    ).split()


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_bridges_come_and_go_without_a_trace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    # invariant 76
    (way_out,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    assert isinstance(way_out, trio.SocketListener)
    port = way_out.socket.getsockname()[1]
    monkeypatch.delenv("SPHINX", raising=False)
    link(tmp_path / "store")

    async def registered() -> Mapping[ChatId, Path]:
        return {}

    terms = Terms(
        store=tmp_path / "store",
        log=tmp_path / "log",
        name="Pynchy",
        own_number=True,
        media_limit=0,
        transcribe=no_words,
        registered=registered,
        proxy=f"http://127.0.0.1:{port}",
    )
    seen: list[tuple[int, set[str], int]] = []
    for cycle in range(CYCLES):
        with trio.fail_after(HANG):
            # A connection is the library's that has just begun to dial. It hears nothing on it, and
            # it is still open when the bridge goes.
            async with AsyncExitStack() as held, open_whatsapp(terms) as channel:
                await held.enter_async_context(await way_out.accept())
                bridge = channel._bridge
                assert bridge is not None
                if cycle % 2:
                    bridge.kill()
                    while await channel.receive() != ENDED:
                        pass
                if cycle % 10 == 9:  # and the next one, in the same channel
                    channel.start_again()
                    await held.enter_async_context(await way_out.accept())
            assert bridge.returncode == (-9 if cycle % 2 else 0)
            assert children() == []
        files = {path.name for path in (tmp_path / "store").iterdir()}
        seen.append((descriptors(), files, resident()))
    await way_out.aclose()
    first, last = seen[len(seen) // 3], seen[-1]  # what is loaded once is loaded
    assert last[0] == first[0]
    assert last[1] <= seen[0][1] | {"whatsapp.db-wal", "whatsapp.db-shm"}
    growth, cycles = last[2] - first[2], len(seen) - len(seen) // 3
    record_property("bytes a cycle", round(growth / cycles))
    record_property("descriptors", last[0])
    assert growth < 4_000_000 + 20_000 * cycles, f"{growth} bytes stay of {cycles} cycles"
