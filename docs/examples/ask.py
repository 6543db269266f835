"""Asks the box over MQTT and prints its answer. Needs paho-mqtt 2.

    python ask.py 127.0.0.1 NODE 'Why is the sky blue?'          a port other than 1883: 127.0.0.1:1884
"""
import json
import sys
import uuid

import paho.mqtt.client as mqtt

broker, node, question = sys.argv[1:]
host, _, port = broker.partition(":")
ask = {"id": uuid.uuid4().hex, "prompt": question}
answer_topic = f"cloister/{node}/answer/{ask['id']}"


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe(answer_topic, qos=1)


def on_subscribe(client, userdata, mid, reasons, properties):
    # At every connection: with the same id the box answers once, however often it is asked.
    client.publish(f"cloister/{node}/ask", json.dumps(ask), qos=1)


def on_message(client, userdata, message):
    answer = json.loads(message.payload)
    print(answer["text"] if "text" in answer else f"error: {answer['error']['message']}")
    client.disconnect()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect(host, int(port or 1883))
client.loop_forever()
