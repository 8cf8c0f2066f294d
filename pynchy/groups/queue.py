"""Decide which group runs next: all rules about slots, order and giving way.

`GroupQueue.feed` takes one event, a frozen fact, and returns the decisions that follow from it. It
knows no clock, no task and no database: work waits in rows, and "this group has some" is all it is
told. A group stands in at most two lines, one for tasks and one for messages, at the place of its
first unanswered bell; being told twice changes nothing.

The rules, in the order they are tried whenever anything changes:

1. never more slots taken than there are, and per group at most one run that is not a delegate. With two
   slots or more, one is kept for main's run: all others together leave it free, even while main rests;
2. a delegate takes the slot of the parent that waits for it, so waiting parents cannot lock each
   other out, and none needs a slot of its own;
3. then groups, in turn: who has begun a run in this round comes after all who have not. Within that, tasks
   before messages, each line first come, first served. A round is over when only those wait who had their turn;
4. then delegates, in slots that no group waits for, and in so few that one more group can begin beside
   main and theirs. Of several groups' delegates the group with the fewest at work comes first;
5. a slot is never free while somebody could use it under these rules;
6. an idle run gives way as soon as somebody waits for a slot or its own group has a task due; a
   busy one never does. A run that nobody has spoken to yet (pre-warmed) gives way first, and main's never
   to others. For a delegate no run gives way whose group has any: it would take what it asked for with it;
7. in slots that nobody wants, while no run works, up to ``prewarm`` runs are begun before anybody
   asks: for the groups that spoke last and have none. What a group said buys it one such run: if
   that ends by itself (idle for too long, broken), there is no other until the group speaks again.

What keeps it so: no import but attrs and the nouns, and a pair that `TRANSITIONS` does not list is
a bug of ours, `IllegalTransition`, on which the daemon falls.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from itertools import islice
from typing import Final, NewType

import attrs

from pynchy.model import MAIN, GroupId

DelegateId = NewType("DelegateId", str)


class IllegalTransition(Exception):
    """An event that cannot happen in this state: a bug of ours, never to be survived."""


class Kind(enum.Enum):
    """What a run is for. A session stays warm for follow-ups; the others end with their turn."""

    SESSION = "session"
    TASK = "task"
    DELEGATE = "delegate"


class Phase(enum.Enum):
    """Where a group's run is. Waiting is not a phase: a group stands in a line or it does not."""

    RESTING = "resting"  # no run
    BUSY = "busy"  # working, or about to look at its rows
    IDLE = "idle"  # warm, and it looked after the last ring and found nothing
    CLOSING = "closing"  # told to end; whatever arrives now is for the next run


# --- events --------------------------------------------------------------------------------------


@attrs.frozen
class Arrived:
    """The group has messages to look at (or a retry of some is due)."""

    group: GroupId


@attrs.frozen
class TaskDue:
    """The group has a task turn to run (or a retry of one is due)."""

    group: GroupId


@attrs.frozen
class Likely:
    """These groups spoke before the queue could know of it, the last one first."""

    groups: tuple[GroupId, ...]


@attrs.frozen
class Outdated:
    """What a run of this group is begun with has changed: one that goes on ends when it is idle."""

    group: GroupId


@attrs.frozen
class Busy:
    """The group's run has taken work."""

    group: GroupId


@attrs.frozen
class Idle:
    """The group's session looked and found nothing to do, and waits for its bell.

    ``heard`` is False while a ring lies in the bell that the run has not taken: it is about to look
    again. ``retry_after``: seconds until a failed turn of it may be tried again.
    """

    group: GroupId
    heard: bool = True
    retry_after: float | None = None


@attrs.frozen
class Ended:
    """The group's run is over and its container is gone.

    ``again``: its last look may have left work of its kind behind, so another run must look.
    """

    group: GroupId
    again: bool = False
    retry_after: float | None = None


@attrs.frozen
class Paused:
    """Start nothing for this group until `Resumed`; its place in line is kept."""

    group: GroupId


@attrs.frozen
class Resumed:
    group: GroupId


@attrs.frozen
class Removed:
    """The group is gone: forget what waits; its run ends as soon as it is not busy."""

    group: GroupId


@attrs.frozen
class DelegateAsked:
    """A run asks for a helper in its own group. ``parent`` is None when the group's run asks, else
    the delegate that does. ``waits``: the parent does nothing until the helper has ended."""

    id: DelegateId
    group: GroupId
    parent: DelegateId | None = None
    waits: bool = True


