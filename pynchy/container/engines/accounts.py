"""The passwd and group files in a sandbox, so that the agent's user has a name under any uid.

Without them `whoami`, `getpass.getuser()` and `ssh` fail for a uid that an image does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

FILES: Final = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "agent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:{gid}:\nnogroup:x:65534:\n",
}


def write_accounts(folder: Path, user: tuple[int, int]) -> None:
    """Write them into ``folder``; what is right already is left alone, since a sandbox may have it mounted."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    uid, gid = user
    for name, text in FILES.items():
        file, wanted = folder / name, text.format(uid=uid, gid=gid)
        if not file.exists() or file.read_text() != wanted:
            aside = folder / f".{name}"
            aside.write_text(wanted)
            aside.chmod(0o644)
            aside.replace(file)
