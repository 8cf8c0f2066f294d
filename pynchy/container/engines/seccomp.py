"""The seccomp filter for bwrap: the system calls that an agent may not make, as a BPF program.

A deny list: what is on it answers EPERM, a foreign architecture or the x32 numbers kill the process; and a short list
of the kinds of sockets there are. The rule that keeps it so: pure, and small enough to be read whole. A test runs
every instruction, and one tries the calls for real.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data (little endian)
_FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 16, 24, 32
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NO_FAMILY: Final = 0x00050061  # EAFNOSUPPORT
_NO_PROTOCOL: Final = 0x0005005D  # EPROTONOSUPPORT
_X32: Final = 0x40000000
_NEW_USER: Final = 0x10000000  # CLONE_NEWUSER

ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture has no such call
DENIED: Final[dict[str, tuple[int, int | None]]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "vhangup": (153, 58),
    "io_setup": (206, 0),  # counted for the whole machine, and nearly nothing uses it
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
}

# Kinds of sockets that one may have: local ones, IP (of which there is no network), and asking the
# kernel for addresses and routes. Others lead out of the namespaces: a vsock reaches the machine below this one, and
# what else the kernel can be asked for (audit, packet filters, IPsec) is much code that no agent needs.
SOCKET: Final = (41, 198)
FAMILIES: Final = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK
_NETLINK, _NETLINK_ROUTE = 16, 0

# A lease on a file holds up whoever opens it for most of a minute, the host too.
FCNTL: Final = (72, 25)
_SET_LEASE: Final = 1024

CLONE: Final = (56, 220)
_CLONES: Final = frozenset({"clone", "clone3"})
CLONE3: Final = 435  # its flags are in memory: ENOSYS, so that libc uses clone


_NEW_ANYTHING: Final = 0x7E020000  # every CLONE_NEW* flag


def tighten(profile: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's own profile, a list of what is allowed, without the calls that we deny.

    podman's allows user namespaces and the kernel's keyrings, which all containers of one uid share.
    """
    rules: list[dict[str, Any]] = []
    taken: set[str] = set()
    refused = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ERRNO"
        for name in rule["names"]
    }
    for rule in profile["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW":
            ours = {name for name in rule["names"] if name in DENIED or name in _CLONES}
            taken |= ours
            ours |= {"socket"} & set(rule["names"])
            rule = {**rule, "names": [name for name in rule["names"] if name not in ours]}
        if rule["names"]:
            rules.append(rule)
    plain = {"args": [], "comment": "", "includes": {}, "excludes": {}}
    only_processes = {"index": 0, "value": _NEW_ANYTHING, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    rules += [
        {
            "names": sorted(taken - refused - _CLONES),
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 1,
            **plain,
        },
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", **plain, "args": [only_processes]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, **plain},
    ]
    rules += [
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", **plain, "args": args}
        for args in _families()
    ]
    return {**profile, "syscalls": rules}


def _families() -> list[list[dict[str, Any]]]:
    """The arguments of `socket` for each kind of socket that is allowed."""
    found = []
    for family in FAMILIES:
        args = [{"index": 0, "value": family, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]
        if family == _NETLINK:
            args.append({"index": 2, "value": _NETLINK_ROUTE, "valueTwo": 0, "op": "SCMP_CMP_EQ"})
        found.append(args)
    return found


def program(machine: str) -> bytes:
    """The filter for this architecture, for bwrap; empty for an unknown one."""
    if machine not in ARCHITECTURES:
        return b""
    column = list(ARCHITECTURES).index(machine)
    denied = sorted(number for pair in DENIED.values() if (number := pair[column]) is not None)
    lines = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [(_JUMP_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    lines += [(_JUMP_EQUAL, 0, 1, CLONE3), (_RETURN, 0, 0, _ENOSYS)]
    lines += [
        (_JUMP_EQUAL, 0, 5, CLONE[column]),  # anything else: on to the list
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_AND, 0, 0, _NEW_USER),
        (_JUMP_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _EPERM),
    ]
    lines += _only_if(SOCKET[column], _sockets())
    lines += _only_if(
        FCNTL[column],
        [
            (_LOAD, 0, 0, _SECOND_ARGUMENT),
            (_JUMP_EQUAL, 0, 1, _SET_LEASE),
            (_RETURN, 0, 0, _EPERM),
            (_RETURN, 0, 0, _ALLOW),
        ],
    )
    for index, number in enumerate(denied):
        lines.append((_JUMP_EQUAL, len(denied) - index, 0, number))  # to the last line
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)]
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


_Line = tuple[int, int, int, int]  # code, how far to jump if it is so, if not, value


def _only_if(number: int, lines: list[_Line]) -> list[_Line]:
    """These instructions for one system call alone. Every path through them ends in a verdict."""
    return [(_JUMP_EQUAL, 0, len(lines), number), *lines]


def _sockets() -> list[_Line]:
    plain = [family for family in FAMILIES if family != _NETLINK]
    lines: list[_Line] = [(_LOAD, 0, 0, _FIRST_ARGUMENT)]
    for index, family in enumerate(plain):
        lines.append((_JUMP_EQUAL, len(plain) - index + 4, 0, family))  # to the last line
    return [
        *lines,
        (_JUMP_EQUAL, 1, 0, _NETLINK),
        (_RETURN, 0, 0, _NO_FAMILY),
        (_LOAD, 0, 0, _THIRD_ARGUMENT),
        (_JUMP_EQUAL, 1, 0, _NETLINK_ROUTE),
        (_RETURN, 0, 0, _NO_PROTOCOL),
        (_RETURN, 0, 0, _ALLOW),
    ]
