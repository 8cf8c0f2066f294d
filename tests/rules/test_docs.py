"""The generated documentation is what the code would write now."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from types import ModuleType

import click
import pytest

import pynchy
from pynchy.config.settings import SECTIONS


@pytest.fixture(scope="module")
def generate(checkout: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", checkout / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_page_is_stale(generate: ModuleType) -> None:
    assert generate.stale() == [], "write them with: just docs"


def test_every_section_and_every_command_has_its_place(checkout: Path) -> None:
    page = (checkout / "docs" / "config.md").read_text()
    assert [name for name in SECTIONS if f"## {name}\n" not in page] == []
    assert "## `pynchy groups add`" in (checkout / "docs" / "cli.md").read_text()


def test_the_version_is_said_once_in_two_places(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    assert project["version"] == pynchy.__version__


def test_the_client_on_the_page_is_valid_python(checkout: Path) -> None:
    page = (checkout / "docs" / "control.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    compile(program, "docs/control.md", "exec")


def test_every_command_shows_an_example(generate: ModuleType) -> None:
    """The help of a command says how it is typed, in a line that begins with its name."""
    without = [
        path
        for path, command in generate.commands("pynchy", generate.pynchy)
        if not any(
            f"{line.strip()} ".startswith(f"{path} ") or f"| {path}" in line
            for line in (command.help or "").splitlines()
        )
    ]
    assert without == []


def test_every_command_of_the_transcripts_is_one_that_there_is(
    checkout: Path, generate: ModuleType
) -> None:
    """And its options are: written by real runs, the page outlives what it shows only if this fails."""
    pages = ("docs/transcripts.md", "README.md")
    told = [line for page in pages for line in (checkout / page).read_text().splitlines()]
    found = [re.fullmatch(r"\$ (?:\.venv/bin/)?pynchy (.*)", line) for line in told]
    commands = [match[1] for match in found if match]
    assert len(commands) > 15
    for line in commands:
        arguments = shlex.split(line)
        command = generate.pynchy
        while isinstance(command, click.Group) and arguments:
            name = arguments.pop(0)
            found_command = command.get_command(click.Context(command), name)
            assert found_command is not None, line
            command = found_command
        command.make_context("pynchy", arguments)  # raises where an option is none


def test_every_link_between_the_pages_leads_somewhere(checkout: Path) -> None:
    pages = [*checkout.glob("*.md"), *(checkout / "docs").glob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in link
    ]
    assert len(links) > 30
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_file_that_a_page_names_is_there(checkout: Path) -> None:
    """A module that moves takes its name in the pages along."""
    below = ("", "pynchy", "agent", "tests")
    named = [
        (page.name, name)
        for page in [*checkout.glob("*.md"), *(checkout / "docs").glob("*.md")]
        if page.name != "CHANGELOG.md"  # it tells of what was
        for name in re.findall(r"`((?:[\w.-]+/)+\w+\.(?:py|sh))\b", page.read_text("utf-8"))
    ]
    assert len(named) > 100
    assert [
        (page, name)
        for page, name in named
        if not any((checkout / folder / name).exists() for folder in below)
    ] == []


def test_every_test_that_a_page_names_is_there(checkout: Path) -> None:
    named = [
        (page.name, file, test)
        for page in (checkout / "docs").glob("*.md")
        for file, test in re.findall(r"`([\w/]+)::(\w+)`", page.read_text("utf-8"))
        if file != "dir/file"  # how to read the others
    ]
    assert len(named) > 100
    assert [
        (page, file, test)
        for page, file, test in named
        if not (source := checkout / "tests" / f"{file}.py").exists()
        or f"def {test}(" not in source.read_text("utf-8")
    ] == []
