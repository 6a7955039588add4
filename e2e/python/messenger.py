"""The messenger flow with python-socketio, as `messenger.py URL TRANSPORT`; each step prints one line of JSON."""

import sys
import uuid

import requests

from session import Client, run

PASSWORD = "correct horse battery staple"


def register(url, name):
    user = f"{name.lower()}-{uuid.uuid4().hex[:12]}"
    answer = requests.post(f"{url}/api/v1/auth/register", json={"user": user, "name": name, "password": PASSWORD}, timeout=8)
    answer.raise_for_status()
    return answer.json()


def ask(url, method, path, account, **body):
    headers = {"authorization": f"Bearer {account['access_token']}"}
    answer = requests.request(method, f"{url}/api/v1/{path}", json=body, headers=headers, timeout=8)
    answer.raise_for_status()
    return answer.json()


def refused(code, client, command, **fields):
    try:
        client.call(command, **fields)
    except RuntimeError as error:
        assert str(error) == code, error
    else:
        raise AssertionError(f"{command} was not refused")


class Room:
    def __init__(self, url, transport):
        self.url = url
        self.ann, self.bob = register(url, "Ann"), register(url, "Bob")
        self.a = Client(url, transport, token=self.ann["access_token"])
        self.b = Client(url, transport, token=self.bob["access_token"])
        self.channel = f"room:python-{uuid.uuid4().hex}"


def is_who_the_token_says(room):
    assert room.a.welcome["user"] == room.ann["user"] and room.a.welcome["guest"] is False, room.a.welcome


def a_room_is_for_its_members(room):
    refused("forbidden", room.b, "subscribe", channel=room.channel)
    members = room.a.call("members", channel=room.channel, add=[room.bob["user"]])["members"]
    assert {m["user"]: m.get("role") for m in members} == {room.ann["user"]: "owner", room.bob["user"]: None}, members


def news_are_notified_until_one_follows(room):
    room.a.call("publish", channel=room.channel, data={"text": "hello"})
    news = room.b.next("notification")
    assert (news["channel"], news["unread"], news["message"]["data"]) == (room.channel, 1, {"text": "hello"}), news
    assert room.b.call("subscribe", channel=room.channel, receipts=True)["unread"] == 1


def edits_and_deletions_reach_the_other(room):
    room.a.call("edit", channel=room.channel, seq=1, data={"text": "hello, Bob"})
    edit = room.b.next("edit")
    assert (edit["target"], edit["seq"], edit["data"]) == (1, 2, {"text": "hello, Bob"}), edit
    room.a.call("publish", channel=room.channel, data="wrong room")
    room.a.call("delete", channel=room.channel, seq=3)
    assert room.b.next("delete")["target"] == 3
    history = {m["seq"]: m for m in room.b.call("history", channel=room.channel)["messages"]}
    assert history[1]["data"] == {"text": "hello, Bob"} and history[1]["edited"]["seq"] == 2, history[1]
    assert history[3]["data"] is None and history[3]["deleted"]["seq"] == 4, history[3]


def a_read_receipt_comes_back(room):
    room.a.call("subscribe", channel=room.channel, receipts=True)
    answer = room.b.call("read", channel=room.channel, seq=1)
    assert (answer["read"], answer["unread"]) == (1, 0), answer
    receipt = room.a.next("read")
    assert receipt == {"channel": room.channel, "user": room.bob["user"], "seq": 1}, receipt


def typing_is_told(room):
    room.a.call("signal", channel=room.channel, event="typing", ttl=3000)
    signal = room.b.next("signal")
    assert (signal["event"], signal["ttl"], signal["from"]["user"]) == ("typing", 3000, room.ann["user"]), signal


def channels_are_listed_with_what_is_unread(room):
    room.a.call("publish", channel=room.channel, data="news")
    mine = next(c for c in room.b.call("channels")["channels"] if c["channel"] == room.channel)
    assert (mine["unread"], mine["last"]["data"]) == (1, "news"), mine


def the_other_is_seen(room):
    status = room.a.call("status", users=[room.bob["user"]])["users"][0]
    assert status["state"] == "online", status


def logging_out_everywhere_ends_the_connection(room):
    ask(room.url, "POST", "auth/logout", room.bob, everywhere=True)
    assert room.b.next("closing")["error"]["code"] == "revoked"
    room.b.ended.wait(8)
    assert room.b.ended.is_set()


STEPS = [
    is_who_the_token_says,
    a_room_is_for_its_members,
    news_are_notified_until_one_follows,
    edits_and_deletions_reach_the_other,
    a_read_receipt_comes_back,
    typing_is_told,
    channels_are_listed_with_what_is_unread,
    the_other_is_seen,
    logging_out_everywhere_ends_the_connection,
]


if __name__ == "__main__":
    run(STEPS, Room(*sys.argv[1:]))
