"""Known container escapes, and the program versions that had them.

`doctor` and `status` warn with `known_escapes`; the configuration says whether to refuse. A distribution may have
repaired an old version without a new number, so the words say "unless".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_Version = tuple[int, int, int, int]  # the last: number of the release candidate, _RELEASE for none
_RELEASE: Final = 1 << 16
_NUMBERS: Final = re.compile(
    r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:[-~.]?rc[.-]?(\d{1,4}))?", re.ASCII
)

# program: (what, ((from, repaired in), …))
TABLE: Final[tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]] = (
    ("runc", "CVE-2019-5736 (overwrites the host's runc)", (("0.0", "1.0.0-rc7"),)),
    ("runc", "CVE-2021-30465 (mount race)", (("0.0", "1.0.0-rc95"),)),
    ("runc", "CVE-2024-21626 (leaked descriptor)", (("0.0", "1.1.12"),)),
    (
        "runc",
        "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881 (masked paths and /dev/console)",
        (("0.0", "1.2.8"), ("1.3.0-rc1", "1.3.3"), ("1.4.0-rc1", "1.4.0-rc3")),
    ),
    (
        "containerd",
        "CVE-2022-23648 (image volumes show host files)",
        (("0.0", "1.4.13"), ("1.5.0", "1.5.10"), ("1.6.0-rc1", "1.6.1")),
    ),
    ("docker", "CVE-2021-41091 (data folder open to local users)", (("0.0", "20.10.9"),)),
)


def parse_version(text: str) -> _Version | None:
    """The version number at the beginning of a text, or None."""
    found = _NUMBERS.match(text)
    if found is None:
        return None
    major, minor, patch, candidate = found.groups()
    return (int(major), int(minor), int(patch or 0), int(candidate) if candidate else _RELEASE)


def known_escapes(versions: Mapping[str, str]) -> list[str]:
    """One sentence for each known container escape that these versions have."""
    found = []
    for program, what, ranges in TABLE:
        version = parse_version(versions.get(program, ""))
        if version is None:
            continue
        if any(_is_in(version, start, end) for start, end in ranges):
            repaired = ", ".join(end for _, end in ranges)
            found.append(
                f"{program} {versions[program]} has {what}, unless your distribution has repaired it; "
                f"repaired in {repaired}"
            )
    return found


def _is_in(version: _Version, start: str, end: str) -> bool:
    first, last = parse_version(start), parse_version(end)
    assert first is not None
    assert last is not None
    return first <= version < last
