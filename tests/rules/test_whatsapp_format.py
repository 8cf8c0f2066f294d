"""Markdown in WhatsApp's marks."""

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
