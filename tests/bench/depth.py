#!/usr/bin/env python3
"""How much slower decoding is the more tokens are in the KV cache: with the kernels, without, and with llama-bench, one
after the other for each depth; and, where `perf` is there, where the time goes with the kernels.

In: the release build, a model. Out: a line for each depth, in tokens/s. Close other programs first.

usage: tests/bench/depth.py MODEL.gguf DEPTH… [--threads N] [--kv-type f16|q8_0]
"""
import argparse
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request

from bench import llama_bench, run, serving

TOKENS = 32
# Whose work a function is.
PARTS = {'attention': r'attention|vector::(attend|merge)|flash_attn|vec_dot_f16|vec_mad_f16|vec_dot_q8_0|vec_scale|fp16|simd_gemm|expf',
         'products': r'cloister_kernels|Kernel|SuperBlock', 'waiting': r'barrier'}


def ask(base, text, tokens):
    body = {'messages': [{'role': 'user', 'content': text}], 'max_tokens': tokens, 'seed': 1, 'ignore_eos': True,
            'speculative.n_max': 0}
    request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                     {'Content-Type': 'application/json'})
    return json.load(urllib.request.urlopen(request))


def shares(report):
    """Per cent of each part, in what `perf report` prints."""
    found = dict.fromkeys([*PARTS, 'the rest'], 0.0)
    for line in report.splitlines():
        if match := re.match(r'\s*([\d.]+)%\s+(.*)', line):
            part = next((name for name, functions in PARTS.items() if re.search(functions, match[2])), 'the rest')
            found[part] += float(match[1])
    return ', '.join(f'{name} {share:.0f} %' for name, share in found.items())


def ours(model, depth, threads, kv_type, *options):
    """Tokens in the cache, tokens/s, and where the time went."""
    # Words of about a token each, which repeat nothing soon.
    text = ' '.join(str(i * 7919 % 10) for i in range(depth // 2))
    with serving(model, '--ctx', str(depth + 256), '--slots', '1', '--threads', str(threads), '--kv-type', kv_type,
                 *options) as (process, base, _start), tempfile.NamedTemporaryFile() as data:
        tokens = ask(base, text, 1)['usage']['prompt_tokens']
        perf = shutil.which('perf') and subprocess.Popen(
            ['perf', 'record', '-q', '-e', 'cpu-clock', '-o', data.name, '-p', str(process.pid)], stderr=subprocess.DEVNULL)
        rate = ask(base, text, TOKENS)['timings']['predicted_per_second']
        if not perf:
            return tokens, rate, ''
        perf.send_signal(2)
        perf.wait()
        return tokens, rate, shares(subprocess.run(['perf', 'report', '-i', data.name, '--stdio', '--sort', 'symbol'],
                                                   capture_output=True, text=True).stdout)


def theirs(model, depth, threads, kv_type):
    (row,) = json.loads(run(llama_bench(), '-m', model, '-p', '0', '-n', str(TOKENS), '-d', str(depth), '-t', str(threads), '-r', '1',
                            '-ctk', kv_type, '-ctv', kv_type, '-fa', '1', '-o', 'json', stderr=subprocess.DEVNULL))
    return row['avg_ts']


def main():
    options = argparse.ArgumentParser(usage=__doc__.rsplit('usage: ')[-1])
    options.add_argument('model')
    options.add_argument('depths', type=int, nargs='+')
    options.add_argument('--threads', type=int, default=1)
    options.add_argument('--kv-type', default='f16')
    options = options.parse_args()
    for depth in options.depths:
        what = options.model, depth, options.threads, options.kv_type
        tokens, rate, told = ours(*what)
        _, without, told_without = ours(*what, '--no-kernels')
        print(f'{tokens} tokens: {rate:.1f} tokens/s ({told}); without the kernels {without:.1f} ({told_without}); '
              f'llama-bench {theirs(options.model, tokens, options.threads, options.kv_type):.1f}', flush=True)


main()
