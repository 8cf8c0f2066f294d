"""Markdown in WhatsApp's marks."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.chat.whatsapp_format import to_whatsapp


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**bold** and *slanted* and ~~gone~~", "*bold* and _slanted_ and ~gone~"),
        ("__bold__ and _slanted_", "*bold* and _slanted_"),
        ("***both***", "*_both_*"),
        ("# Head **line** #", "*Head line*"),
        ("* one\n+ two\n  - three\n1. four", "- one\n- two\n  - three\n1. four"),
        ("[docs](https://x.y/z)", "docs (https://x.y/z)"),
        ("[https://x.y](https://x.y)", "https://x.y"),
        ("`**not bold**` **bold**", "`**not bold**` *bold*"),
        ("```python\n**x** = *y*\n```", "```\n**x** = *y*\n```"),
        ("```\nopen", "```\nopen\n```"),
        ("2 * 3 * 4 and a*b*c", "2 * 3 * 4 and a*b*c"),
        ("``a ` b`` and a```b", "`a ` b` and a```b"),
        (
            '[a wiki](https://x.y/z_(w)) and [b](c "a title")',
            "a wiki (https://x.y/z_(w)) and b (c)",
        ),
        ("snake_case_name and __init__.py", "snake_case_name and __init__.py"),
        ("---", "———"),
    ],
)
def test_marks_are_translated(markdown: str, shown: str) -> None:
    assert to_whatsapp(markdown) == shown


@given(st.text(alphabet="ab *_~`#[]()\n-1.", max_size=60))
def test_no_word_is_lost(text: str) -> None:
    def words(of: str) -> str:
        return "".join(char for char in of if char in "ab1")

    assert words(to_whatsapp(text)) == words(text)


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    to_whatsapp(text)


@pytest.mark.parametrize("head", ["", "# ", "a"])
@pytest.mark.parametrize(
    "unit", ["`", "`a", "``a`", "[", "[](", "[a](b ", '[a](b "', "#", " #", "__a ", "**a", "~~a", "***", "- "]
)  # fmt: skip
def test_no_message_is_slow(unit: str, head: str) -> None:
    """An agent may send the worst text there is, and all others wait while it is translated."""
    # threat S8 X5
    began = time.process_time()
    to_whatsapp(head + unit * (16_000 // len(unit)) + "\t!")
    assert (
        time.process_time() - began < 10
    )  # a guard: what looks twice from each mark took a minute
