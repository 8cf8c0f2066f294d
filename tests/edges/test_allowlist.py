"""The allowlist on a real disk: who may have written it, and what real trees hold."""

import os
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from pynchy.container.mounts.allowlist import (
    Unmaskable,
    find_sensitive,
    look,
    read_allowlist,
    real_roots,
)
from pynchy.container.mounts.rules import (
    TEMPLATE,
    Allowlist,
    BadAllowlist,
    Granted,
    KnownPaths,
    MountRequest,
    Root,
    judge,
)
from pynchy.container.mounts.sensitive import SECRETS
from pynchy.files.trees import clear
from tests.edges.test_trees import deep


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mounts.json"
    file.write_text(TEMPLATE)
    file.chmod(0o600)
    return file


def test_a_missing_file_is_none_and_looked_for_again(tmp_path: Path, file: Path) -> None:
    # invariant 147
    missing = tmp_path / "other.json"
    assert read_allowlist(missing) is None
    missing.write_bytes(file.read_bytes())
    missing.chmod(0o600)
    assert read_allowlist(missing) == read_allowlist(file)


def test_what_others_could_have_written_is_refused(tmp_path: Path, file: Path) -> None:
    # threat M8
    link = tmp_path / "link.json"
    link.symlink_to(file)
    fifo = tmp_path / "fifo.json"
    os.mkfifo(fifo)
    large = tmp_path / "large.json"
    large.write_text(" " * (65 << 10))
    open_to_all = tmp_path / "open.json"
    open_to_all.write_text(TEMPLATE)
    for path, mode in ((fifo, 0o600), (large, 0o600), (open_to_all, 0o666)):
        path.chmod(mode)
    for path in (link, fifo, large, open_to_all, tmp_path):
        with pytest.raises(BadAllowlist):
            read_allowlist(path)
    if os.getuid() == 0:
        os.chown(file, 1234, 1234)
        with pytest.raises(BadAllowlist):
            read_allowlist(file)


def test_looking_finds_where_a_path_really_is(tmp_path: Path) -> None:
    # threat M3
    home = tmp_path.resolve()
    (home / "projects" / "site").mkdir(parents=True)
    (home / "link").symlink_to(home / "projects")
    os.mkfifo(home / "projects" / "fifo")
    seen = look("~/link/site", user_home=home)
    assert seen is not None
    assert (seen.real, seen.kind) == (home / "projects" / "site", "folder")
    fifo = look(str(home / "projects" / "fifo"), user_home=home)
    assert fifo is not None
    assert fifo.kind == "other"
    for missing in ("~/nothing", "/proc/self/nothing", "~/a\0b", str(home / "loop")):
        assert look(missing, user_home=home) is None
    (home / "loop").symlink_to(home / "loop")
    assert look(str(home / "loop"), user_home=home) is None


def test_a_link_out_of_a_root_leads_nowhere(tmp_path: Path) -> None:
    # threat M3, M6; invariant 145
    home = tmp_path.resolve()
    (home / "projects").mkdir()
    (home / "private").mkdir()
    (home / "projects" / "out").symlink_to(home / "private")
    (home / "projects" / "in").mkdir()
    allowlist = Allowlist((Root("~/projects"),))
    known = KnownPaths(roots=real_roots(allowlist, user_home=home))
    for name, granted in (("out", False), ("in", True)):
        path = f"~/projects/{name}"
        verdict = judge(
            MountRequest(path, name),
            look(path, user_home=home),
            allowlist=allowlist,
            known=known,
            is_main=True,
        )
        assert isinstance(verdict, Granted) is granted, verdict


def test_secrets_in_a_tree_are_found_and_links_not_followed(tmp_path: Path) -> None:
    # threat M4
    for place in (".env", "app/.ENV.local", "app/main.py", "app/keys/id_rsa.bak", ".ssh/config"):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "away").symlink_to("/")
    (tmp_path / "credentials").symlink_to("/etc/passwd")
    found = [(str(hit.place), hit.folder) for hit in find_sensitive(tmp_path, SECRETS)]
    assert found == [
        (".env", False), (".ssh", True), ("app/.ENV.local", False), ("app/keys/id_rsa.bak", False),
    ]  # fmt: skip
    with pytest.raises(Unmaskable):
        find_sensitive(tmp_path, SECRETS, limit=3)


def test_a_tree_that_cannot_be_searched_to_its_end_is_not_mounted(tmp_path: Path) -> None:
    # threat M4: a secret may lie where nobody looked
    deep(tmp_path / "t", 300)
    with pytest.raises(Unmaskable, match="levels deep"):
        find_sensitive(tmp_path, SECRETS)
    assert clear(tmp_path / "t")


def test_secrets_on_another_disk_in_a_tree_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # threat M4: what is mounted below a folder is mounted with it
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / ".env").touch()
    numbers = count()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda fd: SimpleNamespace(st_dev=next(numbers)))
        found = find_sensitive(tmp_path, SECRETS)
    assert [str(hit.place) for hit in found] == ["disk/.env"]


def test_in_a_tree_that_may_be_written_what_the_owner_runs_may_only_be_read(tmp_path: Path) -> None:
    for place in (".git/hooks/x", ".bashrc", "tools/run", "src/a.py", ".config/fish/token.json"):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = find_sensitive(tmp_path, SECRETS, writable=True, programs=(tmp_path / "tools",))
    assert [(str(hit.place), hit.secret) for hit in found] == [
        (".bashrc", False), (".config/fish", False), (".config/fish/token.json", True),
        (".git/hooks", False), ("tools", False),
    ]  # fmt: skip
    assert [str(hit.place) for hit in find_sensitive(tmp_path, SECRETS)] == [
        ".config/fish/token.json"
    ]
