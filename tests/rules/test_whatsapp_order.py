"""The order of messages: within a chat as they came, and nothing of a chat waits for another's file."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pynchy.whatsapp.order import ChatOrder, Waiting


def message(number: int, chat: str, *, file: bool = False) -> Waiting:
    return Waiting(number, 0, chat, unfetched=file)


def due(order: ChatOrder) -> list[int]:
    found = [each.number for each in order.due]
    order.due.clear()
    return found


def test_a_message_waits_for_the_file_before_it_in_its_chat_alone() -> None:
    order = ChatOrder(2)
    picture = message(1, "a", file=True)
    assert order.add(picture) == [picture]
    assert order.add(message(2, "a")) == order.add(message(3, "b")) == []
    assert due(order) == [3]
    assert order.finished(picture) == []
    assert due(order) == [1, 2]
    assert order.add(message(4, "a")) == []
    assert due(order) == [4]


def test_of_one_chat_a_few_are_made_ready_at_once() -> None:
    order = ChatOrder(2)
    files = [message(number, "a", file=True) for number in range(4)]
    assert [order.add(each) for each in files] == [[files[0]], [files[1]], [], []]
    assert order.finished(files[1]) == [files[2]]
    assert due(order) == []
    assert order.finished(files[0]) == [files[3]]
    assert due(order) == [0, 1]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30),
    st.randoms(use_true_random=False),
)
def test_each_goes_on_once_and_each_chat_in_order(
    messages: Sequence[tuple[str, bool]], chance: Random
) -> None:
    order = ChatOrder(2)
    under_way: list[Waiting] = []
    said: list[Waiting] = []
    coming = [message(n, chat, file=file) for n, (chat, file) in enumerate(messages)]
    rest = list(coming)
    while rest or under_way:
        if rest and (not under_way or chance.random() < 0.5):
            under_way += order.add(rest.pop(0))
        else:
            done = under_way.pop(chance.randrange(len(under_way)))
            under_way += order.finished(done)
        for chat in "abc":
            assert sum(each.chat == chat for each in under_way) <= 2
        said += list(order.due)
        order.due.clear()
    for chat in "abc":
        assert [m for m in said if m.chat == chat] == [m for m in coming if m.chat == chat]
