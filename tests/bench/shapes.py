#!/usr/bin/env python3
"""What it costs to hold an answer to a shape: tokens per second against an answer of as many tokens without one, in turn
in one run of `serve`, both without speculation.

In: the release build, a model. Out: a section of RESULTS.md, where the promise is for Qwen2 0.5B. Close other
programs first.

usage: tests/bench/shapes.py MODEL.gguf [ROUNDS]
"""
import argparse
import json
import os
import statistics
import sys
import urllib.request

from bench import CORES, cpu, serving
from record import RESULTS, record

MAX_TOKENS = 128
PEOPLE = {'type': 'array', 'minItems': 40, 'items': {
    'type': 'object', 'properties': {
        'name': {'type': 'string', 'maxLength': 12}, 'age': {'type': 'integer', 'minimum': 1, 'maximum': 99}},
    'required': ['name', 'age'], 'additionalProperties': False}}
TREE = {'$ref': '#/$defs/node', '$defs': {'node': {
    'type': 'object', 'properties': {
        'name': {'type': 'string'}, 'children': {'type': 'array', 'items': {'$ref': '#/$defs/node'}}},
    'required': ['name', 'children'], 'additionalProperties': False}}}
GBNF = r'''root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (pair ("," ws pair)*)? "}" ws
pair ::= string ":" ws value ws
array ::= "[" ws (value ws ("," ws value ws)*)? "]"
string ::= "\"" ([^"\\\x00-\x1F] | "\\" ["\\/bfnrtu])* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?
ws ::= [ \n]*
'''
PROSE = r"([A-Z][a-z ,;]{20,200}\. )+"


def grammar(syntax, definition):
    return {'type': 'grammar', 'syntax': syntax, 'definition': definition}


def schema(schema):
    return {'type': 'json_schema', 'json_schema': {'name': 'x', 'schema': schema}}


SHAPES = {
    'JSON of a schema': ('List forty people with their ages, as JSON.', schema(PEOPLE)),
    'JSON of a schema that needs itself': ('A family tree of five generations, as JSON.', schema(TREE)),
    'sentences of a regular expression': ('Tell me about the sea.', grammar('regex', PROSE)),
    'JSON of a grammar in GBNF that needs itself': ('A family tree of five generations, as JSON.', grammar('gbnf', GBNF)),
}


def ask(base, text, **more):
    body = {'messages': [{'role': 'user', 'content': text}], 'max_tokens': MAX_TOKENS, 'speculative.n_max': 0, **more}
    request = urllib.request.Request(base + '/v1/chat/completions', json.dumps(body).encode(),
                                     {'Content-Type': 'application/json'})
    return json.load(urllib.request.urlopen(request))


def compare(base, text, shape, rounds):
    """The rates without and with it, their ratio, and which share of the tokens had to come. Medians."""
    # Compiled, and the prompt read, before.
    ask(base, text, response_format=shape, max_tokens=1)
    rows = []
    for i in range(rounds):
        held = ask(base, text, response_format=shape, seed=i)['timings']
        free = ask(base, text, ignore_eos=True, seed=i, max_tokens=max(16, int(held['predicted_n'])))['timings']
        rates = free['predicted_per_second'], held['predicted_per_second']
        rows.append((*rates, rates[1] / rates[0], held['forced_n'] / held['predicted_n']))
        print(f'{text[:30]!r} round {i + 1}/{rounds}: {rates[0]:.1f} -> {rates[1]:.1f} t/s of {held["predicted_n"]}, '
              f'{held["forced_n"]} had to come', file=sys.stderr)
    return [statistics.median(column) for column in zip(*rows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model')
    parser.add_argument('rounds', type=int, nargs='?', default=2)
    options = parser.parse_args()
    lines = [
        f'`tests/bench/shapes.py {os.path.basename(options.model)} {options.rounds}`, {CORES} threads on {cpu()}. Medians; the ratio',
        'is of pairs that came right after each other. Tokens that had to come are taken without being computed one by one.', '',
        '| shape | without, tokens/s | with | ratio | promised | had to come | met |',
        '| --- | --- | --- | --- | --- | --- | --- |',
    ]
    with serving(options.model) as (_process, base, _start):
        for name, (text, shape) in SHAPES.items():
            free, held, ratio, forced = compare(base, text, shape, options.rounds)
            lines.append(f'| {name} | {free:.1f} | {held:.1f} | {ratio:.3f} | at least 0.9 | {forced:.0%} | '
                         f'{"yes" if ratio >= 0.9 else "no"} |')
    record(RESULTS, 'Shapes', lines)
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
