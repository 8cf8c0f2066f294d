"""Whatever CI runs has a bound, and so has each test and each play in it."""

from __future__ import annotations

import re

import pytest

from tests import hang_guard
from tests.architecture.house import ROOT

CI = (ROOT / ".ci" / "run").read_text()
STAGES = re.findall(r"^\s*stage (?:'[^']*'|\"[^\"]*\") (\S+) (.*?)(?: \|\|.*)?$", CI, re.MULTILINE)
RECIPES = dict(
    re.findall(
        r"^(\w[\w-]*)[^\n:]*:[^\n=]*\n(?:    [^\n]*\n)*?    @?exec .venv/bin/python -m (tests[\w.]*)",
        (ROOT / "justfile").read_text(),
        re.MULTILINE,
    )
)
FIGURES = {"bench"}  # it measures; its stage ends it from outside


def test_each_stage_has_a_bound() -> None:
    assert len(STAGES) == len(re.findall(r"^\s*stage ['\"]", CI, re.MULTILINE)) > 15
    for bound, _ in STAGES:
        assert 0 < int(bound) <= 1200


def test_each_long_proof_that_a_stage_runs_limits_each_of_its_steps() -> None:
    proofs = {"sim", "mutants", "torture", "redteam", "fuzz"}
    assert proofs <= RECIPES.keys()
    run = {name for _, command in STAGES for name in re.findall(r"\bjust (\w+)", command)}
    modules = {name: RECIPES[name] for name in (run | proofs) - FIGURES if name in RECIPES}
    for name, module in modules.items():
        path = ROOT / (module.replace(".", "/") + ".py")
        source = (path if path.is_file() else path.with_suffix("") / "__main__.py").read_text()
        assert re.search(r"\blimit\(|\btimeout=", source), name


def test_this_run_guards_each_of_its_tests(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.has_plugin("tests.hang_guard")


@pytest.mark.limit(7)
def test_a_mark_says_how_long_a_test_may_take(request: pytest.FixtureRequest) -> None:
    assert hang_guard.limit_of(request.node) == 7


def test_without_a_mark_it_is_the_usual_limit(request: pytest.FixtureRequest) -> None:
    assert hang_guard.limit_of(request.node) == hang_guard.LIMIT


def test_no_mark_asks_for_more_than_a_stage_has() -> None:
    asked = [
        float(number)
        for path in (ROOT / "tests").rglob("test_*.py")
        for number in re.findall(r"mark\.limit\((\d+(?:\.\d+)?)\)", path.read_text())
    ]
    assert max(asked) <= 900
