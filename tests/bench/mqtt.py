"""How fast the bridge takes asks in, and how much memory it needs while they wait; written to RESULTS.md.

In: built programs, Mosquitto, a Python with paho-mqtt. No engine: every ask waits. Out: the section "Asking
over MQTT" of RESULTS.md beside this file.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

import paho.mqtt.client as mqtt

from record import RESULTS, record

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ASKS = 10_000


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def resident_mib(pid):
    for line in open(f'/proc/{pid}/status'):
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) / 1024


def main():
    port = free_port()
    with tempfile.TemporaryDirectory(dir=ROOT + '/target') as folder:
        config = f'{folder}/mosquitto.conf'
        with open(config, 'w') as f:
            f.write(f'user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n'
                    'max_inflight_messages 64\nmax_queued_messages 20000\n')
        broker = subprocess.Popen(['/usr/sbin/mosquitto', '-c', config], stderr=subprocess.DEVNULL)
        bridge = subprocess.Popen(
            [f'{ROOT}/target/release/cloister-bridge', '--broker', f'mqtt://127.0.0.1:{port}', '--node', 'bench',
             '--socket', f'{folder}/none', '--state', f'{folder}/state'], stderr=subprocess.DEVNULL)
        try:
            waiting, online = threading.Condition(), threading.Event()
            seen = {'waiting': 0}

            def on_message(client, userdata, message):
                if message.topic.endswith('/status') and message.payload == b'online':
                    online.set()
                if message.topic.endswith('/state'):
                    asks = json.loads(message.payload).get('asks', {})
                    with waiting:
                        seen['waiting'] = asks.get('waiting', 0) + asks.get('running', 0)
                        waiting.notify_all()

            client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
            client.max_inflight_messages_set(200)
            client.on_message = on_message
            client.on_connect = lambda client, *_: client.subscribe([('cloister/bench/status', 1), ('cloister/bench/state', 1)])
            deadline = time.time() + 20
            while True:
                try:
                    client.connect('127.0.0.1', port)
                    break
                except ConnectionRefusedError:
                    assert time.time() < deadline, 'the broker does not listen'
                    time.sleep(0.05)
            client.loop_start()
            assert online.wait(20), 'the bridge does not come online'
            began = time.time()
            for n in range(ASKS):
                client.publish('cloister/bench/ask', json.dumps({'id': f'b{n}', 'prompt': 'Why is the sky blue? ' * 10}), qos=1)
            with waiting:
                assert waiting.wait_for(lambda: seen['waiting'] >= ASKS, 120), seen
            # `state` comes once a second: that is the error of the rate, on the slow side.
            took = time.time() - began
            memory = resident_mib(bridge.pid)
            client.loop_stop()
        finally:
            bridge.kill()
            broker.kill()
            bridge.wait()
            broker.wait()
    record(RESULTS, 'Asking over MQTT', [
        f'`tests/bench/mqtt.py`: {ASKS} asks of 0.2 KB from one paho-mqtt client, QoS 1, with no engine there.', '',
        '| what | measured | promised |', '| --- | --- | --- |',
        f'| asks taken in and journalled, with publishing them and up to 1 s until `state` shows it | {ASKS / took:.0f}/s | at least 2000/s |',
        f'| peak resident memory of the bridge, {ASKS} asks waiting | {memory:.0f} MiB | under 40 MB |',
    ])
    print(open(RESULTS).read().split('# Asking over MQTT')[1])


if __name__ == '__main__':
    sys.exit(main())
