"""Extra mounts that change under our hands, settings that cannot be read, engines with a known way out."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from pynchy.config.sources import from_environ
from pynchy.container.engines.runtime import NoRuntime
from pynchy.container.mounts.extra import MOST_COVERS, Allowed, Swapped
from pynchy.container.mounts.rules import MountRequest
from pynchy.daemon.edges import warn_of_escapes
from pynchy.policy import group_settings
from pynchy.policy.allowance import Budget, Egress


def allowed(tmp_path: Path) -> Allowed:
    ours = tmp_path / "ours"
    ours.mkdir()
    (tmp_path / "projects" / "site").mkdir(parents=True)
    file = ours / "mount-allowlist.json"
    root = f'{{"path": "{tmp_path / "projects"}", "allowReadWrite": true}}'
    file.write_text(f'{{"allowedRoots": [{root}], "nonMainReadOnly": false}}')
    file.chmod(0o600)
    return Allowed(path=file, ours=(ours,), empty=ours / "empty", user_home=tmp_path)


def test_a_folder_that_was_swapped_since_it_was_judged_is_noticed(tmp_path: Path) -> None:
    # threat M7
    guard, site = allowed(tmp_path), tmp_path / "projects" / "site"
    extras = guard.extras([MountRequest(str(site), "site")], is_main=True, others=[])
    assert [each.source for each in extras.mounts] == [site]
    extras.check()
    site.rename(site.with_name("aside"))
    site.symlink_to("/")
    with pytest.raises(Swapped):
        extras.check()


def test_two_groups_mounts_never_lie_in_each_other_where_one_writes(tmp_path: Path) -> None:
    # threat M6
    guard, site = allowed(tmp_path), tmp_path / "projects" / "site"
    (site / "inner").mkdir()
    outer, inner = (
        MountRequest(str(site), "site", writable=True),
        MountRequest(str(site / "inner"), "inner"),
    )
    for mine, theirs in ((outer, inner), (inner, outer)):
        extras = guard.extras([mine], is_main=False, others=[([theirs], True)])
        assert extras.mounts == ()
        assert [each.request for each in extras.refused] == [mine]
    beside = attrs.evolve(outer, writable=False)
    assert guard.extras([inner], is_main=False, others=[([beside], True)]).mounts


def test_more_secrets_than_a_sandbox_can_cover_are_not_mounted(tmp_path: Path) -> None:
    guard, site = allowed(tmp_path), tmp_path / "projects" / "site"
    for number in range(MOST_COVERS):
        (site / f"{number}").mkdir()
        (site / f"{number}" / ".env").touch()
    request = MountRequest(str(site), "site")
    assert len(guard.extras([request], is_main=True, others=[]).mounts) == 1 + MOST_COVERS
    (site / ".env").touch()
    extras = guard.extras([request], is_main=True, others=[])
    assert extras.mounts == ()
    assert f"the most is {MOST_COVERS}" in extras.refused[0].reason


@pytest.mark.parametrize(
    "row",
    [
        {"egress": "all"},
        {"egresss": "none"},
        {"hosts": "example.org"},
        {"hosts": ["127.0.0.1"]},
        {"mounts": [{"path": "/a"}]},
        {"mounts": [{"path": "/a", "name": "a", "writable": 1}]},
        {"budget": {"day_dollars": -1}},
        {"budget": {"day_tokens": True}},
        {"models": "any"},
        {"disk": "5g"},
        {"files": -1},
    ],
)
def test_settings_that_cannot_be_read_are_an_error(row: dict[str, object]) -> None:
    with pytest.raises(group_settings.BadSettings):
        group_settings.read(row)


def test_a_group_that_sees_more_reaches_less_unless_the_owner_says_so() -> None:
    def kind(own: group_settings.Settings, default: str, *, mounted: bool) -> str:
        return group_settings.egress_of(own, default=default, mounted=mounted, denied=()).kind

    plain, open_ = group_settings.Settings(), group_settings.Settings(egress="public")
    assert kind(plain, "public", mounted=False) == "public"
    assert kind(plain, "public", mounted=True) == "allowlist"
    assert kind(plain, "none", mounted=True) == "none"
    assert kind(open_, "none", mounted=True) == "public"
    assert kind(group_settings.CLOSED, "public", mounted=False) == "none"


PUBLIC, LISTED = Egress("public"), Egress("allowlist", ("example.org",))


@pytest.mark.parametrize(
    ("server_tools", "egress", "searches", "web"),
    [
        ("", PUBLIC, True, ("fetch", "search")),
        ("", PUBLIC, False, ("fetch",)),
        ("", LISTED, True, ("fetch",)),
        ("", Egress("allowlist"), True, ("fetch",)),  # it is refused with what to ask for
        ("", Egress("none"), True, ()),
        ("none", PUBLIC, True, ("fetch",)),
        ("code_execution", PUBLIC, True, ("fetch",)),
        ("web_search", LISTED, True, ("fetch", "search")),
        ("web_search", LISTED, False, ("fetch",)),
        ("web_search", Egress("none"), True, ("search",)),
    ],
)
def test_of_the_web_a_run_is_offered_what_can_work(
    server_tools: str, egress: Egress, searches: bool, web: tuple[str, ...]
) -> None:
    own = group_settings.read(group_settings.with_value({}, "server_tools", server_tools))
    given = group_settings.server_tools_of(own, egress, searches=searches)
    assert group_settings.web_of(egress, given, searches=searches) == web
    if "search" in web:  # or the gateway would refuse it
        assert "web_search" in given


def test_what_a_groups_folders_may_hold_is_set_as_people_write_it() -> None:
    found = group_settings.with_value({}, "disk", "500m")
    found = group_settings.with_value(found, "files", "1000")
    own = group_settings.read(found)
    assert (own.disk, own.files) == (500 << 20, 1000)
    assert group_settings.read(group_settings.with_value(found, "disk", "")).disk is None
    for key, text in (("disk", "much"), ("disk", "-1"), ("files", "1k"), ("disk", "g")):
        with pytest.raises(group_settings.BadSettings):
            group_settings.with_value({}, key, text)


def test_new_hosts_of_a_group_have_one_owner_and_old_ones_stay_readable() -> None:
    with pytest.raises(group_settings.BadSettings, match="name one host"):
        group_settings.with_value({}, "hosts", "example.org,*.github.io")
    old = {"hosts": ["*.github.io"]}
    assert (
        group_settings.with_value(old, "hosts", "*.github.io,example.org")["hosts"][1]
        == "example.org"
    )


def test_a_group_has_one_image_or_the_other() -> None:
    chosen = group_settings.with_value({}, "image", "agent-browser")
    assert (
        group_settings.IMAGES[group_settings.read(chosen).image]
        == "localhost/pynchy-agent-browser:latest"
    )
    assert (
        group_settings.IMAGES[
            group_settings.read(group_settings.with_value(chosen, "image", "")).image
        ]
        is None
    )
    with pytest.raises(
        group_settings.BadSettings,
        match="image: expected one of agent, agent-browser, found ",
    ):
        group_settings.with_value({}, "image", "docker.io/somebody/else")


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("egress", "all", "egress: expected one of none, allowlist, public, found 'all'"),
        ("disk", "much", "disk: expected a size such as"),
        ("files", "1k", "files: expected a whole number, 0 or more, found '1k'"),
        ("budget.day_dollars", "nan", "budget.day_dollars: expected an amount of dollars"),
        ("budget.day_tokens", "1.5", "budget.day_tokens: expected a whole number"),
        ("server_tools", "bash", "server_tools: item 1: expected one of "),
        ("mounts", "/", "'mounts' is no setting of a group; known: answers, model, egress, "),
    ],
)
def test_a_wrong_value_says_which_setting_and_what_was_expected(
    key: str, text: str, says: str
) -> None:
    with pytest.raises(group_settings.BadSettings) as caught:
        group_settings.with_value({}, key, text)
    assert str(caught.value).startswith(says)


def test_a_groups_own_budget_wins_figure_by_figure() -> None:
    own = group_settings.read({"budget": {"day_dollars": 2.5, "run_tokens": 0}})
    default = Budget(day_money=1, day_tokens=2, run_money=3, run_tokens=4)
    assert group_settings.budget_of(own, default) == Budget(
        day_money=2_500_000, day_tokens=2, run_money=3, run_tokens=None
    )


@attrs.frozen
class Engine:
    runc: str

    async def versions(self) -> dict[str, str]:
        return {"runc": self.runc}


async def test_a_known_escape_is_warned_of_and_refused_only_if_wanted(tmp_path: Path) -> None:
    plain = from_environ({"PYNCHY_HOME": str(tmp_path)})
    strict = from_environ(
        {"PYNCHY_HOME": str(tmp_path), "PYNCHY_CONTAINER_REQUIRE_PATCHED": "true"}
    )
    assert "CVE-2024-21626" in " ".join(await warn_of_escapes(plain, Engine("1.1.11")))
    assert await warn_of_escapes(strict, Engine("1.4.0")) == ()
    with pytest.raises(NoRuntime):
        await warn_of_escapes(strict, Engine("1.1.11"))
