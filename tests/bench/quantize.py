#!/usr/bin/env python3
"""Measures what cloister-quantize promises, side by side with llama.cpp's tools in one run.

usage: tests/bench/quantize.py [--rounds N] [--quality CHUNKS] [--out tests/bench/RESULTS.md]

The model is a BF16 Hugging Face folder of half a billion weights whose rows fill K-quant super-blocks
(make_reference_model.py makes it of the fetched Qwen2 file). The first time it installs what upstream's
converter needs (torch, transformers) and builds llama-quantize from the PyPI source package of
llama-cpp-python; --python, --llama-source, --llama-bin and --model say where those are already. Rounds of
the programs alternate; each ratio is the median of the rounds' own ratios, so that a busy machine
disturbs both sides alike. --quality also measures perplexity and KL divergence of several types on
CHUNKS windows: minutes each. Ends with exit code 1 if a promise was not met, or if a Q4_K_M of ours has other
tensor data than llama-quantize's.
"""
import argparse
import glob
import hashlib
import json
import os
import pydoc_data.topics
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from record import RESULTS, record

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get('CLOISTER_CACHE', os.path.join(ROOT, '.cloister/cache'))
PROGRAM = os.path.join(os.environ.get('CARGO_TARGET_DIR', os.path.join(ROOT, 'target')), 'release/cloister-quantize')
QWEN2 = os.path.join(CACHE, 'qwen2.5-coder-0.5b-instruct-q4_k_m.gguf')
CORES = len(os.sched_getaffinity(0))
# What `--fit` weighs, those of it that are not made without an importance matrix, and those that llama-quantize makes too.
FITTING = ('Q8_0', 'Q6_K', 'Q5_K_M', 'Q5_K_S', 'Q4_K_M', 'Q4_K_S', 'IQ4_XS', 'Q3_K_L', 'Q3_K_M', 'IQ3_M', 'Q3_K_S',
           'IQ3_XS', 'IQ3_XXS', 'Q2_K', 'IQ2_M', 'IQ2_S', 'IQ2_XS', 'IQ2_XXS', 'IQ1_M', 'IQ1_S')
NEED_IMATRIX = ('IQ3_XS', 'IQ3_XXS', 'IQ2_M', 'IQ2_S', 'IQ2_XS', 'IQ2_XXS', 'IQ1_M', 'IQ1_S')
COMPARED = ('Q4_K_M', 'IQ4_XS', 'Q3_K_M', 'Q2_K')
PACKAGES = ['torch', 'transformers', 'gguf', 'safetensors', 'numpy', 'sentencepiece']


def run(*command):
    """Runs a program; gives its seconds and its peak of resident bytes."""
    os.sync()  # or it would wait for what others wrote
    begin = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f'{command}: {log.read().decode()}')
    return time.monotonic() - begin, usage.ru_maxrss * 1024


def prepare(args):
    """The Python for upstream's converter, its source, llama-quantize, and the model's folder."""
    python = args.python or os.path.join(CACHE, 'venv-upstream/bin/python')
    if not os.path.exists(python):
        print('installing torch and transformers: this takes minutes', file=sys.stderr)
        run(sys.executable, '-m', 'venv', os.path.join(CACHE, 'venv-upstream'))
        run(python, '-m', 'pip', 'install', '-q', *PACKAGES)
    folder = os.path.join(CACHE, 'llama-bench')
    source = args.llama_source or os.path.join(folder, 'llama_cpp_python-0.3.36/vendor/llama.cpp')
    if not os.path.exists(source):
        os.makedirs(folder, exist_ok=True)
        run(python, '-m', 'pip', 'download', '-q', '--no-deps', '--no-binary', 'llama-cpp-python', '-d', folder,
            'llama-cpp-python==0.3.36')
        run('tar', 'xzf', os.path.join(folder, 'llama_cpp_python-0.3.36.tar.gz'), '-C', folder)
    quantizer = os.path.join(args.llama_bin or os.path.join(folder, 'build-tools/bin'), 'llama-quantize')
    if not os.path.exists(quantizer):
        print('building llama-quantize: this takes minutes', file=sys.stderr)
        build = os.path.join(folder, 'build-tools')
        run('cmake', '-S', source, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DGGML_NATIVE=ON', '-DLLAMA_CURL=OFF',
            '-DLLAMA_OPENSSL=OFF', '-DBUILD_SHARED_LIBS=OFF', '-DLLAMA_BUILD_TESTS=OFF', '-DLLAMA_BUILD_SERVER=OFF')
        run('cmake', '--build', build, '--target', 'llama-quantize', f'-j{CORES}')
    model = args.model or os.path.join(CACHE, 'reference-0.5b-bf16')
    if not os.path.exists(os.path.join(model, 'config.json')):
        run(python, os.path.join(ROOT, 'tests/bench/make_reference_model.py'), QWEN2, model)
    return python, source, quantizer, model


