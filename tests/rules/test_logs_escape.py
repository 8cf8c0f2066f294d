"""What a log line may contain."""
# threat D6

import string

from hypothesis import given
from hypothesis import strategies as st

from pynchy.logs import MAX_ENTRY, escape


@given(st.text())
def test_whatever_the_text_it_stays_one_line_that_moves_no_cursor(text: str) -> None:
    seen = escape(text)
    assert len(seen.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in seen)


@given(st.text(alphabet=string.printable.replace("\r", "").replace("\x0b", "")[:95], max_size=100))
def test_plain_text_is_left_alone(text: str) -> None:
    assert escape(text.replace("sk-", "")) == text.replace("sk-", "")


def test_what_is_hidden_in_it_is_shown() -> None:
    assert escape("a\n2026-01-01 ERROR fake\x1b[2J\u202e") == (
        "a\\n2026-01-01 ERROR fake\\x1b[2J\\u202e"
    )


def test_ten_megabytes_are_cut() -> None:
    assert len(escape("x" * 10_000_000)) < MAX_ENTRY + 100
    assert escape("x" * 10_000_000).endswith("(10000000 characters)")


def test_secrets_are_blacked_out_also_where_the_cut_would_halve_them() -> None:
    assert escape("the key is sk-ant-api03-abc_DEF-123!") == "the key is [secret]!"
    assert escape("it is hunter2hunter2", ("hunter2hunter2",)) == "it is [secret]"
    assert "hunter2" not in escape("x" * (MAX_ENTRY - 3) + "hunter2hunter2", ("hunter2hunter2",))
