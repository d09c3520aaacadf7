"""python-socketio: `python3 play.py <address> <group> <users as JSON>`; texts come as lines {via, text}, events leave as such."""
import json
import os
import sys
import threading

import socketio

address, group, users = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
ways = {"websocket": ["websocket"], "polling": ["polling"], "upgrade": None}
writing = threading.Lock()
clients = {}


def say(via, at, text=""):
    with writing:
        sys.stdout.write(json.dumps({"via": via, "at": at, "text": str(text)}) + "\n")
        sys.stdout.flush()


def start(via):
    client = clients[via] = socketio.Client(
        reconnection_delay=0.1, reconnection_delay_max=0.5, randomization_factor=0)
    user = users[via]

    def authenticated(result):
        if not result["success"]:
            return say(via, "refused", result["msg"])
        groups = {"userId": user, "subscribeGroups": [{"id": group}]}
        client.emit("subscribe", groups, callback=lambda result: say(via, "in", result["msg"]))

    def connected():
        claims = {"id": user, "name": "n", "appType": "1", "token1": "x", "token2": "y"}
        client.emit("auth", claims, callback=authenticated)

    client.on("connect", connected)
    client.on("msg", lambda message: say(via, "msg", message["content"]))
    client.on("connect_error", lambda *data: say(via, "error", data))
    client.on("disconnect", lambda *reason: say(via, "out", reason))
    client.connect(address, transports=ways[via])


def send(via, text):
    message = {"type": 1, "target": {"id": group}, "content": text}
    clients[via].emit("msg", message, callback=lambda result: say(via, "sent", result["msg"]))


for via in ways:
    start(via)
for line in sys.stdin:
    command = json.loads(line)
    send(command["via"], command["text"])
sys.stdout.flush()
# Its threads go on for ever.
os._exit(0)
