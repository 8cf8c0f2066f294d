"""A group's folder: it begins with a page of memory, and nothing that is there is ever written over."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pynchy.container import folders
from pynchy.home import Home
from pynchy.model import Group, GroupId, RunId

SKILLS = Path(__file__).parents[2] / "agent" / "skills"
OURS = (os.getuid(), os.getgid())


def group(name: str = "The  family") -> Group:
    folder = GroupId("family")
    return Group(folder=folder, name=name, trigger="x", requires_trigger=True, is_main=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


def test_a_new_folder_has_a_page_of_memory_and_keeps_what_is_made_of_it(home: Home) -> None:
    folders.prepare(home, group(), owner=OURS, skills=None)
    page = home.group(GroupId("family")) / "CLAUDE.md"
    assert page.read_text().startswith("# The family\n")
    page.unlink()
    folders.prepare(home, group(), owner=OURS, skills=None)
    assert not page.exists()  # taken away by its agent: that is how it stays


def test_a_folder_that_was_there_is_left_as_it_is(home: Home) -> None:
    # invariant 175
    work = home.group(GroupId("family"))
    work.mkdir()
    (work / "CLAUDE.md").write_text("ours")
    folders.prepare(home, group(), owner=OURS, skills=None)
    assert (work / "CLAUDE.md").read_text() == "ours"
    assert [each.name for each in home.groups.iterdir() if each.name.startswith(".")] == []


def test_a_helper_writes_only_what_ends_with_it(home: Home) -> None:
    folders.prepare(home, group(), owner=OURS, skills=None)
    mounts = folders.prepare_helper(home, group(), RunId("a" * 16), owner=OURS, skills=None)
    writable = {mount.target for mount in mounts if mount.writable}
    assert writable == {"/workspace/scratch", "/workspace/ipc/commands", "/home/agent/.claude"}
    assert all(home.scratch in mount.source.parents for mount in mounts if mount.writable)
    (home.scratch / ("a" * 16) / "work" / "link").symlink_to(home.groups)
    folders.clear_helper(home, RunId("a" * 16))
    assert list(home.scratch.iterdir()) == []
    assert (home.group(GroupId("family")) / "CLAUDE.md").exists()


@pytest.mark.parametrize("skill", sorted(SKILLS.iterdir()), ids=lambda path: path.name)
def test_every_skill_says_its_name_and_when_to_use_it(skill: Path) -> None:
    text = (skill / "SKILL.md").read_text(encoding="utf-8")
    head = re.fullmatch(r"---\nname: (.+)\ndescription: (.+)\n---\n\n.+", text, re.DOTALL)
    assert head is not None
    assert head[1] == skill.name
    assert "Use it" in head[2].splitlines()[0]
