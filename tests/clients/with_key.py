"""The openai and the ollama package, over TLS with the box's own certificate, with a key and without."""

import os
import sys

url, key, certificate = sys.argv[1:]
# What every program on Python's ssl module reads.
os.environ["SSL_CERT_FILE"] = certificate

import ollama
import openai

messages = [{"role": "user", "content": "Hi"}]

client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
answer = client.chat.completions.create(model="default", messages=messages, max_tokens=4)
assert answer.usage.completion_tokens > 0, answer
stranger = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
try:
    stranger.models.list()
    raise SystemExit("a stranger was let in")
except openai.AuthenticationError as error:
    assert "cloister keys add" in str(error), error

client = ollama.Client(host=url, headers={"Authorization": f"Bearer {key}"})
answer = client.chat(model="default", messages=messages, options={"num_predict": 4})
assert answer.eval_count > 0, answer
try:
    ollama.Client(host=url).list()
    raise SystemExit("a stranger was let in")
except ollama.ResponseError as error:
    assert error.status_code == 401, error
