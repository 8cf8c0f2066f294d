"""Markdown in WhatsApp's marks."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.whatsapp.format import to_whatsapp


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
        ("## C#", "*C#*"),
        ("# Learn F# and C# ##", "*Learn F# and C#*"),
        ("# __init__.py does", "*__init__.py does*"),
        ("2**10 and 2**20 bytes", "2**10 and 2**20 bytes"),
        ("src/**/*.ts and lib/**/*.js", "src/**/*.ts and lib/**/*.js"),
        ("delete *.py, *.md and **/*.js", "delete *.py, *.md and **/*.js"),
        ("f(*args, **kwargs) or f(**a)", "f(*args, **kwargs) or f(**a)"),
        ("https://x.org/find?q=*tea*", "https://x.org/find?q=*tea*"),
        ("https://h.org/~~a~~/b_c_d", "https://h.org/~~a~~/b_c_d"),
        (
            "**see https://x.org/a**, *or <https://y.org/_b_>*",
            "*see https://x.org/a*, _or https://y.org/_b__",
        ),
        (r"my\_var and snake\_case", "my_var and snake_case"),
        (r"C:\dir\*.txt and C:\Users", r"C:\dir\*.txt and C:\Users"),
        (r"write \*not bold\* so", "write \u2060*not bold* so"),
        (r"\[no link](x)", "[no link](x)"),
        ("a[i](x) and [words](y)", "a[i](x) and words (y)"),
        ("- a\n  - **b**\n    - *c*\n      1. `d*`", "- a\n  - *b*\n    - _c_\n      1. `d*`"),
        ("| a | **b** |\n|---|---|\n| *c* | x_y |", "| a | *b* |\n|---|---|\n| _c_ | x_y |"),
        ("- see\n  ```py\n  a**b**c\n  ```\n- **x**", "- see\n```\n  a**b**c\n```\n- *x*"),
        ("1. ```py\n   **x**\n   ```", "1. ```\n   **x**\n```"),
        ("````\n```\n**x**\n````\n**y**", "```\n```\n**x**\n```\n*y*"),
        ("```a``` **b**", "`a` *b*"),
        ("code:\n\n    x = **a**\n    y\n\n**z**", "code:\n\n    x = **a**\n    y\n\n*z*"),
        ("**bold *both***", "*bold _both_*"),
        ("***a** b*", "_*a* b_"),
        ("*a **b* c**", "_a __b_ c__"),
        ("`a*` and *b*", "`a*` and _b_"),
        ("5* hotels, ~5 to ~10, *note", "5* hotels, ~5 to ~10, *note"),
        ("\u300c**bold**\u300d and (*a*)", "\u300c**bold**\u300d and (_a_)"),
        ("**.gitignore** and **\U0001f600**", "*.gitignore* and *\U0001f600*"),
        ("> **quoted** `*`", "> *quoted* `*`"),
    ],
)
def test_marks_are_translated(markdown: str, shown: str) -> None:
    assert to_whatsapp(markdown) == shown


# --- what is said, piece by piece, as markdown and as a person would read it

WORDS = st.sampled_from([
    "bold", "C#", "F#", "2**10", "5*3*2", "a*b*c", "snake_case_name", "__init__.py", "*.py", "**/*.js",
    "src/**/*.ts", "_config.yml", "x~y", "~5", "R&D", "3.5", "100%", "it's", "\u00fcber", "\u91cd\u8981", "\U0001f600",
    "C:\\dir\\*.txt", "/usr/*/bin", "f(*args)", "a_b", "#12", "@you", "$5", "https://x.org/find?q=*tea*",
    "https://h.org/~~a~~/b", "https://en.org/wiki/A_(b_c)_d", "http://h/_x_", "www.x.org/a_b_",
])  # fmt: skip
PLAIN = st.sampled_from(["bold", "C#", "two", "a_b", "3.5", "\u00fcber", "\U0001f600", "it's"])
CODES = st.sampled_from(["*a*", "a**b", "x_y_z", "~~n~~", "[a](b)", "\\*", "# c", "**"])


def phrase(mark: str) -> st.SearchStrategy[tuple[str, str]]:
    words = st.lists(PLAIN | CODES.map(lambda code: f"`{code}`"), min_size=1, max_size=3)
    return words.map(" ".join).map(lambda said: (f"{mark}{said}{mark}", said.replace("`", "")))


PARTS: st.SearchStrategy[tuple[str, str]] = st.one_of(
    WORDS.map(lambda word: (word, word)),
    CODES.map(lambda code: (f"`{code}`", code)),
    *(phrase(mark) for mark in ("**", "*", "__", "_", "~~", "***")),
    PLAIN.map(lambda word: (f"\\*{word}\\*", f"*{word}*")),
    st.tuples(PLAIN, st.sampled_from(["https://x.org/a_b_c", "https://x.org/*"])).map(
        lambda link: (f"[{link[0]}]({link[1]})", f"{link[0]} ({link[1]})")
    ),
)


def read(shown: str) -> str:
    """What a person reads of a line in WhatsApp: its marks at the edges of words are not seen."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0].strip("`"))
        return "\x00"

    untouched = r"`[^`\n]+`|(?:https?://|www\.)[^\s<>()]+(?:\([^\s()]*\)[^\s()]*)*"
    shown = re.sub(untouched, keep, shown)
    for char in "*_~":
        edge = re.escape(char)
        pattern = rf"(?<![^\s(*_~])(?<!{edge}){edge}(?=[^\s{edge}])([^\n]*?[^\s{edge}/]){edge}(?=$|[\s.,)*_~])"
        for _ in range(3):
            shown = re.sub(pattern, r"\1", shown)
    for each in kept:
        shown = shown.replace("\x00", each, 1)
    return shown.replace("\u2060", "")


@given(st.lists(PARTS, min_size=1, max_size=6))
def test_what_a_person_reads_is_what_was_said(parts: list[tuple[str, str]]) -> None:
    said = " ".join(part[1] for part in parts)
    assert read(to_whatsapp(" ".join(part[0] for part in parts))) == said.replace("\u2060", "")


@given(
    st.lists(WORDS, min_size=1, max_size=6), st.sampled_from(["", "# ", "- ", "1. ", "> ", "| "])
)
def test_words_and_addresses_never_change(words: list[str], head: str) -> None:
    shown = to_whatsapp(head + " ".join(words))
    assert shown.replace("\u2060", "").strip("*#-1.>| ") == " ".join(words).strip("*#-1.>| ")


@given(st.lists(st.text(alphabet="ab*_~`#>-[]() \\", max_size=12), max_size=5))
def test_code_never_changes(lines: list[str]) -> None:
    code = [line for line in lines if not line.strip().startswith("```")]
    shown = to_whatsapp("\n".join(["**before**", "```py", *code, "```", "**after**"]))
    assert shown == "\n".join(["*before*", "```", *code, "```", "*after*"])


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
