"""Trees built to hurt whoever removes them. # threat L12"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from pynchy.files import trees


def deep(top: Path, depth: int) -> None:
    """So many folders, one in the other, with a file in each: far deeper than a path can say."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_ten_thousand_levels_are_removed_with_few_descriptors(tmp_path: Path) -> None:
    deep(tmp_path / "tree", 10_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        assert trees.clear(tmp_path / "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("keep me")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "a" / "link").symlink_to(outside)
    (tree / "a" / "b" / "up").symlink_to("..")
    assert trees.clear(tree)
    assert (outside / "precious").read_text() == "keep me"


def test_many_entries_odd_names_and_shut_folders(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "full").mkdir(parents=True)
    for number in range(5000):
        (tree / "full" / f"{number}\n\x1b").touch()
    for number in range(20):  # our own names, taken already
        (tree / f".cleared-{number}" / "x" / "y").mkdir(parents=True)
    (tree / "shut" / "in").mkdir(parents=True)
    (tree / "shut").chmod(0)
    assert trees.clear(tree)
    assert not tree.exists()
    assert trees.clear(tree)  # nothing there is fine


def test_what_is_no_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    assert not trees.clear(tmp_path / "file")
    assert not trees.clear(tmp_path / "link")
    assert (tmp_path / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_tree_is_given_as_far_as_a_path_reaches(tmp_path: Path) -> None:
    deep(tmp_path / "tree", 3000)
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    trees.give(tmp_path / "tree", (1000, 1000))
    assert (tmp_path / "tree" / "d" / "file").stat().st_uid == 1000
    assert Path("/etc/passwd").stat().st_uid == 0
    assert trees.clear(tmp_path / "tree")
