"""Trees that were built to hurt whoever walks over them: deep, wide, full of holes and links. # threats L11, L12"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from pynchy.files import trees
from pynchy.files.walk import DEEPEST, SHUT, TOO_DEEP, TOO_MANY, Walk
from pynchy.model import GroupId, Micros
from pynchy.moving import exporter
from pynchy.moving import trees as merging
from pynchy.store import backup, groups
from pynchy.store.database import Tx, open_file, transaction
from tests.edges.test_trees import deep

FAMILY = GroupId("family")
TERABYTE = 1 << 40


@pytest.fixture
def pit(tmp_path: Path) -> Iterator[Path]:
    """A folder for trees that pytest could not remove."""
    top = tmp_path / "pit"
    top.mkdir()
    yield top
    assert trees.clear(top)


@pytest.fixture
def home(pit: Path) -> Home:
    home = Home(pit / "home")
    home.make()
    db = open_file(home.database).connection
    with closing(db), transaction(db):
        groups.register(
            Tx(db, Micros(1)),
            folder=FAMILY,
            name="Family",
            chats=(),
            trigger="Pynchy",
            requires_trigger=False,
        )
    home.group(FAMILY).mkdir()
    return home


def exported(home: Home, pit: Path) -> exporter.Exported:
    copy = pit / "copy.db"
    backup.write_copy(home.database, copy)
    return exporter.write(home, copy, FAMILY, pit / "x.tar.gz", told=lambda name: None)


def test_a_tree_three_thousand_levels_deep_stops_no_export(home: Home, pit: Path) -> None:
    work = home.group(FAMILY)
    deep(work / "t", 3000)
    (work / "z").write_text("after it")
    found = exported(home, pit)
    assert found.files == DEEPEST  # a file on each level that is looked at, and the last one
    assert [each for each in found.left_out if each.endswith(TOO_DEEP)]
    with tarfile.open(pit / "x.tar.gz") as archive:
        assert "family/files/z" in archive.getnames()


def test_a_terabyte_of_holes_is_archived_in_no_time(home: Home, pit: Path) -> None:
    hole = home.group(FAMILY) / "hole"
    with hole.open("wb") as file:
        file.truncate(TERABYTE)
        for place in (4096 * 10, TERABYTE // 2, TERABYTE - 4096):
            file.seek(place)
            file.write(b"x" * 4096)
    (home.group(FAMILY) / "none").touch()
    os.truncate(home.group(FAMILY) / "none", TERABYTE)
    assert exported(home, pit).files == 2
    assert (pit / "x.tar.gz").stat().st_size < 1 << 20
    with tarfile.open(pit / "x.tar.gz") as archive:
        for name in ("hole", "none"):
            assert archive.getmember(f"family/files/{name}").size == TERABYTE
        inside = archive.extractfile("family/files/hole")
        assert inside is not None
        for place in (4096 * 10, TERABYTE // 2, TERABYTE - 4096):
            inside.seek(place - 1 if place > 4096 * 10 else place)
            assert inside.read(2).endswith(b"x")


def test_links_and_pipes_are_left_out_and_said(home: Home, pit: Path) -> None:
    work = home.group(FAMILY)
    (work / "link").symlink_to("/etc/passwd")
    (work / "folder").symlink_to("/etc")
    os.mkfifo(work / "pipe")
    for number in range(300):
        (work / f"l{number}").symlink_to("nowhere")
    found = exported(home, pit)
    assert found.files == 0
    assert found.left_out_count == 303
    assert len(found.left_out) == exporter.MOST_SAID


def test_a_walk_has_an_end(pit: Path) -> None:
    for number in range(100):
        (pit / str(number)).touch()
    walk = Walk(pit, most=10)
    assert len(list(walk)) == 10
    assert list(walk.skipped) == [TOO_MANY]


def descriptors() -> int:
    """How many this process has open, where that can be seen."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


def test_a_walk_that_is_left_early_holds_nothing_open(pit: Path) -> None:
    deep(pit / "t", 50)
    before = descriptors()
    with closing(iter(Walk(pit))) as entries:
        for _ in range(70):
            next(entries)
    assert descriptors() == before


