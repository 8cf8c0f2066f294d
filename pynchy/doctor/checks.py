"""The checks of `pynchy doctor`: each returns ok, warn or fail, and what to do.

Works with the daemon down, on an empty home and on a broken one. The rule that keeps it so: a check
looks and changes nothing; what may be mended without asking is the check's `Finding.fix`, which runs
only when somebody asked for it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import attrs
import trio

from pynchy.config import environ as environment
from pynchy.config.installation import known_install_id, last_engine
from pynchy.config.paths import MAX_SOCKET_PATH, Home
from pynchy.config.settings import Config
from pynchy.config.sources import ConfigError, from_environ
from pynchy.config.timezone import machine_timezone
from pynchy.container import toolbox
from pynchy.container.engines.choice import open_runtime
from pynchy.container.engines.escapes import known_escapes
from pynchy.container.engines.health import BUILD, advice_on_limits, image_of, spell_loose
from pynchy.container.engines.runtime import Installation, NoRuntime, Runtime, SpawnFailed
from pynchy.container.mounts.allowlist import read_allowlist, real_roots
from pynchy.container.mounts.rules import BadAllowlist
from pynchy.daemon import service_files
from pynchy.daemon.lock import is_held
from pynchy.files import changes
from pynchy.files.disk import Space, space_of, spell_bytes
from pynchy.gateway.exchange import UpstreamUnreachable
from pynchy.gateway.hosts import Destination
from pynchy.gateway.outer_proxy import dial_proxy, open_tunnel, refuses
from pynchy.gateway.policy import Refusal
from pynchy.gateway.prices import PRICED
from pynchy.gateway.upstream import Verdict, credential_of, try_credential
from pynchy.gateway.way import way_of
from pynchy.limits import DOCTOR
from pynchy.store import backup, belonging
from pynchy.store import whatsapp_session as session
from pynchy.store.connection import StoreError, StoreNotOurs, StoreTooNew
from pynchy.voice import parts as voice

BUILT: Final = 1_735_689_600.0  # 2025-01-01: a clock before this program is wrong
SELINUX: Final = Path("/sys/fs/selinux/enforce")
LINGERING: Final = Path("/var/lib/systemd/linger")

Level = Literal["ok", "warn", "fail"]


@attrs.frozen
class Finding:
    """The result of a check. ``advice`` says what to do if it is not ok; ``fix`` does it, safely."""

    level: Level
    what: str
    advice: str = ""
    fix: Callable[[], Awaitable[None]] | None = None


@attrs.frozen
class Patient:
    """The installation that the checks look at. ``config`` is None if unreadable; ``problems`` says why."""

    home: Home
    environ: Mapping[str, str]
    user_home: Path
    config: Config | None
    problems: tuple[str, ...]
    runtime: Runtime | None
    no_runtime: str
    running: bool
    platform: str = sys.platform
    python: tuple[int, ...] = sys.version_info[:3]
    online: bool = False  # whether the network may be used
    now: float = attrs.field(factory=time.time)
    lingering: Path = LINGERING
    selinux: Path = SELINUX
    build: Path = BUILD
    is_installed: Callable[[str], bool] = lambda module: find_spec(module) is not None
    space: Callable[[Path], Space] = space_of
    unwatched: Callable[[], str] = changes.refusal
    tools: Path = attrs.field(factory=toolbox.place)
    lacking: Callable[[], Sequence[toolbox.Lacking]] = toolbox.lacking
    verdict: Verdict | str = ""  # what the model API said to the credential, or why nothing

    @property
    def service_file(self) -> Path | None:
        """Of the service, if it is installed."""
        return service_files.installed(self.user_home, self.environ, platform=self.platform)


async def examine(
    environ: Mapping[str, str], *, user_home: Path, online: bool = False, aside: Path | None = None
) -> Patient:
    """Collect the facts that the checks need. A broken home raises nothing here.

    ``online``: ask the model API whether it accepts the credential. That costs nothing there. ``aside`` is a folder for
    what an engine is given where the home has none yet; the patient's engine needs it as long as it starts containers.
    """
    home = Home.of(environ)
    config: Config | None = None
    problems: tuple[str, ...] = ()
    try:
        config = from_environ(environ)
    except ConfigError as error:
        problems = error.problems
    engine = "auto" if config is None else config.container.engine
    runtime: Runtime | None = None
    refusal = ""
    sandboxes = home.sandboxes
    if not sandboxes.is_dir() or not os.access(sandboxes, os.W_OK):
        sandboxes = aside or Path(tempfile.mkdtemp(prefix="pynchy-doctor-"))
    try:
        runtime = await open_runtime(
            None if engine == "auto" else engine,
            Installation(
                known_install_id(home),
                None if config is None else config.container.image,
                sandboxes,
                environ,
            ),
            last=last_engine(home) if engine == "auto" else None,
        )
    except (NoRuntime, OSError) as error:
        refusal = str(error)
    finally:
        if sandboxes not in (home.sandboxes, aside):
            shutil.rmtree(sandboxes, ignore_errors=True)
    try:
        running = is_held(home.lock)
    except OSError:
        running = False
    patient = Patient(
        home, environ, user_home, config, problems, runtime, refusal, running, online=online
    )
    if not online or config is None or config.credential is None:
        return patient
    return attrs.evolve(patient, verdict=await _ask(config, now=patient.now))


async def _ask(config: Config, *, now: float) -> Verdict | str:
    assert config.credential is not None
    key = credential_of(config.credential.kind, config.credential.secret)
    try:
        base_url, way = config.model.base_url, way_of(config.gateway)
        return await try_credential(key, base_url=base_url, way=way, now=now)
    except UpstreamUnreachable as error:
        return str(error)


async def diagnose(patient: Patient) -> list[tuple[str, Finding]]:
    """Every check's finding, in order. A check that itself fails is a finding, not an end."""
    found = []
    for name, check in CHECKS.items():
        try:
            found.append((name, await check(patient)))
        except Exception as error:
            advice = "this is a bug in the check; the rest stands"
            found.append((name, Finding("fail", f"{type(error).__name__}: {error}", advice)))
    return found


