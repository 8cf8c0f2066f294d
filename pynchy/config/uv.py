"""Find uv, and say to it whom this machine trusts.

The checkout has one of its own beside `just`, which is on nobody's PATH. `requirements/certificates.sh` says the same
to the uv of the shell.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

TOOLS: Final = Path(__file__).parents[2] / ".tools"
#: Where systems keep all certificates in one file: Debian, Fedora, openSUSE, and macOS and Alpine.
STORES: Final = tuple(
    Path(name)
    for name in (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    )
)


def find(environ: Mapping[str, str]) -> str | None:
    """The checkout's own uv, or else the one on the PATH; None if there is neither."""
    return shutil.which("uv", path=f"{TOOLS / 'bin'}:{environ.get('PATH', os.defpath)}")


def trusting(environ: Mapping[str, str], *, stores: Sequence[Path] = STORES) -> dict[str, str]:
    """The environment for uv: it trusts what the machine trusts, if the machine has a store of certificates. By itself
    it trusts a list that it brings, and with an empty store it gives up."""
    if any(each.is_file() and each.stat().st_size for each in stores):
        return {"UV_SYSTEM_CERTS": "1", **environ}
    return {**environ}
