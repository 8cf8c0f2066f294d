"""What a container is started with: every argv, read back as its engine would read it."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pynchy.container.engines.submounts import parse_mount_points, submounts_of
from pynchy.container.spec import (
    BadSpec,
    HostTree,
    Limits,
    Mount,
    Podman,
    Spec,
    apple_argv,
    bwrap_args,
    check_target,
    client_environ,
    container_env,
    docker_argv,
    mount_field,
    podman_argv,
)

USER = (1000, 1000)


def a_spec(**changes: Any) -> Spec:
    spec = Spec(
        name="pynchy-0a1b2c3d-0123456789abcdef",
        run="0123456789abcdef",
        install="0a1b2c3d",
        image="localhost/agent@sha256:00",
        mounts=(
            Mount(Path("/h/groups/family"), "/workspace/group", writable=True),
            Mount(Path("/h/groups/global"), "/workspace/global"),
            Mount(Path("/h/sessions/family/.claude"), "/home/agent/.claude", writable=True),
            Mount(Path("/h/settings.json"), "/home/agent/.claude/settings.json"),
        ),
        gateway_dir=Path("/h/run/gw/0123456789abcdef"),
        env={"TZ": "Europe/Berlin"},
    )
    return attrs.evolve(spec, **changes)


# --- the engines' own reading of our words ---------------------------------------------------------


def parse_mount(field: str) -> dict[str, str]:
    """docker's rules for --mount: one CSV record, each field a key or key=value, keys without case."""
    (record,) = list(csv.reader([field], strict=True))
    parsed: dict[str, str] = {}
    for item in record:
        key, _, value = item.partition("=")
        key = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}.get(
            key.lower(), key.lower()
        )
        assert key not in parsed, f"{key} twice in {field}"
        parsed[key] = value
    return parsed


