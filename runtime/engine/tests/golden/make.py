#!/usr/bin/env python3
"""Golden vectors from transformers: prompts as token ids, and greedy tokens with their margins.

usage: make.py MODEL.gguf OUT.json
needs: torch, transformers, gguf, accelerate (all from PyPI); takes minutes and 3 GB

A greedy token is kept only while the two best logits are further apart than MARGIN: transformers
computes in 32-bit floats, ggml quantizes activations, and a near tie may fall either way.
"""
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

MARGIN = 0.4
CONVERSATIONS = [
    [{'role': 'user', 'content': 'What is the capital of France?'}],
    [{'role': 'system', 'content': 'You answer with one word.'}, {'role': 'user', 'content': 'Is water wet?'}],
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello! How can I help you?'},
     {'role': 'user', 'content': 'Count from 1 to 10.'}],
    [{'role': 'user', 'content': "Tabs\tand  spaces,\r\n\r\nblank lines; don't, we'll, IT'S; 12345 3.14159 1,000"}],
    [{'role': 'user', 'content': 'Grüße aus Köln, 你好世界, привет, مرحبا, 🏡🤖👩‍👩‍👧, naïve café, ﬁ, Å'}],
    [{'role': 'user', 'content': 'fn main() {\n    println!("{}", a[0] <= b && !c);\n}\n'}],
]

src, out = sys.argv[1:3]
folder, name = os.path.split(os.path.abspath(src))
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()

cases = []
for messages in CONVERSATIONS:
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text, add_special_tokens=False)['input_ids']
    ids, greedy = list(prompt), []
    for _ in range(24):
        with torch.no_grad():
            best = model(torch.tensor([ids])).logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < MARGIN or int(best.indices[0]) == tokenizer.eos_token_id:
            break
        greedy.append(int(best.indices[0]))
        ids.append(greedy[-1])
    cases.append({'messages': messages, 'prompt': prompt, 'greedy': greedy, 'text': tokenizer.decode(greedy)})

with open(out, 'w') as f:
    json.dump(cases, f, ensure_ascii=False, indent=1)
    f.write('\n')
print([len(c['greedy']) for c in cases])
