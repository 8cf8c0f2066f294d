"""How an answer looks on a terminal: as Markdown, with nothing lost of what was said."""

import io
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pynchy.cli.markdown import rendered
from pynchy.text.reply import NOTICE_PREFIX


def shown(text: str, width: int = 80) -> str:
    """What stands on a terminal without colours; spaces at the ends of lines are not seen."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(rendered(text))
    return "\n".join(line.rstrip() for line in out.getvalue().strip("\n").split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        "one\ntwo\nthree",
        "Use a List<String>, a <div> and a <!-- note -->.",
        "<div>\ninside\n</div>",
        "<!-- hidden? -->",
        "[note]: yes",
        "a line\n===\nanother",
        "[red]not ours[/red] :smile: a_b_c 2**10",
        "https://example.org/?a=1&b=2",
        "\u05e9\u05dc\u05d5\u05dd \U0001f1e9\U0001f1ea \U0001f469\u200d\U0001f469\u200d\U0001f467",
        NOTICE_PREFIX + "/stop   ends it\n    *all* of it, `now`\n* * * * *\n\n\nend",
        "> " * 40 + "deep",
        "- " * 40 + "deep",
    ],
)
def test_what_is_no_markdown_stays_as_it_is(text: str) -> None:
    assert shown(text, 200) == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("**bold** and `code`", "bold and code"),
        ("[the page](https://a.example/b)", "the page (https://a.example/b)"),
        ("[https://bank.example](https://evil.example)", "https://bank.example (https://evil.example)"),
        ("[https://a.example/](https://a.example/)", "https://a.example/"),
        ("<https://a.example>", "https://a.example"),
        ("see ![a cat](https://a.example/cat.png) here", "see a cat (https://a.example/cat.png) here"),
        ("[![a](b.png)](https://c.example)", "a (b.png) (https://c.example)"),
        ("# Title\ntext", "Title\n\ntext"),
        ("- one\n  more\n- two", " \u2022 one\n   more\n \u2022 two"),
    ],
)  # fmt: skip
def test_markdown_is_shown_as_what_it_means(text: str, seen: str) -> None:
    assert shown(text) == seen


TABLE = "| Name | City |\n| --- | ---: |\n| Anna-Maria | Rome |\n| Bo | [Oslo](https://o.example) |"


def test_a_table_is_a_table_where_there_is_room() -> None:
    head, rule, anna, bo = shown(TABLE).split("\n")
    assert head.split() == ["Name", "City"]
    assert set(rule) == {"\u2500"}
    assert anna.split() == ["Anna-Maria", "Rome"]
    assert bo.split() == ["Bo", "Oslo", "(https://o.example)"]


def test_and_a_list_of_its_cells_where_there_is_not() -> None:
    assert shown(TABLE, 22).split("\n") == [
        "Name: Anna-Maria",
        "City: Rome",
        "",
        "Name: Bo",
        "City: Oslo",
        "(https://o.example)",
    ]


def test_a_long_word_in_a_table_goes_on_in_the_next_line() -> None:
    seen = shown(f"| a | b |\n|-|-|\n| {'x' * 30} | here |", 30)
    assert seen.count("x") == 30
    assert "here" in seen


def test_code_keeps_its_lines_and_its_indentation() -> None:
    code = "def f():\n    return '<b>'  # *not* bold"
    lines = shown(f"```python\n{code}\n```").split("\n")
    assert [line.removeprefix(" ") for line in lines if line] == code.split("\n")


PIECES = st.sampled_from(
    ["\n\n[", "*", "**", "_", "`", "```\n", "~~", "~~~\n", "> ", "- ", "1. ", "# ", "\n", "\n\n", "\n---\n", "| ",
     "|\n|-|-|\n|", "<", ">", "<!--", "-->", "<b>", "[", "](", ")", "]: ", "![", "    ", " ", "\t"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(PIECES, max_size=25), st.sampled_from([1, 8, 40, 80]))
@example(["\n\n[", "]: "], 40)
@example(["<", ">"], 40)
@example(["> "] * 20, 8)
@example(["- "] * 5, 1)
@example(["| ", "|\n|-|-|\n|", "| "], 8)
def test_every_word_is_there_and_no_line_is_too_long(pieces: list[str], width: int) -> None:
    """Whatever the marks between them: words of an answer are neither dropped nor cut."""
    words = [f"w{at}x" for at in range(len(pieces) + 1)]
    text = words[0] + "".join(piece + word for piece, word in zip(pieces, words[1:], strict=True))
    seen = shown(text, width)
    assert max(map(cell_len, seen.split("\n"))) <= max(width, 2)
    if width >= 40:
        left = re.sub(r"\s", "", seen)
        languages = re.findall(r"(?:```|~~~)[^\S\n]*(\w+)", text)  # of code; it has no place in it
        for word in words:
            assert word in left or word in languages or f"({word}" in text, (word, seen)