def copy(files, folder):
    """Seconds of a plain copy of the weights, until they are on the disk as ours are."""
    os.sync()
    begin = time.monotonic()
    for file in files:
        there = shutil.copy(file, folder)
        with open(there, 'rb+') as f:
            os.fsync(f.fileno())
        os.remove(there)
    return time.monotonic() - begin


def tensor_data(path):
    """The header as JSON, and each tensor's type and hash by its name: files may have them in any order."""
    header = json.loads(subprocess.check_output([PROGRAM, 'inspect', path, '--json']))
    hashes = {}
    with open(path, 'rb') as f:
        for tensor in header['tensors']:
            f.seek(header['data_start'] + tensor['offset'])
            hashes[tensor['name']] = (tensor['type'], hashlib.sha256(f.read(tensor['bytes'])).digest())
    return header, hashes


def speed(tools, rounds, folder):
    """Rows of the table of promises: what, the value as shown, the promise, whether it is met or None."""
    python, source, quantizer, model = tools
    out, full = os.path.join(folder, 'out.gguf'), os.path.join(folder, 'full.gguf')
    weights = glob.glob(os.path.join(model, '*.safetensors'))
    samples = []
    same = None
    for i in range(rounds):
        s = {}
        converter = os.path.join(source, 'convert_hf_to_gguf.py')
        s['converter'], s['converter memory'] = run(python, converter, model, '--outtype', 'bf16', '--outfile', full)
        theirs = os.path.join(folder, 'theirs.gguf')
        s['llama-quantize'], s['llama-quantize memory'] = run(quantizer, full, theirs, 'Q4_K_M', str(CORES))
        s['copy'] = copy(weights, folder)
        for t in ('Q4_K_M', 'Q8_0', 'Q4_0'):
            s[t], s[t + ' memory'] = run(PROGRAM, 'convert', model, out, '--type', t)
            if t == 'Q4_K_M' and i == 0:
                same = tensor_data(out)[1] == tensor_data(theirs)[1]
        print(f'round {i + 1}/{rounds}:', {k: round(v, 2) for k, v in s.items() if 'memory' not in k}, file=sys.stderr)
        samples.append(s)
    med = lambda f: statistics.median(f(s) for s in samples)
    of_both = med(lambda s: s['Q4_K_M'] / (s['converter'] + s['llama-quantize']))
    rows = [(f'{model_name()} to Q4_K_M', f"{med(lambda s: s['Q4_K_M']):.1f} s", '', None),
            ('`convert_hf_to_gguf.py`, then `llama-quantize`',
             f"{med(lambda s: s['converter']):.1f} s + {med(lambda s: s['llama-quantize']):.1f} s", '', None),
            ('ours against both', f'{of_both:.2f}', 'at most 0.8', of_both <= 0.8),
            ('ours against `llama-quantize` alone', f"{med(lambda s: s['Q4_K_M'] / s['llama-quantize']):.2f}", '', None),
            ('tensor data of Q4_K_M, ours and theirs', 'equal' if same else 'not equal', 'equal', same)]
    for t in ('Q8_0', 'Q4_0'):
        of_copy = med(lambda s: s['copy'] / s[t])
        rows.append((f'throughput to {t}, against a plain copy of the folder\'s weights', f'{of_copy:.2f}',
                     'at least 0.6', of_copy >= 0.6))
    peak = max(s[t + ' memory'] for s in samples for t in ('Q4_K_M', 'Q8_0', 'Q4_0'))
    rows.append(('peak resident memory', f'{peak / 2**20:.0f} MiB', 'at most 1 GiB', peak <= 2**30))
    theirs = max(max(s['converter memory'], s['llama-quantize memory']) for s in samples)
    rows.append(('that of the other two', f'{theirs / 2**20:.0f} MiB', '', None))
    return rows


