"""A streamed chat completion is the plain one in pieces. Arguments: base URL, model."""
import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
asked = dict(
    model=sys.argv[2],
    messages=[{"role": "user", "content": "Name three colours."}],
    max_completion_tokens=24,
    temperature=0,
)
plain = client.chat.completions.create(**asked)
stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
assert len(pieces) > 3, chunks
assert "".join(pieces) == plain.choices[0].message.content, (pieces, plain)
assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
assert reasons == [plain.choices[0].finish_reason], chunks
assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens, chunks[-1]

# Leaving in the middle closes the connection; the next request is answered.
with client.chat.completions.create(
    model=sys.argv[2], messages=[{"role": "user", "content": "Count to a hundred."}], max_tokens=300, stream=True
) as stream:
    next(iter(stream))
assert client.chat.completions.create(**asked).choices[0].message.content == plain.choices[0].message.content