# --- the checks ----------------------------------------------------------------------------------


async def check_python(patient: Patient) -> Finding:
    version = ".".join(map(str, patient.python))
    if patient.python < (3, 11):
        return Finding("fail", version, "install Python 3.11 or newer")
    return Finding("ok", version)


async def check_home(patient: Patient) -> Finding:
    root = patient.home.root
    if not root.exists():
        return Finding("warn", f"there is no {root} yet", "pynchy run makes it", _make(patient))
    if not root.is_dir() or root.stat().st_uid != os.getuid():
        return Finding("fail", f"{root} is not a folder of yours", "set PYNCHY_HOME to one that is")
    if not os.access(root, os.W_OK | os.X_OK):
        return Finding("fail", f"{root} cannot be written", f"chmod u+rwx {root}")
    return Finding("ok", str(root))


def _make(patient: Patient) -> Callable[[], Awaitable[None]]:
    return partial(trio.to_thread.run_sync, patient.home.make)


async def check_folders(patient: Patient) -> Finding:
    home = patient.home
    if not home.root.is_dir():
        return Finding("ok", "none yet")
    ours = (home.store, home.data, home.logs, home.run)
    gone = [path.name for path in ours if not path.is_dir()]
    if gone:
        return Finding("warn", f"missing: {', '.join(gone)}", "pynchy doctor --fix", _make(patient))
    wide = [path.name for path in (home.root, *ours) if path.stat().st_mode & 0o077]
    if wide:
        told = f"others may enter {', '.join(wide)}"
        return Finding("fail", told, "pynchy doctor --fix, or chmod 700 them", _make(patient))
    return Finding("ok", "private")


