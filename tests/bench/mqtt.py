"""How fast the bridge takes asks in, how much memory it needs while they wait, and how long it holds up each;
written to RESULTS.md.

In: built programs, Mosquitto, a Python with paho-mqtt. No engine, so that its time is in no figure: first every
ask waits, then something in its place notes when a request comes and answers at once. Out: the section "Asking
over MQTT" of RESULTS.md beside this file.
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import paho.mqtt.client as mqtt

from record import RESULTS, record

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ASKS = 10_000
TIMED_ASKS = 300


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def resident_mib(pid):
    for line in open(f'/proc/{pid}/status'):
        if line.startswith('VmHWM:'):
            return int(line.split()[1]) / 1024


def stand_in(path, times):
    """Answers on the Unix socket as the engine does, at once; notes when each request came and each answer went."""
    events = [
        {'choices': [{'delta': {'content': 'yes'}}]},
        {'choices': [{'delta': {}, 'finish_reason': 'stop'}]},
        {'choices': [], 'usage': {'completion_tokens': 1}},
    ]
    body = ''.join(f'data: {json.dumps(event)}\n\n' for event in events) + 'data: [DONE]\n\n'
    response = f'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n{body}'.encode()

    def serve(connection):
        with connection:
            request = connection.recv(65536)
            came = time.perf_counter()
            if not request.startswith(b'POST /v1/chat/completions'):
                connection.sendall(b'HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n')
                return
            while b'\r\n\r\n{' not in request:
                request += connection.recv(65536)
            times['came'] = came
            times['went'] = time.perf_counter()
            connection.sendall(response)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept():
        while True:
            serve(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()


def share(port, folder):
    """Milliseconds from publishing an ask to its request, and from the answer's end to its coming, with the
    broker's and this program's own ways in both."""
    times, heard = {}, threading.Event()
    stand_in(f'{folder}/engine.sock', times)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)

    online = threading.Event()

    def on_message(client, userdata, message):
        if message.payload == b'online':
            online.set()
            return
        times['heard'] = time.perf_counter()
        heard.set()

    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe([('cloister/share/answer/x', 1), ('cloister/share/status', 1)])
    client.connect('127.0.0.1', port)
    # Else the kernel holds each ask back until the broker has acknowledged what went before it: 40 ms.
    client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.loop_start()
    assert online.wait(20), 'the bridge does not come online'
    before, after = [], []
    for n in range(TIMED_ASKS + 20):
        heard.clear()
        asked = time.perf_counter()
        # With an own topic there is one answer, without a copy on `answer/last`.
        client.publish('cloister/share/ask', json.dumps({'id': f't{n}', 'prompt': 'Yes?', 'reply_to': 'cloister/share/answer/x'}), qos=1)
        assert heard.wait(20), 'no answer'
        if n >= 20:
            before.append((times['came'] - asked) * 1000)
            after.append((times['heard'] - times['went']) * 1000)
    client.loop_stop()
    return before, after


def main():
    port = free_port()
    with tempfile.TemporaryDirectory(dir=ROOT + '/target') as folder:
        config = f'{folder}/mosquitto.conf'
        with open(config, 'w') as f:
            f.write(f'user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n'
                    'set_tcp_nodelay true\nmax_inflight_messages 64\nmax_queued_messages 20000\n')
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
            bridge.kill()
            bridge.wait()
            bridge = subprocess.Popen(
                [f'{ROOT}/target/release/cloister-bridge', '--broker', f'mqtt://127.0.0.1:{port}', '--node', 'share',
                 '--socket', f'{folder}/engine.sock', '--state', f'{folder}/share'], stderr=subprocess.DEVNULL)
            before, after = share(port, folder)
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
        f'| from publishing an ask to its request on the socket, median of {len(before)} | {statistics.median(before):.1f} ms | under 5 ms |',
        f'| from the end of the engine\'s answer to its coming over MQTT, median | {statistics.median(after):.1f} ms | under 5 ms |',
        '', 'The last two hold the ways to and from Mosquitto too, two syncs of the disk, and the bench\'s own.',
    ])
    print(open(RESULTS).read().split('# Asking over MQTT')[1])


if __name__ == '__main__':
    sys.exit(main())
