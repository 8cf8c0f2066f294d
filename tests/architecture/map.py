"""Print the map of the code (`just map`): each room, and each module with its size and its head.

python -m tests.architecture.map [WORD …]     only the modules whose line has all the words
"""

import ast
import sys
from functools import cache
from itertools import groupby

from tests.architecture.house import Module, modules

every_module = cache(modules)


def head_of(module: Module) -> str:
    """The first line of the module's docstring."""
    return (ast.get_docstring(module.tree) or "").split("\n", 1)[0]


def size_of(module: Module) -> int:
    """The lines of the module."""
    return len(module.path.read_text(encoding="utf-8").splitlines())


def guide(words: tuple[str, ...] = ()) -> list[str]:
    """The lines of the map."""
    found: list[str] = []
    shown = [each for each in every_module().values() if head_of(each)]
    shown.sort(key=lambda each: each.name.rpartition(".")[::2])
    for room, inside in groupby(shown, key=lambda each: each.name.rpartition(".")[0]):
        rows = [
            f"  {module.name.rpartition('.')[2]:<18} {size_of(module):>5}  {head_of(module)}"
            for module in inside
        ]
        rows = [
            row for row in rows if all(word.lower() in f"{room} {row}".lower() for word in words)
        ]
        if rows:
            found += [room or "(packages)", *rows]
    return found


if __name__ == "__main__":
    print("\n".join(guide(tuple(sys.argv[1:]))))