async def check_config(patient: Patient) -> Finding:
    if patient.problems:
        return Finding("fail", "; ".join(patient.problems), "docs/config.md lists every setting")
    return Finding("ok", "valid")


def _private_file(path: Path) -> Finding:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return Finding("ok", f"there is no {path.name}")
    if mode & 0o077:

        async def close() -> None:
            await trio.Path(path).chmod(0o600)

        return Finding("fail", f"{path} can be read by others", f"chmod 600 {path}", close)
    return Finding("ok", f"{path.name} is private")


async def check_env_file(patient: Patient) -> Finding:
    return _private_file(patient.home.env)


async def check_database_mode(patient: Patient) -> Finding:
    return _private_file(patient.home.database)


async def check_credential(patient: Patient) -> Finding:
    if patient.config is None:
        return Finding("warn", "not known while the configuration is wrong", "fix that first")
    if patient.config.model.offline:
        return Finding("ok", "none needed: model.offline is set")
    if patient.config.credential is None:
        advice = f"put ANTHROPIC_API_KEY=… or CLAUDE_CODE_OAUTH_TOKEN=… into {patient.home.env}"
        return Finding("fail", "there is none", f"pynchy init, or {advice}")
    kind = patient.config.credential.kind
    if not patient.online:
        return Finding("ok", f"{kind}; pynchy doctor --online asks whether it is accepted")
    if isinstance(patient.verdict, str):
        advice = "is the network up, and model.base_url right?"
        return Finding("warn", f"{kind}, not tried: {patient.verdict}", advice)
    status = patient.verdict.status
    if status == 401:
        return Finding("fail", f"{kind}, refused by the API", "make a new one: pynchy init")
    if status >= 300:
        advice = "try pynchy send main hello; its answer says more"
        return Finding("warn", f"{kind}, answered with {status}", advice)
    return Finding("ok", f"{kind}, accepted by the API")


#: Addresses of this machine and of networks like that of a household; no agent may reach them.
INSIDE: Final = ("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1")


