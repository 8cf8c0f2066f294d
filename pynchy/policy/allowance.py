"""What a group's agents may reach and spend: hosts, tools of the provider, money and tokens.

The rule that keeps it so: pure, and below both who sets these (`group_settings`) and who enforces them (the gateway).
"""

from __future__ import annotations

import re
from typing import Final

import attrs

SEARCH: Final = "web_search"
#: Tools that run at the provider and reach out from there, by the family that a group is given.
SERVER_TOOLS: Final = {
    "code_execution": ("code_execution_",),
    "web_fetch": ("web_fetch_",),
    SEARCH: ("web_search_",),
}


@attrs.frozen
class Budget:
    """What a group may spend; None where there is no limit. Money is in micro-dollars."""

    all_money: int | None = None  # of all groups together, in a day
    day_money: int | None = None
    day_tokens: int | None = None
    run_money: int | None = None
    run_tokens: int | None = None

    @property
    def by_day(self) -> bool:
        """Whether anything is limited in a day."""
        return (self.all_money, self.day_money, self.day_tokens) != (None, None, None)


WARN_AT: Final = 0.8  # of a day's budget: main is told when so much of it is used


@attrs.frozen
class Egress:
    """Where a container may connect to.

    ``kind`` is "none", "allowlist" or "public". Patterns are host names, or ``*.`` and a host name;
    an empty list under "allowlist" lets nothing through. ``denied`` wins over everything.
    """

    kind: str = "none"
    patterns: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    ports: tuple[int, ...] = (443, 80)


#: The name of a host as it is compared: A-labels in lower case.
HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?",
    re.ASCII,
)


def matches(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name is one of the patterns. ``*.x.org`` is everything below x.org, not x.org."""
    for pattern in patterns:
        wanted = pattern.lower()
        if wanted.startswith("*."):
            if host.endswith(wanted[1:]):
                return True
        elif host == wanted:
            return True
    return False


def check_pattern(pattern: str) -> str:
    """A host pattern as it is compared, from what a person wrote; raises ValueError."""
    star = "*." if pattern.startswith("*.") else ""
    try:
        name = pattern.removeprefix(star).encode("idna").decode("ascii").lower()
    except UnicodeError:
        name = ""
    if not HOST_NAME.fullmatch(name):
        raise ValueError(f"{pattern!r} is no host name, nor *. and a host name")
    return star + name


def check_owner(pattern: str) -> None:
    """See that a pattern, as `check_pattern` gives it, names hosts of one owner; raises ValueError.

    Anybody can register a name below ``*.github.io`` or ``*.co.uk``, so these are refused. Decided by the public
    suffix list of the installed `publicsuffixlist`; a suffix that is newer than it is not known here.
    """
    base = pattern.removeprefix("*.")
    if base == pattern:
        return
    # Imported here: it reads some ten thousand suffixes, and a start needs none of them.
    from publicsuffixlist import PublicSuffixList

    if PublicSuffixList().is_public(base):
        raise ValueError(
            f"{pattern} would open the hosts of everybody who has a name below {base}: name one host, such as "
            f"NAME.{base}, or *.NAME.{base}"
        )
