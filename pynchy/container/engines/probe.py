"""Test what an engine really enforces: a script that looks from inside, and how to read its output.

An engine may be given a flag and not enforce it: rootless podman without delegated control groups drops the limits of
memory, processes and CPU without an error. So what is reported is what a container finds, never what was asked for.

The rule that keeps it so: pure. `SCRIPT` needs a shell and `cat`, which every image has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from pynchy.container.spec import Limits, data_limit

_CGROUP: Final = (
    "memory.max memory.swap.max pids.max cpu.max memory/memory.limit_in_bytes"
    " memory/memory.memsw.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us"
)
#: Each file after a line with its name. What is not there is left out.
SCRIPT: Final = (
    f"for f in {' '.join('/sys/fs/cgroup/' + name for name in _CGROUP.split())}"
    " /proc/self/limits /proc/self/status /proc/meminfo /proc/cpuinfo /proc/net/dev"
    ' /proc/self/mountinfo; do echo "== $f"; cat "$f" 2>/dev/null; done; exit 0'
)

#: What is looked for, in the order in which it is told.
NAMES: Final = (
    "memory", "swap", "cpus", "pids", "files", "seccomp", "privileges", "network", "read-only root",
)  # fmt: skip


@attrs.frozen
class Report:
    """What `SCRIPT` said: the text of each file, by its path."""

    files: Mapping[str, str]

    @classmethod
    def of(cls, said: str) -> Report:
        files = {}
        for part in said.split("== /")[1:]:
            name, _, text = part.partition("\n")
            files["/" + name] = text
        return cls(files)

    def group(self, *names: str) -> str:
        """The first of these control group files that exists, as one line."""
        found = (self.files.get(f"/sys/fs/cgroup/{name}", "").strip() for name in names)
        return next((text for text in found if text), "")

    def table(self, path: str, *, cut: str = ":") -> dict[str, str]:
        lines = (line.partition(cut) for line in self.files.get(path, "").splitlines())
        return {name.strip(): value.strip() for name, _, value in lines}

    def rlimit(self, name: str) -> int | None:
        """The hard limit of that name; None for none."""
        for line in self.files.get("/proc/self/limits", "").splitlines():
            if line.startswith(f"Max {name} "):
                return _number(line.removeprefix(f"Max {name} ").split()[1])
        return None


def held(said: str, limits: Limits, *, own_machine: bool = False) -> dict[str, str]:
    """Which limits of `NAMES` are enforced, and by what; "" if by nothing. ``own_machine``: each container is a machine
    of its own, whose size is a limit."""
    report = Report.of(said)
    status = report.table("/proc/self/status")
    private = status.get("NoNewPrivs") == "1" and not any(
        int(status.get(name, "1"), 16) for name in ("CapEff", "CapPrm", "CapBnd")
    )
    interfaces = {name for name in report.table("/proc/net/dev") if "|" not in name}
    files = (
        ("open files", limits.nofile),
        ("file size", limits.fsize_bytes),
        ("core file size", 0),
    )
    return {
        "memory": _memory(report, limits, own_machine=own_machine),
        "swap": _swap(report, limits),
        "cpus": _cpus(report, limits, own_machine=own_machine),
        "pids": _pids(report, limits),
        "files": "rlimit" if all(_within(report.rlimit(n), most) for n, most in files) else "",
        "seccomp": "filter" if status.get("Seccomp") == "2" or own_machine else "",
        "privileges": "none" if private else "",
        "network": "none" if interfaces == {"lo"} else "",
        "read-only root": "mount" if _root_is_read_only(report) else "",
    }


def _memory(report: Report, limits: Limits, *, own_machine: bool) -> str:
    group = _number(report.group("memory.max", "memory/memory.limit_in_bytes"))
    if _within(group, limits.memory_bytes):
        return "cgroup"
    total = report.table("/proc/meminfo").get("MemTotal", "").split()
    if own_machine and total and _within(int(total[0]) << 10, limits.memory_bytes):
        return "the machine's size"
    data = report.rlimit("data size")
    return "rlimit, each process" if _within(data, data_limit(limits)) else ""


def _swap(report: Report, limits: Limits) -> str:
    """Swap counts as memory, or there is none to use."""
    if report.table("/proc/meminfo").get("SwapTotal", "").split()[:1] == ["0"]:
        return "there is none"
    if report.group("memory.swap.max") == "0":
        return "cgroup"
    both = _number(report.group("memory/memory.memsw.limit_in_bytes"))
    return "cgroup" if _within(both, limits.memory_bytes) else ""


def _cpus(report: Report, limits: Limits, *, own_machine: bool) -> str:
    words = report.group("cpu.max").split()
    if not words:
        words = [report.group("cpu/cpu.cfs_quota_us"), report.group("cpu/cpu.cfs_period_us")]
    quota, period = (_number(word) for word in (*words, "", "")[:2])
    if quota is not None and period and quota / period <= limits.cpus * 1.01:
        return "cgroup"
    cores = report.files.get("/proc/cpuinfo", "").count("processor\t")
    return "the machine's size" if own_machine and 0 < cores <= max(1, round(limits.cpus)) else ""


def _pids(report: Report, limits: Limits) -> str:
    if _within(_number(report.group("pids.max", "pids/pids.max")), limits.pids):
        return "cgroup"
    return "rlimit" if _within(report.rlimit("processes"), limits.pids) else ""


def _root_is_read_only(report: Report) -> bool:
    roots = [
        words[5].split(",")
        for line in report.files.get("/proc/self/mountinfo", "").splitlines()
        if len(words := line.split()) > 5 and words[4] == "/"
    ]
    return bool(roots) and "ro" in roots[-1]


def _number(word: str) -> int | None:
    """A limit as a number; None if it is unlimited or missing."""
    return int(word) if word.isdigit() else None


def _within(found: int | None, most: int) -> bool:
    return found is not None and found <= most
