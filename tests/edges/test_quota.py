"""Counting trees that an agent built, to deceive or to delay whoever counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pynchy.container.quota import LOOK, REST, Quota, QuotaWatch, watched
from pynchy.container.session import Broken, Traffic
from pynchy.files import trees
from pynchy.files.disk import Space, Threshold
from pynchy.files.usage import Most, Usage, usage_of
from pynchy.files.walk import DEEPEST

ANY = Most(bytes=None, files=None)
BLOCK = 4096
MIB = 1 << 20


def test_bytes_and_files_are_counted_and_holes_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "full").write_bytes(b"x" * 10 * BLOCK)
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    found = usage_of([tmp_path], most=ANY)
    assert found.files == 3
    assert 10 * BLOCK <= found.bytes < 1 << 20


def test_a_file_of_many_names_is_one_file_for_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"x" * 100 * BLOCK)
    for number in range(1, 20):
        os.link(tmp_path / "0", tmp_path / str(number))
    found = usage_of([tmp_path], most=ANY)
    assert found.files == 20  # each name takes room in the folder
    assert found.bytes < 200 * BLOCK


def test_no_link_is_followed_out_of_the_tree(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(50):
        (outside / str(number)).touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "to a folder").symlink_to(outside)
    (tree / "to itself").symlink_to(tree)
    (outside / "large").write_bytes(bytes(1 << 20))
    (tree / "to a file").symlink_to(outside / "large")
    found = usage_of([tree], most=ANY)
    assert found.files == 3
    assert found.bytes < 1 << 19
    assert usage_of([tree / "to a folder"], most=ANY) == Usage(0, 0)  # nor at the top


def test_a_look_ends_where_it_is_too_much(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").touch()
    assert usage_of([tmp_path], most=Most(bytes=None, files=100)).files == 101
    # and a byte too many is enough, too
    assert usage_of([tmp_path], most=Most(bytes=0, files=None)).files <= 2


@pytest.fixture
def pit(tmp_path: Path) -> Iterator[Path]:
    """A folder for a tree that pytest could not remove."""
    top = tmp_path / "pit"
    top.mkdir()
    yield top
    assert trees.clear(top)


def test_a_tree_too_deep_to_be_looked_at_is_said(pit: Path) -> None:
    # threats L11, L12
    here = os.open(pit, os.O_RDONLY)
    for _ in range(3000):  # deeper than a path can say
        os.mkdir("d", dir_fd=here)
        there = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(here)
    before = _descriptors()
    found = usage_of([pit], most=ANY)
    assert str(DEEPEST) in found.hidden
    assert _descriptors() == before


def _descriptors() -> int:
    """How many this process has open, where that can be seen."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


def test_a_folder_that_is_shut_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above are shut to whom we become
    root = os.geteuid() == 0  # to whom nothing is shut
    if root:
        os.seteuid(65534)
    try:
        found = usage_of([Path()], most=ANY)
    finally:
        if root:
            os.seteuid(0)
    assert found.files == 1
    assert "cannot be looked into" in found.hidden


def test_what_is_not_there_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert usage_of([tmp_path / "none", tmp_path / "file"], most=ANY) == Usage(0, 0)


# --- who is told, and when: on trees that are counted by hand, and a clock of its own ------------


def told(
    *holds: Usage,
    quota: Quota,
    free: tuple[int, ...] = (5000,),
    seconds: float,
    before: Callable[[Usage], Usage] | None = None,
) -> tuple[list[Traffic], int]:
    """What is heard, and how often the folders were walked. ``holds``: by walk; ``free``: by look."""
    walks = looks = 0

    class Tree(QuotaWatch):
        async def _walk(self, most: Most) -> Usage:
            nonlocal walks
            walks += 1
            await trio.lowlevel.checkpoint()
            return holds[min(walks, len(holds)) - 1]

    def measure() -> Space:
        nonlocal looks
        looks += 1
        return Space(free=free[min(looks, len(free)) - 1], total=1000_000)

    heard: list[Traffic] = []

    async def main() -> None:
        sender, receiver = trio.open_memory_channel[Traffic](10)
        threshold = Threshold(bytes=100, share=0)
        turns = trio.CapacityLimiter(1)
        watch = Tree(
            tops=[], quota=quota, threshold=threshold, measure=measure, turns=turns, before=before
        )
        async with watched(watch, sender):
            await trio.sleep(seconds)
        sender.close()
        heard.extend([each async for each in receiver])

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return heard, walks


SOON = 2 * LOOK + 1


def test_nothing_written_is_nothing_walked() -> None:
    assert told(Usage(10, 1), quota=Quota(1000, 0), seconds=REST - 1) == ([], 1)
    assert told(Usage(10, 1), quota=Quota(1000, 0), seconds=3.5 * REST) == ([], 4)


def test_lost_room_is_a_reason_to_walk_and_much_is_told() -> None:
    heard, walks = told(
        Usage(10, 1), Usage(901, 2), quota=Quota(1000, 0), free=(5000, 4000), seconds=SOON
    )
    assert walks == 2
    assert heard == [Broken("the files of this group take up 901 bytes of 1000 bytes", "quota")]


def test_what_others_write_is_not_held_against_a_group() -> None:
    falling = tuple(range(5000, 1000, -100))
    heard, _ = told(Usage(10, 1), quota=Quota(1000, 0), free=falling, seconds=20 * LOOK)
    assert heard == []


def test_files_count_as_bytes_do() -> None:
    heard, _ = told(Usage(10, 1), Usage(10, 91), quota=Quota(0, 100), seconds=REST + SOON)
    assert heard == [Broken("this group has 91 files of the 100 that it may have", "quota")]


@pytest.mark.parametrize(
    ("before", "found", "begins"),
    [
        (Usage(0, 0), Usage(MIB << 9, 1), True),  # one run wrote it before it was seen
        (Usage(0, 0), Usage(MIB << 11, 1), False),
        (Usage(MIB << 11, 1), Usage(MIB << 11, 1), True),  # so it was when the daemon started
        (Usage(MIB << 11, 1), Usage(MIB * 3100, 1), False),
        (Usage(0, 0), Usage(0, 250_600), False),
    ],
)
def test_runs_that_write_faster_than_is_looked_do_not_add_up_for_ever(
    before: Usage, found: Usage, begins: bool
) -> None:
    # threat L11
    heard, walks = told(
        found, quota=Quota(50 * MIB, 500), seconds=1, before=lambda _: before, free=(1 << 40,)
    )
    assert walks == 1
    assert [each.kind for each in heard if isinstance(each, Broken)] == (
        [] if begins else ["overfull"]
    )


def test_who_is_near_the_end_already_may_still_clear_up() -> None:
    full = Usage(950, 1)
    assert told(full, Usage(1000, 2), quota=Quota(1000, 0), seconds=2 * REST)[0] == []
    assert told(full, Usage(1051, 2), quota=Quota(1000, 0), seconds=2 * REST)[0] != []


def test_what_cannot_be_looked_into_is_told() -> None:
    hiding = Usage(10, 1, "is a folder that cannot be looked into")
    (heard,), _ = told(Usage(10, 1), hiding, quota=Quota(1000, 0), seconds=REST + SOON)
    assert "cannot be looked into" in str(heard)


def test_a_disk_that_is_nearly_full_ends_every_run_whatever_its_quota() -> None:
    heard, _ = told(Usage(0, 0), quota=Quota(0, 0), free=(500, 49), seconds=SOON)
    assert heard == [Broken("49 bytes are free on the disk", "disk")]