@attrs.frozen
class DelegateEnded:
    """A delegate's run is over, or the request for one was withdrawn."""

    id: DelegateId


@attrs.frozen
class Held:
    """Start nothing at all for now (the disk is full). Runs go on; no place in line is lost."""


@attrs.frozen
class Released:
    pass


@attrs.frozen
class Draining:
    """The daemon is about to stop: start nothing more, and let every run end when it can."""


Event = (
    Arrived
    | TaskDue
    | Likely
    | Outdated
    | Busy
    | Idle
    | Ended
    | Paused
    | Resumed
    | Removed
    | DelegateAsked
    | DelegateEnded
    | Held
    | Released
    | Draining
)


# --- decisions -----------------------------------------------------------------------------------


@attrs.frozen
class Start:
    """Begin a run. ``delegate`` names the request if it is a delegate's."""

    group: GroupId
    kind: Kind
    delegate: DelegateId | None = None
    prewarm: bool = False


@attrs.frozen
class Ring:
    """Tell the group's live session to look again."""

    group: GroupId


@attrs.frozen
class Close:
    """Ask a run to end: finish what is owed, begin nothing. Said once, it holds until the end.

    ``abandoned``: whoever waited for this delegate's answer is gone, so nothing of it is to be finished.
    """

    group: GroupId
    delegate: DelegateId | None = None
    abandoned: bool = False


@attrs.frozen
class Later:
    """Feed ``event`` back after so many seconds, in place of any earlier promise about it."""

    event: Arrived | TaskDue
    seconds: float


@attrs.frozen
class Drained:
    """No run is left, and none will start."""


Decision = Start | Ring | Close | Later | Drained


# --- the table -----------------------------------------------------------------------------------

#: What an event about a group's run does to its phase. Pairs that are missing cannot happen.
TRANSITIONS: Final[dict[tuple[Phase, type[Event]], Phase]] = {
    (Phase.RESTING, Arrived): Phase.RESTING,
    (Phase.RESTING, TaskDue): Phase.RESTING,
    (Phase.BUSY, Arrived): Phase.BUSY,
    (Phase.BUSY, TaskDue): Phase.BUSY,
    (Phase.BUSY, Busy): Phase.BUSY,
    (Phase.BUSY, Idle): Phase.IDLE,
    (Phase.BUSY, Ended): Phase.RESTING,
    (Phase.IDLE, Arrived): Phase.BUSY,  # it is rung; until it has looked it is not idle
    (Phase.IDLE, TaskDue): Phase.IDLE,
    (Phase.IDLE, Busy): Phase.BUSY,  # the agent spoke on its own
    (Phase.IDLE, Idle): Phase.IDLE,
    (Phase.IDLE, Ended): Phase.RESTING,
    (Phase.CLOSING, Arrived): Phase.CLOSING,
    (Phase.CLOSING, TaskDue): Phase.CLOSING,
    (Phase.CLOSING, Busy): Phase.CLOSING,
    (Phase.CLOSING, Idle): Phase.CLOSING,
    (Phase.CLOSING, Ended): Phase.RESTING,
}


@attrs.define
class _Run:
    """A group's run. ``fresh``: pre-warmed, and nobody has spoken to it yet. ``outdated``: begun with
    what does not hold any more. ``leaving``: its group was removed."""

    kind: Kind
    phase: Phase
    fresh: bool = False
    outdated: bool = False
    leaving: bool = False


@attrs.define
class _Delegate:
    """A request for a helper: ``live`` once started, ``borrowed`` if in its parent's slot."""

    group: GroupId
    parent: DelegateId | None
    waits: bool
    live: bool = False
    borrowed: bool = False
    closing: bool = False


NOT_FOR_DELEGATES: Final = (
    3  # slots: main's, one for the group that asks, one for whoever speaks next
)


def room_for_delegates(capacity: int) -> int:
    """How many delegates of all groups may be at work in slots of their own."""
    return max(0, capacity - NOT_FOR_DELEGATES)


