"""What the owner allows to be mounted, and everything that is not."""

import contextlib
import json
import unicodedata
from pathlib import Path, PurePosixPath

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynchy.container.mounts.rules import (
    NOTHING,
    TEMPLATE,
    Allowlist,
    BadAllowlist,
    Denied,
    Granted,
    Hit,
    KnownPaths,
    MountRequest,
    Root,
    Seen,
    judge,
    judge_all,
    masks,
    parse_allowlist,
)
from pynchy.container.mounts.sensitive import SECRETS, matched_by
from pynchy.container.spec import BadSpec, Mount

ALLOWED = Allowlist((Root("/data/projects", writable=True), Root("/data/papers")))
KNOWN = KnownPaths(
    roots=(Path("/data/projects"), Path("/data/papers")),
    ours=(Path("/data/projects/home/.state"), Path("/opt/app")),
)


def verdict(
    path: str,
    *,
    name: str = "x",
    writable: bool = False,
    real: str | None = None,
    kind: str = "folder",
    main: bool = True,
    allowlist: Allowlist = ALLOWED,
    known: KnownPaths = KNOWN,
) -> Granted | Denied:
    seen = Seen(Path(real or path), kind)
    return judge(
        MountRequest(path, name, writable), seen, allowlist=allowlist, known=known, is_main=main
    )


def test_what_lies_below_a_root_is_granted() -> None:
    found = verdict("/data/projects/site", name="site", writable=True)
    assert found == Granted(Mount(Path("/data/projects/site"), "/workspace/extra/site", True))


def test_no_file_means_nothing() -> None:
    # invariant 145, threat M8
    known = attrs.evolve(KNOWN, roots=())
    assert isinstance(verdict("/data/projects/site", allowlist=NOTHING, known=known), Denied)


def test_writing_needs_a_root_that_allows_it_and_main_where_the_owner_says_so() -> None:
    for found in (
        verdict("/data/papers/a", writable=True),
        verdict("/data/projects/site", writable=True, main=False),
    ):
        assert isinstance(found, Granted)
        assert not found.mount.writable
        assert "read-only" in found.note
    free = attrs.evolve(ALLOWED, non_main_read_only=False)
    found = verdict("/data/projects/site", writable=True, main=False, allowlist=free)
    assert isinstance(found, Granted)
    assert found.mount.writable


@pytest.mark.parametrize(
    "path",
    [
        # threat M3
        "", "site", "./site", "~", "~root/x", "$HOME/x", "/", "/data", "/data/projects",
        "/data/projects/", "/data/projects//x", "/data/projects/./x", "/data/projects/../x",
        "/data/projects/..", "/proc/1", "/sys", "/dev/shm", "/etc", "/var/run/docker.sock",
        "/run/user/1000", "/data/projects/a\nb", "/data/projects/a\u202eb", "/data/projects/a\u200b",
        "/data/projectsx/y", "/home", "/var", "/usr/share", "C:\\x", "/data/projects/\x7f",
    ],
)  # fmt: skip
def test_a_path_is_plain_absolute_and_strictly_below_a_root(path: str) -> None:
    assert isinstance(verdict(path, real=path if path.startswith("/") else "/x"), Denied)


def test_it_is_the_real_path_that_counts() -> None:
    # threat M3, invariant 145 148
    for real in ("/data", "/home/u/.ssh", "/data/projects/site/.ssh", "/opt/other"):
        assert isinstance(verdict("/data/projects/site", real=real), Denied)
    assert isinstance(verdict("/elsewhere/link", real="/data/projects/site"), Granted)


@pytest.mark.parametrize("kind", ["other"])
def test_sockets_and_devices_are_not_mounted(kind: str) -> None:
    assert isinstance(verdict("/data/projects/agent.sock", kind=kind), Denied)
    gone = judge(
        MountRequest("/data/projects/x", "x"), None, allowlist=ALLOWED, known=KNOWN, is_main=True
    )
    assert isinstance(gone, Denied)


