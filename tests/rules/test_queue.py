"""The queue against a model that knows only what its runs and its groups would know."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pynchy.groups.queue import (
    TRANSITIONS,
    Arrived,
    Busy,
    Close,
    Decision,
    DelegateAsked,
    DelegateEnded,
    DelegateId,
    Drained,
    Draining,
    Ended,
    Event,
    GroupQueue,
    Held,
    Idle,
    IllegalTransition,
    Kind,
    Later,
    Likely,
    Outdated,
    Paused,
    Phase,
    Released,
    Removed,
    Resumed,
    Ring,
    Start,
    TaskDue,
    room_for_delegates,
)
from pynchy.model import MAIN, GroupId

GROUPS = [GroupId(name) for name in ("ant", "bee", "cat", "dog", "eel")]
groups = st.sampled_from([*GROUPS, MAIN])


def closes(decisions: list[Decision]) -> list[Close]:
    return [each for each in decisions if isinstance(each, Close)]


def starts(decisions: list[Decision]) -> list[GroupId]:
    return [each.group for each in decisions if isinstance(each, Start)]


# --- examples that tell the story ----------------------------------------------------------------


def test_a_live_session_is_rung_instead_of_started_twice() -> None:  # invariant 37
    queue = GroupQueue(capacity=5)
    assert queue.feed(Arrived(GROUPS[0])) == [Start(GROUPS[0], Kind.SESSION)]
    assert queue.feed(Arrived(GROUPS[0])) == [Ring(GROUPS[0])]


def test_two_hundred_groups_with_warm_agents_are_all_served() -> None:  # invariant 182; threat X5
    queue = GroupQueue(capacity=6)  # one of them is main's
    many = [GroupId(f"g{number}") for number in range(200)]
    served = [name for each in many for name in starts(queue.feed(Arrived(each)))]
    todo = list(served)
    while todo:
        for close in closes(queue.feed(Idle(todo.pop(0)))):
            begun = starts(queue.feed(Ended(close.group)))
            served += begun
            todo += begun
    assert served == many
    assert queue.slots == 5  # the last ones stay warm


def test_a_message_for_a_run_that_was_told_to_close_starts_the_next_run() -> None:
    # invariants 112, 183
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0]))
    assert queue.feed(Arrived(GROUPS[1])) == [Close(GROUPS[0])]
    assert queue.feed(Arrived(GROUPS[0])) == []
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[1], Kind.SESSION)]
    assert queue.feed(Idle(GROUPS[1])) == [Close(GROUPS[1])]
    assert queue.feed(Ended(GROUPS[1])) == [Start(GROUPS[0], Kind.SESSION)]


def test_a_task_makes_its_own_idle_session_give_way_and_never_a_busy_one() -> None:
    # invariant 89
    queue = GroupQueue(capacity=5)
    queue.feed(Arrived(GROUPS[0]))
    assert queue.feed(TaskDue(GROUPS[0])) == []
    assert queue.feed(Idle(GROUPS[0])) == [Close(GROUPS[0])]
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[0], Kind.TASK)]


def test_messages_are_never_rung_into_a_task_run() -> None:  # invariant 90
    queue = GroupQueue(capacity=5)
    queue.feed(TaskDue(GROUPS[0]))
    assert queue.feed(Arrived(GROUPS[0])) == []
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[0], Kind.SESSION)]


def test_a_running_task_that_falls_due_again_runs_once_more_and_not_twice() -> None:
    # invariant 91
    queue = GroupQueue(capacity=5)
    assert queue.feed(TaskDue(GROUPS[0])) == [Start(GROUPS[0], Kind.TASK)]
    assert queue.feed(TaskDue(GROUPS[0])) == []
    assert queue.feed(TaskDue(GROUPS[0])) == []
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[0], Kind.TASK)]
    assert queue.feed(Ended(GROUPS[0])) == []


def test_a_clean_end_after_an_idle_look_starts_nothing() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0]))
    assert queue.feed(Ended(GROUPS[0])) == []


def test_an_idle_word_that_crossed_a_ring_is_not_idle() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0], heard=False))
    assert queue.phase(GROUPS[0]) is Phase.BUSY
    assert queue.feed(Arrived(GROUPS[1])) == []  # nobody is told to give way


def test_ten_delegates_in_two_slots_with_all_parents_waiting() -> None:
    queue = GroupQueue(capacity=3)
    for group in GROUPS[:2]:
        queue.feed(Arrived(group))
    begun: list[DelegateId] = []

    def take(decisions: list[Decision]) -> None:
        begun.extend(
            each.delegate for each in decisions if isinstance(each, Start) and each.delegate
        )

    for number in range(10):
        take(queue.feed(DelegateAsked(DelegateId(str(number)), GROUPS[number % 2])))
    done = 0
    while done < len(begun):
        assert queue.slots == 2
        take(queue.feed(DelegateEnded(begun[done])))
        done += 1
    assert done == 10


def test_a_helper_of_a_helper_needs_no_slot_of_its_own_while_both_wait() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    first, second = DelegateId("1"), DelegateId("2")
    assert queue.feed(DelegateAsked(first, GROUPS[0])) == [
        Start(GROUPS[0], Kind.DELEGATE, delegate=first)
    ]
    assert queue.feed(DelegateAsked(second, GROUPS[0], parent=first)) == [
        Start(GROUPS[0], Kind.DELEGATE, delegate=second)
    ]
    assert queue.slots == 1


def test_helpers_nobody_waits_for_any_more_are_asked_to_end() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    helper = DelegateId("1")
    queue.feed(DelegateAsked(helper, GROUPS[0]))
    queue.feed(Arrived(GROUPS[1]))
    assert queue.feed(Ended(GROUPS[0])) == [Close(GROUPS[0], delegate=helper, abandoned=True)]
    assert queue.feed(DelegateEnded(helper)) == [Start(GROUPS[1], Kind.SESSION)]


def test_main_gets_a_slot_at_once_whatever_others_hold() -> None:  # invariant 192
    queue = GroupQueue(capacity=3)
    for group in GROUPS:
        queue.feed(Arrived(group))
    assert queue.slots == 2
    assert queue.feed(Arrived(MAIN)) == [Start(MAIN, Kind.SESSION)]
    queue.feed(Idle(MAIN))
    assert queue.phase(MAIN) is Phase.IDLE, "its slot is no use to the others"


def test_mains_slot_is_kept_for_it_while_its_run_closes() -> None:
    queue = GroupQueue(capacity=2)
    queue.feed(Arrived(MAIN))
    queue.feed(Idle(MAIN))
    queue.feed(Arrived(GROUPS[0]))
    assert queue.feed(TaskDue(MAIN)) == [Close(MAIN)]
    queue.feed(Arrived(GROUPS[1]))
    assert queue.feed(Idle(GROUPS[0])) == [Close(GROUPS[0])]
    assert queue.feed(Ended(MAIN)) == [Start(MAIN, Kind.TASK)]


def test_a_single_slot_is_everybodys() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    assert queue.feed(Arrived(MAIN)) == []
    assert queue.feed(Idle(GROUPS[0])) == [Close(GROUPS[0])]
    assert queue.feed(Ended(GROUPS[0])) == [Start(MAIN, Kind.SESSION)]


def test_helpers_leave_room_for_main_and_for_one_more_group() -> None:  # invariant 192
    queue = GroupQueue(capacity=5)
    queue.feed(Arrived(GROUPS[0]))
    for number in range(10):
        queue.feed(DelegateAsked(DelegateId(str(number)), GROUPS[0], waits=False))
    assert queue.slots == 3
    assert queue.feed(Arrived(GROUPS[1])) == [Start(GROUPS[1], Kind.SESSION)]
    assert queue.feed(Arrived(MAIN)) == [Start(MAIN, Kind.SESSION)]


def test_no_helper_stands_before_another_groups_message() -> None:
    queue = GroupQueue(capacity=5)
    for group in GROUPS[:4]:
        queue.feed(Arrived(group))
    queue.feed(DelegateAsked(DelegateId("1"), GROUPS[0], waits=False))
    queue.feed(Arrived(GROUPS[4]))
    assert queue.feed(Ended(GROUPS[3])) == [Start(GROUPS[4], Kind.SESSION)]
    assert queue.feed(Ended(GROUPS[4])) == [
        Start(GROUPS[0], Kind.DELEGATE, delegate=DelegateId("1"))
    ]


def test_of_two_groups_helpers_those_go_first_whose_group_has_fewer() -> None:
    queue = GroupQueue(capacity=5)
    for group in GROUPS[:2]:
        queue.feed(Arrived(group))
    for number in range(3):
        queue.feed(DelegateAsked(DelegateId(str(number)), GROUPS[0], waits=False))
    queue.feed(DelegateAsked(DelegateId("late"), GROUPS[1], waits=False))
    assert queue.feed(DelegateEnded(DelegateId("0"))) == [
        Start(GROUPS[1], Kind.DELEGATE, delegate=DelegateId("late"))
    ]


def test_an_idle_run_does_not_give_way_to_the_helper_it_asked_for() -> None:
    queue = GroupQueue(capacity=4)
    for group in GROUPS[:3]:
        queue.feed(Arrived(group))
    helper = DelegateId("1")
    queue.feed(DelegateAsked(helper, GROUPS[0], waits=False))
    assert queue.feed(Idle(GROUPS[0])) == []
    assert queue.feed(Idle(GROUPS[1])) == [Close(GROUPS[1])]
    assert queue.feed(Ended(GROUPS[1])) == [Start(GROUPS[0], Kind.DELEGATE, delegate=helper)]


def test_a_group_that_always_has_a_task_due_does_not_hold_up_anothers_message() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(TaskDue(GROUPS[0]))
    queue.feed(TaskDue(GROUPS[0]))
    queue.feed(Arrived(GROUPS[1]))
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[1], Kind.SESSION)]
    queue.feed(Arrived(GROUPS[1]))
    assert queue.feed(Ended(GROUPS[1])) == [Start(GROUPS[0], Kind.TASK)]


def test_a_helper_that_nobody_waits_for_finishes_when_its_parent_has_ended() -> None:
    queue = GroupQueue(capacity=4)
    queue.feed(Arrived(GROUPS[0]))
    helper = DelegateId("1")
    queue.feed(DelegateAsked(helper, GROUPS[0], waits=False))
    assert queue.feed(Ended(GROUPS[0])) == [Close(GROUPS[0], delegate=helper)]


def test_a_helper_waits_while_its_siblings_orphan_leaves_the_slot_they_share() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(TaskDue(GROUPS[0]))
    first, second, third = DelegateId("1"), DelegateId("2"), DelegateId("3")
    queue.feed(DelegateAsked(first, GROUPS[0]))
    queue.feed(DelegateAsked(second, GROUPS[0]))
    queue.feed(DelegateAsked(third, GROUPS[0], parent=first))
    assert queue.feed(DelegateEnded(first)) == [Close(GROUPS[0], delegate=third, abandoned=True)]
    assert queue.slots == 1
    assert queue.feed(DelegateEnded(third)) == [Start(GROUPS[0], Kind.DELEGATE, delegate=second)]


def test_a_slot_that_is_lent_on_and_on_comes_back_to_who_waits_for_it() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(TaskDue(GROUPS[0]))
    first, waits, second, third = (DelegateId(each) for each in "1w23")
    queue.feed(DelegateAsked(first, GROUPS[0]))
    queue.feed(DelegateAsked(waits, GROUPS[0]))
    queue.feed(DelegateAsked(second, GROUPS[0], parent=first))
    queue.feed(DelegateAsked(third, GROUPS[0], parent=second))
    assert queue.feed(DelegateEnded(first)) == [Close(GROUPS[0], delegate=second, abandoned=True)]
    assert queue.feed(DelegateEnded(second)) == [Close(GROUPS[0], delegate=third, abandoned=True)]
    assert queue.slots == 1
    assert queue.feed(DelegateEnded(third)) == [Start(GROUPS[0], Kind.DELEGATE, delegate=waits)]


def unasked(group: GroupId) -> Start:
    return Start(group, Kind.SESSION, prewarm=True)


def test_a_prewarmed_run_takes_only_a_free_slot_and_is_given_up_first() -> None:
    queue = GroupQueue(capacity=3, prewarm=2)
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0]))
    assert queue.feed(Likely((GROUPS[1], GROUPS[2]))) == [unasked(GROUPS[1])]
    assert queue.feed(Arrived(GROUPS[3])) == [Close(GROUPS[1])]
    assert queue.feed(Ended(GROUPS[1])) == [Start(GROUPS[3], Kind.SESSION)]


def test_a_prewarmed_run_hears_the_first_word_of_its_group() -> None:
    queue = GroupQueue(capacity=3, prewarm=1)
    assert queue.feed(Likely((GROUPS[0],))) == [unasked(GROUPS[0])]
    assert queue.feed(Arrived(GROUPS[0])) == [Ring(GROUPS[0])]


def test_whoever_spoke_last_has_a_run_again_as_soon_as_slots_are_free() -> None:
    queue = GroupQueue(capacity=1, prewarm=1)
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0]))
    assert queue.feed(TaskDue(GROUPS[1])) == [Close(GROUPS[0])]
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[1], Kind.TASK)]
    assert queue.feed(Ended(GROUPS[1])) == [unasked(GROUPS[0])]


def test_a_prewarmed_run_that_ends_by_itself_is_not_begun_again_until_its_group_speaks() -> None:
    queue = GroupQueue(capacity=3, prewarm=1)
    queue.feed(Likely((GROUPS[0],)))
    assert queue.feed(Ended(GROUPS[0])) == []  # it was idle for too long, or it broke
    assert queue.feed(Released()) == []
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0]))
    assert queue.feed(TaskDue(GROUPS[0])) == [Close(GROUPS[0])]
    assert queue.feed(Ended(GROUPS[0])) == [Start(GROUPS[0], Kind.TASK)]
    assert queue.feed(Ended(GROUPS[0])) == [unasked(GROUPS[0])]


def test_of_prewarmed_runs_the_one_whose_group_spoke_longest_ago_gives_way_first() -> None:
    queue = GroupQueue(capacity=3, prewarm=2)
    begun = starts(queue.feed(Likely((GROUPS[0], GROUPS[1]))))
    assert begun == [GROUPS[0], GROUPS[1]]
    assert queue.feed(Arrived(GROUPS[2])) == [Close(GROUPS[1])]


def test_nothing_is_begun_unasked_while_somebody_works() -> None:
    queue = GroupQueue(capacity=4, prewarm=1)
    queue.feed(Likely((GROUPS[0], GROUPS[1])))
    assert queue.feed(Arrived(GROUPS[0])) == [Ring(GROUPS[0])]
    assert queue.feed(Idle(GROUPS[0])) == [unasked(GROUPS[1])]


def test_changed_settings_end_a_warm_run_at_once() -> None:
    queue = GroupQueue(capacity=3, prewarm=1)
    queue.feed(Likely((GROUPS[0],)))
    assert queue.feed(Outdated(GROUPS[0])) == [Close(GROUPS[0])]
    assert queue.feed(Ended(GROUPS[0])) == [unasked(GROUPS[0])]  # with what holds now


def test_changed_settings_end_a_busy_run_when_it_is_idle() -> None:
    queue = GroupQueue(capacity=3)
    queue.feed(Arrived(GROUPS[1]))
    assert queue.feed(Outdated(GROUPS[1])) == []
    assert queue.feed(Arrived(GROUPS[1])) == [Ring(GROUPS[1])]  # it works, so it is still spoken to
    assert queue.feed(Idle(GROUPS[1])) == [Close(GROUPS[1])]


def test_nobody_is_remembered_without_prewarming() -> None:
    queue = GroupQueue(capacity=1)
    queue.feed(Arrived(GROUPS[0]))
    queue.feed(Idle(GROUPS[0]))
    queue.feed(TaskDue(GROUPS[1]))
    queue.feed(Ended(GROUPS[0]))
    assert queue.feed(Ended(GROUPS[1])) == []


def test_draining_ends_all_and_starts_nothing() -> None:
    queue = GroupQueue(capacity=3)
    for group in GROUPS[:3]:
        queue.feed(Arrived(group))
    assert set(closes(queue.feed(Draining()))) == {Close(GROUPS[0]), Close(GROUPS[1])}
    assert queue.feed(Ended(GROUPS[0])) == []
    assert queue.feed(Ended(GROUPS[1], again=True)) == [Drained()]


@pytest.mark.parametrize("event", [Busy(GROUPS[0]), Idle(GROUPS[0]), Ended(GROUPS[0])])
def test_a_report_without_a_run_is_a_bug(event: Event) -> None:
    with pytest.raises(IllegalTransition, match="while RESTING"):
        GroupQueue(capacity=1).feed(event)


def test_only_a_session_may_be_idle() -> None:  # invariant 88
    queue = GroupQueue(capacity=1)
    queue.feed(TaskDue(GROUPS[0]))
    with pytest.raises(IllegalTransition):
        queue.feed(Idle(GROUPS[0]))


def test_every_phase_can_be_left() -> None:
    for phase in set(Phase) - {Phase.RESTING}:
        assert TRANSITIONS[phase, Ended] is Phase.RESTING


# --- the model -----------------------------------------------------------------------------------


@attrs.define
class Run:
    """What a run knows of itself."""

    group: GroupId
    kind: Kind
    delegate: DelegateId | None = None
    parent: DelegateId | None = None
    waited: bool = False  # its parent waits for it
    borrowed: bool = False  # it is in a slot that is not its own
    orphan: bool = False
    bell: bool = False
    idle: bool = False
    closing: bool = False
    fresh: bool = False  # begun unasked, and nobody has spoken to it
    outdated: bool = False


class Queue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = GroupQueue(capacity=1)
        self.capacity = 1
        self.prewarm = 0
        self.likely: list[GroupId] = []  # who spoke last is last
        self.runs: dict[GroupId | DelegateId, Run] = {}
        self.asked: dict[DelegateId, DelegateAsked] = {}  # not started
        self.messages: list[GroupId] = []  # owed a look, oldest first
        self.tasks: list[GroupId] = []
        self.paused: set[GroupId] = set()
        self.removed: set[GroupId] = set()  # live runs of removed groups
        self.timers: list[Arrived | TaskDue] = []
        self.held = self.draining = self.drained = False
        self.had_a_turn: set[GroupId] = set()
        self.ids = 0

    @initialize(capacity=st.integers(1, 4), prewarm=st.integers(0, 3))
    def begin(self, capacity: int, prewarm: int) -> None:
        self.queue = GroupQueue(capacity=capacity, prewarm=prewarm)
        self.capacity, self.prewarm = capacity, prewarm

    # --- the model's own reading of the rules ---

    def can_start(self, group: GroupId) -> bool:
        return group not in self.runs and group not in self.paused

    def line(self) -> list[tuple[GroupId, Kind]]:
        if self.held or self.draining:
            return []
        tasks = [each for each in self.tasks if self.can_start(each)]
        messages = [each for each in self.messages if self.can_start(each) and each not in tasks]
        both = [(each, Kind.TASK) for each in tasks] + [(each, Kind.SESSION) for each in messages]
        return sorted(both, key=lambda each: each[0] in self.had_a_turn)

    def has_its_own(self, group: GroupId) -> bool:
        """Whether a slot is kept for this group."""
        return group == MAIN and self.capacity > 1

    def others(self) -> list[tuple[GroupId, Kind]]:
        return [each for each in self.line() if not self.has_its_own(each[0])]

    def taken(self) -> int:
        return sum(not run.borrowed for run in self.runs.values())

    def free(self) -> int:
        """Slots that are free for others than main."""
        kept = self.has_its_own(MAIN) and MAIN not in self.runs
        return self.capacity - self.taken() - kept

    def helpers(self, group: GroupId | None = None) -> int:
        """Helpers in slots of their own."""
        return sum(
            run.delegate is not None and not run.borrowed and group in (None, run.group)
            for run in self.runs.values()
        )

    def children(self, group: GroupId, parent: DelegateId | None) -> list[Run]:
        return [
            each
            for each in self.runs.values()
            if each.delegate is not None and (each.group, each.parent) == (group, parent)
        ]

    def could_borrow(self, asked: DelegateAsked) -> bool:
        taken = any(each.borrowed for each in self.children(asked.group, asked.parent))
        return asked.waits and not taken

    def tell(self, event: Event) -> list[Decision]:
        idle_before = {key for key, run in self.runs.items() if run.idle}
        decisions = self.queue.feed(event)
        for decision in decisions:
            match decision:
                case Start(group, Kind.DELEGATE, delegate):
                    assert delegate is not None
                    asked = self.asked.pop(delegate)
                    assert not self.held
                    assert not self.draining
                    borrowed = self.could_borrow(asked)
                    if not borrowed:
                        assert not self.others(), "a helper never stands before a group"
                        assert self.free() > 0
                        assert self.helpers() < room_for_delegates(self.capacity)
                        fewest = [self.helpers(each.group) for each in self.asked.values()]
                        assert self.helpers(group) <= min(fewest, default=self.capacity)
                    self.runs[delegate] = Run(
                        group=group,
                        kind=Kind.DELEGATE,
                        delegate=delegate,
                        parent=asked.parent,
                        waited=asked.waits,
                        borrowed=borrowed,
                    )
                case Start(group, kind, _, prewarm):
                    assert group not in self.runs, "never two"
                    if prewarm:
                        assert not self.line(), "somebody waits for that slot"
                        assert not any(run.delegate for run in self.runs.values())
                        assert self.has_its_own(group) or self.free() > 0
                        assert all(run.idle or run.closing for run in self.runs.values())
                        fit = [g for g in self.wished() if g == MAIN or self.free() > 0]
                        assert fit[0] == group, "who spoke last is first"
                        self.runs[group] = Run(group=group, kind=kind, idle=True, fresh=True)
                        continue
                    assert not any(self.could_borrow(each) for each in self.asked.values())
                    if self.has_its_own(group):
                        assert (group, kind) in self.line()
                    else:
                        assert self.others()[0] == (group, kind), "in turn, then as they came"
                        assert self.free() > 0
                        if group in self.had_a_turn:
                            self.had_a_turn.clear()
                        self.had_a_turn.add(group)
                    (self.tasks if kind is Kind.TASK else self.messages).remove(group)
                    self.runs[group] = Run(group=group, kind=kind)
                case Ring(group):
                    run = self.runs[group]
                    assert run.kind is Kind.SESSION
                    assert not run.closing
                    run.bell, run.idle, run.fresh = True, False, False
                case Close(group, None):
                    run = self.runs[group]
                    others = [
                        each
                        for each in self.runs.values()
                        if each.fresh and each.idle and not self.has_its_own(each.group)
                    ]
                    if self.has_its_own(group) and not self.draining:
                        mine = group in self.tasks or group in self.paused | self.removed
                        assert mine or run.outdated, "its slot is no use to others"
                    owes = group in self.tasks or group in self.paused | self.removed
                    if others and not self.draining and not owes and not run.outdated:
                        assert run.fresh, "the unasked give way first"
                        known = [
                            each
                            for each in self.likely
                            if self.is_fresh(each) and not self.has_its_own(each)
                        ]
                        assert group not in known or group == known[0], "who spoke last stays"
                    assert not run.closing, "said once"
                    assert self.draining or run.idle, "a busy run never gives way"
                    assert self.draining or group in idle_before or isinstance(event, Idle)
                    run.closing, run.idle = True, False
                case Close(_, delegate, abandoned):
                    assert delegate is not None
                    run = self.runs[delegate]
                    assert self.draining or run.orphan
                    assert self.draining or abandoned == run.waited
                    run.closing = True
                case Later(due, _):
                    self.timers.append(due)
                case Drained():
                    assert self.draining
                    assert not self.runs
                    assert not self.drained
                    self.drained = True
        return decisions

    def some(self, data: st.DataObject, *kinds: Kind) -> Run:
        found = [run for run in self.runs.values() if run.kind in kinds]
        assume(found)
        return data.draw(st.sampled_from(found))

    def is_fresh(self, group: GroupId) -> bool:
        run = self.runs.get(group)
        return run is not None and run.fresh and run.idle

    def wished(self) -> list[GroupId]:
        """Groups that may have a run unasked, the likeliest first."""
        return [each for each in reversed(self.likely) if self.can_start(each)]

    def remember(self, groups: list[GroupId]) -> None:
        keep = self.capacity + self.prewarm if self.prewarm else 0
        self.likely = groups[max(0, len(groups) - keep) :]

    # --- what can happen ---

    @rule(group=groups)
    def messages_arrive(self, group: GroupId) -> None:
        self.remember([each for each in self.likely if each != group] + [group])
        if group not in self.messages:
            self.messages.append(group)
        self.tell(Arrived(group))

    @rule(group=groups)
    def a_task_falls_due(self, group: GroupId) -> None:
        if group not in self.tasks:
            self.tasks.append(group)
        self.tell(TaskDue(group))

    @rule(data=st.data())
    def a_run_takes_work(self, data: st.DataObject) -> None:
        run = self.some(data, Kind.SESSION, Kind.TASK)
        run.idle = run.fresh = False
        self.tell(Busy(run.group))

    @rule(data=st.data())
    def a_session_takes_its_bell(self, data: st.DataObject) -> None:
        self.some(data, Kind.SESSION).bell = False

    @rule(data=st.data(), retry=st.sampled_from([None, None, 5.0]))
    def a_session_has_looked_and_found_nothing(
        self, data: st.DataObject, retry: float | None
    ) -> None:
        run = self.some(data, Kind.SESSION)
        heard = not run.bell
        if not run.closing:
            run.idle = heard
            if heard and run.group in self.messages and run.group not in self.paused | self.removed:
                self.messages.remove(run.group)
        decisions = self.tell(Idle(run.group, heard=heard, retry_after=retry))
        assert (Later(Arrived(run.group), 5.0) in decisions) == (retry is not None)

    @rule(data=st.data(), again=st.booleans(), retry=st.sampled_from([None, None, 5.0]))
    def a_run_ends(self, data: st.DataObject, again: bool, retry: float | None) -> None:
        run = self.some(data, Kind.SESSION, Kind.TASK)
        del self.runs[run.group]
        self.removed.discard(run.group)
        if run.kind is Kind.SESSION and not run.closing and run.group in self.likely:
            self.likely.remove(run.group)
        self.parent_ends(run)
        mine = self.tasks if run.kind is Kind.TASK else self.messages
        if again and run.group not in mine:
            mine.append(run.group)
        decisions = self.tell(Ended(run.group, again=again, retry_after=retry))
        due = TaskDue(run.group) if run.kind is Kind.TASK else Arrived(run.group)
        assert (Later(due, 5.0) in decisions) == (retry is not None)

    @precondition(lambda self: self.timers)
    @rule()
    def a_timer_fires(self) -> None:
        match self.timers.pop():
            case Arrived(group):
                self.messages_arrive(group)
            case TaskDue(group):
                self.a_task_falls_due(group)

    @rule(group=groups)
    def a_group_is_paused(self, group: GroupId) -> None:
        self.paused.add(group)
        self.tell(Paused(group))

    @rule(group=groups)
    def a_group_is_resumed(self, group: GroupId) -> None:
        self.paused.discard(group)
        self.tell(Resumed(group))

    @rule(group=groups)
    def a_group_is_removed(self, group: GroupId) -> None:
        for line in (self.messages, self.tasks, self.likely):
            if group in line:
                line.remove(group)
        self.paused.discard(group)
        self.had_a_turn.discard(group)
        if group in self.runs:
            self.removed.add(group)
        self.tell(Removed(group))

    @rule(spoke=st.lists(groups, unique=True, max_size=4))
    def groups_spoke_before(self, spoke: list[GroupId]) -> None:
        older = [each for each in reversed(spoke) if each not in self.likely]
        self.remember(older + self.likely)
        self.tell(Likely(tuple(spoke)))

    @rule(group=groups)
    def settings_change(self, group: GroupId) -> None:
        if group in self.runs:
            self.runs[group].outdated = True
        self.tell(Outdated(group))

    @rule(data=st.data(), waits=st.booleans())
    def a_run_asks_for_a_helper(self, data: st.DataObject, waits: bool) -> None:
        parent = self.some(data, *Kind)
        assume(not parent.idle)
        self.ids += 1
        asked = DelegateAsked(DelegateId(str(self.ids)), parent.group, parent.delegate, waits)
        if not self.draining:
            self.asked[asked.id] = asked
        self.tell(asked)

    @rule(data=st.data())
    def a_helper_ends(self, data: st.DataObject) -> None:
        run = self.some(data, Kind.DELEGATE)
        assert run.delegate is not None
        del self.runs[run.delegate]
        self.parent_ends(run)
        self.tell(DelegateEnded(run.delegate))

    def parent_ends(self, parent: Run) -> None:
        for each in self.children(parent.group, parent.delegate):
            each.orphan = True
            if each.borrowed and parent.borrowed:
                each.parent = parent.parent  # it goes on in the slot that its parent was lent
            else:
                each.borrowed = False
        family = (parent.group, parent.delegate)
        for id in [id for id, a in self.asked.items() if (a.group, a.parent) == family]:
            del self.asked[id]

    @rule()
    def the_disk_is_full(self) -> None:
        self.held = True
        self.tell(Held())

    @rule()
    def there_is_room_again(self) -> None:
        self.held = False
        self.tell(Released())

    @precondition(lambda self: self.ids > 3)
    @rule(really=st.integers(0, 9))
    def the_daemon_stops(self, really: int) -> None:
        assume(really == 0)
        self.draining = True
        self.asked.clear()
        for run in self.runs.values():
            run.orphan = run.delegate is not None
        self.tell(Draining())

    # --- what must hold ---

    @invariant()
    def slots_are_never_more_than_there_are(self) -> None:
        assert self.queue.slots == self.taken() <= self.capacity

    @invariant()
    def main_waits_for_nobody_else(self) -> None:
        if MAIN not in self.runs and self.capacity > 1:
            left_behind = [run for run in self.runs.values() if run.orphan and run.group == MAIN]
            assert self.taken() - len(left_behind) < self.capacity

    @invariant()
    def helpers_leave_room_for_other_groups(self) -> None:
        """Those that are on their way out keep the slots of their parents for so long."""
        orphans = sum(run.orphan and not run.borrowed for run in self.runs.values())
        assert self.helpers() - orphans <= room_for_delegates(self.capacity)

    @invariant()
    def the_line_is_as_everybody_would_expect(self) -> None:
        waiting = [each for each in self.queue.waiting() if each.delegate is None]
        assert [(each.group, each.kind) for each in waiting] == self.line()

    @invariant()
    def no_slot_is_free_while_somebody_could_use_it(self) -> None:
        if self.others():
            assert self.free() <= 0
        if any(group == MAIN for group, _ in self.line()):
            assert self.taken() == self.capacity
        if self.asked and not self.held and not self.draining:
            full = self.helpers() >= room_for_delegates(self.capacity)
            assert self.free() <= 0 or full or self.others()

    @invariant()
    def runs_are_begun_unasked_in_slots_that_nobody_wants_and_no_more_than_agreed(self) -> None:
        fresh = sum(run.fresh for run in self.runs.values())
        assert fresh <= self.prewarm
        quiet = not self.held and not self.draining and not self.queue.waiting()
        quiet = quiet and all(run.idle or run.closing for run in self.runs.values())
        quiet = quiet and not any(run.delegate for run in self.runs.values())
        if quiet and fresh < self.prewarm:
            assert self.free() <= 0 or not [g for g in self.wished() if g != MAIN]
            assert self.taken() == self.capacity or MAIN not in self.wished()

    @invariant()
    def idle_gives_way_to_any_waiter(self) -> None:
        idle = [run for run in self.runs.values() if run.idle]
        leaving = [
            key
            for key, run in self.runs.items()
            if run.closing and run.delegate is None and not self.has_its_own(run.group)
        ]
        wanting = len(self.others()) + len(
            [each for each in leaving if each in set(self.messages + self.tasks) - self.paused]
        )
        coming = self.free() + len(leaving)
        can_leave = [run for run in idle if not self.has_its_own(run.group)]
        if can_leave and not self.held and not self.draining:
            assert wanting <= coming
            families = {asked.group for asked in self.asked.values()}
            families |= {run.group for run in self.runs.values() if run.delegate is not None}
            if {run.group for run in can_leave} - families:
                room = room_for_delegates(self.capacity) - self.helpers()
                assert wanting + min(room, len(self.asked)) <= max(coming, wanting)
        for run in idle:
            assert run.group not in self.paused
            assert run.group not in self.removed
            assert not run.outdated
            assert run.group not in self.tasks or self.held

    @invariant()
    def the_phases_are_what_the_runs_know(self) -> None:
        for group in [*GROUPS, MAIN]:
            run = self.runs.get(group)
            phase = self.queue.phase(group)
            assert (phase is Phase.RESTING) == (run is None)
            if run is not None:
                assert (phase is Phase.CLOSING) == run.closing
                assert (phase is Phase.IDLE) == run.idle

    @invariant()
    def no_ring_is_lost(self) -> None:
        """A message that no look can have seen has a ring lying in a bell, or a place in line."""
        for group in self.messages:
            run = self.runs.get(group)
            if run is not None and run.idle:
                raise AssertionError(f"{group} is idle and owes a look")

    @invariant()
    def a_parent_that_waits_has_a_helper_at_work(self) -> None:
        if self.held or self.draining:
            return
        for asked in self.asked.values():
            if asked.waits:  # then somebody is in its parent's slot, if only to leave it
                assert not self.could_borrow(asked), "waits for nobody"

    def teardown(self) -> None:
        """From any state, with runs that do their part, everybody is served."""
        for group in [*GROUPS, MAIN]:
            self.a_group_is_resumed(group)
        self.there_is_room_again()
        for _ in range(200):
            leaves = [
                run
                for run in self.runs.values()
                if not self.children(run.group, run.delegate)
                and not any(
                    a.waits and (a.group, a.parent) == (run.group, run.delegate)
                    for a in self.asked.values()
                )
            ]
            if not leaves:
                break
            run = leaves[0]
            by_itself = run.kind is Kind.SESSION and not run.closing
            if by_itself and run.group in self.likely:
                self.likely.remove(run.group)
            key = run.delegate if run.delegate is not None else run.group
            del self.runs[key]
            self.parent_ends(run)
            if run.delegate is not None:
                self.tell(DelegateEnded(run.delegate))
            else:
                self.removed.discard(run.group)
                self.tell(Ended(run.group))
        assert not self.runs
        assert not self.asked
        assert self.queue.slots == 0
        if self.draining:
            assert self.drained
        else:
            assert not self.messages
            assert not self.tasks


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
