"""What a container found of its limits, in the words that engines were seen to give it."""

import pytest

from pynchy.container.engines.health import advice_on_limits, spell_loose
from pynchy.container.engines.probe import NAMES, held
from pynchy.container.spec import Limits

LIMITS = Limits()

# A shortened recording: docker 20.10 as root, control groups of version 1.
DOCKER = """\
== /sys/fs/cgroup/memory.max
== /sys/fs/cgroup/memory/memory.limit_in_bytes
2147483648
== /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes
2147483648
== /sys/fs/cgroup/pids/pids.max
512
== /sys/fs/cgroup/cpu/cpu.cfs_quota_us
150000
== /sys/fs/cgroup/cpu/cpu.cfs_period_us
100000
== /proc/self/limits
Limit                     Soft Limit           Hard Limit           Units
Max file size             1073741824           1073741824           bytes
Max data size             unlimited            unlimited            bytes
Max core file size        0                    0                    bytes
Max processes             96365                96365                processes
Max open files            4096                 4096                 files
== /proc/self/status
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
== /proc/meminfo
MemTotal:       24684100 kB
SwapTotal:       2097148 kB
== /proc/cpuinfo
processor\t: 0
processor\t: 1
== /proc/net/dev
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:       0       0    0    0    0     0          0         0        0       0
== /proc/self/mountinfo
599 520 0:61 / / ro,relatime - overlay overlay rw,lowerdir=/x
600 599 0:62 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
"""


def changed(*pairs: tuple[str, str]) -> str:
    said = DOCKER
    for old, new in pairs:
        assert old in said, old
        said = said.replace(old, new)
    return said


def test_all_that_was_asked_for_is_held() -> None:
    seen = held(DOCKER, LIMITS)
    assert tuple(seen) == NAMES
    assert spell_loose(seen) == ""
    assert seen["memory"] == seen["swap"] == seen["cpus"] == seen["pids"] == "cgroup"


def test_version_2_says_it_in_other_files() -> None:
    said = changed(
        ("memory/memory.limit_in_bytes\n2147483648", "memory/memory.limit_in_bytes"),
        ("memory/memory.memsw.limit_in_bytes\n2147483648", "memory.swap.max\n0"),
        ("memory.max\n", "memory.max\n2147483648\n"),
        ("pids/pids.max", "pids.max"),
        ("cpu/cpu.cfs_quota_us\n150000", "cpu.max\n150000 100000"),
        ("cpu/cpu.cfs_period_us\n100000", "cpu/cpu.cfs_period_us"),
    )
    assert spell_loose(held(said, LIMITS)) == ""
    unlimited = said.replace("memory.max\n2147483648", "memory.max\nmax").replace(
        "cpu.max\n150000 100000", "cpu.max\nmax 100000"
    )
    assert spell_loose(held(unlimited, LIMITS)) == "memory, cpus"


def test_rootless_without_groups_shows_the_hosts_own_and_is_not_believed() -> None:
    # podman 4.3 rootless, control groups of version 1: the root group's files are what a container sees
    said = changed(
        ("memory.limit_in_bytes\n2147483648", "memory.limit_in_bytes\n9223372036854771712"),
        ("memsw.limit_in_bytes\n2147483648", "memsw.limit_in_bytes\n9223372036854771712"),
        ("pids/pids.max\n512\n", "pids/pids.max\n"),
        ("cfs_quota_us\n150000", "cfs_quota_us\n-1"),
    )
    seen = held(said, LIMITS)
    assert spell_loose(seen) == "memory, swap, cpus, pids"
    assert "delegated" in advice_on_limits("podman", seen)
    by_rlimits = said.replace(
        "Max data size             unlimited            unlimited ",
        f"Max data size             {2 << 30}           {2 << 30}",
    ).replace("96365                96365", "512                  512")
    seen = held(by_rlimits, LIMITS)
    assert (seen["memory"], seen["pids"]) == ("rlimit, each process", "rlimit")
    assert spell_loose(seen) == "swap, cpus"


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("1073741824           1073741824", "unlimited            unlimited ", "files"),
        ("4096                 4096", "4096                 1048576", "files"),
        ("Seccomp:\t2", "Seccomp:\t0", "seccomp"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "privileges"),
        ("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb", "privileges"),
        ("    lo:", "  eth0:       1\n    lo:", "network"),
        ("/ / ro,relatime", "/ / rw,relatime", "read-only root"),
        ("pids.max\n512", "pids.max\nmax", "pids"),
        ("memory.limit_in_bytes\n2147483648", "memory.limit_in_bytes\n4294967296", "memory"),
        ("memsw.limit_in_bytes\n2147483648", "memsw.limit_in_bytes\n9223372036854771712", "swap"),
        ("cfs_quota_us\n150000", "cfs_quota_us\n200000", "cpus"),
    ],
)
def test_each_that_is_not_held_is_named(old: str, new: str, name: str) -> None:
    assert spell_loose(held(changed((old, new)), LIMITS)) == name


def test_where_nothing_can_be_seen_nothing_is_claimed() -> None:
    assert spell_loose(held("", LIMITS)) == ", ".join(NAMES)


def test_a_machine_of_its_own_is_bounded_by_its_size() -> None:
    said = changed(
        ("memory.limit_in_bytes\n2147483648", "memory.limit_in_bytes"),
        ("pids.max\n512", "pids.max"),
        ("cfs_quota_us\n150000", "cfs_quota_us"),
        ("24684100 kB", "2035000 kB"),
        ("96365                96365", "512                  512"),
        ("Seccomp:\t2", "Seccomp:\t0"),
    )
    seen = held(said, LIMITS, own_machine=True)
    assert {seen["memory"], seen["cpus"]} == {"the machine's size"}
    assert seen["pids"] == "rlimit"
    assert held(said, LIMITS)["memory"] == ""


def test_missing_protection_is_worse_than_a_missing_limit() -> None:
    seen = held(changed(("Seccomp:\t2", "Seccomp:\t0")), LIMITS)
    assert "docs/security.md" in advice_on_limits("docker", seen)
