#!/usr/bin/env python3
"""Measures what Cloister promises about speed and memory, side by side with llama.cpp in one run.

usage: tests/bench/bench.py [--rounds N] [--out tests/bench/RESULTS.md]
       tests/bench/bench.py --llama-bench    prints the path of llama-bench, and nothing else

Builds llama-bench (-march=native) from the PyPI source package of llama-cpp-python the first time.
Needs what `tests/run` installs, the release binaries, and the models of `tests/fetch`. Close other
programs first: with more busy threads than cores every figure is noise. Rounds of the two programs
alternate, and each figure is the median over the rounds; ratios are medians of paired rounds. Ends with
exit code 1 if a promise was not met.
"""
import argparse
import contextlib
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from record import RESULTS, record

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get('CLOISTER_CACHE', os.path.join(ROOT, '.cloister/cache'))
BIN = os.path.join(ROOT, 'target/release')
LLAMA = 'llama_cpp_python-0.3.36'
# GCC 12 gets the tile configuration wrong with which ggml's AMX way begins, and llama-bench ends with a signal.
WITHOUT_AMX = ['-DCMAKE_CXX_FLAGS=-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'] if platform.machine() == 'x86_64' else []
SMOLLM2 = os.path.join(CACHE, 'smollm2-135m-instruct-q4_1.gguf')
SMOLLM2_Q4_0 = os.path.join(CACHE, 'bench-smollm2-q4_0.gguf')
QWEN2 = os.path.join(CACHE, 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf')
CORES = len(os.sched_getaffinity(0))


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def llama_bench():
    """The path of llama-bench, built from the PyPI source package when it is not there."""
    folder = os.path.join(CACHE, 'llama-bench')
    program = os.path.join(folder, 'build/bin/llama-bench')
    if not os.path.exists(program):
        os.makedirs(folder, exist_ok=True)
        print('building llama-bench: this takes minutes', file=sys.stderr)
        run(sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--no-binary', 'llama-cpp-python', '-d', folder,
            'llama-cpp-python==0.3.36')
        run('tar', 'xzf', os.path.join(folder, LLAMA + '.tar.gz'), '-C', folder)
        source = os.path.join(folder, LLAMA, 'vendor/llama.cpp')
        run('cmake', '-S', source, '-B', os.path.join(folder, 'build'), '-DCMAKE_BUILD_TYPE=Release',
            '-DGGML_NATIVE=ON', *WITHOUT_AMX, '-DLLAMA_CURL=OFF', '-DLLAMA_OPENSSL=OFF', '-DBUILD_SHARED_LIBS=OFF',
            '-DLLAMA_BUILD_TESTS=OFF', '-DLLAMA_BUILD_SERVER=OFF')
        run('cmake', '--build', os.path.join(folder, 'build'), '--target', 'llama-bench', f'-j{CORES}')
    return program


def theirs(program, model, repack):
    rows = json.loads(run(program, '-m', model, '-p', '512', '-n', '64', '-t', str(CORES), '-r', '3',
                          '--repack', str(repack), '-o', 'json', stderr=subprocess.DEVNULL))
    return {'prefill' if row['n_prompt'] else 'decode': row['avg_ts'] for row in rows}


def ours(model):
    report = json.loads(run(os.path.join(BIN, 'cloister'), 'bench', '-m', model, '-p', '512', '-n', '64',
                            '-t', str(CORES), '-r', '3', '--json', stderr=subprocess.DEVNULL))
    return {row['test']: row['tokens_per_second'] for row in report['results']}


def speed(program, model, rounds):
    """Rows of the speed table for one model."""
    samples = []
    for i in range(rounds):
        plain, packed, own = theirs(program, model, 0), theirs(program, model, 1), ours(model)
        samples.append((plain, packed, own))
        print(f'{os.path.basename(model)} round {i + 1}/{rounds}: as stored {plain}, repacked {packed}, cloister {own}',
              file=sys.stderr)
    med = lambda f: statistics.median(f(s) for s in samples)
    for test in ('decode', 'prefill'):
        yield (os.path.basename(model), test, med(lambda s: s[0][test]), med(lambda s: s[1][test]),
               med(lambda s: s[2][test]), med(lambda s: s[2][test] / max(s[0][test], s[1][test])))


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def serving(model, *options):
    """A running `cloister serve`: its process, its base address, and seconds until it was ready."""
    with tempfile.TemporaryDirectory() as state:
        port = free_port()
        begin = time.monotonic()
        process = subprocess.Popen([os.path.join(BIN, 'cloister'), 'serve', '--model', model, '--listen',
                                    f'127.0.0.1:{port}', *(() if '--state' in options else ('--state', state)), *options],
                                   stderr=subprocess.DEVNULL)
        base = f'http://127.0.0.1:{port}'
        try:
            while True:
                try:
                    urllib.request.urlopen(base + '/health', timeout=5).read()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() - begin > 60:
                        raise SystemExit('cloister serve did not get ready')
                    time.sleep(0.005)
            yield process, base, time.monotonic() - begin
        finally:
            process.terminate()
            process.wait()


def ask(base, question, tokens):
    """Generated tokens of one request that runs to its length."""
    body = {'messages': [{'role': 'user', 'content': question}], 'max_tokens': tokens, 'seed': 1,
            'ignore_eos': True}
    request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                     {'Content-Type': 'application/json'})
    return json.load(urllib.request.urlopen(request))['usage']['completion_tokens']


