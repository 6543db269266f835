#!/usr/bin/env python3
"""What speculation gains on tasks that copy, and what it costs on free prose: tokens per second with it against
without, the same requests in turn in one run of `serve`.

In: the release build, a model. Out: a section of RESULTS.md, where the promise is for Qwen2 0.5B. Close other
programs first.

usage: tests/bench/speculation.py MODEL.gguf [ROUNDS] [--model-draft DRAFT.gguf]
"""
import argparse
import json
import os
import statistics
import sys
import urllib.request

from bench import CORES, cpu, serving
from record import RESULTS, record

HOUSE = {'rooms': [{'name': name, 'lights': n, 'windows': n // 2 + 1, 'heating': 'on' if n % 2 else 'off'}
                   for n, name in enumerate(['kitchen', 'hall', 'bedroom', 'cellar', 'attic', 'bath'], 1)]}
LOG = '\n'.join(f'2026-03-{i + 1:02d} {"ERROR" if i % 3 == 0 else "INFO"} sensor {i * 7 % 11} in the '
                f'{["hall", "attic", "garden"][i % 3]} reports {20 + i} degrees' for i in range(18))
COPY = {
    'rewrite JSON with one change': 'Rewrite this JSON, with the heating of the cellar set to "auto" and nothing else '
                                    f'changed. Answer with the JSON alone.\n{json.dumps(HOUSE)}',
    'extract lines': f'Copy the lines that contain ERROR, exactly as they are, and nothing else.\n{LOG}',
}
PROSE = {
    'a story': 'Write a story about an old lighthouse keeper.',
    'an explanation': 'Explain how a refrigerator works, to a child.',
    'a letter': 'Write a letter to a friend about a rainy week at the sea.',
}


def ask(base, text, **more):
    body = {'messages': [{'role': 'user', 'content': text}], 'max_tokens': 256, **more}
    request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                     {'Content-Type': 'application/json'})
    return json.load(urllib.request.urlopen(request))


def compare(base, text, rounds, **sampling):
    """The median ratio of the rates, with the share of drafted tokens that came and whether the texts are the same."""
    ratios, rates, same, drafted, accepted = [], [], True, 0, 0
    ask(base, text, **sampling, max_tokens=1)
    for i in range(rounds):
        more = dict(sampling, seed=i)
        pair = [ask(base, text, **more, **{'speculative.n_max': n}) for n in ((0, 16) if i % 2 else (16, 0))]
        without, with_ = pair if i % 2 else pair[::-1]
        drafted += with_['timings']['draft_n']
        accepted += with_['timings']['draft_n_accepted']
        rate = [answer['timings']['predicted_per_second'] for answer in (without, with_)]
        rates.append(rate)
        ratios.append(rate[1] / rate[0])
        same &= without['choices'] == with_['choices']
        print(f'{text[:30]!r} round {i + 1}/{rounds}: {rate[0]:.1f} -> {rate[1]:.1f} t/s, '
              f"{with_['timings']['draft_n_accepted']} of {with_['timings']['draft_n']} came, same {same}", file=sys.stderr)
    without, with_ = (statistics.median(r[i] for r in rates) for i in (0, 1))
    return statistics.median(ratios), without, with_, drafted, accepted, same


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('rounds', type=int, nargs='?', default=4)
    parser.add_argument('--model-draft')
    options = parser.parse_args()
    rounds = options.rounds
    draft = ('--model-draft', options.model_draft) if options.model_draft else ()
    names = ' '.join(os.path.basename(word) for word in (options.model, str(rounds), *draft))
    lines = [
        f'`tests/bench/speculation.py {names}`, {CORES} threads on {cpu()}. Medians; the ratio is of',
        'pairs that came right after each other. Copying is greedy, prose is drawn (temperature 0.6).', '',
        '| task | without, tokens/s | with | ratio | promised | drafted tokens that came | same text |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    with serving(options.model, *draft) as (_process, base, _start):
        for tasks, promised, sampling in ((COPY, 'at least 1.5', {'temperature': 0}), (PROSE, 'at least 0.97', {})):
            for name, text in tasks.items():
                ratio, without, with_, drafted, accepted, same = compare(base, text, rounds, **sampling)
                lines.append(f'| {name} | {without:.1f} | {with_:.1f} | {ratio:.2f} | {promised} | {accepted} of {drafted} '
                             f'| {"yes" if same else "no"} |')
    title = 'Speculation' if not draft else f'Speculation with {os.path.basename(options.model_draft)}'
    record(RESULTS, title, lines)
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
