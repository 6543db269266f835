"""Asks the bridge named n one question with paho-mqtt and prints what came back, as JSON.

Arguments: the broker's port, the MQTT version (3.1.1 or 5), and maybe the transport (tcp or websockets),
the CA's certificate, one's own with its key, user and password. With 5 the answer is wanted on a Response
Topic with binary Correlation Data.
"""

import json
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, *secured = sys.argv[1:]
v5 = version == "5"
topic = "answers/paho" if v5 else "cloister/n/answer/paho"
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
    transport=secured[0] if secured else "tcp",
)
if secured:
    _, ca, certificate, key, user, password = secured
    client.tls_set(ca, certificate, key)
    client.username_pw_set(user, password)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe(topic, qos=1)


def on_subscribe(client, userdata, mid, reasons, properties):
    asked = None
    if v5:
        asked = Properties(PacketTypes.PUBLISH)
        asked.ResponseTopic = topic
        asked.CorrelationData = b"\x00\x01\xff\xfe"
    ask = {"id": "paho", "prompt": "Say hello.", "max_tokens": 8}
    client.publish("cloister/n/ask", json.dumps(ask), qos=1, properties=asked)


def on_message(client, userdata, message):
    correlation = getattr(message.properties, "CorrelationData", b"") if v5 else b""
    heard = {
        "topic": message.topic,
        "correlation": correlation.hex(),
        "answer": json.loads(message.payload),
    }
    print(json.dumps(heard))
    client.disconnect()


client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_message = on_message
client.connect("127.0.0.1", int(port))
client.loop_forever()
