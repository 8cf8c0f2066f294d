"""Every story of failures, as it should end, and again with a kill of the daemon in its midst."""

from __future__ import annotations

from pathlib import Path

import pytest

from pynchy.policy.failures import TABLE, Again
from tests.simulation.play import make_home
from tests.simulation.troubles import STORIES, Story, play_story


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_failure_means_what_the_table_says(tmp_path: Path, story: Story) -> None:
    assert play_story(story, home=make_home(tmp_path)).violations == ()


@pytest.mark.parametrize(
    "story", [each for each in STORIES if each.lasts is not None], ids=lambda story: story.name
)
@pytest.mark.parametrize("after", [3.0, 400.0])
def test_a_restart_forgets_nothing_of_it(tmp_path: Path, story: Story, after: float) -> None:
    """What waits goes on waiting, is told of no oftener, and is answered when it was to be."""
    assert play_story(story, home=make_home(tmp_path), kill_after=after).violations == ()


def test_every_row_has_a_story() -> None:
    told = {story.kind.partition(" ")[0] for story in STORIES}
    elsewhere = {
        "budget_of_all",  # as a group's, for everybody
        "max_turns",  # as a refusal
        "quota",  # tests/end_to_end/test_disk.py
        "overfull",  # tests/edges/test_quota.py
        "run_budget",  # as a setting that refuses
        "session",  # as a conversation that is too long
        "silent",  # as what is unknown
        "too_slow",
    }
    assert set(TABLE) - told == elsewhere
    assert all(not TABLE[kind].again.waits or TABLE[kind].again is Again.DAY for kind in elsewhere)