def model_name():
    return 'BF16 folder of 0.73 billion weights'


def quality(tools, chunks, folder):
    """Rows of the table of quality. Text: the Python language reference, as pydoc has it."""
    _, _, quantizer, model = tools
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    half = len(topics) // 2
    path = lambda name: os.path.join(folder, name)
    for name, part in (('calibration.txt', topics[:half]), ('judge.txt', topics[half:])):
        with open(path(name), 'w') as f:
            f.write('\n\n'.join(part))
    base, imatrix, ours, theirs = path('base.gguf'), path('imatrix.gguf'), path('ours.gguf'), path('theirs.gguf')
    run(PROGRAM, 'convert', model, base, '--type', 'BF16')
    run(PROGRAM, 'imatrix', base, path('calibration.txt'), '-o', imatrix, '--chunks', '16')

    def measure(file):
        return json.loads(subprocess.check_output(
            [PROGRAM, 'measure', file, path('judge.txt'), '--against', base, '--chunks', str(chunks), '--json'],
            stderr=subprocess.DEVNULL))

    for t in FITTING:
        for importance in (['--imatrix', imatrix],) if t in NEED_IMATRIX else ([], ['--imatrix', imatrix]):
            run(PROGRAM, 'convert', base, ours, '--type', t, *importance)
            header, data = tensor_data(ours)
            compared = '-'
            if t in COMPARED:
                run(quantizer, *importance, base, theirs, t, str(CORES))
                compared = 'same bytes' if tensor_data(theirs)[1] == data else figures(measure(theirs))[1]
            row = [t, 'with' if importance else 'without', f"{header['bits_per_weight']:.2f}", *figures(measure(ours)), compared]
            print(*row, file=sys.stderr)
            yield row


def cpu():
    with open('/proc/cpuinfo') as f:
        return next((line.split(':')[1].strip() for line in f if line.startswith('model name')), os.uname().machine)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--quality', type=int, metavar='CHUNKS')
    parser.add_argument('--out', default=RESULTS)
    for name in ('--python', '--llama-source', '--llama-bin', '--model'):
        parser.add_argument(name)
    args = parser.parse_args()
    tools = prepare(args)
    missed = []
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        if args.rounds:
            lines = [f'`tests/bench/quantize.py --rounds {args.rounds}`, {CORES} cores of {cpu()}. Medians of the rounds;',
                     'ratios are medians of the rounds\' own.', '',
                     '| what | measured | promised | met |', '| --- | --- | --- | --- |']
            rows = speed(tools, args.rounds, folder)
            shown = {True: 'yes', False: 'no', None: ''}
            lines += [f'| {what} | {value} | {promised} | {shown[met]} |' for what, value, promised, met in rows]
            record(args.out, 'Quantizing: time and memory', lines)
            missed = [what for what, _, _, met in rows if met is False]
        if args.quality:
            lines = [f'`tests/bench/quantize.py --quality {args.quality}`: {args.quality} windows of 512 tokens of Python\'s',
                     'reference, against the same model in BF16. "Same bytes": the tensor data is `llama-quantize`\'s; "-": not compared.', '',
                     '| type | imatrix | bits per weight | perplexity | mean KL divergence | same top token | llama-quantize\'s KL |',
                     '| --- | --- | --- | --- | --- | --- | --- |']
            lines += [f"| {' | '.join(row)} |" for row in quality(tools, args.quality, folder)]
            record(args.out, 'Quantizing: quality', lines)
    if missed:
        raise SystemExit('not met: ' + '; '.join(missed))


def figures(report):
    """Perplexity, mean KL divergence, share of same top tokens."""
    against = report['against']
    return (f"{report['perplexity']['mean']:.3f}", f"{against['kl_divergence']['mean']:.4f}",
            f"{100 * against['same_top']['mean']:.1f} %")


if __name__ == '__main__':
    main()