@pytest.mark.parametrize(
    "part",
    [
        # threat M4
        ".ssh", ".SSH", ".\u017fsh", ".\uff33\uff33\uff28", ".ssh.", ".ssh ", "id_rsa", "id_rsa.bak", "ID_RSA", ".env",
        ".env.local", ".Env", "prod.env", ".aws", ".password-store", "credentials", "a.PEM", "ca.key",
        ".netrc", ".mozilla", "Google-Chrome", ".config/gcloud", ".CONFIG/GCloud", ".config/systemd",
        ".local/share/keyrings", ".claude", ".claude.json", ".codex", ".envrc", ".envrc.local", "prod.tfstate",
        "prod.tfstate.backup", "prod.tfvars", "prod.auto.tfvars.json", ".htpasswd", "kubeconfig", "home.kubeconfig",
        "service-account.json", "service-account-prod.json", "client_secret_1.apps.json", "wallet.dat", ".electrum",
        "Login Data", ".psql_history", ".fly", ".config/rclone", "wg0.conf", "prod.env.yaml", "secrets.ini",
    ],
)  # fmt: skip
def test_secrets_are_blocked_by_component_whatever_their_case_and_form(part: str) -> None:
    for path in (f"/data/projects/{part}", f"/data/projects/{part}/deeper"):
        assert isinstance(verdict(path), Denied), path
        assert isinstance(verdict("/data/projects/link", real=path), Denied), path


@pytest.mark.parametrize(
    "part",
    [
        # threat M4
        "server.key.bak", "prod.env~", "prod.env.old", "credentials.json.orig", ".netrc.swp", "..netrc.swp", "#.netrc#",
        ".#.netrc", ".htpasswd-1", "id_rsa copy", "Copy of server.key", "server.key (1)", "server.key.gz",
        "server.key.20260101", "server.key.bak.gz", ".claude.json.backup", ".ssh.old", ".aws-backup", "wallet.dat.bak",
    ],
)  # fmt: skip
def test_a_copy_of_a_secret_is_one(part: str) -> None:
    assert isinstance(verdict(f"/data/projects/{part}"), Denied)


@pytest.mark.parametrize(
    "part",
    [".local/bin", ".config/fish", ".git/hooks", ".bashrc", ".vim", "tools", "tools/deeper"],
)
def test_what_the_owners_own_programs_run_is_never_writable(part: str) -> None:
    # threat M4
    known = attrs.evolve(KNOWN, programs=(Path("/data/projects/tools"),))
    found = verdict(f"/data/projects/{part}", writable=True, name="x", known=known)
    assert isinstance(found, Granted)
    assert not found.mount.writable
    assert "read-only: your" in found.note
    around = verdict("/data/projects/site", writable=True, known=known)
    assert isinstance(around, Granted)
    assert around.mount.writable


def test_what_may_only_be_read_is_mounted_over_itself() -> None:
    granted = Granted(Mount(Path("/data/projects/site"), "/workspace/extra/site", True))
    found = masks(
        granted,
        [Hit(PurePosixPath(".git/hooks"), True, secret=False)],
        empty_file=Path("/e/file"),
        empty_folder=Path("/e/folder"),
    )
    assert found == (
        Mount(Path("/data/projects/site/.git/hooks"), "/workspace/extra/site/.git/hooks"),
    )


@pytest.mark.parametrize(
    "part",
    [
        "credentials-demo",
        "my-secrets-app",
        "environment",
        "ssh",
        "keys",
        "config/gcloud",
        "env",
        "signals",
        "README.old",
        "tokenizer.json",
        "monkey",
        "kubeconfigs",
    ],
)
def test_a_name_that_only_contains_a_blocked_one_is_free(part: str) -> None:
    # invariant 148
    assert isinstance(verdict(f"/data/projects/{part}"), Granted)


def test_composed_and_decomposed_names_are_the_same() -> None:
    patterns = (unicodedata.normalize("NFD", "privé"),)
    assert matched_by(["PRIVÉ"], patterns)
    assert matched_by([unicodedata.normalize("NFD", "privé")], ("privé",))


def test_nothing_of_ours_is_above_or_below_a_mount() -> None:
    # threat K7, invariant 144
    for real in (
        "/data/projects/home",
        "/data/projects/home/.state",
        "/data/projects/home/.state/db",
    ):
        assert isinstance(verdict("/data/projects/link", real=real), Denied)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a:b", "a,b", "-a", ".a", "a..b", "a\n", "é", "a" * 64]
)
def test_a_mount_has_a_plain_name(name: str) -> None:
    # threat M5
    assert isinstance(verdict("/data/projects/site", name=name), Denied)


