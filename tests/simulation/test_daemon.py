"""The real daemon in a simulated world: a few plays with every test run, the same each time.

`just sim` plays as many hours as one likes, on seeds nobody has seen, and every crash point.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from tests.simulation.crashes import QUIET, SCENARIOS, Crash, play_crash, points
from tests.simulation.play import make_home, play
from tests.simulation.regressions import SEEDS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home")


@pytest.mark.parametrize("seed", [*SEEDS, 101, 102, 103, 104, 105, 106, 107, 108])
def test_a_seed_of_the_swarm(home: Path, seed: int) -> None:
    verdict = play(seed, home=home)
    assert verdict.violations == (), f"just sim --seed {seed}"
    assert verdict.asked > 0


@pytest.mark.parametrize("seed", [0, 3])
def test_a_disk_so_slow_that_everything_queues_for_it(home: Path, seed: int) -> None:
    """A run's last rows may take many seconds; the group's next run still comes after them."""
    swarm = attrs.evolve(QUIET, slow_disk=0.6, talk=40.0, crash=0.2, hours=0.3)
    assert play(seed, home=home, swarm=swarm).violations == ()


@pytest.mark.parametrize("scenario", range(len(SCENARIOS)), ids=lambda n: SCENARIOS[n].__name__)
def test_a_scenario_and_kills_in_it(home: Path, scenario: int) -> None:  # threat D1
    count = points(scenario, home=home)
    assert count > 20
    for point in random.Random(scenario).sample(range(1, count + 1), 8):
        verdict = play_crash(Crash(scenario, (point,)), home=home)
        name = SCENARIOS[scenario].__name__
        assert verdict.violations == (), f"just sim --scenario {name} --kill {point}"


def test_the_same_seed_is_the_same_play_in_every_process(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import sys\n"
        "from tests.simulation.play import make_home, play\n"
        "verdict = play(7, home=make_home(Path(sys.argv[1])), traced=True)\n"
        "print(verdict.digest, verdict.schedule)\n"
    )
    seen = set()
    for number, hash_seed in enumerate(("0", "1", "424242")):
        argv = [sys.executable, "-c", code, str(tmp_path / str(number))]
        environ = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True)
        seen.add(done.stdout)
    assert len(seen) == 1


def test_both_engines_play_the_same(home: Path) -> None:
    mine, public = play(12, home=home), play(12, home=home, public=True)
    assert mine.violations == public.violations == ()


@pytest.mark.limit(400)
def test_a_daemon_that_loses_a_wake_up_is_noticed() -> None:
    """One planted bug with every run; `just mutants` plants them all."""
    argv = [sys.executable, "-m", "tests.simulation.mutants", "22"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert "1 of 1 planted bugs killed" in done.stdout
