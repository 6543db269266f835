#!/usr/bin/env python3
"""The panel: from its button to an answer's end, and the processor time that it takes.

By the simulated board in a terminal, whose light, laws and way to `serve` are the real ones: a key presses its button for
150 ms, and what is measured begins when it is let go, as a press may still become a long one before. Its processor time has
the drawing of the picture in it, ten times in a second, which a real board does not have; what a real board has besides are
its devices.

In: the release build, a model. Out: a section of RESULTS.md. Close other programs first.

usage: tests/bench/panel.py MODEL.gguf [ROUNDS [SECONDS]]
"""
import contextlib
import glob
import json
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from bench import BIN, serving
from record import RESULTS, record

HELD = 0.15


@contextlib.contextmanager
def panel(socket):
    """A simulated panel: its process, and the descriptor that its keys go into."""
    keys, terminal = pty.openpty()
    process = subprocess.Popen([os.path.join(BIN, 'cloister-panel'), '--simulate', '--board', 'raspberry-pi-5', '--socket',
                                socket], stdin=terminal, stdout=terminal)
    os.close(terminal)

    def draw():
        with contextlib.suppress(OSError):
            while os.read(keys, 65536):
                pass
    threading.Thread(target=draw, daemon=True).start()
    try:
        yield process, keys
    finally:
        os.write(keys, b'q')
        process.wait()
        os.close(keys)


def answer(base):
    """An answer that does not end by itself, event by event, each with its time."""
    body = {'messages': [{'role': 'user', 'content': 'Count.'}], 'max_tokens': 3000, 'stream': True, 'ignore_eos': True}
    request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                     {'Content-Type': 'application/json'})
    for line in urllib.request.urlopen(request):
        if line.startswith(b'data: {'):
            yield time.monotonic(), json.loads(line[6:])


def press(base, keys):
    """Seconds from the button's end to the answer's, and the longest between two tokens before."""
    events = answer(base)
    times = [next(events)[0] for _ in range(20)]
    os.write(keys, b' ')
    let_go = time.monotonic() + HELD
    for at, event in events:
        if 'error' in event:
            assert event['error']['code'] == 'stopped', event
            assert at > let_go, 'the answer ended before the button was let go'
            return at - let_go, max(b - a for a, b in zip(times[1:], times[2:]))
        times.append(at)
    raise AssertionError('the answer was not stopped')


def spent(process):
    """Seconds of the processor, of all its threads; `stat` counts in hundredths, of which an idle panel has none."""
    threads = glob.glob(f'/proc/{process.pid}/task/*/schedstat')
    return sum(int(open(thread).read().split()[0]) for thread in threads) / 1e9


def share(process, seconds, base=None):
    """Percent of one core, idle, or during an answer."""
    events = answer(base) if base else None
    if events:
        next(events)
    before, begin = spent(process), time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        if events:
            next(events)
        else:
            time.sleep(begin + seconds - now)
    return 100 * (spent(process) - before) / (time.monotonic() - begin)


def main():
    model, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 15
    with tempfile.TemporaryDirectory() as folder:
        socket = os.path.join(folder, 's')
        with serving(model, '--socket', socket, '--slots', '1') as (_, base, _), panel(socket) as (process, keys):
            time.sleep(3)
            pressed = []
            for _ in range(rounds):
                pressed.append(press(base, keys))
                time.sleep(0.5)
            idle, answering = share(process, seconds), share(process, seconds, base)
            real = subprocess.Popen([os.path.join(BIN, 'cloister-panel'), '--socket', socket], stderr=subprocess.DEVNULL)
            time.sleep(1)
            without, without_answering = share(real, seconds), share(real, seconds, base)
            real.terminate()
            real.wait()
    times, step = [time for time, _ in pressed], max(step for _, step in pressed)
    allowed = max(0.15, step)
    met = lambda good: 'yes' if good else 'no'
    rows = [
        ('from the button to the stopped answer, median', f'{1000 * statistics.median(times):.0f} ms', '', ''),
        (f'the same, longest of {rounds}', f'{1000 * max(times):.0f} ms',
         f'150 ms, or a decode step ({1000 * step:.0f} ms at most)', met(max(times) <= allowed)),
        ('the panel idle, of one core', f'{without:.2f} %; simulated and drawn {idle:.2f} %', 'under 0.3 %',
         met(without < 0.3)),
        ('the panel during an answer', f'{without_answering:.2f} %; simulated and drawn {answering:.2f} %', 'under 1 %',
         met(without_answering < 1)),
    ]
    print(*rows, sep='\n', file=sys.stderr)
    record(RESULTS, 'Panel', [
        f'`tests/bench/panel.py`, {os.path.basename(model)}. Time runs from the moment that the button is let go, its debouncing',
        'of 25 ms included. Without devices, and simulated with its picture drawn ten times in a second; on no real board yet.', '',
        '| what | measured | promised | met |', '| --- | --- | --- | --- |',
        *('| ' + ' | '.join(row) + ' |' for row in rows)])


if __name__ == '__main__':
    main()
