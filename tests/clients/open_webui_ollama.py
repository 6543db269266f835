"""The requests of Open WebUI's router for Ollama, in its order, with its headers, read as it reads them. Arguments: URL,
a model that answers, a model that embeds.
"""
import json
import re
import sys
from datetime import datetime

import httpx

url, answers, embeds = sys.argv[1:]
client = httpx.Client(base_url=url, timeout=120, headers={
    "X-OpenWebUI-User-Name": "A User", "X-OpenWebUI-User-Id": "u-1", "X-OpenWebUI-User-Email": "a@b.c",
    "X-OpenWebUI-User-Role": "admin"})


def get(path):
    answer = client.get(path, headers={"Content-Type": "application/json"})
    answer.raise_for_status()
    return answer.json()


def post(path, body):
    # It sends bytes under this type.
    answer = client.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    answer.raise_for_status()
    return answer


def loaded():
    ends = {model["name"]: model["expires_at"] for model in get("/api/ps")["models"]}
    return {name: int(datetime.fromisoformat(end).timestamp()) for name, end in ends.items()}


tags = {model["model"]: model for model in get("/api/tags")["models"]}
assert set(tags) == {f"{answers}:latest", f"{embeds}:latest"}, tags
assert all(model["name"] == name and model["details"] for name, model in tags.items()), tags
assert loaded().keys() >= {f"{answers}:latest"}
version = get("/api/version")["version"]
assert len([int(part) for part in re.sub(r"^v|-.*", "", version).split(".")]) == 3, version
assert post("/api/show", {"model": f"{answers}:latest"}).json()["capabilities"][0] == "completion"

# A question at its page.
body = {
    "model": f"{answers}:latest", "stream": True, "keep_alive": "5m",
    "messages": [{"role": "system", "content": "You answer in one sentence."},
                 {"role": "user", "content": "What is the capital of France?"}],
    "options": {"temperature": 0, "num_ctx": 2048, "num_predict": 16, "stop": ["\n\n"], "seed": 1, "repeat_last_n": 64},
}
text, last = "", {}
with client.stream("POST", "/api/chat", content=json.dumps(body).encode(),
                   headers={"Content-Type": "application/json"}) as answer:
    answer.raise_for_status()
    assert answer.headers["content-type"].startswith("application/x-ndjson"), answer.headers
    for line in answer.iter_lines():
        last = json.loads(line)
        assert last["model"] == answers, last
        text += last["message"]["content"]
assert "Paris" in text and last["done"] is True, (text, last)
# What it shows below an answer.
for field in ("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"):
    assert isinstance(last[field], int), last

# The title of the chat, whole.
title = post("/api/chat", {**body, "stream": False, "options": {"num_predict": 8}}).json()
assert title["message"]["role"] == "assistant" and title["done"] is True, title
# The end of a sentence that somebody types.
typed = post("/api/generate", {"model": f"{answers}:latest", "prompt": "The sky is", "stream": False,
                               "options": {"num_predict": 4}}).json()
assert isinstance(typed["response"], str), typed

# Documents.
texts = ["Why is the sky blue?", "The cats sat on the mat."]
embedded = post("/api/embed", {"model": embeds, "input": texts, "truncate": True}).json()
assert [len(vector) for vector in embedded["embeddings"]] == [32, 32], embedded
assert len(post("/api/embeddings", {"model": embeds, "prompt": texts[0]}).json()["embedding"]) == 32

# Its button for unloading a model.
for name in (answers, embeds):
    done = post("/api/generate", {"model": f"{name}:latest", "keep_alive": 0, "prompt": ""}).json()
    assert done["done"] is True, done
assert loaded() == {}, loaded()
# What it cannot be given it tells its user in the box's words.
refused = client.post("/api/chat", content=json.dumps({"model": "llama3.2", "messages": []}).encode(),
                      headers={"Content-Type": "application/json"})
assert refused.status_code == 404 and "llama3.2" in refused.json()["error"], refused.text
