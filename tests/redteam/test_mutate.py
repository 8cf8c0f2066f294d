"""No reader of what others write raises what it does not own to: a small slice of `just fuzz`."""

from __future__ import annotations

import random

from tests.edges.fake_whatsapp import protobufs_alone
from tests.redteam.mutate import attack
from tests.redteam.readers import readers


def test_changed_bytes_are_read_or_refused() -> None:
    # threats L8, S1, N2, M8, P1, D9, I9
    with protobufs_alone():
        for reader in readers():
            taken, wrong = attack(reader, 400, random.Random(reader.name))
            assert wrong == []
            assert taken > 0, f"{reader.name}: nothing gets as far as to be read"
