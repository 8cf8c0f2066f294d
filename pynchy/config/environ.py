"""Decide which environment variables the libraries we use may see.

Libraries read the environment by themselves, and differently: a proxy that one of them cannot use then breaks every
call, far from whoever set it. So what matters is a setting of ours (``gateway.proxy``, ``gateway.ca_file``); httpx is
told not to look, and programs that cannot be told are started without these variables. `pynchy doctor` names those that
are set and not used. The rest is meant to be read: PATH, HOME and XDG_*; TZ; DOCKER_HOST and its kind by the engine's
client alone; NO_COLOR, COLUMNS, TERM, PAGER and EDITOR by the commands of a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PROXIES: Final = (
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
)
CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# What Go, OpenSSL, requests, protobuf, libmagic and neonize would read in the WhatsApp process.
_NOT_FOR_WHATSAPP: Final = frozenset(
    {
        *PROXIES,
        *CERTIFICATES,
        "ANTHROPIC_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "GODEBUG",
        "GOGC",
        "GOMAXPROCS",
        "GOMEMLIMIT",
        "GOTRACEBACK",
        "MAGIC",
        "NETRC",
        "NO_PROXY",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
        "SPHINX",
        "SSLKEYLOGFILE",
        "TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK",
        "no_proxy",
    }
)


def for_whatsapp(
    environ: Mapping[str, str], *, proxy: str, ca_file: Path | None, no_proxy: Sequence[str] = ()
) -> dict[str, str]:
    """The environment of the WhatsApp process: ours, without what its libraries would make of it, and with the
    proxy and the certificates of our settings in the form that Go reads."""
    kept = {name: value for name, value in environ.items() if name not in _NOT_FOR_WHATSAPP}
    if proxy:
        kept |= {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
        kept |= {"NO_PROXY": ",".join(no_proxy)} if no_proxy else {}
    # Empty is unset to Go. It is there all the same: Go looks at the environment that a process was
    # started with, so only what is there can be replaced in it, as a stand-in for WhatsApp does.
    kept["SSL_CERT_FILE"] = "" if ca_file is None else str(ca_file)
    return kept | {"NEONIZE_BOT_TAG": "off"}


def unused(environ: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The variables that name a proxy, and those that name certificates: set, but not used."""
    return (
        [name for name in PROXIES if environ.get(name)],
        [name for name in CERTIFICATES if environ.get(name)],
    )
