"""Stories of failures: for each row of the table a small world in which it happens, and what must come of it.

Each is a trouble that everybody meets for a while (the model does not answer, the key is refused, no container
starts), or one message's own (refused, cut, a conversation that the API does not take). What people have to hear, how
often the model may be called and when the answer must be there stands in the row.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from pynchy.model import MAIN_CONSOLE, ChatId
from pynchy.text.reply import NOTICE_PREFIX
from tests.simulation.crashes import ONE, QUIET, TWO
from tests.simulation.play import Verdict, play
from tests.simulation.world import Mail, World

HOUR: Final = 3600.0
CHATS: Final = (ONE, TWO, MAIN_CONSOLE)
MIDNIGHT: Final = 16 * HOUR  # from the beginning of these worlds


PLACE: Final = attrs.evolve(QUIET, capacity=3)


@attrs.frozen
class Story:
    """``lasts``: how long everybody meets it; None if it is a failure of the first message's own, so many ``times``.

    ``answered``: whether the messages are answered in the end, then no sooner than ``not_before`` and no later than
    ``by`` seconds. ``calls``: how often the model, or the engine, may have failed. ``heard``: what each chat that
    waited is told exactly once; nothing else is said in the host's name.
    """

    name: str
    kind: str
    lasts: float | None = None
    times: int = 1
    answered: bool = True
    not_before: float = 0.0
    by: float = 60.0
    calls: int = 1
    heard: tuple[str, ...] = ()
    sleeps: float = 120.0


STORIES: Final = (
    Story(
        "an outage of half an hour",
        "outage",
        lasts=1800,
        not_before=1800,
        by=1800 + 330,
        calls=6 + 6,
        heard=(r"The model does not answer\. I go on trying until 14:0\d\.",),
        sleeps=2400,
    ),
    Story(
        "an outage that does not end",
        "outage",
        lasts=30 * HOUR,
        answered=False,
        calls=6 + 74,
        heard=(
            r"The model does not answer\. I go on trying until (\d\d:\d\d)\.",
            r"The model did not answer until (\d\d:\d\d), and I gave up\. Send your message again .*",
        ),
        sleeps=7 * HOUR,
    ),
    Story(
        "a limit with a moment",
        "rate_limit",
        lasts=900,
        not_before=900,
        by=900 + 60,
        calls=1,
        heard=(r"The model's limit is reached until 08:15\. I go on then\.",),
        sleeps=1000,
    ),
    Story(
        "a key that is renewed",
        "credential",
        lasts=5000,
        not_before=5000,
        by=5000 + 60,
        calls=1,
        heard=(r"The model refuses our key\. The owner has to renew it; I go on then\..*",),
        sleeps=5100,
    ),
    Story(
        "an account without credit",
        "billing",
        lasts=3000,
        not_before=3600,
        by=3600 + 90,
        calls=1,
        heard=(r"The model's account cannot pay\. .* I ask again every hour\..*",),
        sleeps=3800,
    ),
    Story(
        "a budget that is used up",
        "budget",
        lasts=MIDNIGHT - 1,
        not_before=MIDNIGHT,
        by=MIDNIGHT + 90,
        calls=3,
        heard=(
            r"Today's budget is used up\. I go on at 00:00 on Saturday, or when it is raised\..*",
        ),
        sleeps=MIDNIGHT + 120,
    ),
    Story(
        "an engine that is down",
        "machine",
        lasts=1800,
        not_before=1800,
        by=1800 + 330,
        calls=6 + 6,
        heard=(r"I cannot start on this machine right now\. I go on trying until 14:0\d\.",),
        sleeps=2400,
    ),
    Story("a start that is slow", "slow start", by=400, calls=0, sleeps=500),
    Story(
        "a setting that refuses",
        "policy",
        times=99,
        answered=False,
        heard=(r"I may not do that: policy\.",),
    ),
    Story(
        "a conversation that is refused",
        "history",
        calls=2,
        heard=(r"I had to begin a new conversation: the model refused .*",),
    ),
    Story(
        "a message that is refused as no conversation could be",
        "history for ever",
        times=99,
        answered=False,
        calls=3,
        heard=(
            r"I had to begin a new conversation: .*",
            r"The model cannot take this message: history\.",
        ),
    ),
    Story(
        "a conversation that has grown too long",
        "context",
        heard=(r"I had to begin a new conversation: the old one had .*",),
    ),
    Story(
        "a refusal",
        "refusal",
        times=99,
        answered=False,
        heard=(r"The model refuses to answer this\.",),
    ),
    Story(
        "an answer longer than can be",
        "output_limit",
        times=99,
        answered=False,
        heard=(r"The answer is longer than .*",),
    ),
    Story(
        "nothing at all",
        "empty",
        times=99,
        answered=False,
        heard=(r"The model gave no answer to this\.",),
    ),
    Story(
        "a refusal in the midst",
        "refusal after words",
        heard=(r"The answer is cut here: the model refuses to go on\.",),
    ),
    Story(
        "an answer that is cut",
        "output_limit after words",
        heard=(r"The answer is cut here: it is longer .*",),
    ),
    Story("something unknown, once", "agent", by=90),
    Story(
        "something unknown, again and again",
        "agent",
        times=99,
        answered=False,
        calls=2,
        heard=(r"I could not answer that: agent\.",),
    ),
    Story(
        "an outage that the agent made up",
        "lie",
        times=99,
        answered=False,
        calls=2,
        heard=(r"I could not answer that: outage: so it says\.",),
    ),
)


def play_story(
    story: Story, *, home: Path, told: bool = False, kill_after: float | None = None
) -> Verdict:
    """Play it, and judge what came of it. With ``kill_after`` the daemon dies after so many seconds, and an account, an
    engine and a budget that are tried at each start may be tried once more."""
    script = partial(_happens, story, kill_after)
    return play(STORIES.index(story), home=home, swarm=PLACE, script=script, told=told)


async def _kill(world: World, after: float) -> None:
    await trio.sleep(after)
    if world.life is not None:
        world.life.kill("in the midst of a story")


async def _happens(story: Story, kill_after: float | None, world: World) -> None:
    if kill_after is not None:
        world.nursery.start_soon(_kill, world, kill_after)
        anew = kill_after if story.kind == "billing" else 0.0  # its hours begin at the start
        story = attrs.evolve(
            story,
            calls=story.calls + 3,
            not_before=story.lasts or 0.0,
            by=story.by + 30 + anew,
            sleeps=story.sleeps + anew,
        )
    everybody = story.lasts is not None
    began = trio.current_time()
    if story.lasts is not None:
        world.trouble = story.kind, began + story.lasts
    mails = [world.say(ONE, "@Pynchy hello", asks=True)]
    if not everybody:
        world.own_trouble[mails[0].token] = [story.kind] * story.times
    if everybody:
        await trio.sleep(30)  # it is known by then: nobody else has to find out
        mails += [world.say(chat, "@Pynchy hello", asks=True) for chat in (TWO, MAIN_CONSOLE)]
    if story.kind == "credential":
        await trio.sleep_until(began + (story.lasts or 0.0))
        world.trouble = None
        world.renewed.set()
    if not everybody:
        await trio.sleep(10)
        mails.append(world.say(TWO, "@Pynchy and me?", asks=True))
    await trio.sleep_until(began + story.sleeps)
    world.checks.append(partial(_judge, story, mails, began))


def _judge(story: Story, mails: list[Mail], began: float, world: World) -> None:
    if len(world.met) > story.calls:
        world.violated(f"F1: {story.name}: it failed {len(world.met)} times, {story.calls} at most")
    failing = mails if story.lasts is not None else mails[:1]
    for mail in mails:
        chat = mail.message.chat
        at = [sent.at for sent in world.phones.get(chat, []) if f"re {mail.token}" in sent.text]
        if mail not in failing:
            if not at or at[0] > began + 60:
                world.violated(f"F2: {story.name}: {chat} had to wait for another's message")
            continue
        if story.answered != bool(at):
            world.violated(f"F3: {story.name}: {mail.token} was{'' if at else ' not'} answered")
        if at and not began + story.not_before <= at[0] <= began + story.by:
            world.violated(
                f"F4: {story.name}: {mail.token} was answered after {at[0] - began:.0f} s"
            )
        _heard(story, chat, world)


def _heard(story: Story, chat: ChatId, world: World) -> None:
    said = [
        sent.text.removeprefix(NOTICE_PREFIX)
        for sent in world.phones.get(chat, [])
        if sent.text.startswith(NOTICE_PREFIX)
    ]
    for words in story.heard:
        found = [each for each in said if re.fullmatch(words, each, re.DOTALL)]
        if len(found) != 1:
            world.violated(f"F5: {story.name}: {chat} heard {len(found)} times {words!r}: {said}")
    for each in said:
        of_another = chat == MAIN_CONSOLE and each.startswith(OWNER)
        if not of_another and not any(re.fullmatch(w, each, re.DOTALL) for w in story.heard):
            world.violated(f"F5: {story.name}: {chat} heard {each!r}")
    times = {time for each in said for time in re.findall(r"until (\d\d:\d\d)", each)}
    if len(times) > 1:
        world.violated(f"F6: {story.name}: {chat} was promised {sorted(times)}")


#: What the owner hears in main, whoever's message it was.
OWNER: Final = (
    "Group ",
    "The model refuses the key or token: ",
    "The model's account cannot pay: ",
)
