"""A plain chat completion. Arguments: base URL, model."""
import sys

from openai import OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
answer = client.chat.completions.create(
    model=sys.argv[2],
    messages=[
        {"role": "system", "content": "You answer in one sentence."},
        {"role": "user", "content": "What is the capital of France?"},
    ],
    max_tokens=24,
    temperature=0,
)
choice = answer.choices[0]
assert "Paris" in choice.message.content, answer
assert choice.message.role == "assistant", answer
assert choice.finish_reason in ("stop", "length"), answer
assert answer.model == sys.argv[2], answer
assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer
