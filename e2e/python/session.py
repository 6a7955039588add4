"""A python-socketio client that keeps what was pushed to it, and steps that print one line of JSON each."""

import json
import os
import queue
import threading
import traceback

import socketio

DEADLINE = 8
PUSHES = (
    "welcome", "message", "edit", "delete", "signal", "presence", "read", "delivered", "notification", "unsubscribed",
    "rejected", "closing",
)


class Client:
    def __init__(self, url, transport, **identity):
        self.socket = socketio.Client(reconnection=False)
        self.pushes = {name: queue.Queue() for name in PUSHES}
        self.ended = threading.Event()
        for name, came in self.pushes.items():
            self.socket.on(name, came.put)
        self.socket.on("disconnect", lambda *_: self.ended.set())
        self.socket.connect(url, transports=[transport], auth=identity, wait_timeout=DEADLINE)
        self.welcome = self.next("welcome")

    def next(self, push):
        return self.pushes[push].get(timeout=DEADLINE)

    def call(self, command, **fields):
        answer = self.socket.call(command, fields, timeout=DEADLINE)
        if "ok" not in answer:
            raise RuntimeError(answer["error"]["code"])
        return answer["ok"]

    def messages(self, count):
        """The next messages by their seq: this client runs a thread for each, so the order in which it hands them out is nobody's."""
        return sorted((self.next("message") for _ in range(count)), key=lambda message: message["seq"])


def run(steps, *subjects):
    for step in steps:
        try:
            step(*subjects)
            failure = None
        except Exception:
            failure = traceback.format_exc()
        print(json.dumps({"step": step.__name__.replace("_", " "), "failure": failure}), flush=True)
    print(json.dumps({"end": True}), flush=True)
    # Not by disconnect(): on polling it may forget its close packet and then waits for the next heartbeat.
    os._exit(0)
