"""Very many inputs in a short time: honest ones with bytes changed, to each reader of what others write.

Where the properties of hypothesis look for what is said wrongly, this looks for what should not happen at all: an
error that a reader does not own to. It goes by chance alone, but anywhere and at once; `fuzz` is led by what it
reaches, where the library for that is to be had. ``python -m tests.redteam.mutate --inputs 1000000``; a seed brings
a run back.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.edges.fake_whatsapp import protobufs_alone
from tests.hang_guard import limit
from tests.redteam.readers import WORDS, Reader, readers, tried


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The bytes with a few changes: one flipped, some cut, doubled, or words put in."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at = dice.randrange(len(changed) + 1)
        match dice.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at : at + dice.randrange(1, 9)]
            case 2:
                changed[at:at] = changed[at : at + dice.randrange(1, 33)]
            case 3:
                changed[at:at] = dice.choice(WORDS)
            case _:
                changed[at : at + 1] = dice.randbytes(1)
    return bytes(changed)


def attack(reader: Reader, inputs: int, dice: random.Random) -> tuple[int, list[str]]:
    """So many inputs to one reader: how many it took for honest, and what should not have happened."""
    taken, wrong = 0, []
    pool = list(reader.seeds)
    for _ in range(inputs):
        data = mutated(dice.choice(pool), dice)
        outcome = tried(reader, data)
        if isinstance(outcome, BaseException):
            wrong.append(f"{reader.name}: {outcome!r} for {data!r}"[:2000])
            if len(wrong) >= 5:
                break
            continue
        if not outcome:
            continue
        taken += 1
        if len(data) < 2_000:  # what passes is where the next ones begin
            if len(pool) < 200:
                pool.append(data)
            else:
                pool[dice.randrange(len(reader.seeds), 200)] = data
    return taken, wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam.mutate", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all")
    parser.add_argument("--reader", default="", help="only those whose name holds this")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    print(f"seed {seed}")
    sound, total = True, 0
    with protobufs_alone():
        every = [reader for reader in readers() if asked.reader in reader.name]
        if not every:
            parser.error(f"--reader {asked.reader!r}: there is none whose name holds it")
        each = asked.inputs // len(every) + 1
        for reader in every:
            began = time.monotonic()
            with limit(120.0 + each / 100, f"{each} inputs to {reader.name}"):
                taken, wrong = attack(reader, each, random.Random(f"{seed} {reader.name}"))
            total += each
            print(
                f"{reader.name}: {each} inputs, {taken} taken, {time.monotonic() - began:.0f} s",
                flush=True,
            )
            for line in wrong:
                print(f"WRONG: {line}", flush=True)
            sound = sound and not wrong
    print(f"{total} inputs in all")
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
