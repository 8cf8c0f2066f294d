"""The programs, and the servers that they get something from: each a shell script that ends with 0 and says `GOT` if it
has what it wanted."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from tests.internet import Internet, bare_repository

PAGE: Final = "GOT the page"
PYTHONS: Final = ("3.9", "3.10", "3.11", "3.12", "3.13")


@attrs.frozen
class Program:
    """One program. ``host`` is whom it asks; ``needs`` is what has to be on the machine."""

    name: str
    script: str
    host: str = "www.example.org"
    needs: str = ""

    @property
    def is_here(self) -> bool:
        return not self.needs or shutil.which(self.needs) is not None


def programs() -> Iterator[Program]:
    """All that are tried; some are not on this machine."""
    https, http = "https://www.example.org/page.txt", "http://www.example.org/page.txt"
    for scheme, url in (("https", https), ("http", http)):
        yield Program(f"curl {scheme}", f"curl -sS --fail {url}", needs="curl")
        yield Program(f"wget {scheme}", f"wget --tries=1 -nv -O- {url}", needs="wget")
    yield Program("curl, 2 on a line", f"curl -sS --fail {http} {http}", needs="curl")
    yield Program(
        "git",
        "git clone -q https://github.com/notes.git && cat notes/page.txt && cd notes &&"
        " git -c user.name=A -c user.email=a@b commit -q --allow-empty -m more && git push -q",
        host="github.com",
        needs="git",
    )
    for version in PYTHONS:
        python = find_python(version)
        missing = f"python{version}-is-not-here"
        yield Program(f"urllib {version}", _python(python, _URLLIB, https), needs=python or missing)
        yield Program(
            f"pip {version}",
            f"{python} -m pip install --no-cache-dir --disable-pip-version-check --retries 1"
            f" --target lib leaflet && PYTHONPATH=lib {python} -c 'import leaflet'",
            host="pypi.org",
            needs=python or missing,
        )
    ours = sys.executable
    yield Program("urllib http", _python(ours, _URLLIB, http))
    yield Program("requests", _python(ours, "import requests as c; print(c.get(URL).text)", https))
    yield Program("requests http", _python(ours, "import requests as c; r = c.get(URL);"
        " r.raise_for_status(); print(r.text)", http))  # fmt: skip
    yield Program("httpx", _python(ours, "import httpx as c; print(c.get(URL).text)", https))
    yield Program("aiohttp", _python(ours, _AIOHTTP, https))
    for scheme, url in (("https", https), ("http", http)):
        yield Program(f"node fetch {scheme}", _node(_FETCH, url), needs="node")
        yield Program(f"node {scheme}.get", _node(_GET.format(scheme), url), needs="node")
    yield Program(
        "npm",
        "npm install --silent --no-audit --no-fund --fetch-retries=0 --prefix . --cache cache leaflet"
        " --loglevel=error && node -e 'require(\"leaflet\")'",
        host="registry.npmjs.org",
        needs="npm",
    )
    yield Program("apt", _APT.format(scheme="http"), host="deb.debian.org", needs="apt-get")
    yield Program("apt https", _APT.format(scheme="https"), host="deb.debian.org", needs="apt-get")
    yield Program(
        "go",
        "export GOSUMDB=off GOTOOLCHAIN=local GOPATH=$PWD/go GOCACHE=$PWD/cache; go mod init example.org/me &&"
        " go mod download example.com/leaflet@v0.1.0 && cat go/pkg/mod/example.com/leaflet@v0.1.0/leaflet.go",
        host="proxy.golang.org",
        needs="go",
    )
    yield Program("cargo", _CARGO, host="index.crates.io", needs="cargo")


def find_python(version: str) -> str:
    """The path of a Python of that version; "" if there is none."""
    places = [Path(f"/usr/bin/python{version}"), Path(f"/usr/local/bin/python{version}")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places += sorted(pyenv.glob(f"{version}.*/bin/python3"))
    return next((str(each) for each in places if each.exists()), "")


def _python(python: str, code: str, url: str) -> str:
    return f"{python} -W ignore - <<'X'\nURL = {url!r}\n{code}\nX"


_URLLIB: Final = "import urllib.request as c; print(c.urlopen(URL).read().decode())"
_AIOHTTP: Final = """\
import aiohttp, asyncio
async def get():
    async with aiohttp.ClientSession(trust_env=True) as session, session.get(URL) as answer:
        print(await answer.text())