def together(base, clients, tokens):
    """Tokens per second of `clients` requests at once, all of them added up."""
    counts = []
    threads = [threading.Thread(target=lambda i=i: counts.append(
        ask(base, f'Write a long story about the number {i}.', tokens))) for i in range(clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begin)


def clients(model, rounds):
    with serving(model) as (_, base, _start):
        ask(base, 'Hi', 8)
        ratios = []
        for i in range(rounds):
            one, four = together(base, 1, 128), together(base, 4, 128)
            ratios.append(four / one)
            print(f'clients round {i + 1}/{rounds}: one {one:.1f}, four {four:.1f} tokens/s', file=sys.stderr)
        return statistics.median(ratios)


def start(model, rounds):
    times = []
    for _ in range(rounds):
        with serving(model) as (_, _, seconds):
            times.append(seconds)
    return statistics.median(times)


def metric(base, name):
    with urllib.request.urlopen(base + '/metrics') as answer:
        return float(re.search(rf'^cloister_{name} (\S+)$', answer.read().decode(), re.M)[1])


def cancel(model, prompt_words, rounds):
    """Milliseconds from a closed connection to a free slot, the longest of the rounds: while a prompt of
    so many words is read, or, with few, while the answer is written."""
    body = {'messages': [{'role': 'user', 'content': 'word ' * prompt_words}], 'max_tokens': 1000,
            'ignore_eos': True, 'stream': True, 'return_progress': True}
    times = []
    with serving(model, '--slots', '1') as (_, base, _start):
        for _ in range(rounds):
            request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                             {'Content-Type': 'application/json'})
            answer = urllib.request.urlopen(request)
            awaited = b'prompt_progress' if prompt_words > 100 else b'"content"'
            while awaited not in answer.readline():
                pass
            # Into the midst of a batch.
            time.sleep(0.05)
            assert metric(base, 'slots_busy') == 1, 'the request ended before it was cancelled'
            begin = time.monotonic()
            answer.close()
            while metric(base, 'slots_busy'):
                time.sleep(0.001)
            times.append((time.monotonic() - begin) * 1000)
    return max(times)


def memory(model):
    """Resident MB of `serve` beyond model file and KV cache, at most, with four answers at once, then four long
    prompts at once."""
    with serving(model) as (process, base, _):
        together(base, 4, 64)
        prompts = [threading.Thread(target=ask, args=(base, f'{i} ' + 'word ' * 3000, 64)) for i in range(4)]
        for thread in prompts:
            thread.start()
        for thread in prompts:
            thread.join()
        with urllib.request.urlopen(base + '/v1/models') as answer:
            meta = json.load(answer)['data'][0]['meta']
        status = open(f'/proc/{process.pid}/status').read()
    header = json.loads(run(os.path.join(BIN, 'cloister-quantize'), 'inspect', model, '--json'))
    key = lambda name: header['metadata'][f"{meta['architecture']}.{name}"]['value']
    heads, layers = key('attention.head_count'), key('block_count')
    width = key('embedding_length') // heads * key('attention.head_count_kv')
    kv = 4 * meta['n_ctx'] * layers * width * 2 * 2  # slots, tokens, layers, K and V, 2 bytes
    resident = int(re.search(r'VmHWM:\s+(\d+)', status)[1]) * 1024
    return (resident - os.path.getsize(model) - kv) / 1e6


