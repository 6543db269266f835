"""Home Assistant's two integrations control a light: Ollama's, then llama.cpp's over OpenAI's API. Arguments: URL, model.

Each reads the stream as the integration does: Ollama's takes calls from any chunk; llama.cpp's wants the role in the
first chunk, one call a chunk, and stops at the chunk that says why it ended, which must hold nothing else.
"""
import asyncio
import json
import sys

import ollama
import openai

url, name = sys.argv[1:]
system = "You are a voice assistant for Home Assistant. Control the house with the tools."
tool = {
    "type": "function",
    "function": {
        "name": "HassTurnOn",
        "parameters": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "area": {"type": "string"},
                "domain": {"type": "array", "items": {"type": "string"}},
            },
            "required": [],
        },
        "description": "Turns on/opens/presses a device or entity.",
    },
}


async def over_ollama():
    client = ollama.AsyncClient(host=url, headers=None, verify=False)
    history = [
        ollama.Message(role="system", content=system),
        ollama.Message(role="user", content="Turn on the lamp in the kitchen.", images=None),
    ]
    iteration, tries = 0, 3
    while iteration < 2:
        answers = await client.chat(
            model=f"{name}:latest", messages=list(history), tools=[tool], stream=True, keep_alive=-1,
            options={"num_ctx": 8192}, think=False, format=None,
        )
        content, calls = "", []
        async for response in answers:
            message = response["message"]
            if (called := message.get("tool_calls")) is not None:
                calls += [(call["function"]["name"], call["function"]["arguments"]) for call in called]
            content += message.get("content") or ""
        if iteration == 0:
            # As the integration asks, answers are drawn at random: one may call nothing.
            tries -= 1
            if not calls and tries > 0:
                continue
            assert calls and calls[0][0] == "HassTurnOn" and isinstance(calls[0][1], dict), (content, calls)
            functions = [ollama.Message.ToolCall.Function(name=n, arguments=a) for n, a in calls]
            history.append(ollama.Message(
                role="assistant", content=content, thinking=None,
                tool_calls=[ollama.Message.ToolCall(function=f) for f in functions],
            ))
            history += [ollama.Message(role="tool", content='{"data": {"success": true}, "error": null}') for _ in calls]
        else:
            assert content or calls, "no answer after the result"
        iteration += 1


async def over_openai():
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-0000000000000000000", max_retries=0)
    stream = await client.chat.completions.create(
        model=name, stream=True, max_tokens=150, temperature=0, tools=[tool], user="01JABCDEF",
        messages=[{"role": "system", "content": system}, {"role": "user", "content": "Turn on the lamp in the kitchen."}],
    )
    calls, first, reason = [], True, None
    async for chunk in stream:
        assert reason is None, "nothing follows the end"
        choice = chunk.choices[0]
        assert first == (choice.delta.role == "assistant"), chunk
        first = False
        reason = choice.finish_reason
        if reason is not None:
            assert not choice.delta.content and not choice.delta.tool_calls, chunk
        elif choice.delta.tool_calls:
            (call,) = choice.delta.tool_calls
            assert call.id and call.index == len(calls), chunk
            calls.append((call.function.name, json.loads(call.function.arguments)))
    assert reason == "tool_calls" and calls[0][0] == "HassTurnOn", (calls, reason)


asyncio.run(over_ollama())
asyncio.run(over_openai())
