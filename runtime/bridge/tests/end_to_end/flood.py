"""Publishes the same long message many times at QoS 0, as fast as it goes.

Arguments: the broker's port, the topic, how many, of how many bytes.
"""
import sys

import paho.mqtt.client as mqtt

port, topic, count, size = sys.argv[1:]
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
client.max_queued_messages_set(0)
client.connect("127.0.0.1", int(port))
client.loop_start()
payload = b"x" * int(size)
published = [client.publish(topic, payload) for _ in range(int(count))]
for message in published:
    message.wait_for_publish()
client.disconnect()
client.loop_stop()
