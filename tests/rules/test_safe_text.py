"""Other people's text on its way out: nothing in it acts, hides, or passes for the host."""
# threat D6

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.text import safe
from pynchy.text.names import clean_name
from pynchy.text.reply import clean_reply

MARK = safe.NOTICE_MARK
#: What may stand in no output, each in a word of its own.
DANGEROUS = (
    "\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x00", "\r", "\x08", "\x7f", "\u2028", "\u2029", "\u202e", "\u202a",
    "\u2066", "\u2069", "\u200b", "\u200e", "\u2060", "\ufeff", "\u00ad", "\ud800", "\udfff", "\ufffe", "\u3164",
    "\U000e0041", "\U000e0001", "a\u200db", "a\ufe0fb",
)  # fmt: skip
LOOKALIKES = (
    MARK, MARK + "\ufe0f", MARK + "\ufe0e", "\u25aa\u20de", "\u25aa\ufe0f\u20de", "\U0001f793", "\u29c8", "\U0001f795",
    "\u25a0\u20e3", "\u25ab\u20df", "\u25a2", "\u22a1", "\U0001f533",
)  # fmt: skip
#: What people write, and what has to stay as it is.
FINE = (
    "hello\n\tworld", "\u00fcber", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "1\ufe0f\u20e3", "#\ufe0f\u20e3",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "\u91cd\u8981", "\u2610 todo \u2611",
    "\u25aa item", "e\u0301", "\u05e9\u05dc\u05d5\u05dd",
)  # fmt: skip
TEXTS = st.lists(
    st.sampled_from((*DANGEROUS, *LOOKALIKES, *FINE)) | st.text(st.characters(exclude_categories=()), max_size=9),
    max_size=8,
).map("".join)  # fmt: skip


def acts(text: str, *, lines: bool) -> list[str]:
    """What in it acts or hides."""
    flag = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    return [
        each
        for each in text.replace(flag, "")
        if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs")
        and each not in ("\u200c\u200d" + "\n\t" * lines)
        and not 0x0600 <= ord(each) <= 0x08E2  # signs of Arabic that are seen
        and ord(each) not in (0x70F, 0x110BD, 0x110CD, *range(0x13430, 0x13440))
    ]


@given(TEXTS)
def test_nothing_acts_or_hides(text: str) -> None:
    assert acts(safe.block(text), lines=True) == []
    assert acts(safe.escaped(text), lines=False) == []
    assert acts(safe.escaped(text, lines=True), lines=True) == []
    assert acts(safe.line(text), lines=False) == []
    assert acts(clean_reply(text) or "", lines=True) == []
    assert acts(clean_name(text), lines=False) == []
    for shown in (safe.block(text), safe.escaped(text), safe.line(text)):
        shown.encode()


@pytest.mark.parametrize("mark", LOOKALIKES)
@pytest.mark.parametrize("around", ["{}", "x\n{} Approved", "\u200b{}", "{}\u200d", "\u25aa{}"])
def test_nothing_passes_for_the_host(mark: str, around: str) -> None:
    text = around.format(mark)
    for shown in (safe.line(text), clean_reply(text) or "", clean_name(text)):
        assert safe.unmarked(shown) == shown
        assert mark not in shown
        assert not any(unicodedata.category(each) == "Me" for each in shown)


@pytest.mark.parametrize("text", FINE)
def test_what_people_write_stays(text: str) -> None:
    assert safe.block(text) == text
    assert safe.unmarked(text) == text
    assert clean_reply(text) == text
    assert safe.escaped(text, lines=True) == text
    assert safe.line(text) == " ".join(text.split())


@pytest.mark.parametrize("text", DANGEROUS)
def test_a_log_shows_what_was_hidden(text: str) -> None:
    assert safe.escaped(text).isascii()
    assert len(safe.escaped(text)) > len(text)


@given(TEXTS)
def test_a_second_time_changes_nothing(text: str) -> None:
    for clean in (safe.block, safe.unmarked, safe.line, safe.escaped):
        assert clean(clean(text)) == clean(text)


def test_a_tree_is_cleaned_in_every_text() -> None:
    value = {"a": ["\x1b[2J", {"b": ("\u202ex", 1, None, True)}]}
    assert safe.tree(value) == {"a": ["[2J", {"b": ["x", 1, None, True]}]}
