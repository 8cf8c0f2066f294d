"""Turn core dumps off, because our memory holds the API key.

A crash would leave a core dump, readable by this user and kept by some systems for weeks; and any program of this user
could read our memory while we run. Both are switched off for this process; its children can be read as usual,
but leave no core files either.
"""

from __future__ import annotations

import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def switch_off() -> None:
    """Turn core dumps off for the life of this process. Takes a few milliseconds."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes  # here: a program that only tells its version needs none

        # Where cores are piped to a program of the system's, the limit alone is not looked at.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
