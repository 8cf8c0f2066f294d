"""An internet of a test's own: hosts with public addresses, names and TLS, in a network namespace with nothing else in
it.

What is started `inside` finds the names in its hosts file, reaches the addresses by its own sockets, and trusts the
test's authority as it trusts the machine's own ones. No way leads from there to a real network, nor to the machine's
loopback. So a daemon in it looks names up, checks addresses and dials as it does anywhere:

    with open_internet(tmp_path / "net") as net:
        net.page("www.example.org", "index.html", "<p>hello")
        with running(home, "bwrap", inside=net) as daemon:
            ...
        assert net.seen("www.example.org")[0].path == "/index.html"

A host's pages are the files of a folder, as they are at that moment; so are package indexes, and git repositories to
read and to push to (`tests.internet.bare_repository`). Paths that begin with /- are the same on every host: /-/status/N
answers with that status, /-/to?URL redirects, /-/echo answers with the request, and /-/trickle lets its bytes out one
after the other.
"""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import ipaddress
import json
import mimetypes
import os
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import attrs

HANG: Final = 30.0

#: Names that every such internet has, each with its addresses.
HOSTS: Final[Mapping[str, tuple[str, ...]]] = {
    "www.example.org": ("93.184.216.34",),
    "files.example.org": ("93.184.216.35",),
    "git.example.org": ("93.184.216.36",),
    "both.example.org": ("2606:2800:220:1::37", "93.184.216.37"),
    "other.example.net": ("93.184.216.38",),
    "pypi.org": ("151.101.0.223",),
    "files.pythonhosted.org": ("151.101.0.224",),
    "registry.npmjs.org": ("104.16.0.35",),
    "deb.debian.org": ("151.101.2.132",),
    "proxy.golang.org": ("142.250.74.49",),
    "index.crates.io": ("108.138.85.10",),
    "static.crates.io": ("108.138.85.11",),
    "github.com": ("140.82.121.3",),
    "api.anthropic.com": ("160.79.104.10",),
    # Names that lead to where no agent may go.
    "loopback.example.org": ("127.0.0.1",),
    "router.example.org": ("192.168.1.1",),
    "metadata.example.org": ("169.254.169.254",),
    "partly.example.org": ("93.184.216.39", "10.0.0.5"),
    # A name that only the proxy knows.
    "hidden.example.org": ("93.184.216.40",),
}
_HIDDEN: Final = "hidden."

_MODEL_PORT: Final = 8000
_PROXY_PORT: Final = 3128
_LAX_PROXY_PORT: Final = 3129
_SYSTEM_CERTIFICATES: Final = Path("/etc/ssl/certs")
_BUNDLE: Final = "ca-certificates.crt"


class NoInternet(Exception):
    """This machine does not let us make one; the text says why."""


@attrs.frozen
class Seen:
    """One request as a host saw it."""

    host: str
    method: str
    path: str
    scheme: str  # http, https, or proxy: as the proxy was asked
    version: str
    headers: dict[str, str]  # names in lower case
    connection: int  # the same number for requests on one connection


@attrs.frozen
class Internet:
    """One that stands. Its process ends with the block that opened it."""

    folder: Path
    pid: int

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that all its hosts' certificates come from."""
        return self.folder / "ca.pem"

    @property
    def model_socket(self) -> Path:
        """Where a test may serve a Messages API; it is reached from inside at `model_url`."""
        return self.folder / "model.sock"

    @property
    def model_url(self) -> str:
        return f"http://127.0.0.1:{_MODEL_PORT}"

    @property
    def proxy(self) -> str:
        """An HTTP proxy that refuses what is no public address; for what is inside alone, as all else."""
        return f"http://127.0.0.1:{_PROXY_PORT}"

    @property
    def lax_proxy(self) -> str:
        """Another, which connects to whatever it is asked for."""
        return f"http://127.0.0.1:{_LAX_PROXY_PORT}"

    def command(self, argv: Sequence[str]) -> list[str]:
        """A command line that runs ``argv`` inside, in our working directory and as the same process."""
        user = [] if os.getuid() == 0 else ["--user", "--preserve-credentials"]
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--wd", *user, "--"]
        return [*enter, *argv]

    def site(self, host: str) -> Path:
        """The folder of a host's pages."""
        folder = self.folder / "sites" / host
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def page(self, host: str, path: str, content: str | bytes) -> Path:
        """Put a file where a host serves it."""
        file = self.site(host) / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.new")
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        aside.replace(file)
        return file

    def seen(self, host: str = "") -> list[Seen]:
        """The requests so far, to this host or to all."""
        lines = (self.folder / "seen").read_text(encoding="utf-8").splitlines()
        found = [Seen(**json.loads(line)) for line in lines]
        return [each for each in found if host in ("", each.host)]


@contextmanager
def open_internet(
    folder: Path, hosts: Mapping[str, Sequence[str]] | None = None
) -> Iterator[Internet]:
    """An internet with these hosts besides `HOSTS`, for the length of the block; raises `NoInternet`."""
    known = {**HOSTS, **(hosts or {})}
    folder.mkdir(parents=True)
    (folder / "seen").touch()
    _make_certificates(folder, sorted(known))
    (folder / "hosts.json").write_text(json.dumps(known), encoding="utf-8")
    unshare = ["unshare", "--net", "--mount", "--propagation=private"]
    if os.getuid() != 0:
        unshare += ["--map-current-user", "--keep-caps"]
    try:
        process = subprocess.Popen(
            [*unshare, "--", sys.executable, "-m", "tests.internet", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise NoInternet("unshare (of util-linux) is not installed") from None
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            ready = select.select([process.stdout], [], [], HANG)[0]
            if not ready or process.stdout.readline() != b"ready\n":
                process.kill()
                raise NoInternet(process.stderr.read().decode().strip() or "it does not come up")
            yield Internet(folder, process.pid)
        finally:
            process.kill()


def bare_repository(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """A git repository for a site's folder, with one commit of these files; it can be cloned, and pushed to."""
    work, bare = folder / f".{name}.work", folder / f"{name}.git"

    def git(*words: str) -> None:
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    git("init", "--initial-branch=main", str(work))
    for path, content in files.items():
        file = work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    git("-C", str(work), "add", ".")
    git("-C", str(work), "commit", "--message=first")
    git("clone", "--bare", str(work), str(bare))
    git("-C", str(bare), "config", "http.receivepack", "true")
    shutil.rmtree(work)
    return bare


def _make_certificates(folder: Path, names: Sequence[str]) -> None:
    """An authority, a certificate for all names, and a folder of trusted certificates with ours among them."""
    import trustme  # here: what runs inside does not need it

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf = authority.issue_cert(*names)
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "hosts.pem"))
    trusted = folder / "trusted"
    trusted.mkdir()
    usual = b""
    with suppress(FileNotFoundError):
        usual = (_SYSTEM_CERTIFICATES / _BUNDLE).read_bytes()
    (trusted / _BUNDLE).write_bytes(usual + (folder / "ca.pem").read_bytes())


# --- inside ----------------------------------------------------------------------------------------


def _main(folder: Path) -> None:
    """Set the namespace up, serve, and wait to be killed; end by ourselves if our starter is gone."""
    known: dict[str, list[str]] = json.loads((folder / "hosts.json").read_text(encoding="utf-8"))
    ours = [address for addresses in known.values() for address in addresses]
    bring_up(dict.fromkeys(each for each in ours if each != "127.0.0.1"))
    told = {name: found for name, found in known.items() if not name.startswith(_HIDDEN)}
    lines = [f"{address}\t{name}" for name, found in told.items() for address in found]
    (folder / "hosts").write_text("\n".join(["127.0.0.1\tlocalhost", *lines, ""]), encoding="utf-8")
    (folder / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    _cover(folder / "hosts", Path("/etc/hosts"))
    if Path("/etc/nsswitch.conf").exists():
        _cover(folder / "nsswitch.conf", Path("/etc/nsswitch.conf"))
    if _SYSTEM_CERTIFICATES.is_dir():
        _cover(folder / "trusted", _SYSTEM_CERTIFICATES)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "hosts.pem")
    context.set_alpn_protocols(["http/1.1"])
    log = _Log(folder / "seen")
    for port, tls in ((80, None), (443, context)):
        server = _Server(("", port), folder / "sites", log, tls)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for port, strict in ((_PROXY_PORT, True), (_LAX_PROXY_PORT, False)):
        proxy = _Proxy(port, known, log, strict=strict)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
    model = socket.create_server(("127.0.0.1", _MODEL_PORT))
    threading.Thread(target=_forward, args=(model, folder / "model.sock"), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


_IFREQ: Final = "16sH2s4s8s"
_SIOCSIFADDR, _SIOCSIFFLAGS = 0x8916, 0x8914
_IFF_UP_RUNNING: Final = 0x41


def bring_up(addresses: Mapping[str, None]) -> None:
    """Bring loopback up and give it these addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.pack("16sH14s", b"lo", _IFF_UP_RUNNING, b"")
        fcntl.ioctl(control, _SIOCSIFFLAGS, flags)
        for number, address in enumerate(a for a in addresses if ":" not in a):
            name = b"lo:%d" % number
            packed = socket.inet_aton(address)
            request = struct.pack(_IFREQ, name, socket.AF_INET, b"", packed, b"")
            fcntl.ioctl(control, _SIOCSIFADDR, request)
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        for address in (a for a in addresses if ":" in a):
            packed = socket.inet_pton(socket.AF_INET6, address)
            index = socket.if_nametoindex("lo")
            fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16sIi", packed, 128, index))


def _cover(source: Path, target: Path) -> None:
    """Put ``source`` in the place of ``target``, for this mount namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    bind = 4096
    real = target.resolve()
    if libc.mount(bytes(source), bytes(real), None, ctypes.c_ulong(bind), None):
        raise OSError(ctypes.get_errno(), f"{target} cannot be covered")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _forward(listener: socket.socket, to: Path) -> None:
    """Carry each connection to a unix socket outside."""
    while True:
        inner, _ = listener.accept()
        outer = socket.socket(socket.AF_UNIX)
        try:
            outer.connect(str(to))
        except OSError:
            inner.close()
            outer.close()
            continue
        for ends in ((inner, outer), (outer, inner)):
            threading.Thread(target=_pump, args=ends, daemon=True).start()


class _Log:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connections = 0

    def connection(self) -> int:
        with self._lock:
            self._connections += 1
            return self._connections

    def keep(self, seen: Seen) -> None:
        line = json.dumps(attrs.asdict(seen)) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(
        self, address: tuple[str, int], sites: Path, log: _Log, tls: ssl.SSLContext | None
    ) -> None:
        self.sites, self.log, self.tls = sites, log, tls
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not the library's own, which looks a name up.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "internet", self.server_address[1]

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: one that does not begin TLS holds up nobody else."""
        with suppress(OSError):
            if self.tls is not None:
                request = self.tls.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.number = self.server.log.connection()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = headers.get("host", "").partition(":")[0].lower()
        scheme = "http" if self.server.tls is None else "https"
        self.server.log.keep(
            Seen(host, self.command, self.path, scheme, self.request_version, headers, self.number)
        )
        body = self._body()
        if url.path.startswith("/-/"):
            self._special(url.path.removeprefix("/-/"), url.query, body)
        elif ".git/" in url.path:
            self._git(self.server.sites / host, url.path, url.query, body)
        else:
            self._file(self.server.sites / host, unquote(url.path))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            whole = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return whole
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _file(self, site: Path, path: str) -> None:
        found = site / path.lstrip("/")
        if found.is_dir():
            there = [found / name for name in ("index.html", "index.json")]
            found = next((file for file in there if file.is_file()), found)
        if ".." in found.parts or not found.is_file():
            self._send(404, b"not here\n", content_type="text/plain")
            return
        kind, coding = mimetypes.guess_type(found.name)
        if coding:
            kind = "application/octet-stream"
        self._send(200, found.read_bytes(), content_type=kind or "application/octet-stream")

    def _special(self, what: str, query: str, body: bytes) -> None:
        verb, _, rest = what.partition("/")
        if verb == "status":
            self._send(int(rest), b"as you wish\n", content_type="text/plain")
        elif verb == "to":
            self._send(302, b"", location=unquote(query))
        elif verb == "echo":
            told = {
                "method": self.command,
                "path": self.path,
                "headers": dict(self.headers.items()),
            }
            text = json.dumps({**told, "body": body.decode("latin-1")})
            self._send(200, text.encode(), content_type="application/json")
        elif verb == "trickle":
            self.send_response(200)
            self.send_header("content-length", "20")
            self.end_headers()
            for _ in range(20):
                self.wfile.write(b".")
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self._send(404, b"not here\n", content_type="text/plain")

    def _git(self, site: Path, path: str, query: str, body: bytes) -> None:
        """A repository, by git's own server program."""
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(site),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
                "PATH_INFO": unquote(path),
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_ADDR": "192.0.2.1",
            },
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200").split()[0])
        self._send(status, content, **headers)


class _Proxy(ThreadingHTTPServer):
    """A forward proxy: tunnels, and plain HTTP in absolute form."""

    daemon_threads = True

    def __init__(
        self, port: int, known: Mapping[str, Sequence[str]], log: _Log, *, strict: bool
    ) -> None:
        self.known, self.log, self.strict = known, log, strict
        super().__init__(("127.0.0.1", port), _ProxyHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _ProxyHandler(BaseHTTPRequestHandler):
    server: _Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        self.close_connection = True
        url = urlsplit(f"//{self.path}" if self.command == "CONNECT" else self.path)
        host, port = url.hostname or "", url.port or 80
        headers = {name.lower(): value for name, value in self.headers.items()}
        log = self.server.log
        log.keep(
            Seen(
                host,
                self.command,
                self.path,
                "proxy",
                self.request_version,
                headers,
                log.connection(),
            )
        )
        address = next(iter(self.server.known.get(host, [host])))
        try:
            public = ipaddress.ip_address(address).is_global
        except ValueError:
            self.send_error(502, "Unknown host")
            return
        if self.server.strict and not public:
            self.send_error(403, "Forbidden")
            return
        try:
            remote = socket.create_connection((address, port), timeout=10)
        except OSError:
            self.send_error(503, "Unreachable")
            return
        remote.settimeout(None)
        if self.command == "CONNECT":
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            lines = [
                f"{self.command} {url.path or '/'}{'?' if url.query else ''}{url.query} HTTP/1.1"
            ]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            remote.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        back = threading.Thread(target=_pump, args=(remote, self.connection), daemon=True)
        back.start()
        with suppress(OSError):
            while data := self.rfile.read1():
                remote.sendall(data)
        with suppress(OSError):
            remote.shutdown(socket.SHUT_WR)
        back.join()
        remote.close()

    do_CONNECT = do_GET = do_HEAD = do_POST = do_PUT = answer


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _main(Path(sys.argv[1]))
