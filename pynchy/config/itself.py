"""The command line that starts a part of this program as its own process.

Python looks for modules in the working directory first, and a person may have started us in a group's folder, where an
agent may have left a `json.py`. So: the same Python, told not to (``-P``), and never without.
"""

from __future__ import annotations

import sys


def argv(module: str, *arguments: str, python: str = sys.executable) -> list[str]:
    """The command line for a module of ours. Where packages are found is as in this process."""
    return [python, "-P", "-m", module, *arguments]
