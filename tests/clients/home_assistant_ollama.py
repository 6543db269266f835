"""The requests of Home Assistant's Ollama integration, in its order. Arguments: URL, model.

Setting up: `list` and `ps`; a model that is not listed is pulled. Then it asks, with a window larger than this one's,
and reads each chunk's role, content and thinking as its `_transform_stream` does. Last, an AI task.
"""
import asyncio
import sys

import ollama

url, name = sys.argv[1:]


async def main():
    client = ollama.AsyncClient(host=url, headers=None, verify=False)
    listed = {model["model"] for model in (await client.list()).get("models", [])}
    assert listed == {f"{name}:latest"}, listed
    loaded = [model["model"] for model in (await client.ps())["models"]]
    assert set(loaded) <= listed, loaded
    for model in sorted(listed):
        assert (await client.pull(model)).status == "success"

    history = [
        ollama.Message(role="system", content="You are a voice assistant for Home Assistant."),
        ollama.Message(role="user", content="What is the capital of France?", images=None),
    ]
    for turn in range(2):
        answers = await client.chat(
            model=f"{name}:latest",
            messages=list(history),
            tools=None,
            stream=True,
            keep_alive=-1 if turn else "3600s",
            # `num_predict` is ours: this small model may not end by itself.
            options={"num_ctx": 8192.0, "num_predict": 64},
            think=False,
            format=None,
        )
        content, done = "", 0
        async for response in answers:
            message = response["message"]
            assert message.get("tool_calls") is None and message.get("thinking") is None, response
            if (text := message.get("content")) is not None:
                content += text
            done += bool(response.get("done"))
        assert content and done == 1, (content, done)
        history += [
            ollama.Message(role="assistant", content=content, thinking=None, tool_calls=None),
            ollama.Message(role="user", content="And of Italy?", images=None),
        ]


asyncio.run(main())