def flags_of(argv: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The joined flags of ``docker run``, and what follows them: the image and its command."""
    flags: dict[str, list[str]] = {}
    rest = list(argv[2:])
    while rest[0].startswith("-"):
        name, _, value = rest.pop(0).partition("=")
        flags.setdefault(name, []).append(value)
    return flags, rest


def parse_bwrap(args: list[str]) -> Iterator[tuple[str, ...]]:
    """bwrap's options, each with as many words as bwrap takes for it."""
    words = {
        "--uid": 1, "--gid": 1, "--hostname": 1, "--cap-drop": 1, "--setenv": 2, "--proc": 1,
        "--dev": 1, "--perms": 1, "--size": 1, "--tmpfs": 1, "--symlink": 2, "--ro-bind": 2,
        "--bind": 2, "--chdir": 1, "--remount-ro": 1, "--unshare-user": 0, "--unshare-pid": 0,
        "--unshare-ipc": 0, "--unshare-uts": 0, "--unshare-net": 0, "--unshare-cgroup-try": 0,
        "--disable-userns": 0, "--die-with-parent": 0, "--new-session": 0, "--clearenv": 0,
    }  # fmt: skip
    rest = iter(args)
    for option in rest:
        yield (option, *(next(rest) for _ in range(words[option])))


HOST = HostTree(
    trees=((Path("/usr"), "/usr"), (Path("/venv"), "/venv")),
    links=(("usr/bin", "/bin"),),
    path=("/venv/bin", "/usr/bin"),
    python_path=("/src/agent",),
    masked=("/proc/keys",),
    masked_folders=("/proc/acpi",),
)


# --- the whole list of flags -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_every_flag_that_contains_an_agent_is_there(engine: str) -> None:
    # threat X1 X2 X3 X7 M9, gateway.md "what a container is started with"
    spec = a_spec()
    argv = (
        docker_argv(spec, user=USER)
        if engine == "docker"
        else podman_argv(spec, user=USER, machine=Podman(rootless=False, nproc=32768))
    )
    flags, rest = flags_of(argv)
    assert rest == [spec.image, "/opt/pynchy/bin/python", "-I", "-m", "pynchy_agent"]
    once = {
        "--pull": "never", "--log-driver": "none", "--name": spec.name, "--network": "none",
        "--ipc": "none", "--hostname": "agent", "--cap-drop": "ALL", "--user": "1000:1000",
        "--security-opt": "no-new-privileges", "--pids-limit": "512", "--cpus": "1.5",
        "--memory": str(2 << 30), "--memory-swap": str(2 << 30), "--stop-timeout": "5",
        "--workdir": "/", "--read-only": "", "--init": "", "--rm": "", "-i": "",
    }  # fmt: skip
    assert {name: flags.get(name) for name in once} == {n: [v] for n, v in once.items()}
    assert set(flags["--label"]) == {"pynchy.install=0a1b2c3d", "pynchy.run=0123456789abcdef"}
    assert {"nofile=4096:4096", "core=0:0", f"fsize={1 << 30}:{1 << 30}"} <= set(flags["--ulimit"])
    places = {f.partition(":")[0]: set(f.partition(":")[2].split(",")) for f in flags["--tmpfs"]}
    assert places.keys() == {"/tmp", "/home/agent", "/dev/shm"}
    for options in places.values():
        assert {"rw", "nosuid", "nodev", f"size={512 << 20}"} <= options
    forbidden = {"--privileged", "--cap-add", "--device", "--pid", "--userns", "-v", "--volume"}
    assert not forbidden & flags.keys()
    assert not any("unconfined" in value for values in flags.values() for value in values)


@pytest.mark.parametrize("engine", [docker_argv, apple_argv, bwrap_args])
def test_an_agents_configuration_is_new_each_time(engine: Any) -> None:
    # threat L14: what it wrote there would be read by the next run
    kept = Mount(Path("/h/sessions/family/.claude/projects"), "/home/agent/.claude/projects", True)
    more = {"host": HOST} if engine is bwrap_args else {}
    argv = engine(a_spec(mounts=(kept,)), user=USER, **more)
    made = [str(word) for word in argv if "/home/agent/.claude" in str(word)]
    assert made[0].partition(":")[0].removeprefix("--tmpfs=") == "/home/agent/.claude"


def test_podman_adds_its_own() -> None:
    flags, _ = flags_of(
        podman_argv(a_spec(), user=(1001, 1001), machine=Podman(rootless=True, nproc=4096))
    )
    assert flags["--userns"] == ["keep-id"]
    assert flags["--http-proxy"] == ["false"]
    assert flags["--read-only-tmpfs"] == ["false"]  # threat X2
    assert "nproc=4096:4096" in flags["--ulimit"]
    argv = podman_argv(
        a_spec(), user=USER, machine=Podman(rootless=False, nproc=1, seccomp=Path("/h/profile"))
    )
    assert flags_of(argv)[0]["--security-opt"] == ["no-new-privileges", "seccomp=/h/profile"]


def test_docker_never_passes_a_proxy_of_its_own_configuration_on() -> None:
    # threat K1: ~/.docker/config.json may hold proxies with passwords
    flags, _ = flags_of(docker_argv(a_spec(), user=USER))
    assert {"HTTP_PROXY=", "https_proxy=", "ALL_PROXY="} <= set(flags["--env"])


def test_apple_gets_the_nearest_of_each() -> None:
    argv = apple_argv(a_spec(), user=(501, 20))
    pairs = set(itertools.pairwise(argv))
    wanted = {
        ("--network", "none"), ("--cap-drop", "ALL"), ("-u", "501:20"), ("-m", "2048M"),
        ("-c", "2"), ("--ulimit", "nproc=512:512"), ("-l", "pynchy.install=0a1b2c3d"),
        ("-v", "/h/run/gw/0123456789abcdef/gateway.sock:/run/pynchy/gateway.sock"),
        ("--mount", "type=bind,source=/h/groups/global,target=/workspace/global,readonly"),
    }  # fmt: skip
    assert wanted <= pairs
    assert {"--read-only", "--no-dns", "--init", "--rm", "-i"} <= set(argv)


def test_bwrap_gets_the_nearest_of_each() -> None:
    options = list(parse_bwrap(bwrap_args(a_spec(), host=HOST, user=USER)))
    alone = {o[0] for o in options if len(o) == 1}
    assert alone == {
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net",
        "--unshare-cgroup-try", "--disable-userns", "--die-with-parent", "--new-session",
        "--clearenv",
    }  # fmt: skip
    assert ("--ro-bind", "/proc/sys", "/proc/sys") in options
    assert ("--ro-bind", "/dev/null", "/proc/keys") in options
    covered = options.index(("--tmpfs", "/proc/acpi"))
    assert options[covered + 1] == ("--remount-ro", "/proc/acpi")
    assert options[-1] == ("--remount-ro", "/"), "bwrap makes no place in a read-only root"
    assert ("--cap-drop", "ALL") in options
    assert ("--ro-bind", "/h/run/gw/0123456789abcdef", "/run/pynchy") in options
    writable = {o[2] for o in options if o[0] == "--bind"}
    assert writable == {"/workspace/group", "/home/agent/.claude"}
    env = {o[1]: o[2] for o in options if o[0] == "--setenv"}
    assert env["PATH"] == "/venv/bin:/usr/bin"
    assert (
        "PYTHONPATH" not in env
    )  # threat L16: where it starts nothing is looked for in the environment
    assert options[-2] == ("--chdir", "/")
    own = bwrap_args(a_spec(command=("python3", "x.py")), host=HOST, user=USER)
    assert own[own.index("PYTHONPATH") - 1 :][:3] == ["--setenv", "PYTHONPATH", "/src/agent"]
    assert env["TZ"] == "Europe/Berlin"


def test_mounts_come_after_what_they_lie_in() -> None:
    spec = a_spec()
    reordered = attrs.evolve(spec, mounts=tuple(reversed(spec.mounts)))
    for one in (spec, reordered):
        options = [o[-1] for o in parse_bwrap(bwrap_args(one, host=HOST, user=USER))]
        inner = options.index("/home/agent/.claude/settings.json")
        assert options.index("/home/agent") < options.index("/home/agent/.claude") < inner
    (outer, nested, place) = spec.nested()[0]
    assert outer.target == "/home/agent/.claude"
    assert nested.target.endswith("settings.json")
    assert str(place) == "settings.json"


MOUNTINFO = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:36 / /srv/photos/My\\040Disk rw,nosuid shared:9 - tmpfs none rw
41 40 0:37 / /srv/photos/My\\040Disk/b\\134c rw - fuse.sshfs me@there: rw
42 22 0:38 / /srv/photos-of-others rw - tmpfs none rw
43 22 0:39 / /h/groups/work/disk rw - tmpfs none rw
"""


def test_what_is_mounted_below_a_read_only_mount_gets_a_mount_of_its_own() -> None:
    # threat M11
    points = parse_mount_points(MOUNTINFO)
    photos = Mount(Path("/srv/photos"), "/workspace/extra/photos")
    spec = a_spec(mounts=(photos, Mount(Path("/h/groups/work"), "/workspace/group", writable=True)))
    disk, deeper = Path("/srv/photos/My Disk"), Path("/srv/photos/My Disk/b\\c")
    assert submounts_of(spec.mounts, points) == (disk, deeper)
    fields = flags_of(docker_argv(attrs.evolve(spec, submounts=(disk, deeper)), user=USER))[0]
    outer, *below = (f for f in fields["--mount"] if "/workspace/extra" in f)
    assert outer == "type=bind,source=/srv/photos,target=/workspace/extra/photos,readonly"
    assert below == [
        f"type=bind,source={at},target=/workspace/extra/photos/{at.relative_to('/srv/photos')},readonly"
        for at in (disk, deeper)
    ]


def test_a_mount_of_ours_is_not_covered_by_what_the_host_has_there() -> None:
    outer = Mount(Path("/srv/photos"), "/workspace/extra/photos")
    mask = Mount(Path("/empty"), "/workspace/extra/photos/.ssh")
    spec = a_spec(mounts=(outer, mask), submounts=(Path("/srv/photos/.ssh"),))
    fields = flags_of(docker_argv(spec, user=USER))[0]["--mount"]
    assert [f for f in fields if "/.ssh" in f] == [
        "type=bind,source=/empty,target=/workspace/extra/photos/.ssh,readonly"
    ]


def test_a_submount_that_would_need_quoting_is_refused() -> None:
    outer = Mount(Path("/srv/photos"), "/workspace/extra/photos")
    spec = a_spec(mounts=(outer,), submounts=(Path("/srv/photos/a,readonly=false"),))
    with pytest.raises(BadSpec, match="comma"):
        docker_argv(spec, user=USER)


def test_certificates_of_the_owner_are_where_programs_look() -> None:
    spec = a_spec(certificates=Path("/var/pynchy/certificates.pem"))
    env = container_env(spec)
    assert env["REQUESTS_CA_BUNDLE"] == env["NODE_EXTRA_CA_CERTS"] == "/opt/certificates.pem"
    bind = "type=bind,source=/var/pynchy/certificates.pem,target={},readonly"
    usual = "/etc/ssl/certs/ca-certificates.crt"
    for argv in (
        docker_argv(spec, user=USER),
        podman_argv(spec, user=USER, machine=Podman(False, 9)),
    ):
        for place in ("/opt/certificates.pem", usual):
            assert f"--mount={bind.format(place)}" in argv
    assert bind.format("/opt/certificates.pem") in apple_argv(spec, user=USER)
    for trusted, places in (
        (usual, ["/opt/certificates.pem", usual]),
        ("", ["/opt/certificates.pem"]),
    ):
        args = bwrap_args(spec, host=HostTree((), (), (), certificates=trusted), user=USER)
        at = [n for n, word in enumerate(args) if word == "/var/pynchy/certificates.pem"]
        assert [(args[n - 1], args[n + 1]) for n in at] == [
            ("--ro-bind", place) for place in places
        ]
    assert not any("certificates" in word for word in docker_argv(a_spec(), user=USER))
    with pytest.raises(BadSpec):
        a_spec(certificates=Path("certificates.pem"))


def test_nothing_of_ours_is_secret_in_the_environment() -> None:
    # invariant 93, 101, 142, 143
    env = container_env(a_spec())
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["CLAUDE_CONFIG_DIR"] == "/home/agent/.claude"
    assert not [name for name in env if "KEY" in name or "TOKEN" in name]


def test_a_client_sees_only_what_it_needs_to_find_its_engine() -> None:
    # threat K1 K2
    environ = {
        "PATH": "/bin", "HOME": "/h", "DOCKER_HOST": "unix:///d", "ANTHROPIC_API_KEY": "canary",
        "HTTPS_PROXY": "http://u:canary@p", "LD_PRELOAD": "x.so", "CONTAINERS_CONF": "/c",
    }  # fmt: skip
    assert client_environ(environ) == {
        "PATH": "/bin", "HOME": "/h", "DOCKER_HOST": "unix:///d", "CONTAINERS_CONF": "/c",
        "LC_ALL": "C",
    }  # fmt: skip


def test_an_agent_is_never_root() -> None:
    # invariant 102
    with pytest.raises(BadSpec):
        docker_argv(a_spec(), user=(0, 0))
    with pytest.raises(BadSpec):
        apple_argv(a_spec(), user=(0, 20))
    with pytest.raises(BadSpec):
        bwrap_args(a_spec(), host=HOST, user=(0, 0))
    with pytest.raises(BadSpec):
        podman_argv(a_spec(), user=(0, 0), machine=Podman(rootless=True, nproc=1))


# --- what may not become an argument -----------------------------------------------------------------

# threat M5, invariant 146
BAD_TARGETS = [
    "", "/", "x", "relative/x", "/workspace/../etc", "/workspace/.", "/workspace//x",
    "/workspace/extra/a:b", "/workspace/extra/a,source=/", "/workspace/extra/x,readonly=false",
    "/workspace/extra/x:rw", '/workspace/extra/"', "/workspace/extra/a=b", "/workspace/extra/\n",
    "/workspace/extra/é", "/app/", "/etc", "/etc/passwd", "/run/pynchy", "/run/pynchy/x", "/proc/1",
    "/usr/bin", "/dev/shm", "/sys/fs", "/tmp", "/home/agent", "/lib64/x", "/x\0y",
    "/workspace/" + "a" * 600,
]  # fmt: skip


@pytest.mark.parametrize("target", BAD_TARGETS)
def test_a_mount_goes_only_to_a_plain_place(target: str) -> None:
    with pytest.raises(BadSpec):
        check_target(target)
    with pytest.raises(BadSpec):
        Mount(Path("/h/x"), target)


@pytest.mark.parametrize("source", ["/", "relative", "/a/../b", "/a\nb", "/a\x1bb", "/a\u2028b"])
def test_a_mount_comes_only_from_a_real_path(source: str) -> None:
    with pytest.raises(BadSpec):
        Mount(Path(source), "/workspace/extra/x")


@pytest.mark.parametrize("source", ["/a,b", '/a"b', "/x,target=/etc", "/x,readonly=false"])
def test_a_source_that_would_need_quoting_is_refused_where_engines_disagree_on_it(
    source: str,
) -> None:
    mount = Mount(Path(source), "/workspace/extra/x")
    with pytest.raises(BadSpec):
        mount_field(mount)
    args = bwrap_args(a_spec(mounts=(mount,)), host=HOST, user=USER)
    assert ("--ro-bind", source, "/workspace/extra/x") in list(parse_bwrap(args))


@pytest.mark.parametrize(
    "change",
    [
        # threat M1 M9 M10, invariant 150
        {"name": "-rf"},
        {"name": "--privileged"},
        {"name": "a b"},
        {"name": "A"},
        {"name": ""},
        {"name": "a" * 64},
        {"name": "a\n"},
        {"run": "x"},
        {"install": "1,2"},
        {"run": ""},
        {"image": "-v/:/h"},
        {"image": ""},
        {"image": "a b"},
        {"image": "a\nb"},
        {"command": ()},
        {"command": ("",)},
        {"command": ("--privileged",)},
        {"command": ("a\0",)},
        {"env": {"A B": "x"}},
        {"env": {"": "x"}},
        {"env": {"A=B": "x"}},
        {"env": {"A": "x\ny"}},
        {"env": {"A": "\0"}},
        {"workdir": "x"},
        {"workdir": "/a/../b"},
        {"gateway_dir": Path("rel")},
        {"gateway_dir": Path("/a\nb")},
        {"mounts": (Mount(Path("/a"), "/workspace/x"), Mount(Path("/b"), "/workspace/x"))},
        {"mounts": (Mount(Path("/a"), "/workspace/x"), Mount(Path("/b"), "/workspace/x/y", True))},
    ],
)
def test_a_spec_refuses_what_is_not_plain(change: dict[str, object]) -> None:
    with pytest.raises(BadSpec):
        a_spec(**change)


@pytest.mark.parametrize("change", [{"pids": 0}, {"cpus": 0.0}, {"memory_bytes": -1}])
def test_limits_are_positive(change: dict[str, float]) -> None:
    with pytest.raises(BadSpec):
        Limits(**change)  # type: ignore[arg-type]


def test_without_an_image_an_engine_of_images_has_nothing_to_run() -> None:
    with pytest.raises(BadSpec):
        docker_argv(a_spec(image=None), user=USER)


# --- any typed value at all ------------------------------------------------------------------------

text = st.text(max_size=30)
sources = st.lists(text.filter(lambda t: "/" not in t), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
places = st.one_of(text, st.from_regex(r"(/[A-Za-z0-9._,=:\"-]{1,8}){1,4}", fullmatch=True))


@given(source=sources, target=places, writable=st.booleans())
@example(source="/a,readonly=false", target="/workspace/x", writable=False)
@example(source='/a"', target="/workspace/x", writable=False)
@example(source="/a=b,c", target="/workspace/x,source=/", writable=True)
def test_a_mount_is_refused_or_means_what_it_says(source: str, target: str, writable: bool) -> None:
    # threat M5
    try:
        field = mount_field(Mount(Path(source), target, writable))
    except (BadSpec, ValueError):
        return
    parsed = parse_mount(field)
    wanted = {"type": "bind", "source": str(Path(source)), "target": target}
    if not writable:
        wanted["readonly"] = ""
    assert parsed == wanted


@given(
    env=st.dictionaries(text, text, max_size=4),
    command=st.lists(text, max_size=4).map(tuple),
    image=text,
    name=text,
)
@example(env={"A": "--privileged"}, command=("sh", "--privileged"), image="i", name="n")
def test_no_word_of_a_spec_becomes_a_flag(
    env: dict[str, str], command: tuple[str, ...], image: str, name: str
) -> None:
    # threat M9 M10
    try:
        spec = a_spec(env=env, command=command, image=image, name=name)
    except BadSpec:
        return
    plain, _ = flags_of(docker_argv(a_spec(env={}), user=USER))
    flags, rest = flags_of(docker_argv(spec, user=USER))
    assert flags.keys() == plain.keys()
    assert rest == [image, *command]  # an empty word stays one
    assert flags["--name"] == [name]
    assert set(flags["--env"]) >= {f"{k}={v}" for k, v in env.items()}
    options = list(parse_bwrap(bwrap_args(spec, host=HOST, user=USER)))
    ours = list(parse_bwrap(bwrap_args(a_spec(env={}), host=HOST, user=USER)))
    assert [o for o in options if o[0] != "--setenv"] == [o for o in ours if o[0] != "--setenv"]