def test_a_walk_goes_into_a_folder_that_was_exchanged_for_a_link_never(pit: Path) -> None:
    (pit / "a").mkdir()
    (pit / "b").mkdir()
    seen = []
    for entry in Walk(pit):
        seen.append(entry.path)
        if entry.is_folder and len(seen) == 2:  # both are known, none was entered yet
            (pit / "b").rmdir()
            (pit / "b").symlink_to("/etc")
    assert sorted(seen) == ["a", "b"]


def test_an_import_leaves_out_what_is_too_deep(pit: Path) -> None:
    deep(pit / "theirs", 300)
    copied = merging.merge(pit / "theirs", pit / "ours")
    assert copied.new == DEEPEST
    assert [each for each in copied.refused if each.endswith(TOO_DEEP)]
    again = merging.merge(pit / "theirs", pit / "ours")
    assert (again.new, again.same) == (0, DEEPEST)


def test_an_import_goes_through_no_link_in_our_folder(pit: Path) -> None:
    outside = pit / "outside"
    outside.mkdir()
    for place in ("a/b/1", "a/c/2", "d/3", "4"):
        file = pit / "theirs" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(place)
    (pit / "ours" / "a").mkdir(parents=True)
    (pit / "ours" / "a" / "b").symlink_to(outside)
    (pit / "ours" / "d").write_text("a file")
    copied = merging.merge(pit / "theirs", pit / "ours")
    assert sorted(copied.refused) == ["a/b", "d"]
    assert copied.new == 2
    assert (pit / "ours" / "a" / "c" / "2").read_text() == "a/c/2"
    assert (pit / "ours" / "4").read_text() == "4"
    assert list(outside.iterdir()) == []


def test_an_import_copies_holes_as_holes(pit: Path) -> None:
    theirs, ours = pit / "theirs", pit / "ours"
    theirs.mkdir()
    with (theirs / "hole").open("wb") as file:
        file.truncate(TERABYTE)
        file.seek(TERABYTE // 2)
        file.write(b"here")
    assert merging.merge(theirs, ours).new == 1
    seen = (ours / "hole").stat()
    assert seen.st_size == TERABYTE
    assert seen.st_blocks * 512 < 1 << 20
    with (ours / "hole").open("rb") as copy:
        copy.seek(TERABYTE // 2)
        assert copy.read(4) == b"here"
    assert merging.merge(theirs, ours).same == 1
    with (theirs / "hole").open("r+b") as file:
        file.seek(TERABYTE // 4)
        file.write(b"more")
    assert merging.merge(theirs, ours).kept == ["hole"]


def test_what_another_disk_holds_is_not_deleted_with_a_group(
    pit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = pit / "tree"
    (tree / "inner" / "photos").mkdir(parents=True)
    (tree / "inner" / "photos" / "precious").write_text("keep me")
    photos = (tree / "inner" / "photos").stat().st_ino
    real = os.stat

    def elsewhere(*args: object, **more: object) -> os.stat_result:
        seen = real(*args, **more)  # type: ignore[arg-type]
        if seen.st_ino != photos:
            return seen
        fields = list(seen)
        fields[2] = seen.st_dev + 1
        return os.stat_result(fields)

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", elsewhere)
        assert not trees.clear(tree)
    assert [path.read_text() for path in tree.rglob("precious")] == ["keep me"]


def test_a_folder_that_is_shut_is_said_and_stops_nothing(
    pit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pit / "shut").mkdir(mode=0)
    (pit / "z").touch()
    pit.chmod(0o755)
    monkeypatch.chdir(pit)  # the folders above are shut to whom we become
    root = os.geteuid() == 0  # to whom nothing is shut
    if root:
        os.seteuid(65534)
    try:
        walk = Walk(Path())
        seen = sorted(entry.path for entry in walk)
    finally:
        if root:
            os.seteuid(0)
    assert seen == ["shut", "z"]
    assert walk.skipped == {SHUT: ["shut"]}
