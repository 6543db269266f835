#!/usr/bin/env python3
"""How much slower decoding is the more tokens are in the KV cache, and, where `perf` is there, what it waits for.

In: the release build, a model. Out: a line for each depth. Close other programs first.

usage: tests/bench/depth.py MODEL.gguf DEPTH… [-- OPTION OF serve…]
"""
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from bench import serving

TOKENS = 32
# Whose work a function is.
PARTS = {'attention': r'flash_attn|vec_dot_f16|vec_mad_f16|vec_dot_q8_0|vec_scale|fp16|simd_gemm|expf',
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


def main():
    arguments = sys.argv[1:]
    cut = arguments.index('--') if '--' in arguments else len(arguments)
    if cut < 2:
        raise SystemExit(__doc__)
    model, depths, options = arguments[0], [int(a) for a in arguments[1:cut]], arguments[cut + 1:]
    for depth in depths:
        # Words of about a token each, which repeat nothing soon.
        text = ' '.join(str(i * 7919 % 10) for i in range(depth // 2))
        with serving(model, '--ctx', str(depth + 256), '--slots', '1', *options) as (process, base, _start), \
                tempfile.NamedTemporaryFile() as data:
            tokens = ask(base, text, 1)['usage']['prompt_tokens']
            perf = shutil.which('perf') and subprocess.Popen(
                ['perf', 'record', '-q', '-e', 'cpu-clock', '-o', data.name, '-p', str(process.pid)], stderr=subprocess.DEVNULL)
            rate = ask(base, text, TOKENS)['timings']['predicted_per_second']
            told = ''
            if perf:
                perf.send_signal(2)
                perf.wait()
                told = shares(subprocess.run(['perf', 'report', '-i', data.name, '--stdio', '--sort', 'symbol'],
                                             capture_output=True, text=True).stdout)
        print(f'{tokens} tokens: {rate:.1f} tokens/s; {told}', flush=True)


main()
