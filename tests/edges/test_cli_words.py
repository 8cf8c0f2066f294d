"""What people type that is no command: it works, or names the command; it never leads to what destroys."""

import click
import pytest
from click.testing import CliRunner

from pynchy.cli.app import DESTRUCTIVE, MEANT, pynchy
from tests.edges.test_cli_closed_streams import COMMANDS


def typed(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(pynchy, list(words), prog_name="pynchy")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output


def test_version_and_help_work() -> None:
    assert typed("version") == typed("--version")
    assert typed("help") == typed("--help")
    assert typed("help", "groups", "add") == typed("groups", "add", "--help")


@pytest.mark.parametrize("word", MEANT)
def test_a_word_that_is_no_command_names_the_right_one(word: str) -> None:
    code, said = typed(word, "more")
    assert code == 2
    assert MEANT[word] in said
    assert (word,) not in COMMANDS


def test_the_commands_that_it_names_exist() -> None:
    for told in MEANT.values():
        for named in told.split("pynchy ")[1:]:
            words = named.replace(",", " ").split()
            assert (words[0],) in COMMANDS
            group = pynchy.get_command(click.Context(pynchy), words[0])
            if isinstance(group, click.Group):
                assert tuple(words[:2]) in COMMANDS


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if words[-1] in DESTRUCTIVE], ids=" ".join
)
def test_a_slip_of_the_keyboard_leads_to_nothing_destructive(words: tuple[str, ...]) -> None:
    *before, last = words
    for slip in (last[:-1], last[1:], last + "e"):
        code, said = typed(*before, slip)
        assert code == 2
        assert "No such command" in said
        suggested = said.partition("Did you mean")[2].replace("?", " ").replace("'", " ").split()
        assert not DESTRUCTIVE & set(suggested)


def test_and_is_told_of_what_does_no_harm() -> None:
    assert "Did you mean groups?" in typed("gropus")[1]
    assert "'pause'" in typed("groups", "pausee")[1]
