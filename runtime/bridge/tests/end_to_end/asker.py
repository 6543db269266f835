"""Asks the bridge named n many questions with ids, and asks again what is unanswered 5 s after the broker
is back; prints every answer that came, as JSON lines {"id", "payload"}, until each id has one.

Arguments: the broker's port, how many asks, the topic to ask on, the prefix of the answers' topics, and
whether to ask again (`again` or `once`). Each line of its input says how many to ask next; at its end, the rest.
"""

import itertools
import json
import random
import sys
import threading
import time

import paho.mqtt.client as mqtt

port, count, ask_topic, answers, mode = sys.argv[1:]
port, count = int(port), int(count)
names = [f"k{n}" for n in range(count)]
missing, asked = set(names), set()
lock = threading.Lock()
back = threading.Event()

client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id="asker",
    clean_session=False,
    reconnect_on_failure=True,
)
client.max_queued_messages_set(0)
client.max_inflight_messages_set(100)
client.reconnect_delay_set(min_delay=1, max_delay=1)


def ask(name):
    number = name[1:]
    request = {
        "id": name,
        "prompt": f"Invent a word for the number {number}.",
        "max_tokens": 4,
        "temperature": 1.5,
    }
    client.publish(ask_topic, json.dumps(request), qos=1)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe(answers + "+", qos=1)
    back.set()


def on_message(client, userdata, message):
    name = message.topic[len(answers):]
    print(json.dumps({"id": name, "payload": message.payload.decode()}), flush=True)
    with lock:
        missing.discard(name)


client.on_connect = on_connect
client.on_message = on_message
client.connect("127.0.0.1", port)
client.loop_start()
back.wait()
time.sleep(1)
back.clear()


def ask_as_told():
    left = iter(names)
    for steps in itertools.chain((int(line) for line in sys.stdin), [None]):
        for name in itertools.islice(left, steps):
            with lock:
                asked.add(name)
            ask(name)


threading.Thread(target=ask_as_told, daemon=True).start()
while True:
    if back.wait(0.2):
        back.clear()
        time.sleep(5)
        with lock:
            again = sorted(missing & asked, key=lambda name: random.random())
        if mode == "again":
            for name in again:
                ask(name)
    with lock:
        if not missing:
            break
# What comes twice comes now.
time.sleep(3)
client.disconnect()