class GroupQueue:
    """The queue of all groups over ``capacity`` slots, with up to ``prewarm`` runs begun unasked."""

    def __init__(self, *, capacity: int, prewarm: int = 0) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: at least one slot is needed")
        self.capacity: Final = capacity
        self.prewarm: Final = prewarm
        self._runs: dict[GroupId, _Run] = {}
        self._idle: dict[GroupId, None] = {}  # longest idle first
        self._messages: dict[GroupId, None] = {}  # in order of arrival
        self._tasks: dict[GroupId, None] = {}
        self._round: set[GroupId] = set()  # had their turn, see rule 3
        self._likely: dict[GroupId, None] = {}  # may have a run unasked; who spoke last is last
        self._delegates: dict[DelegateId, _Delegate] = {}  # asked and not ended, in that order
        self._paused: set[GroupId] = set()
        self._held = False
        self._draining = False
        self._drained = False

    # --- what others may see ---

    def phase(self, group: GroupId) -> Phase:
        run = self._runs.get(group)
        return Phase.RESTING if run is None else run.phase

    def kind(self, group: GroupId) -> Kind | None:
        """What the group's live run is for, None if it has none."""
        run = self._runs.get(group)
        return None if run is None else run.kind

    @property
    def slots(self) -> int:
        """How many slots are taken: one for each run, but none for a delegate in its parent's."""
        return len(self._runs) + self._own_delegates()

    def waiting(self) -> tuple[Start, ...]:
        """What would start next, in order, were there slots enough."""
        return (*self._groups_line(), *self._delegates_line())

    # --- events in, decisions out ---

    def feed(self, event: Event) -> list[Decision]:
        """Take one event and say what is to be done about it, in order."""
        decisions = list(self._take(event))
        decisions += self._fill()
        decisions += self._give_way()
        decisions += self._warm_up()
        if self._draining and not self._drained and not self._runs and not self._any_delegate():
            self._drained = True
            decisions.append(Drained())
        return decisions

    def _take(self, event: Event) -> Iterator[Decision]:
        match event:
            case Arrived(group):
                self._remember([*(each for each in self._likely if each != group), group])
                yield from self._arrived(group)
            case TaskDue(group):
                self._move(group, event)
                self._tasks.setdefault(group)
            case Busy(group):
                self._move(group, event)
                self._runs[group].fresh = False
            case Idle(group):
                yield from self._went_idle(event)
            case Ended(group):
                yield from self._ended(event)
            case Likely(groups):
                older = (each for each in reversed(groups) if each not in self._likely)
                self._remember([*older, *self._likely])
            case Outdated(group):
                if group in self._runs:
                    self._runs[group].outdated = True
            case Paused(group):
                self._paused.add(group)
            case Resumed(group):
                self._paused.discard(group)
                if group in self._messages:
                    yield from self._arrived(group)
            case Removed(group):
                self._messages.pop(group, None)
                self._tasks.pop(group, None)
                self._paused.discard(group)
                self._likely.pop(group, None)
                self._round.discard(group)
                if group in self._runs:
                    self._runs[group].leaving = True
            case DelegateAsked():
                self._asked(event)
            case DelegateEnded(id):
                yield from self._delegate_ended(id)
            case Held():
                self._held = True
            case Released():
                self._held = False
            case Draining():
                yield from self._drain()

    def _move(self, group: GroupId, event: Event) -> None:
        """Carry out the table for ``group``."""
        phase = self.phase(group)
        after = TRANSITIONS.get((phase, type(event)))
        if after is None:
            raise IllegalTransition(f"{event} while {phase.name}")
        run = self._runs.get(group)
        if run is None:
            return
        if after is Phase.RESTING:
            del self._runs[group]
        else:
            run.phase = after
        if after is Phase.IDLE:
            self._idle.setdefault(group)
        else:
            self._idle.pop(group, None)

    def _arrived(self, group: GroupId) -> Iterator[Decision]:
        self._messages.setdefault(group)
        run = self._runs.get(group)
        if run is None or run.kind is not Kind.SESSION or run.phase is Phase.CLOSING:
            return
        if run.leaving or group in self._paused:
            return
        self._move(group, Arrived(group))
        run.fresh = False
        yield Ring(group)

    def _went_idle(self, event: Idle) -> Iterator[Decision]:
        group = event.group
        run = self._runs.get(group)
        if run is not None and run.kind is not Kind.SESSION:
            raise IllegalTransition(f"{event} of a {run.kind.value}")
        if event.retry_after is not None:
            yield Later(Arrived(group), event.retry_after)
        if not event.heard:
            self._move(group, Busy(group))  # about to look: that is not idle
            return
        self._move(group, event)
        run = self._runs[group]
        if run.phase is Phase.IDLE and not run.leaving and group not in self._paused:
            self._messages.pop(group, None)  # it looked after the last ring, and found nothing

    def _ended(self, event: Ended) -> Iterator[Decision]:
        group = event.group
        kind = self.kind(group)
        if kind is Kind.SESSION and self.phase(group) is not Phase.CLOSING:
            self._likely.pop(group, None)  # by itself: another would fare no better
        self._move(group, event)
        mine = self._tasks if kind is Kind.TASK else self._messages
        if event.again:
            mine.setdefault(group)
        if event.retry_after is not None:
            due = TaskDue(group) if kind is Kind.TASK else Arrived(group)
            yield Later(due, event.retry_after)
        yield from self._orphan(group, None)

    # --- delegates ---

    def _asked(self, event: DelegateAsked) -> None:
        if event.id in self._delegates:
            raise IllegalTransition(f"{event} twice")
        parent_lives = (
            event.group in self._runs
            if event.parent is None
            else event.parent in self._delegates and self._delegates[event.parent].live
        )
        if parent_lives and not self._draining:  # else nobody will be there to use the answer
            self._delegates[event.id] = _Delegate(
                group=event.group, parent=event.parent, waits=event.waits
            )

    def _delegate_ended(self, id: DelegateId) -> Iterator[Decision]:
        ended = self._delegates.pop(id, None)
        if ended is not None:
            yield from self._orphan(ended.group, id, heir=ended)

    def _orphan(
        self, group: GroupId, parent: DelegateId | None, heir: _Delegate | None = None
    ) -> Iterator[Decision]:
        """A parent has ended: its requests that have not started are void, its helpers are asked to
        end. One that sits in the parent's slot keeps it until then; if that slot was lent to the
        parent in its turn (``heir`` says so), it is now lent to the helper."""
        for id, each in list(self._delegates.items()):
            if each.group != group or each.parent != parent:
                continue
            if not each.live:
                del self._delegates[id]
                continue
            if each.borrowed and heir is not None and heir.borrowed:
                each.parent = heir.parent
            else:
                each.borrowed = False
            yield from self._close_delegate(id, abandoned=each.waits)

    def _close_delegate(self, id: DelegateId, *, abandoned: bool = False) -> Iterator[Close]:
        each = self._delegates[id]
        if not each.closing:
            each.closing = True
            yield Close(group=each.group, delegate=id, abandoned=abandoned)

    def _any_delegate(self) -> bool:
        return any(each.live for each in self._delegates.values())

    def _own_delegates(self, group: GroupId | None = None) -> int:
        """Delegates in slots of their own, of one group or of all."""
        return sum(
            each.live and not each.borrowed and group in (None, each.group)
            for each in self._delegates.values()
        )

    def _lends(self, each: _Delegate) -> bool:
        """Whether its parent's slot can be had: the parent waits, and no other sits in it."""
        if not each.waits:
            return False
        return not any(
            other.borrowed and other.group == each.group and other.parent == each.parent
            for other in self._delegates.values()
        )

    # --- slots ---

    def _has_its_own(self, group: GroupId) -> bool:
        """Whether a slot is kept that only this group's run takes."""
        return group == MAIN and self.capacity > 1

    def _groups_line(self) -> Iterator[Start]:
        """All groups that could start, in the order in which they should."""
        if self._draining or self._held:
            return
        for had_a_turn in (False, True):
            for kind, line in ((Kind.TASK, self._tasks), (Kind.SESSION, self._messages)):
                for group in line:
                    if (group in self._round) is not had_a_turn:
                        continue
                    if kind is Kind.SESSION and group in self._tasks:
                        continue  # its task goes first
                    if group not in self._runs and group not in self._paused:
                        yield Start(group=group, kind=kind)

    def _others_line(self) -> Iterator[Start]:
        """Those of them that no slot is kept for."""
        return (start for start in self._groups_line() if not self._has_its_own(start.group))

    def _delegates_line(self) -> Iterator[Start]:
        if self._draining or self._held:
            return
        waiting = [(id, each) for id, each in self._delegates.items() if not each.live]
        for id, each in sorted(waiting, key=lambda pair: self._own_delegates(pair[1].group)):
            yield Start(group=each.group, kind=Kind.DELEGATE, delegate=id)

    def _free(self) -> int:
        """Slots that others than main may take."""
        kept = self._has_its_own(MAIN) and MAIN not in self._runs
        return self.capacity - self.slots - kept

    def _next(self) -> Start | None:
        """Who starts now, if anybody can."""
        main = (start for start in self._groups_line() if self._has_its_own(start.group))
        start = next(main, None) if self.slots < self.capacity else None
        if start is not None or self._free() <= 0:
            return start
        if (start := next(self._others_line(), None)) is not None:
            return start
        if self._own_delegates() < room_for_delegates(self.capacity):
            return next(self._delegates_line(), None)
        return None

    def _fill(self) -> Iterator[Decision]:
        """Start all that can start."""
        for id, each in self._delegates.items():
            if not each.live and not self._held and not self._draining and self._lends(each):
                each.live = each.borrowed = True
                yield Start(group=each.group, kind=Kind.DELEGATE, delegate=id)
        while (start := self._next()) is not None:
            self._begin(start)
            yield start

    def _begin(self, start: Start) -> None:
        if start.delegate is not None:
            self._delegates[start.delegate].live = True
            return
        (self._tasks if start.kind is Kind.TASK else self._messages).pop(start.group)
        self._runs[start.group] = _Run(kind=start.kind, phase=Phase.BUSY)
        if self._has_its_own(start.group):
            return  # it stands before nobody
        if start.group in self._round:  # all who wait had their turn: the next round begins
            self._round.clear()
        self._round.add(start.group)

    def _warm_up(self) -> Iterator[Decision]:
        """Begin runs that nobody has asked for. A slot that is still free now is one that nobody wants,
        and the start of a container would slow down whoever works."""
        if not self._likely or self._held or self._draining or self._any_delegate():
            return
        if any(run.phase is Phase.BUSY for run in self._runs.values()):
            return
        if next(self._groups_line(), None) is not None:
            return
        room = self.prewarm - sum(run.fresh for run in self._runs.values())
        for group in list(reversed(self._likely)):
            if group in self._runs or group in self._paused:
                continue
            free = self.capacity - self.slots if group == MAIN else self._free()
            if room > 0 and free > 0:
                room -= 1
                self._runs[group] = _Run(kind=Kind.SESSION, phase=Phase.IDLE, fresh=True)
                self._idle.setdefault(group)
                yield Start(group=group, kind=Kind.SESSION, prewarm=True)

    def _remember(self, likely: list[GroupId]) -> None:
        """Keep as many as can ever be chosen from, all others having runs; none without pre-warming."""
        keep = self.capacity + self.prewarm if self.prewarm else 0
        self._likely = dict.fromkeys(likely[max(0, len(likely) - keep) :])

    def _give_way(self) -> Iterator[Decision]:
        """Close as many idle runs as there are waiters that no slot is or becomes free for."""
        for group in [each for each in self._idle if self._must_leave(each)]:
            yield self._close(group)
        idle = [each for each in self._idle if not self._has_its_own(each)]
        if not idle:
            return
        idle.sort(key=self._worth)
        closing = [
            each
            for each, run in self._runs.items()
            if run.phase is Phase.CLOSING and not self._has_its_own(each)
        ]
        coming = self._free() + len(closing)
        again = sum(
            (each in self._tasks or each in self._messages) and each not in self._paused
            for each in closing
        )
        missing = len(list(islice(self._others_line(), self.capacity))) + again - coming
        for group in idle[: max(0, missing)]:
            yield self._close(group)
        if missing > 0:
            return
        # Nobody of a group waits; what delegates could still use beyond the slots that are free or come.
        room = room_for_delegates(self.capacity) - self._own_delegates()
        wanted = min(room, len(list(self._delegates_line()))) + missing
        asking = {each.group for each in self._delegates.values()}
        for group in [each for each in idle if each not in asking][: max(0, wanted)]:
            yield self._close(group)

    def _worth(self, group: GroupId) -> int:
        """Fresh runs go first, and of them those whose groups spoke longest ago; then the longest
        idle, as they stand."""
        if not self._runs[group].fresh:
            return self.capacity + self.prewarm
        return next((at for at, each in enumerate(self._likely) if each == group), -1)

    def _must_leave(self, group: GroupId) -> bool:
        """Whether this idle run has to end whoever else waits."""
        task = group in self._tasks and not self._held
        run = self._runs[group]
        return task or group in self._paused or run.leaving or run.outdated

    def _close(self, group: GroupId) -> Close:
        self._runs[group].phase = Phase.CLOSING
        self._idle.pop(group, None)
        return Close(group)

    def _drain(self) -> Iterator[Decision]:
        self._draining = True
        for group, run in self._runs.items():
            if run.phase is not Phase.CLOSING:
                yield self._close(group)
        for id, each in list(self._delegates.items()):
            if not each.live:
                del self._delegates[id]
            else:
                yield from self._close_delegate(id)
