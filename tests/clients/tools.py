"""A tool is called and its result answered, with both packages. Arguments: URL, model."""
import json
import sys

import ollama
import openai

url, name = sys.argv[1:]
tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}
messages = [{"role": "user", "content": "What is the weather in Paris?"}]

client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
asked = dict(model=name, tools=[tool], temperature=0, max_tokens=100)
answer = client.chat.completions.create(messages=messages, **asked)
call = answer.choices[0].message.tool_calls[0]
assert call.function.name == "get_weather" and json.loads(call.function.arguments)["city"] == "Paris", answer
assert answer.choices[0].finish_reason == "tool_calls" and answer.choices[0].message.content is None, answer
result = {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "snow", "celsius": -3}'}
answer = client.chat.completions.create(
    messages=[*messages, answer.choices[0].message, result], tool_choice="none", **asked
)
assert "-3" in answer.choices[0].message.content, answer
with client.chat.completions.stream(messages=messages, **asked) as stream:
    final = stream.get_final_completion().choices[0].message
assert json.loads(final.tool_calls[0].function.arguments)["city"] == "Paris", final


def get_weather(city: str) -> str:
    """Tells the weather of a city.

    Args:
      city: Its name
    """
    return f"{city}: snow, -3 degrees"


client = ollama.Client(host=url)
options = {"temperature": 0, "num_predict": 100}
answer = client.chat(name, messages, tools=[get_weather], options=options)
call = answer.message.tool_calls[0].function
assert call.name == "get_weather" and call.arguments == {"city": "Paris"}, answer
assert answer.message.content == "" and answer.done_reason == "stop", answer
result = {"role": "tool", "tool_name": call.name, "content": get_weather(**call.arguments)}
answer = client.chat(name, [*messages, answer.message, result], options=options)
assert "-3" in answer.message.content, answer
pieces = list(client.chat(name, messages, tools=[get_weather], options=options, stream=True))
called = [call.function for piece in pieces for call in piece.message.tool_calls or ()]
assert [call.arguments for call in called] == [{"city": "Paris"}], pieces
assert pieces[-1].done and pieces[-1].message.tool_calls is None, pieces[-1]
assert "tools" in client.show(name).capabilities
