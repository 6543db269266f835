#!/usr/bin/env python3
"""What the seal costs: speed of `serve` with it and without it, turn by turn, and what sealing adds to a start.

The shipped program cannot be asked to stay unsealed. Without the seal means: with a library before the C library's
own that answers what a kernel without seccomp, Landlock and namespaces would; it is checked in /proc that this was so.

In: the release build with its examples (`cargo build --release --workspace --bins --examples`), gcc, a model. Out: a
line for each round, and a section of RESULTS.md. Close other programs first.

usage: tests/bench/sandbox.py MODEL.gguf [ROUNDS]
"""
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from bench import BIN, CORES, cpu, serving
from record import RESULTS, record

OLD_KERNEL = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>

static int refuse(int error) { errno = error; return -1; }

int unshare(int flags) { (void)flags; return refuse(EPERM); }

long syscall(long number, long a, long b, long c, long d, long e, long f) {
    static long (*next)(long, ...);
    if (number == SYS_seccomp) return refuse(EINVAL);
    if (number == SYS_landlock_create_ruleset) return refuse(ENOSYS);
    if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(number, a, b, c, d, e, f);
}
'''

DECODE, PREFILL, STARTS = 256, 1000, 40


@contextlib.contextmanager
def kernel(library):
    """Programs that are started meanwhile have this library before all others, if any."""
    if library:
        os.environ['LD_PRELOAD'] = library
    try:
        yield
    finally:
        os.environ.pop('LD_PRELOAD', None)


def speeds(model, library):
    """Tokens per second of a prompt and of an answer, by a `serve` of its own."""
    with kernel(library), serving(model) as (process, base, _start):
        status = open(f'/proc/{process.pid}/status').read()
        assert ('Seccomp:\t0' if library else 'Seccomp:\t2') in status, status
        body = {'messages': [{'role': 'user', 'content': 'The garden and the wall. ' * (PREFILL // 6)}],
                'max_tokens': DECODE, 'temperature': 0, 'ignore_eos': True}
        request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                         {'Content-Type': 'application/json'})
        timings = json.load(urllib.request.urlopen(request))['timings']
        return timings['prompt_per_second'], timings['predicted_per_second']


def start(who, place):
    """Seconds of a program that seals itself as `who` and ends."""
    environment = {**os.environ, 'PLACE': place, 'BROKER': '1', 'OTHER': '1'}
    begin = time.monotonic()
    subprocess.run([os.path.join(BIN, 'examples/attempt'), who, 'read what is free'], env=environment, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    model, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 7
    with tempfile.TemporaryDirectory() as folder:
        source, library = os.path.join(folder, 'old.c'), os.path.join(folder, 'old.so')
        with open(source, 'w') as f:
            f.write(OLD_KERNEL)
        subprocess.run(['gcc', '-O2', '-shared', '-fPIC', '-o', library, source, '-ldl'], check=True)
        ratios = []
        for i in range(rounds):
            order = [None, library] if i % 2 == 0 else [library, None]
            found = {which: speeds(model, which) for which in order}
            ratios.append([sealed / open_ for sealed, open_ in zip(found[None], found[library])])
            print(f'round {i + 1}/{rounds}: sealed {found[None]}, without {found[library]}', file=sys.stderr)
        for name in ('models', 'state', 'socket', 'certificates'):
            os.mkdir(os.path.join(folder, name))
        costs = {}
        for who in ('serve', 'bridge', 'quantize'):
            pairs = [(start(who, folder), start('open', folder)) for _ in range(STARTS)]
            costs[who] = 1e3 * statistics.median(sealed - open_ for sealed, open_ in pairs)
    prefill, decode = (statistics.median(r[i] for r in ratios) for i in (0, 1))
    yes = lambda met: 'yes' if met else 'no'
    record(RESULTS, 'The seal', [
        f'`tests/bench/sandbox.py {os.path.basename(model)} {rounds}`, {CORES} threads on {cpu()}. Medians of the rounds; a',
        'ratio is sealed against not sealed, by programs started one after the other.', '',
        '| what | measured | promised | met |',
        '| --- | --- | --- | --- |',
        f'| tokens per second of an answer, ratio | {decode:.4f} | at least 0.99 | {yes(decode >= 0.99)} |',
        f'| tokens per second of a prompt, ratio | {prefill:.4f} | at least 0.99 | {yes(prefill >= 0.99)} |',
        *(f'| sealing as {who} adds to a start | {cost:.1f} ms | under 50 ms | {yes(cost < 50)} |'
          for who, cost in costs.items()),
    ])


main()
