"""Chat and generate, whole and in pieces. Arguments: URL, model."""
import sys

import ollama

url, name = sys.argv[1:]
client = ollama.Client(host=url)
options = {"temperature": 0, "num_predict": 24, "num_ctx": 8192, "num_gpu": 0, "repeat_last_n": 64}
messages = [
    {"role": "system", "content": "You answer in one sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]


def ended(answer):
    assert answer.done and answer.done_reason in ("stop", "length"), answer
    assert answer.model == name and answer.created_at, answer
    assert answer.prompt_eval_count > 10 and 1 < answer.eval_count <= 24, answer
    assert answer.total_duration >= answer.prompt_eval_duration + answer.eval_duration > 0, answer
    assert answer.load_duration >= 0, answer


whole = client.chat(name, messages, options=options)
assert whole.message.role == "assistant" and "Paris" in whole.message.content, whole
assert whole.message.thinking is None and whole.message.tool_calls is None, whole
ended(whole)

pieces = list(client.chat(name, messages, options=options, stream=True))
assert "".join(piece.message.content for piece in pieces) == whole.message.content, pieces
assert len(pieces) > 5 and all(piece.message.role == "assistant" for piece in pieces), pieces
assert not any(piece.done for piece in pieces[:-1]) and pieces[-1].message.content == "", pieces
ended(pieces[-1])

# The same prompt by the other way, and by the template's hand.
generated = client.generate(name, messages[1]["content"], system=messages[0]["content"], options=options)
assert generated.response == whole.message.content, generated
ended(generated)
pieces = list(client.generate(name, "Hi", options=options, stream=True))
assert "".join(piece.response for piece in pieces) and len(pieces) > 3, pieces
ended(pieces[-1])
raw = "<|im_start|>system\nYou answer in one sentence.<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
assert client.generate(name, raw, raw=True, options=options).response == whole.message.content

# A stop sequence, a seed, no more than asked for.
stopped = client.chat(name, messages, options={**options, "stop": ["Paris"]})
assert stopped.message.content == whole.message.content.split("Paris")[0], stopped
assert stopped.done_reason == "stop", stopped
random = {**options, "temperature": 1.5, "seed": 7}
assert client.chat(name, messages, options=random).message == client.chat(name, messages, options=random).message
assert client.chat(name, messages, options={**options, "num_predict": 3}).done_reason == "length"

# Nothing to answer: the model is loaded, or goes.
assert client.generate(name, "").done_reason == "load"
assert client.chat(name, [], keep_alive=-1).done_reason == "load"
assert client.chat(name, [], keep_alive="10m").message.content == ""
assert client.generate(name, keep_alive=0).done_reason == "unload"
assert client.ps().models == []
ended(client.chat(name, messages, options=options))

# What cannot be done is said.
for wrong, word in (
    (dict(model="llama3.2"), "llama3.2"),
    (dict(messages=[{"role": "emperor", "content": "Hi"}]), "emperor"),
    (dict(messages=[{"role": "user", "content": "word " * 9000}]), "context"),
    (dict(options={"temperature": -1}), "temperature"),
    (dict(options={"num_predict": -7}), "num_predict"),
    (dict(options={"mirostat": 2}), "mirostat"),
    (dict(options={"sense": 1}), "sense"),
    (dict(think=True), "think"),
    (dict(keep_alive="soon"), "keep_alive"),
    (dict(messages=[{"role": "user", "content": "Hi", "images": ["aGk="]}]), "images"),
):
    for stream in (False, True):
        try:
            answer = client.chat(**{"model": name, "messages": messages, **wrong}, stream=stream)
            list(answer) if stream else answer
        except ollama.ResponseError as error:
            assert word in error.error and error.status_code in (400, 404), error
        else:
            raise AssertionError(f"{wrong} was accepted")