asyncio.run(get())"""


def _node(code: str, url: str) -> str:
    return f"cat >it.js <<'X'\nconst url = '{url}'\n{code}\nX\nnode it.js"


_FETCH: Final = """\
fetch(url).then(async answer => {
  console.log(await answer.text(), answer.statusText)
  process.exitCode = answer.ok ? 0 : 1
}, error => { console.log(error); process.exitCode = 1 })"""
_GET: Final = """\
require('{}').get(url, answer => {{
  answer.setEncoding('utf8').on('data', text => console.log(text, answer.statusMessage))
  process.exitCode = answer.statusCode === 200 ? 0 : 1
}}).on('error', error => {{ console.log(error); process.exitCode = 1 }})"""


_APT: Final = """\
mkdir -p lists/partial archives/partial etc && touch status etc/sources.list
echo 'deb [trusted=yes] {scheme}://deb.debian.org/debian ./' >sources.list
apt-get -qq -o Dir::Etc::sourcelist=$PWD/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::Lists=$PWD/lists \
    -o Dir::State::status=$PWD/status -o Dir::Cache=$PWD -o APT::Sandbox::User= -o Acquire::Retries=0 \
    -o APT::Update::Error-Mode=any -o Acquire::GzipIndexes=false -o Acquire::Languages=none update \
    2>&1 && grep -h Description lists/*Packages"""

_CARGO: Final = """\
mkdir -p src && touch src/lib.rs
printf '[package]\\nname = "me"\\nversion = "0.1.0"\\n[dependencies]\\nleaflet = "0.1"\\n' >Cargo.toml
RUSTUP_HOME=%s CARGO_HOME=$PWD/home CARGO_NET_RETRY=0 cargo fetch -q && cat home/registry/src/*/leaflet-0.1.0/src/lib.rs
""" % os.environ.get("RUSTUP_HOME", Path.home() / ".rustup")  # noqa: UP031 - braces of the shell


# --- what they get ---------------------------------------------------------------------------------


def furnish(net: Internet) -> None:
    """Give the hosts of an internet what the programs ask for."""
    net.page("www.example.org", "page.txt", PAGE + "\n")
    bare_repository(net.site("github.com"), "notes", {"page.txt": PAGE + "\n"})
    wheel = _wheel()
    net.page("files.pythonhosted.org", "leaflet-0.1-py3-none-any.whl", wheel)
    link = "https://files.pythonhosted.org/leaflet-0.1-py3-none-any.whl"
    digest = hashlib.sha256(wheel).hexdigest()
    index = (
        f'<!DOCTYPE html><body><a href="{link}#sha256={digest}">leaflet-0.1-py3-none-any.whl</a>'
    )
    net.page("pypi.org", "simple/leaflet/index.html", index)
    package = _tar({"package/package.json": '{"name": "leaflet", "version": "0.1.0"}',
                    "package/index.js": f'console.log("{PAGE}")'})  # fmt: skip
    net.page("registry.npmjs.org", "leaflet/-/leaflet-0.1.0.tgz", package)
    tarball = "https://registry.npmjs.org/leaflet/-/leaflet-0.1.0.tgz"
    sha = base64.b64encode(hashlib.sha512(package).digest()).decode()
    dist = {"tarball": tarball, "integrity": f"sha512-{sha}"}
    version = {"name": "leaflet", "version": "0.1.0", "dist": dist}
    told = {"name": "leaflet", "dist-tags": {"latest": "0.1.0"}, "versions": {"0.1.0": version}}
    net.page("registry.npmjs.org", "leaflet/index.json", json.dumps(told))
    _apt(net)
    crate = _tar({"leaflet-0.1.0/Cargo.toml": '[package]\nname = "leaflet"\nversion = "0.1.0"\n',
                  "leaflet-0.1.0/src/lib.rs": f"// {PAGE}\n"})  # fmt: skip
    line = {"name": "leaflet", "vers": "0.1.0", "deps": [], "features": {}, "yanked": False}
    line["cksum"] = hashlib.sha256(crate).hexdigest()
    net.page("index.crates.io", "config.json", '{"dl": "https://static.crates.io/crates"}')
    net.page("index.crates.io", "le/af/leaflet", json.dumps(line) + "\n")
    net.page("static.crates.io", "crates/leaflet/0.1.0/download", crate)

    _go(net)


def _go(net: Internet) -> None:
    module, mod = "example.com/leaflet@v0.1.0", "module example.com/leaflet\n"
    files = {f"{module}/go.mod": mod, f"{module}/leaflet.go": f"package leaflet // {PAGE}\n"}
    versions = "example.com/leaflet/@v/v0.1.0"
    net.page("proxy.golang.org", f"{versions}.info", '{"Version": "v0.1.0"}')
    net.page("proxy.golang.org", f"{versions}.mod", mod)
    net.page("proxy.golang.org", f"{versions}.zip", _zip(files))


def _wheel() -> bytes:
    files = {
        "leaflet.py": f"print({PAGE!r})\n",
        "leaflet-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: leaflet\nVersion: 0.1\n",
        "leaflet-0.1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "leaflet-0.1.dist-info/RECORD"
    files[record] = "".join(f"{name},,\n" for name in (*files, record))
    return _zip(files)


def _zip(files: Mapping[str, str]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return whole.getvalue()


def _tar(files: Mapping[str, str]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content.encode()))
    return whole.getvalue()


def _apt(net: Internet) -> None:
    packages = (
        "Package: leaflet\nVersion: 0.1\nArchitecture: all\nMaintainer: a <a@b>\n"
        f"Filename: ./leaflet.deb\nSize: 1\nSHA256: {'0' * 64}\nDescription: {PAGE}\n\n"
    ).encode()
    packed = gzip.compress(packages)
    sums = [
        f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}"
        for name, data in (("Packages", packages), ("Packages.gz", packed))
    ]
    release = "Suite: stable\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n" + "\n".join(sums)
    net.page("deb.debian.org", "debian/Release", release + "\n")
    net.page("deb.debian.org", "debian/Packages", packages)
    net.page("deb.debian.org", "debian/Packages.gz", packed)
