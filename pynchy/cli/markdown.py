"""Show an answer's Markdown on a terminal, with nothing lost of what was said.

rich renders it. What it would drop or squeeze is changed here: a line break stays a line break; HTML,
link definitions and whatever merely looks like a mark are text; the target of a link and of a picture is
written out; a table's words are never cut, and a table that is too wide becomes one line per cell.
The rule that keeps it so: it decides how text looks, and writes to no terminal itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import box, markdown
from rich.table import Table
from rich.text import Text

from pynchy.text.reply import NOTICE_PREFIX

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

DEEPEST: Final = 12  # levels of lists and quotes; deeper, 40 columns have no room for words
WORD: Final = (
    12  # columns of a word: a table with room for less than its words' beginning is hard to read
)

_PARSER: Final = (
    MarkdownIt("commonmark", {"html": False, "maxNesting": 200})
    .enable(["strikethrough", "table"])
    .disable("reference")  # a line that begins with "[note]: " would be taken for one, and vanish
    .disable("lheading")  # a line under a text is a line, not the mark of a heading
)


def rendered(text: str) -> RenderableType:
    """The text as rich shows it: an answer as Markdown, the host's own words as they stand."""
    if text.startswith(NOTICE_PREFIX):
        return Text(text)
    shown = Answer(text)
    if max((token.level for token in shown.parsed), default=0) > DEEPEST:
        return Text(text)
    return shown


class _Heading(markdown.Heading):
    LEVEL_ALIGN = dict.fromkeys(markdown.Heading.LEVEL_ALIGN, "default")


class _Table(markdown.TableElement):
    """Words are broken where there is no room, and never cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        head = _cells(self.header.row) if self.header else []
        rows = [_cells(row) for row in self.body.rows] if self.body else []
        if _needed([head, *rows]) > options.max_width:
            yield from _listed(head, rows)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for title in head:
            title.stylize("markdown.table.header")
            table.add_column(title, overflow="fold", justify=title.justify or "default")
        for row in rows:
            table.add_row(*row)
        yield table


class Answer(markdown.Markdown):
    """An answer in Markdown, as wide as the terminal at most."""

    elements = markdown.Markdown.elements | {"heading_open": _Heading, "table_open": _Table}

    def __init__(self, text: str) -> None:
        super().__init__("", justify="default", hyperlinks=False)
        self.markup = text
        self.parsed = _PARSER.parse(text)
        for token in self.parsed:
            if token.type == "inline":
                token.children = list(_written_out(token.children or []))


def _written_out(tokens: Sequence[Token]) -> Iterator[Token]:
    """The tokens of some text, with what rich would drop or put in the wrong place as words."""
    target = ""  # of the link that is open
    label = ""
    for token in tokens:
        match token.type:
            case "softbreak":
                yield Token("hardbreak", "br", 0)
            case "link_open":
                target, label = _target(token), ""
            case "link_close":
                if target and target != label:
                    yield _words(f" ({target})" if label else target)
            case "image":
                label += token.content
                shown = f"{token.content} ({token.attrs.get('src', '')})"
                yield _words(shown.strip())
            case _:
                label += token.content
                yield token


def _target(link: Token) -> str:
    """Where a link leads, unless it is one that is written out already."""
    return "" if link.info == "auto" else str(link.attrs.get("href", ""))


def _words(text: str) -> Token:
    return Token("text", "", 0, content=text)


def _cells(row: markdown.TableRowElement | None) -> list[Text]:
    return [cell.content for cell in row.cells] if row else []


def _needed(rows: Sequence[Sequence[Text]]) -> int:
    """The columns that a table needs to be readable: room for each of its words, or their beginning."""
    columns = list(zip(*rows, strict=False))
    return sum(max(_word(cell) for cell in column) + 2 for column in columns)


def _word(cell: Text) -> int:
    return min(WORD, max((Text(word).cell_len for word in cell.plain.split()), default=1))


def _listed(head: Sequence[Text], rows: Sequence[Sequence[Text]]) -> Iterator[RenderableType]:
    """A table as lines: each cell with its column's name before it, and an empty line between rows."""
    if not rows:
        yield Text(" | ").join(head)
    for at, row in enumerate(rows):
        if at:
            yield Text()
        for title, cell in zip(head, row, strict=False):
            title.stylize("markdown.table.header")
            shown = Text(": ").join([title, cell]) if title.plain else cell.copy()
            shown.justify = "default"
            yield shown
