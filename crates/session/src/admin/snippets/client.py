import os, socketio

sio = socketio.Client()

@sio.on("message")
def message(m):
    print(m["from"].get("name"), m["data"])

sio.connect("{url}", auth={auth})
sio.call("subscribe", {"channel": "{channel}"})
sio.wait()
