"""What holds for a group follows from its own settings, and from what holds for everybody."""

from __future__ import annotations

from typing import Any

import pytest

from pynchy.policy.group_settings import OWN, BadSettings, standing

DEFAULTS = {
    "egress": ("public", "config: gateway.egress"),
    "disk": (5 << 30, "config: disk.group"),
    "budget.day_dollars": (5.0, "config: budget.day_dollars"),
}


def held(document: dict[str, Any], *, mounted: bool = False) -> dict[str, tuple[object, str]]:
    found = standing(document, mounted=mounted, defaults=DEFAULTS)
    return {each.key: (each.value, each.source) for each in found}


def test_without_settings_of_its_own_the_defaults_hold() -> None:
    shown = held({})
    assert {key: shown[key] for key in DEFAULTS} == DEFAULTS
    assert all(source != OWN for _, source in shown.values())


def test_its_own_settings_win_and_nothing_of_them_is_no_limit() -> None:
    shown = held(
        {"egress": "none", "disk": 0, "files": 7, "budget": {"day_dollars": 0, "run_tokens": 9}}
    )
    assert shown["egress"] == ("none", OWN)
    assert shown["disk"] == (None, OWN)
    assert shown["files"] == (7, OWN)
    assert shown["budget.day_dollars"] == (None, OWN)
    assert shown["budget.run_tokens"] == (9, OWN)


def test_a_mount_closes_the_internet_unless_the_group_says_otherwise() -> None:
    assert held({}, mounted=True)["egress"] == ("allowlist", "default, since it has mounts")
    assert held({"egress": "public"}, mounted=True)["egress"] == ("public", OWN)


def test_settings_that_cannot_be_read_are_not_shown_as_defaults() -> None:
    with pytest.raises(BadSettings):
        held({"egress": "everything"})
