"""Keep the search index in the language of each group.

A few rows at a time, so that others can use the store in between. What was interrupted is completed the next night.
"""

from __future__ import annotations

from pynchy.store import groups, languages, search
from pynchy.store.database import Store, Tx


async def refresh(store: Store) -> int:
    """Make anew what was indexed for another language than its group's; how many texts."""
    await store.call(_guess)
    changed = 0
    for index in search.INDEXES:
        onwards: int | None = 0
        while onwards is not None:
            some, onwards = await store.call(search.refresh, index, onwards=onwards)
            changed += some
    return changed


def _guess(tx: Tx) -> None:
    for group in groups.list_groups(tx):
        languages.guess_anew(tx, group.folder)
