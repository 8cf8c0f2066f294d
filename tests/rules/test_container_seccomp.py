"""The system-call filter, run instruction by instruction, and the table of known ways out."""

import struct
from typing import Any

import pytest

from pynchy.container.engines import seccomp
from pynchy.container.engines.escapes import TABLE, known_escapes, parse_version

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
NO_FAMILY = 0x00050061


NO_PROTOCOL = 0x0005005D


def verdict(
    program: bytes, *, arch: int, number: int, argument: int = 0, second: int = 0, third: int = 0
) -> int:
    """What the kernel's BPF machine answers."""
    signed = number - (1 << 32 if number >= 1 << 31 else 0)
    data = struct.pack("<iIQ6Q", signed, arch, 0, argument, second, third, *[0] * 3)
    lines = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    for _ in range(len(lines)):
        code, yes, no, value = lines[at]
        at += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += yes if accumulator == value else no
            case 0x35:
                at += yes if accumulator >= value else no
            case 0x54:
                accumulator &= value
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")
    raise AssertionError("it does not end")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_exactly_the_list_is_denied(machine: str) -> None:
    # threat X10
    program = seccomp.program(machine)
    arch = seccomp.ARCHITECTURES[machine]
    column = list(seccomp.ARCHITECTURES).index(machine)
    denied = {pair[column] for pair in seccomp.DENIED.values()} - {None}
    clone, socket = seccomp.CLONE[column], seccomp.SOCKET[column]
    for family in range(50):
        expected = ALLOW if family in seccomp.FAMILIES else NO_FAMILY
        assert verdict(program, arch=arch, number=socket, argument=family) == expected, family
    for protocol in range(40):  # of what the kernel can be asked: addresses and routes alone
        said = verdict(program, arch=arch, number=socket, argument=16, second=3, third=protocol)
        assert said == (NO_PROTOCOL if protocol else ALLOW), protocol
        assert verdict(program, arch=arch, number=socket, argument=2, third=protocol) == ALLOW
    lease = seccomp.FCNTL[column]
    assert verdict(program, arch=arch, number=lease, argument=3, second=1024) == EPERM
    assert verdict(program, arch=arch, number=lease, argument=1024, second=3) == ALLOW
    for number in set(range(600)) - {socket}:
        expected = EPERM if number in denied else ENOSYS if number == seccomp.CLONE3 else ALLOW
        assert verdict(program, arch=arch, number=number) == expected, number
    assert verdict(program, arch=arch, number=clone, argument=0x10000000 | 17) == EPERM
    assert verdict(program, arch=arch, number=clone, argument=0x01200011) == ALLOW


def test_other_numberings_are_no_way_round() -> None:
    program = seccomp.program("x86_64")
    arch = seccomp.ARCHITECTURES["x86_64"]
    assert verdict(program, arch=0x40000003, number=26) == KILL  # i386's ptrace
    assert verdict(program, arch=arch, number=0x40000000 | 101) == KILL  # x32's
    assert seccomp.program("riscv64") == b"", "no filter is said to be none, and doctor says so"


def test_the_calls_that_matter_are_on_the_list() -> None:
    # threat X10, K2
    wanted = {
        "ptrace", "mount", "unshare", "setns", "keyctl", "bpf", "perf_event_open", "userfaultfd",
        "io_uring_setup", "process_vm_readv", "finit_module", "kexec_load", "open_by_handle_at",
    }  # fmt: skip
    assert wanted <= seccomp.DENIED.keys()
    for column in (0, 1):
        numbers = [pair[column] for pair in seccomp.DENIED.values() if pair[column] is not None]
        assert len(set(numbers)) == len(numbers)


def test_an_engines_own_profile_becomes_stricter_and_stays_itself() -> None:
    # threat K5, X10
    allow = ["read", "mount", "keyctl", "unshare", "clone", "clone3", "bpf", "socket"]
    profile: dict[str, Any] = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": ["kept"],
        "syscalls": [
            {"names": allow, "action": "SCMP_ACT_ALLOW", "args": []},
            {
                "names": ["setns"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        ],
    }
    found = seccomp.tighten(profile)
    assert (found["defaultAction"], found["archMap"]) == ("SCMP_ACT_ERRNO", ["kept"])
    free = [rule for rule in found["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW"]
    assert [rule["names"] for rule in free] == [["read"], ["clone"], *[["socket"]] * 4]
    assert [rule["args"][0]["value"] for rule in free[2:]] == [1, 2, 10, 16]
    kernel = {"index": 2, "value": 0, "valueTwo": 0, "op": "SCMP_CMP_EQ"}
    assert free[-1]["args"][1] == kernel
    assert free[1]["args"][0]["value"] & 0x10000000
    denied = [
        name for r in found["syscalls"] if r["action"] == "SCMP_ACT_ERRNO" for name in r["names"]
    ]
    assert sorted(denied) == ["bpf", "clone3", "keyctl", "mount", "setns", "unshare"]
    assert profile["syscalls"][0]["names"] == allow, "the original is as it was"


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        # threat X8
        ({"runc": "1.1.5+ds1"}, ["CVE-2024-21626", "CVE-2025-31133"]),
        ({"runc": "1.1.12"}, ["CVE-2025-31133"]),
        ({"runc": "1.2.8"}, []),
        ({"runc": "1.3.0"}, ["CVE-2025-31133"]),
        ({"runc": "v1.3.3"}, []),
        ({"runc": "1.4.0-rc.2"}, ["CVE-2025-31133"]),
        ({"runc": "1.4.0-rc.3"}, []),
        ({"runc": "1.4.0"}, []),
        ({"runc": "1.0.0-rc6"}, ["CVE-2019-5736", "CVE-2021-30465", "CVE-2024-21626", "CVE-2025-31133"]),
        ({"docker": "20.10.24+dfsg1", "containerd": "1.6.20~ds1", "docker-init": "0.19.0"}, []),
        ({"containerd": "1.5.2"}, ["CVE-2022-23648"]),
        ({"runc": ""}, []),
        ({"bwrap": "0.8.0"}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_old_runtimes_are_named(versions: dict[str, str], found: list[str]) -> None:
    said = known_escapes(versions)
    assert len(said) == len(found)
    for sentence, name in zip(said, found, strict=True):
        assert name in sentence


def test_the_table_can_be_read() -> None:
    for _, _, ranges in TABLE:
        for start, end in ranges:
            first, last = parse_version(start), parse_version(end)
            assert first is not None
            assert last is not None
            assert first < last
    assert parse_version("unknown") is None
