#!/usr/bin/env python3
"""Golden vectors from transformers: token ids of texts, and what a BERT makes of them, pooled by mean and by CLS.

usage: embeddings.py OUT.json
needs: torch, transformers (from PyPI)

The model is that of quantize/gguf/examples/tiny_bert.rs: the same vocabulary, and weights of the same generator, in
the order of the tensors there.
"""
import json
import string
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from transformers import BertConfig, BertModel, BertTokenizer

WORDS = 'the cat sat on mat sky is blue why water wet . , ? !'.split()
INSIDE = ['s', 'ing', 'ed', 'ly'] + [letter for letter in string.ascii_lowercase if letter != 's']
VOCABULARY = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS, *string.ascii_lowercase,
              *(f'##{word}' for word in INSIDE)]
TEXTS = ['Why is the sky blue?', 'The cats sat on the mat.', 'Wetly, wet!', 'xyz Zürich 猫', 'a']
HIDDEN, FEED_FORWARD, LAYERS, HEADS, CONTEXT = 32, 64, 2, 2, 48

config = BertConfig(vocab_size=len(VOCABULARY), hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                    intermediate_size=FEED_FORWARD, max_position_embeddings=CONTEXT, layer_norm_eps=1e-12)
model = BertModel(config, add_pooling_layer=False).eval()
state = 1


def fill(parameter, around=0.0):
    global state
    values = numpy.empty(parameter.numel(), dtype=numpy.float32)
    for i in range(len(values)):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values[i] = numpy.float32(around) + (numpy.float32(state >> 40) / numpy.float32(1 << 24) - numpy.float32(0.5))
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))


def both(module, around=0.0):
    fill(module.weight, around)
    fill(module.bias)


embeddings = model.embeddings
fill(embeddings.word_embeddings.weight)
fill(embeddings.position_embeddings.weight)
fill(embeddings.token_type_embeddings.weight)
both(embeddings.LayerNorm, 1.0)
for layer in model.encoder.layer:
    attention = layer.attention
    for module in (attention.self.query, attention.self.key, attention.self.value, attention.output.dense):
        both(module)
    both(attention.output.LayerNorm, 1.0)
    both(layer.intermediate.dense)
    both(layer.output.dense)
    both(layer.output.LayerNorm, 1.0)

with tempfile.TemporaryDirectory() as folder:
    (Path(folder) / 'vocab.txt').write_text('\n'.join(VOCABULARY) + '\n')
    tokenizer = BertTokenizer.from_pretrained(folder)

cases = []
for text in TEXTS:
    tokens = tokenizer(text)['input_ids']
    with torch.no_grad():
        states = model(torch.tensor([tokens])).last_hidden_state[0]
    rounded = lambda vector: [round(float(x), 6) for x in vector]
    cases.append({'text': text, 'tokens': tokens, 'mean': rounded(states.mean(0)), 'cls': rounded(states[0])})
with open(sys.argv[1], 'w') as f:
    f.write('[\n' + ',\n'.join(json.dumps(case, ensure_ascii=False) for case in cases) + '\n]\n')
print([case['tokens'] for case in cases])
