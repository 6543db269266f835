#!/usr/bin/env python3
"""Makes what speculation with a draft model is measured with, as no two published sizes of one family are at hand: a
model with the answers of MODEL that takes TIMES its time, for which MODEL is a draft model that is right, and one of
MODEL's size that is wrong.

In: a GGUF of a dense model. Out: deep.gguf, MODEL with layers that add nothing behind its own, and wrong.gguf, MODEL
with the rows of its projections in another order.

needs: numpy, gguf (PyPI)
usage: tests/bench/make_draft_pair.py MODEL.gguf TIMES OUT_FOLDER
"""
import os
import shutil
import sys

import numpy
from gguf import GGUFReader, GGUFValueType, GGUFWriter

# What they make is added to a layer's input.
PROJECTIONS = ('attn_output', 'ffn_down')


def deep(model, times, out):
    reader = GGUFReader(model)
    arch = reader.fields['general.architecture'].contents()
    layers = reader.fields[f'{arch}.block_count'].contents()
    writer = GGUFWriter(out, arch)
    for key, field in reader.fields.items():
        if key.startswith('GGUF.') or key == 'general.architecture':
            continue
        value = layers * times if key == f'{arch}.block_count' else field.contents()
        of = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, field.types[0], sub_type=of)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for layer in range(layers, layers * times):
        own = f'blk.{layer % layers}.'
        for tensor in reader.tensors:
            if tensor.name.startswith(own):
                nothing = any(name in tensor.name for name in PROJECTIONS)
                data = numpy.zeros_like(tensor.data) if nothing else tensor.data
                writer.add_tensor(f'blk.{layer}.' + tensor.name[len(own):], data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def wrong(model, out):
    shutil.copyfile(model, out)
    reader = GGUFReader(out, 'r+')
    for tensor in reader.tensors:
        if any(name in tensor.name for name in PROJECTIONS):
            tensor.data[:] = numpy.roll(tensor.data.copy(), 7, axis=0)
    reader.data.flush()


def main():
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    model, times, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    deep(model, times, os.path.join(folder, 'deep.gguf'))
    wrong(model, os.path.join(folder, 'wrong.gguf'))


main()
