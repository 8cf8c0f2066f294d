"""docs/bridge.md has every line with its fields, in each direction."""

import re
from pathlib import Path

import attrs

from pynchy.whatsapp import channel
from tests.bridge_contract.frames import LINKING, RUNNING

PAGE = Path(__file__).parents[2] / "docs" / "bridge.md"


def rows(heading: str) -> dict[str, list[str]]:
    """The lines of a section's table, each with its fields."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", fields) for name, fields in found}


def test_the_page_has_what_a_bridge_may_say() -> None:
    for heading, known in [("What a bridge says", RUNNING), ("Linking", LINKING)]:
        fields = {name: [each.name for each in attrs.fields(cls)] for name, cls in known.items()}
        assert rows(heading) == fields


def test_the_page_has_what_the_daemon_says() -> None:
    source = Path(channel.__file__).read_text(encoding="utf-8")
    told = set(re.findall(r'(?:\bline=|"line": )"(\w+)"', source))
    assert rows("What the daemon says").keys() == told
