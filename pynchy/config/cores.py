"""Turn core dumps off, because our memory holds the API key.

A crash would leave a core dump, readable by this user and kept by some systems for weeks; and any program of this user
could read our memory while we run. Both are switched off for the process; programs that it starts are not touched,
but for the size of their core files, which is none.
"""

from __future__ import annotations

import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def switch_off() -> None:
    """For good. Costs a few milliseconds."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes  # here: a program that only tells its version needs none

        # Where cores are piped to a program of the system's, the limit alone is not looked at.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
