"""The heads of the modules, which `just map` prints, read as a guide."""

import re

from tests.architecture.map import every_module, guide, head_of


def heads() -> dict[str, str]:
    """What each module says of itself; packages that are only a folder are left out."""
    return {
        name: head_of(module)
        for name, module in every_module().items()
        if module.path.name != "__init__.py" or module.tree.body
    }


def test_every_module_says_what_it_is_for_in_one_line() -> None:
    wrong = {
        name: head
        for name, head in heads().items()
        if not re.fullmatch(r"[A-Z`].*\.(?: # invariant \d+)?", head)
    }
    assert wrong == {}, "the first line of a module's docstring is a whole sentence"


def test_no_two_modules_say_the_same_of_themselves() -> None:
    said = list(heads().values())
    assert sorted(head for head in set(said) if said.count(head) > 1) == []


def test_the_map_has_every_module_once_below_its_room() -> None:
    lines = guide()
    assert "pynchy.store" in lines
    room = lines.index("pynchy.store")
    below = [line.split()[0] for line in lines[room + 1 :]]
    assert "database" in below[: below.index("pynchy.text")]
    assert len([line for line in lines if line.startswith("  ")]) == len(heads())
    assert len(set(lines)) == len(lines)


def test_words_narrow_the_map() -> None:
    lines = guide(("splitting",))
    assert [line.split()[0] for line in lines] == ["pynchy.text", "splitting"]
