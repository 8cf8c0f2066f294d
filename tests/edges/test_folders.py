"""A group's folder: it begins with a page of memory, and nothing that is there is ever written over."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pynchy.config.paths import Home
from pynchy.container import folders, skills
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
    folders.prepare(home, group(), owner=OURS, skills={})
    page = home.group(GroupId("family")) / "CLAUDE.md"
    assert page.read_text().startswith("# The family\n")
    page.unlink()
    folders.prepare(home, group(), owner=OURS, skills={})
    assert not page.exists()  # taken away by its agent: that is how it stays


def test_a_folder_that_was_there_is_left_as_it_is(home: Home) -> None:
    # invariant 175
    work = home.group(GroupId("family"))
    work.mkdir()
    (work / "CLAUDE.md").write_text("ours")
    folders.prepare(home, group(), owner=OURS, skills={})
    assert (work / "CLAUDE.md").read_text() == "ours"
    assert [each.name for each in home.groups.iterdir() if each.name.startswith(".")] == []


def test_a_helper_writes_only_what_ends_with_it(home: Home) -> None:
    folders.prepare(home, group(), owner=OURS, skills={})
    mounts = folders.prepare_helper(home, group(), RunId("a" * 16), owner=OURS, skills={})
    writable = {mount.target for mount in mounts if mount.writable}
    talks = "/home/agent/.claude/projects"
    assert writable == {"/workspace/scratch", "/workspace/ipc/commands", talks}
    assert all(home.scratch in mount.source.parents for mount in mounts if mount.writable)
    (home.scratch / ("a" * 16) / "work" / "link").symlink_to(home.groups)
    folders.clear_helper(home, RunId("a" * 16))
    assert list(home.scratch.iterdir()) == []
    assert (home.group(GroupId("family")) / "CLAUDE.md").exists()


def skill(top: Path, name: str) -> Path:
    (top / name).mkdir(parents=True)
    (top / name / "SKILL.md").write_text("---\n")
    return top / name


def test_the_browsers_skill_is_offered_where_there_is_one(home: Home) -> None:
    family = GroupId("family")
    plain = skills.offered(home, family, ours=SKILLS, browser=False)
    assert set(skills.offered(home, family, ours=SKILLS, browser=True)) - set(plain) == {
        "web-browsing"
    }
    assert set(plain) == {"chat-formatting", "documents", "using-the-tools"}


def test_the_owners_skills_are_for_one_group_or_for_all(home: Home) -> None:
    everybodys = skill(home.root / "skills" / "global", "recipes")
    ours = skill(home.root / "skills" / "family", "recipes")
    other = skill(home.root / "skills" / "family", "chat-formatting")
    (home.root / "skills" / "family" / "no-skill").mkdir()
    skill(home.root / "skills" / "family", "No Name")
    found = skills.offered(home, GroupId("family"), ours=SKILLS, browser=False)
    assert dict(found) == {
        "chat-formatting": other,
        "documents": (SKILLS / "documents").resolve(),
        "recipes": ours,
        "using-the-tools": (SKILLS / "using-the-tools").resolve(),
    }
    assert skills.offered(home, GroupId("kids"), ours=None, browser=True) == {"recipes": everybodys}


def test_each_skill_is_mounted_by_itself_below_a_folder_that_no_agent_writes(home: Home) -> None:
    # invariant 108, threat L14
    mounts = folders.prepare(
        home, group(), owner=OURS, skills={"a-skill": skill(home.root / "x", "a-skill")}
    )
    top, one = (each for each in mounts if each.target.startswith(skills.SKILLS))
    assert (top.target, one.target) == (skills.SKILLS, f"{skills.SKILLS}/a-skill")
    assert not top.writable
    assert not one.writable
    assert [each.name for each in top.source.iterdir()] == ["a-skill"]
    assert not any(each.writable and each.source in top.source.parents for each in mounts)


@pytest.mark.parametrize("skill", sorted(SKILLS.iterdir()), ids=lambda path: path.name)
def test_every_skill_says_its_name_and_when_to_use_it(skill: Path) -> None:
    text = (skill / "SKILL.md").read_text(encoding="utf-8")
    head = re.fullmatch(r"---\nname: (.+)\ndescription: (.+)\n---\n\n.+", text, re.DOTALL)
    assert head is not None
    assert head[1] == skill.name
    assert "Use it" in head[2].splitlines()[0]
