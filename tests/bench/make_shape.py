#!/usr/bin/env python3
"""Makes a model of a real one's shape whose weights are noise, to time what is too large to be fetched whole.

In: the beginning of a GGUF, as long as its header at least. Out: a whole GGUF with the same header; weights of Q4_K and
Q6_K are noise as quantizing would leave it, those of F32 are ones (norms) and small noise (biases). Other types are refused.

needs: numpy (PyPI)
usage: tests/bench/make_shape.py HEADER.gguf OUT.gguf
"""
import struct
import sys

import numpy

F32, Q4_K, Q6_K = 0, 12, 14
# Bytes of GGUF's metadata types; text and arrays say their own.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
TEXT, ARRAY = 8, 9
# Weights of one part of a tensor that is made at once.
PART = 1 << 22
DEVIATION = 0.02


class Header:
    """Reads what a GGUF of version 3 says about its tensors, into `tensors`: name, weights, type, place."""

    def __init__(self, data):
        self.data, self.at = data, 4
        if data[:4] != b'GGUF' or self.number('I') != 3:
            raise SystemExit('make_shape.py: this is no GGUF of version 3')
        count, keys = self.number('Q'), self.number('Q')
        alignment = 32
        for _ in range(keys):
            key, of = self.text(), self.number('I')
            begin = self.at
            self.skip(of)
            if key == b'general.alignment':
                alignment = struct.unpack_from('<I', data, begin)[0]
        self.tensors = []
        for _ in range(count):
            name, weights = self.text().decode(), 1
            for _ in range(self.number('I')):
                weights *= self.number('Q')
            self.tensors.append((name, weights, self.number('I'), self.number('Q')))
        self.end = -(-self.at // alignment) * alignment

    def number(self, of):
        self.at += struct.calcsize(of)
        return struct.unpack_from('<' + of, self.data, self.at - struct.calcsize(of))[0]

    def text(self):
        length = self.number('Q')
        self.at += length
        return self.data[self.at - length:self.at]

    def skip(self, of):
        if of == TEXT:
            self.text()
        elif of == ARRAY:
            of, count = self.number('I'), self.number('Q')
            if of in SIZES:
                self.at += SIZES[of] * count
                return
            for _ in range(count):
                self.skip(of)
        else:
            self.at += SIZES[of]


def half(value):
    return numpy.frombuffer(numpy.float16(value).tobytes(), numpy.uint8)


def q4_k(random, blocks):
    """Each group's minimum is its scale, and that of the block 7.5 times its scale: the middle is zero."""
    out = random.integers(0, 256, (blocks, 144), numpy.uint8)
    scale = DEVIATION / (32 * 4.6)
    out[:, 0:2], out[:, 2:4] = half(scale), half(scale * 7.5)
    of_groups = random.integers(16, 48, (blocks, 8), numpy.uint8)
    low, high = of_groups[:, :4], of_groups[:, 4:]
    out[:, 4:8] = out[:, 8:12] = low | high >> 4 << 6
    out[:, 12:16] = (high & 15) * 17
    return out


def q6_k(random, blocks):
    out = random.integers(0, 256, (blocks, 210), numpy.uint8)
    out[:, 192:208] = random.integers(20, 60, (blocks, 16), numpy.uint8)
    out[:, 208:210] = half(DEVIATION / (40 * 18.5))
    return out


def write(out, random, name, weights, of):
    for begin in range(0, weights, PART):
        part = min(PART, weights - begin)
        if of == F32:
            norm = numpy.ones(part) if 'norm' in name else random.normal(0, DEVIATION, part)
            out.write(norm.astype('<f4').tobytes())
        elif of in (Q4_K, Q6_K):
            out.write((q4_k if of == Q4_K else q6_k)(random, part // 256).tobytes())
        else:
            raise SystemExit(f'make_shape.py: {name} is of a type, {of}, that it makes no noise of')


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    with open(sys.argv[1], 'rb') as file:
        data = file.read()
    header = Header(data)
    random = numpy.random.default_rng(1)
    with open(sys.argv[2], 'wb') as out:
        out.write(data[:header.end])
        for name, weights, of, at in sorted(header.tensors, key=lambda tensor: tensor[3]):
            out.seek(header.end + at)
            write(out, random, name, weights, of)


main()
