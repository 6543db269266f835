#!/usr/bin/env python3
"""Time to the first token of a prompt with a long template, right after a restart: on what is stored of the
template, against the same prompt computed by ggml's own kernels with nothing stored.

In: the release build, a model. Out: a line for each round, and a section of RESULTS.md, where the promise is for
Qwen2 0.5B. Close other programs first.

usage: tests/bench/prefixes.py MODEL.gguf [ROUNDS]
"""
import json
import os
import statistics
import sys
import tempfile
import time
import urllib.request

from bench import CORES, cpu, serving
from record import RESULTS, record

TOKENS = 1000
QUESTION = 'Turn the light in the kitchen on, please.'


def system(base):
    """A system message of a house, of so many tokens with what the chat template puts around it."""
    rooms = ['kitchen', 'cellar', 'garden', 'hall', 'attic']
    parts = []
    for i in range(400):
        room = rooms[i % len(rooms)]
        parts.append(f'light.{room}_{i} is {"off" if i % 3 else "on"}.')
        if i % 8 == 0 and i > 40 and ask(base, ' '.join(parts))['usage']['prompt_tokens'] >= TOKENS + 12:
            return ' '.join(parts)
    raise SystemExit('this template is too short')


def ask(base, system, **more):
    body = {'messages': [{'role': 'system', 'content': system}, {'role': 'user', 'content': QUESTION}],
            'max_tokens': 1, 'temperature': 0, **more}
    request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                     {'Content-Type': 'application/json'})
    return json.load(urllib.request.urlopen(request))


def first_token(model, state, system, *options):
    """Seconds from the request to the first token of a `serve` that has just started, and its usage."""
    with serving(model, '--state', state, *options) as (_process, base, _start):
        begin = time.monotonic()
        usage = ask(base, system)['usage']
        return time.monotonic() - begin, usage


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    model, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 3
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryDirectory() as empty:
        with serving(model, '--state', state) as (_process, base, _start):
            template = system(base)
            ask(base, template, cache='template')
        stored = sum(e.stat().st_size for e in os.scandir(os.path.join(state, 'prefixes')))
        times = []
        for i in range(rounds):
            ours, usage = first_token(model, state, template)
            theirs, cold = first_token(model, empty, template, '--no-kernels', '--cache-disk', '0')
            assert cold['prompt_tokens_details']['cached_tokens'] == 0
            times.append((ours, theirs))
            print(f'round {i + 1}/{rounds}: stored {ours * 1e3:.0f} ms ({usage}), cold {theirs:.2f} s', file=sys.stderr)
    ours, theirs = (statistics.median(t[i] for t in times) for i in (0, 1))
    ratio = statistics.median(t[1] / t[0] for t in times)
    tokens, known = usage['prompt_tokens'], usage['prompt_tokens_details']['cached_tokens']
    record(RESULTS, 'A stored template', [
        f'`tests/bench/prefixes.py {os.path.basename(model)} {rounds}`, {CORES} threads on {cpu()}. `serve` is started anew',
        'for each figure, and the file is in the page cache. Cold is `--no-kernels`: ggml alone.', '',
        '| what | measured | promised |',
        '| --- | --- | --- |',
        f'| first token, prompt of {tokens} tokens of which {known} are stored | {ours * 1e3:.0f} ms | |',
        f'| the same prompt, cold | {theirs:.2f} s | |',
        f'| stored against cold | 1/{ratio:.0f} | at most 1/30 |',
        f'| bytes on the disk | {stored / 2**20:.1f} MiB | |',
    ])


main()
