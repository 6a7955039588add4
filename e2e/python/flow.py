"""python-socketio against a running server, as `flow.py URL TRANSPORT`; each step prints one line of JSON."""

import sys
import uuid

from session import Client, run

BURST = 200


def is_welcomed(a, _):
    assert a.welcome["app"] == "demo" and a.welcome["name"] == "Ann" and a.welcome["guest"] is True, a.welcome


def uses_the_transport_it_asked_for(a, _):
    assert a.socket.transport() == sys.argv[2], a.socket.transport()


def publishes_with_an_ack_and_the_other_receives(a, b):
    channel = fresh_channel()
    b.call("subscribe", channel=channel)
    ok = a.call("publish", channel=channel, event="greeting", data={"text": "Grüße, 세계, 🙂"})
    assert ok["seq"] == 1, ok
    message = b.next("message")
    assert (message["event"], message["data"], message["seq"]) == ("greeting", {"text": "Grüße, 세계, 🙂"}, 1), message
    assert message["from"] == {"user": a.welcome["user"], "name": "Ann"}, message


def a_burst_arrives_whole_and_exactly_once(a, b):
    channel = fresh_channel()
    b.call("subscribe", channel=channel)
    for n in range(BURST):
        a.socket.emit("publish", {"channel": channel, "data": n})
    a.call("publish", channel=channel, event="end", data=None)
    messages = b.messages(BURST + 1)
    assert [m["data"] for m in messages] == [*range(BURST), None], messages
    assert [m["seq"] for m in messages] == list(range(1, BURST + 2)), messages


def binary_data_arrive_intact(a, b):
    channel = fresh_channel()
    b.call("subscribe", channel=channel)
    every = bytes(range(256))
    a.call("publish", channel=channel, data={"list": [1, every, {"deep": b"\x00\xff"}], "empty": b""})
    assert b.next("message")["data"] == {"list": [1, every, {"deep": b"\x00\xff"}], "empty": b""}


def resume_fills_the_gap(a, b):
    channel = fresh_channel()
    epoch = a.call("subscribe", channel=channel)["epoch"]
    for n in range(1, 38):
        b.call("publish", channel=channel, data=n)
    assert [m["seq"] for m in a.messages(37)] == list(range(1, 38))
    answer = b.call("subscribe", channel=channel, since={"epoch": epoch, "seq": 0})
    assert (answer["recovered"], answer["missed"]) == (True, 37), answer
    assert [m["data"] for m in b.messages(37)] == list(range(1, 38))


def a_failing_command_says_why(a, _):
    for command, fields, code in [("no_such_command", {}, "unknown_command"), ("subscribe", {"channel": "two words"}, "bad_channel")]:
        try:
            a.call(command, **fields)
        except RuntimeError as error:
            assert str(error) == code, error
        else:
            raise AssertionError(f"{command} was not refused")


def fresh_channel():
    return f"chat:python-{uuid.uuid4().hex}"


STEPS = [
    is_welcomed,
    uses_the_transport_it_asked_for,
    publishes_with_an_ack_and_the_other_receives,
    a_burst_arrives_whole_and_exactly_once,
    binary_data_arrive_intact,
    resume_fills_the_gap,
    a_failing_command_says_why,
]


if __name__ == "__main__":
    url, transport = sys.argv[1:]
    run(STEPS, Client(url, transport, name="Ann"), Client(url, transport, name="Bob"))