async def check_proxy(patient: Patient) -> Finding:
    """See that the proxy answers, lets us to the model API, and refuses agents what is inside."""
    config = patient.config
    if config is None:
        return Finding("warn", "not known while the configuration is wrong", "fix that first")
    if not (proxy := config.gateway.proxy):
        return Finding("ok", "none; gateway.proxy names one, where there has to be")
    way = way_of(config.gateway)
    try:
        await trio.aclose_forcefully(await dial_proxy(way, proxy))
        if not patient.online:
            return Finding("ok", f"{proxy} answers; pynchy doctor --online tries it")
        url = urlsplit(config.model.base_url)
        api = Destination(url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        if way.proxy_for(api.host):
            await trio.aclose_forcefully(await open_tunnel(way, proxy, api))
        tried = [at for at in INSIDE if not await refuses(way, proxy, Destination(at, 443))]
    except Refusal as refusal:
        return Finding("fail", f"{proxy}: {refusal.message}", "is gateway.proxy right?")
    if tried and config.gateway.egress != "none":
        what = f"{proxy} does not refuse {', '.join(tried)}: agents can reach what is there by a name of their own"
        return Finding("warn", what, "let the proxy refuse private addresses")
    return Finding("ok", f"{proxy} lets us out, and refuses what is inside")


async def check_environment(patient: Patient) -> Finding:
    """Look for proxy and certificate variables that other programs use and Pynchy ignores."""
    proxies, certificates = environment.unused(patient.environ)
    if proxies and not (patient.config and patient.config.gateway.proxy):
        socks = any(patient.environ[name].startswith("socks") for name in proxies)
        advice = (
            "gateway.proxy takes the address of an HTTP proxy, no socks one"
            if socks
            else "set gateway.proxy, as http://HOST:PORT"
        )
        return Finding("warn", f"{_and(proxies)} set, but not used", f"{advice}, if one is needed")
    if certificates and not (patient.config and patient.config.gateway.ca_file):
        advice = "set gateway.ca_file, if they are needed"
        return Finding("warn", f"{_and(certificates)} set, but not used", advice)
    return Finding("ok", "nothing that is ignored")


def _and(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'}"


async def check_engine(patient: Patient) -> Finding:
    if patient.runtime is None:
        return Finding("fail", patient.no_runtime, "install one of them, or see container.engine")
    return Finding("ok", f"{patient.runtime.name} answers")


async def check_limits(patient: Patient) -> Finding:
    """The limits that a container really has, which may differ from those requested."""
    if patient.runtime is None:
        return Finding("warn", "not known without an engine", "see engine")
    try:
        held = await patient.runtime.limits_held()
    except SpawnFailed as error:
        return Finding("warn", f"cannot be seen: {error.reason}", "see image")
    if loose := spell_loose(held):
        advice = advice_on_limits(patient.runtime.name, held)
        return Finding("warn", f"not enforced: {loose}", advice)
    each = [name for name, by in held.items() if "each process" in by]
    return Finding("ok", "all enforced" + (f", {each[0]} for each process alone" if each else ""))


async def check_storage(patient: Patient) -> Finding:
    """A driver without layers copies the whole image for each container."""
    if patient.runtime is None or patient.runtime.name == "bwrap":
        return Finding("ok", "not needed" if patient.runtime else "not known without an engine")
    driver = await patient.runtime.storage_driver()
    if driver != "vfs":
        return Finding("ok", driver or "not told")
    place = "~/.config/containers/storage.conf" if patient.runtime.name == "podman" else ""
    told = "vfs: a copy of the whole image for each container, seconds and gigabytes each"
    if not place:
        return Finding("warn", told, "see https://docs.docker.com/engine/storage/drivers/")
    mend = "podman system reset, which removes all of podman's images, and just image podman"
    return Finding("warn", told, f'put [storage] and driver = "overlay" into {place}, then {mend}')


async def check_watching(patient: Patient) -> Finding:
    """Whether the kernel can still watch folders for us; other programs of this user may use up its watches."""
    if why := patient.unwatched():
        advice = "end what watches files, or: sudo sysctl fs.inotify.max_user_instances=1024"
        return Finding(
            "warn", f"the command folders are looked at every second instead: {why}", advice
        )
    return Finding("ok", "by the kernel")


async def check_escapes(patient: Patient) -> Finding:
    if patient.runtime is None:
        return Finding("warn", "not known without an engine", "see engine")
    known = known_escapes(await patient.runtime.versions())
    return Finding("warn", "; ".join(known), "update it") if known else Finding("ok", "none known")


async def check_selinux(patient: Patient) -> Finding:
    """Whether SELinux is enforced: containers then read only labelled files, and ours have no label."""
    runtime = patient.runtime
    if runtime is None or runtime.name not in ("docker", "podman"):
        return Finding("ok", "not needed" if runtime else "not known without an engine")
    try:
        enforced = patient.selinux.read_text(encoding="ascii").strip() == "1"
    except OSError:
        enforced = False
    if not enforced:
        return Finding("ok", "not enforced")
    label = f"chcon -Rt container_file_t {patient.home.root}"
    told = "SELinux is enforced: containers may be refused the folders they are given"
    return Finding("warn", told, f"{label}, and for each mount of yours; or container.engine=bwrap")


async def check_image(patient: Patient) -> Finding:
    """Whether the image's agent is that of this checkout."""
    runtime = patient.runtime
    if runtime is None:
        return Finding("ok", "not known without an engine")
    image = None if patient.config is None else patient.config.container.image
    state = await image_of(runtime, image, build=patient.build, environ=patient.environ)
    match state:
        case "old":
            return Finding("warn", "older than this program", f"just image {runtime.name}")
        case "missing":
            return Finding("warn", "not built yet", f"just image {runtime.name}")
        case "your own":
            return Finding("ok", f"your own: {image}")
    return Finding("ok", state)


def _importable(patient: Patient, module: str, *, purpose: str) -> Finding:
    if not patient.is_installed(module):
        return Finding("fail", f"{module} is not installed", f"install again: {purpose} needs it")
    return Finding("ok", f"{module} is there")


async def check_agent(patient: Patient) -> Finding:
    return _importable(patient, "pynchy_agent", purpose="every container")


async def check_sdk(patient: Patient) -> Finding:
    if patient.runtime is not None and patient.runtime.name != "bwrap":
        return Finding("ok", "in the image")
    return _importable(patient, "claude_agent_sdk", purpose="an agent in bwrap")


async def check_toolbox(patient: Patient) -> Finding:
    """Whether agents have what they make documents with."""
    if patient.runtime is None or patient.runtime.name != "bwrap":
        return Finding("ok", "in the image" if patient.runtime else "not known without an engine")
    match toolbox.state(patient.tools):
        case "missing":
            told = "not installed: agents make no spreadsheets, PDFs or charts"
            return Finding("warn", told, "pynchy toolbox install")
        case "old":
            return Finding("warn", "of another release or Python", "pynchy toolbox install")
    return Finding("ok", str(patient.tools))


async def check_programs(patient: Patient) -> Finding:
    """Which programs of this machine agents in bwrap could use, and lack."""
    if patient.runtime is None or patient.runtime.name != "bwrap":
        return Finding("ok", "in the image" if patient.runtime else "not known without an engine")
    if not (lacking := patient.lacking()):
        return Finding("ok", "all that agents can use")
    told = ", ".join(f"{each.name} ({each.purpose})" for each in lacking)
    packages = " ".join(each.package for each in lacking)
    return Finding("warn", f"not on this machine: {told}", f"apt-get install {packages}")


async def check_disk(patient: Patient) -> Finding:
    place = next(p for p in (patient.home.root, *patient.home.root.parents) if p.exists())
    threshold = (patient.config or Config(home=patient.home)).disk.threshold
    space = patient.space(place)
    room = f"{spell_bytes(space.free)} are free"
    if space.is_short_of_files():
        room = f"{space.files_free} files more can be made"
    if threshold.is_low(space):
        least = spell_bytes(threshold.least(space))
        advice = f"make room: with less than {least} no new run is started (disk.free)"
        return Finding("fail", room, advice)
    if threshold.is_low(space.less(threshold.least(space))):
        return Finding("warn", room, "make room soon")
    return Finding("ok", room)


async def check_clock(patient: Patient) -> Finding:
    """Against this program's age, what was written last and, with ``online``, the API's clock."""
    if patient.now < BUILT:
        return Finding("fail", "the clock is years behind", "set it; TLS and schedules need it")
    told = patient.verdict
    if isinstance(told, Verdict) and told.ahead is not None and abs(told.ahead) > DOCTOR.clock:
        where = "behind" if told.ahead > 0 else "ahead of"
        advice = "timedatectl set-ntp true, or set it by hand"
        return Finding("fail", f"{abs(told.ahead):.0f} s {where} the API's clock", advice)
    if patient.home.log.exists():
        ahead = patient.home.log.stat().st_mtime - patient.now
        if ahead > DOCTOR.clock:
            told_so = f"{ahead:.0f} s behind the last line of the log"
            return Finding("warn", told_so, "is it right? timedatectl set-ntp true keeps it so")
    return Finding("ok", "plausible")


async def check_prices(patient: Patient) -> Finding:
    age = patient.now - datetime(*PRICED.timetuple()[:3], tzinfo=UTC).timestamp()
    if age > DOCTOR.prices:
        return Finding(
            "warn",
            f"what calls cost is reckoned with the prices of {PRICED}",
            "update pynchy; until then budgets and usage in dollars may be wrong: the API's console has the bill",
        )
    return Finding("ok", f"the list prices of {PRICED}")


async def check_timezone(patient: Patient) -> Finding:
    machines = machine_timezone(patient.environ)
    zone = (patient.config and patient.config.assistant.timezone) or machines or "UTC"
    if machines is None and zone == "UTC":
        named = patient.environ.get("TZ", "").removeprefix(":")
        told = f"TZ={named} is no zone" if named else "the machine's cannot be told"
        return Finding("warn", f"{told}; times are in UTC", "set assistant.timezone")
    return Finding("ok", zone)


async def check_database(patient: Patient) -> Finding:
    home = patient.home
    path = home.database
    try:
        belonging.examine(path, home.store_mark, copies=home.backups)
    except StoreNotOurs as error:
        return Finding("fail", str(error), "pynchy restore puts a copy back")
    if not path.exists():
        return Finding("ok", "none yet")
    try:
        schema = await trio.to_thread.run_sync(backup.check, path)
    except StoreTooNew as error:
        return Finding("fail", str(error), "install the newer version again, or pynchy restore")
    except StoreError as error:
        return Finding("fail", str(error), "pynchy restore puts a copy back; see pynchy backup")
    return Finding("ok", f"sound, schema {schema}")


async def check_backups(patient: Patient) -> Finding:
    home = patient.home
    copies = {path: path.stat().st_mtime for path in home.backups.glob("*.db")}
    newest = max(copies, key=copies.__getitem__, default=None)
    if newest is None:
        if home.database.exists():
            return Finding("warn", "there is none", "pynchy backup")
        return Finding("ok", "nothing to copy yet")
    age = patient.now - copies[newest]
    told = f"{len(copies)}, the newest {age // 3600:.0f} h old"
    if not home.database.exists():
        return Finding("warn", f"{told}; the database itself is gone", f"pynchy restore {newest}")
    if age > DOCTOR.backup:
        return Finding("warn", f"the newest is {age // 86400:.0f} days old", "pynchy backup")
    return Finding("ok", told)


async def check_whatsapp(patient: Patient) -> Finding:
    if patient.config is None or not patient.config.whatsapp.enabled:
        return Finding("ok", "not enabled")
    if not patient.is_installed("neonize"):
        return Finding("fail", "enabled, but its library is not installed", "install neonize")
    try:
        account = session.linked(patient.home.store / session.NAME, ours=False)
    except session.Unreadable as error:
        if error.damaged:
            anew = "pynchy auth whatsapp --again (the chats stay)"
            return Finding("fail", f"its session is damaged: {error}", anew)
        return Finding(
            "warn",
            f"whether it is linked cannot be told now: {error}",
            "start Pynchy: it undoes what a kill left half done",
        )
    if account is None:
        return Finding("fail", "enabled, but not linked", "pynchy auth whatsapp")
    return Finding("ok", f"linked as +{account.number.partition(':')[0].partition('@')[0]}")


async def check_voice(patient: Patient) -> Finding:
    """Whether voice notes can be turned into words, as far as what is here tells."""
    config = patient.config
    if config is None or not (config.voice.enabled or config.whatsapp.transcribe):
        switch = "pynchy voice install switches it on"
        return Finding("ok", f"off: voice notes are kept as files; {switch}")
    if config.whatsapp.transcribe:
        folder = config.voice.folder
        if folder is not None and not folder.is_dir():
            return Finding("fail", f"voice.folder: there is no {folder}", "make it, or set another")
        return Finding("ok", f"by your own command, {config.whatsapp.transcribe[0]}")
    if patient.runtime is None:
        return Finding("warn", "not known without an engine", "see engine")
    where = voice.parts_of(patient.home, config.voice, engine=patient.runtime.name)
    if lacking := voice.missing(where, config.voice):
        return Finding("fail", f"voice notes are kept as files: {lacking}", "pynchy voice install")
    return Finding("ok", f"by the model {config.voice.model}, in {patient.runtime.name}")


async def check_allowlist(patient: Patient) -> Finding:
    try:
        found = read_allowlist(patient.home.mount_allowlist)
    except BadAllowlist as error:
        return Finding("fail", f"nothing is mounted: {error}", "pynchy mounts check")
    if found is None:
        return Finding("ok", "none: nothing of this machine is mounted")
    if None in real_roots(found, user_home=patient.user_home):
        return Finding("warn", "a folder it names is not there", "pynchy mounts check")
    return Finding("ok", f"{len(found.roots)} roots")


async def check_control(patient: Patient) -> Finding:
    path = patient.home.control_socket
    if not path.exists():
        if patient.running:
            return Finding("fail", "a daemon runs, but has no socket", "wait, or restart it")
        return Finding("ok", "no daemon, no socket")
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        try:
            caller.connect(str(path))
        except OSError as error:
            if patient.running:
                return Finding("fail", f"the daemon does not answer: {error}", "restart it")
            return Finding("warn", f"{path} is left over", "pynchy doctor --fix", _drop(patient))
    return Finding("ok", "the daemon answers")


def _drop(patient: Patient) -> Callable[[], Awaitable[None]]:
    async def drop() -> None:
        if not is_held(patient.home.lock):  # one may have started since
            patient.home.control_socket.unlink(missing_ok=True)

    return drop


async def check_running(patient: Patient) -> Finding:
    if patient.running:
        return Finding("ok", "a daemon runs on this home")
    unit = patient.service_file
    advice = "pynchy run, or pynchy service install" if unit is None else "pynchy service status"
    return Finding("warn", "no daemon runs on this home", advice)


async def check_orphans(patient: Patient) -> Finding:
    runtime = patient.runtime
    if runtime is None or patient.running:
        return Finding("ok", "the daemon's own" if patient.running else "no engine, no containers")
    left = await runtime.list()
    if not left:
        return Finding("ok", "none")

    async def remove() -> None:
        for name in left:
            if not is_held(patient.home.lock):
                await runtime.remove(name)

    return Finding(
        "warn", f"{len(left)} containers without a daemon", "pynchy doctor --fix", remove
    )


async def check_log(patient: Patient) -> Finding:
    path = patient.home.log
    if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
        return Finding("fail", f"{path} cannot be written", f"chmod u+rw {path}, or move it away")
    return Finding("ok", "can be written")


async def check_service(patient: Patient) -> Finding:
    unit = patient.service_file
    if unit is None:
        return Finding("warn", "not installed: it ends with your session", "pynchy service install")
    return Finding("ok", str(unit))


async def check_linger(patient: Patient) -> Finding:
    unit = patient.service_file
    if patient.platform == "darwin" or unit is None:
        return Finding("ok", "not needed")
    user = patient.environ.get("USER") or str(os.getuid())
    if not await trio.Path(patient.lingering, user).exists():
        return Finding("warn", "the service ends when you log out", "loginctl enable-linger")
    return Finding("ok", "on")


async def check_socket_path(patient: Patient) -> Finding:
    wanted = patient.home.run / "control.sock"
    if len(os.fsencode(wanted)) > MAX_SOCKET_PATH:
        told = (
            f"the path of the home is long, so sockets are in {patient.home.control_socket.parent}"
        )
        return Finding("warn", told, "a shorter PYNCHY_HOME, if something cleans /tmp")
    return Finding("ok", "short enough")


def _checks() -> Iterator[tuple[str, Callable[[Patient], Awaitable[Finding]]]]:
    for name, value in list(globals().items()):
        if name.startswith("check_"):
            yield name.removeprefix("check_").replace("_", " "), value


CHECKS: Final = dict(_checks())
