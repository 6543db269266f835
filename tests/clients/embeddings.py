"""Vectors by the openai and ollama clients. Arguments: URL, a model that embeds, one that answers."""
import math
import sys

import ollama
import openai

url, embeds, answers = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
older = ollama.Client(host=url)
texts = ["Why is the sky blue?", "The cats sat on the mat."]


def close(a, b):
    return len(a) == len(b) and all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a, b))


# Without a format the client asks for base64, and decodes it.
made = client.embeddings.create(model=embeds, input=texts)
assert [item.index for item in made.data] == [0, 1] and made.model == embeds, made
assert made.usage.prompt_tokens == made.usage.total_tokens == 18, made.usage
assert all(len(item.embedding) == 32 for item in made.data)
assert all(math.isclose(math.hypot(*item.embedding), 1, abs_tol=1e-5) for item in made.data)
as_numbers = client.embeddings.create(model=embeds, input=texts, encoding_format="float")
assert all(close(a.embedding, b.embedding) for a, b in zip(made.data, as_numbers.data))
first = client.embeddings.create(model=embeds, input=texts[0])
assert close(first.data[0].embedding, made.data[0].embedding)

# Fewer dimensions are the first ones, of length 1 again.
fewer = client.embeddings.create(model=embeds, input=texts[0], dimensions=8).data[0].embedding
length = math.hypot(*made.data[0].embedding[:8])
assert close(fewer, [x / length for x in made.data[0].embedding[:8]]), fewer

embedded = older.embed(model=embeds, input=texts)
assert all(close(a, b.embedding) for a, b in zip(embedded.embeddings, made.data))
assert embedded.prompt_eval_count == 18 and embedded.total_duration > 0, embedded
assert close(older.embed(model=f"{embeds}:latest", input=texts[0]).embeddings[0], made.data[0].embedding)
assert older.embed(model=embeds, input="").embeddings == []
raw = older.embeddings(model=embeds, prompt=texts[0]).embedding
length = math.hypot(*raw)
assert length > 1.1 and close([x / length for x in raw], made.data[0].embedding), raw
assert close(older.embed(model=embeds, input=texts[0], dimensions=8).embeddings[0], fewer)

long = "sky " * 60
cut = older.embed(model=embeds, input=long, truncate=True)
assert cut.prompt_eval_count == 48 and len(cut.embeddings) == 1, cut

assert older.show(embeds).capabilities == ["embedding"]
assert {model.model for model in older.ps().models} >= {f"{embeds}:latest"}


def refused(call, status, *words):
    try:
        call()
    except openai.APIStatusError as error:
        assert error.status_code == status and all(word in error.message for word in words), error
    except ollama.ResponseError as error:
        assert error.status_code == status and all(word in error.error for word in words), error
    else:
        raise AssertionError(f"{words} was not refused")


create = client.embeddings.create
refused(lambda: create(model=answers, input="Hi"), 400, answers, "does not embed")
refused(lambda: older.embed(model=answers, input="Hi"), 400, answers, "does not embed")
refused(lambda: older.embeddings(model=answers, prompt="Hi"), 400, answers, "does not embed")
refused(lambda: create(model="no-such", input="Hi"), 404, "no-such")
refused(lambda: create(model=embeds, input=long), 400, "62 tokens", "48")
refused(lambda: older.embed(model=embeds, input=["Hi", long]), 400, "input[1]", "62 tokens", "48")
refused(lambda: create(model=embeds, input=[]), 400, "input")
refused(lambda: create(model=embeds, input=[1, 2]), 400, "tokens", "send text")
refused(lambda: create(model=embeds, input="Hi", dimensions=33), 400, "32 dimensions")
refused(lambda: create(model=embeds, input="Hi", encoding_format="hex"), 400, "encoding_format")

messages = [{"role": "user", "content": "Hi"}]
refused(lambda: client.chat.completions.create(model=embeds, messages=messages), 400, embeds, "does not answer")
refused(lambda: older.chat(model=embeds, messages=messages), 400, embeds, "does not answer")
