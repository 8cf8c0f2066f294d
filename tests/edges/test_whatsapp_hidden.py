"""Hidden ids and numbers of one person, on their way into the journal."""

import json
import sqlite3
import threading
from pathlib import Path

from pynchy.whatsapp.intake import Intake, Orders
from pynchy.whatsapp.journal import Journal
from pynchy.whatsapp.read import Own
from tests.edges.fake_whatsapp import jid, message, protobufs_alone


def test_a_chat_registered_under_a_hidden_id_goes_on_when_the_number_is_known(
    tmp_path: Path,
) -> None:
    orders = Orders(name="Pynchy", media_limit=1000, chats={"8010@lid": str(tmp_path)})
    own = Own(number="4917@s.whatsapp.net", lid="8001@lid", name="Pynchy")
    journal = Journal(tmp_path / "journal.db")
    intake = Intake(journal, orders, own, threading.Event(), lambda _: None)
    people = "s.whatsapp.net"
    with protobufs_alone():
        hidden, number = jid("8010", "lid"), jid("4920", people)
        intake.message(message("A", chat="8010", server="lid", text="one", sender=hidden))
        more = {"sender": hidden, "sender_alt": number}
        intake.message(message("B", chat="8010", server="lid", text="two", **more))
        more = {"sender": number, "sender_alt": hidden}
        intake.message(message("C", chat="4920", server=people, text="three", **more))
        intake.message(message("C", chat="4920", server=people, text="three", **more))
    with sqlite3.connect(tmp_path / "journal.db") as db:
        rows = db.execute("SELECT payload FROM events ORDER BY number").fetchall()
    db.close()
    told = [json.loads(payload)["message"] for (payload,) in rows]
    assert [(each["chat"], each["text"]) for each in told] == [
        ("8010@lid", "one"),
        ("8010@lid", "two"),
        ("8010@lid", "three"),
    ]


def test_a_number_that_a_message_told_is_known_although_the_library_cannot_be_asked(
    tmp_path: Path,
) -> None:
    family = "120363000000000001"
    orders = Orders(name="Pynchy", media_limit=1000, chats={f"{family}@g.us": str(tmp_path)})
    own = Own(number="4917@s.whatsapp.net", lid="8001@lid", name="Pynchy")
    journal = Journal(tmp_path / "journal.db")
    intake = Intake(journal, orders, own, threading.Event(), lambda _: None)
    with protobufs_alone():
        both = {"sender": jid("8010", "lid"), "sender_alt": jid("4920", "s.whatsapp.net")}
        intake.message(message("A", chat=family, text="one", **both))
        intake.message(message("B", chat=family, text="two", sender=both["sender"]))
    with sqlite3.connect(tmp_path / "journal.db") as db:
        rows = db.execute("SELECT payload FROM events ORDER BY number").fetchall()
    db.close()
    told = [json.loads(payload)["message"] for (payload,) in rows]
    assert [each["sender"] for each in told] == ["4920@s.whatsapp.net"] * 2