def first_token(model, rounds):
    """Milliseconds from Enter to the first text of the answer on the page, in headless Chromium: of the first
    question after a start, and the median of later ones."""
    port = free_port()
    driver = subprocess.Popen(['chromedriver', f'--port={port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def call(path, body):
        request = urllib.request.Request(f'http://127.0.0.1:{port}{path}', json.dumps(body).encode(),
                                         {'Content-Type': 'application/json'})
        return json.load(urllib.request.urlopen(request))['value']

    flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
             '--disable-background-networking', '--disable-component-update', '--disable-sync']
    times = []
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'http://127.0.0.1:{port}/status')
                break
            time.sleep(0.05)
        session = '/session/' + call('/session', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome', 'goog:chromeOptions': {'args': flags}}}})['sessionId']
        with serving(model) as (_, base, _start):
            for i in range(2 * rounds + 1):
                call(session + '/url', {'url': base + '/'})
                call(session + '/execute/sync', {'args': [], 'script': '''
                    localStorage.clear();
                    window.seen = null;
                    const prompt = document.querySelector('textarea#prompt');
                    prompt.addEventListener('keydown', e => { if (e.key === 'Enter') window.entered = performance.now(); }, true);
                    new MutationObserver(() => {
                        const answers = document.querySelectorAll('[data-role="assistant"] .answer');
                        const last = answers[answers.length - 1];
                        if (window.seen === null && window.entered && last && last.textContent.trim())
                            requestAnimationFrame(() => { window.seen ??= performance.now() - window.entered; });
                    }).observe(document.body, {childList: true, subtree: true, characterData: true});'''})
                element = call(session + '/element', {'using': 'css selector', 'value': 'textarea#prompt'})
                # A question of its own each time: nothing is taken over but the template's beginning.
                call(session + f'/element/{next(iter(element.values()))}/value',
                     {'text': f'What is {i} plus {i + 1}?\ue007'})
                for _ in range(400):
                    seen = call(session + '/execute/sync', {'args': [], 'script': 'return window.seen'})
                    if seen is not None:
                        break
                    time.sleep(0.025)
                else:
                    raise SystemExit('no answer appeared on the page')
                times.append(seen)
                time.sleep(0.5)
        call(session + '/execute/sync', {'args': [], 'script': 'return 0'})
    finally:
        driver.terminate()
        driver.wait()
    return times[0], statistics.median(times[1:])


def cpu():
    with open('/proc/cpuinfo') as f:
        return next((line.split(':')[1].strip() for line in f if line.startswith('model name')), os.uname().machine)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', default=RESULTS)
    parser.add_argument('--llama-bench', action='store_true', help='print the path of llama-bench, built if it is not there')
    args = parser.parse_args()
    program = llama_bench()
    if args.llama_bench:
        print(program)
        return
    if not os.path.exists(SMOLLM2_Q4_0):
        run(os.path.join(BIN, 'cloister-quantize'), 'convert', SMOLLM2, SMOLLM2_Q4_0, '--type', 'Q4_0')

    lines = [
        f'`tests/bench/bench.py --rounds {args.rounds}`, {CORES} threads on {cpu()}.',
        'llama.cpp is `llama-bench` of llama-cpp-python 0.3.36, built with `-march=native`; tokens/s,',
        'median of the rounds; the ratio is against the better of its two columns, round by round.', '',
        '| model | test | llama.cpp, as stored | llama.cpp, repacked | cloister | ratio | promised | met |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    missed = []

    def met(what, holds):
        if not holds:
            missed.append(what)
        return 'yes' if holds else 'no'

    for model in (SMOLLM2, SMOLLM2_Q4_0, QWEN2):
        for name, test, plain, packed, own, ratio in speed(program, model, args.rounds):
            least = {'decode': 0.97, 'prefill': 0.98}[test]
            lines.append(f'| {name} | {test} | {plain:.1f} | {packed:.1f} | {own:.1f} | {ratio:.3f} | at least {least} '
                         f'| {met(f"{name}, {test}", ratio >= least)} |')
    cold, warm = first_token(SMOLLM2_Q4_0, args.rounds)
    at_least, below, at_most = ('at least', float.__ge__), ('under', float.__lt__), ('at most', float.__le__)
    figures = [
        ('first token on the page after Enter, SmolLM2 Q4_0', warm, '.0f', ' ms', below, 300.0),
        ('the same, of the first question after a start', cold, '.0f', ' ms', below, 300.0),
        ('4 clients at once against one, SmolLM2 Q4_0', clients(SMOLLM2_Q4_0, args.rounds), '.2f', '', at_least, 1.8),
        ('4 clients at once against one, Qwen2 0.5B', clients(QWEN2, args.rounds), '.2f', '', at_least, 1.8),
        ('start of `serve` until /health, SmolLM2 Q4_0', start(SMOLLM2_Q4_0, args.rounds), '.2f', ' s', below, 1.5),
        ('cancel while a prompt is read, Qwen2 0.5B, longest', cancel(QWEN2, 2500, 2 * args.rounds), '.0f', ' ms', below, 100.0),
        ('cancel while an answer is written, Qwen2 0.5B, longest', cancel(QWEN2, 5, 2 * args.rounds), '.0f', ' ms', below, 100.0),
        ('resident beyond model and KV cache, SmolLM2 Q4_0', memory(SMOLLM2_Q4_0), '.0f', ' MB', at_most, 200.0),
        ('resident beyond model and KV cache, Qwen2 0.5B', memory(QWEN2), '.0f', ' MB', at_most, 200.0),
    ]
    lines += ['', '| what | measured | promised | met |', '| --- | --- | --- | --- |']
    for what, value, digits, unit, (word, holds), limit in figures:
        lines.append(f'| {what} | {value:{digits}}{unit} | {word} {limit:g}{unit} | {met(what, holds(float(value), limit))} |')
    record(args.out, 'Speed and memory, measured', lines)
    print('\n'.join(lines))
    if missed:
        raise SystemExit('not met: ' + '; '.join(missed))


if __name__ == '__main__':
    main()
