"""The user that an agent runs as, and the files that give it a name in a sandbox.

Without a line in passwd `whoami`, `getpass.getuser()` and `ssh` fail for a uid that an image does not know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pynchy.files.writing import keep

_UNDER_ROOT: Final = 1000  # the agent's uid and gid under a root daemon

FILES: Final = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "agent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:{gid}:\nnogroup:x:65534:\n",
}


def agent_user() -> tuple[int, int]:
    """The agent's uid and gid on the host: ours, unless we are root."""
    return (_UNDER_ROOT, _UNDER_ROOT) if os.getuid() == 0 else (os.getuid(), os.getgid())


def write_etc(folder: Path, user: tuple[int, int], files: Mapping[str, str] = FILES) -> Path:
    """Write the files into ``folder/etc`` and return that folder. A file that is right already is left alone, since a
    sandbox may have it mounted."""
    etc = (folder / "etc").absolute()
    etc.mkdir(mode=0o755, parents=True, exist_ok=True)
    uid, gid = user
    for name, text in files.items():
        keep(etc / name, text.format(uid=uid, gid=gid).encode(), mode=0o644)
    return etc