def test_no_source_lies_where_a_container_can_write() -> None:
    # threat M6
    known = attrs.evolve(KNOWN, written=(Path("/data/projects/site"),))
    assert isinstance(verdict("/data/projects/site/sub", known=known), Denied)
    assert isinstance(verdict("/data/projects/site", known=known), Granted)
    known = attrs.evolve(KNOWN, sources=(Path("/data/projects/site/sub"),))
    assert isinstance(verdict("/data/projects/site", writable=True, known=known), Denied)
    assert isinstance(verdict("/data/projects/site", known=known), Granted)


def test_the_wishes_of_one_group_cannot_conflict() -> None:
    # threat M6
    requests = [
        MountRequest("/data/projects/site", "site", writable=True),
        MountRequest("/data/projects/site/sub", "sub"),
        MountRequest("/data/papers/a", "SITE"),
        MountRequest("/data/papers/b", "b"),
    ]
    found = judge_all(
        [(request, Seen(Path(request.path), "folder")) for request in requests],
        allowlist=ALLOWED,
        known=KNOWN,
        is_main=True,
    )
    assert [type(v) for v in found] == [Granted, Denied, Denied, Granted]


def test_a_deeper_root_decides() -> None:
    allowlist = Allowlist((Root("/data", writable=True), Root("/data/papers", writable=False)))
    known = KnownPaths(roots=(Path("/data"), Path("/data/papers")))
    found = verdict("/data/papers/a", writable=True, allowlist=allowlist, known=known)
    assert isinstance(found, Granted)
    assert not found.mount.writable


def test_secrets_inside_are_covered_with_nothing() -> None:
    # threat M4
    granted = Granted(Mount(Path("/data/projects/site"), "/workspace/extra/site", True))
    empty = {"empty_file": Path("/e/file"), "empty_folder": Path("/e/folder")}
    found = masks(
        granted, [Hit(PurePosixPath(".env"), False), Hit(PurePosixPath("a/.ssh"), True)], **empty
    )
    assert found == (
        Mount(Path("/e/file"), "/workspace/extra/site/.env"),
        Mount(Path("/e/folder"), "/workspace/extra/site/a/.ssh"),
    )
    with pytest.raises(BadSpec):
        masks(granted, [Hit(PurePosixPath("odd name,x/.env"), False)], **empty)


# --- the file ----------------------------------------------------------------------------------------


def test_the_template_can_be_read() -> None:
    allowlist = parse_allowlist(TEMPLATE.encode())
    assert allowlist.roots == (Root("~/projects", False, "source code"),)
    assert set(SECRETS) < set(allowlist.blocked)


@pytest.mark.parametrize(
    "document",
    [
        # threat M8, invariant 163
        {"allowedRoot": []}, {"allowedRoots": {}}, {"allowedRoots": ["~/x"]}, {"nonMainReadOnly": 1},
        {"allowedRoots": [{"path": "~/x", "readWrite": True}]}, {"allowedRoots": [{}]},
        {"allowedRoots": [{"path": "x"}]}, {"allowedRoots": [{"path": "~/../x"}]},
        {"allowedRoots": [{"path": "~/x", "allowReadWrite": "yes"}]}, {"blockedPatterns": [""]},
        {"allowedRoots": [{"path": 1}]}, {"blockedPatterns": [1]}, {"blockedPatterns": ["/"]},
    ],
)  # fmt: skip
def test_a_file_that_is_not_exactly_right_allows_nothing(document: object) -> None:
    with pytest.raises(BadAllowlist):
        parse_allowlist(json.dumps(document).encode())


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"\xef\xbb\xbf{}", b'{"a":', b'{"_comment":1,"_comment":2}', b"{" * 5000]
)
def test_a_file_that_is_not_json_allows_nothing(data: bytes) -> None:
    with pytest.raises(BadAllowlist):
        parse_allowlist(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_allowlist_or_a_refusal(data: bytes) -> None:
    with contextlib.suppress(BadAllowlist):
        parse_allowlist(data)


@given(path=st.text(max_size=60), name=st.text(max_size=10), real=st.text(min_size=1, max_size=30))
def test_judging_never_raises_and_grants_only_below_a_root(path: str, name: str, real: str) -> None:
    where = Path("/data/projects", real.replace("\0", ""))
    found = judge(
        MountRequest(path, name),
        Seen(where, "folder"),
        allowlist=ALLOWED,
        known=KNOWN,
        is_main=True,
    )
    if isinstance(found, Granted):
        assert Path("/data/projects") in found.mount.source.parents
