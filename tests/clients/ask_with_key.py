"""Asks for a model by OpenAI's API and by Ollama's, and to have it pulled; prints the three statuses.
Arguments: URL, key, certificate, model."""
import ssl
import sys

import httpx

url, key, certificate, model = sys.argv[1:]
client = httpx.Client(
    base_url=url,
    headers={"Authorization": f"Bearer {key}"},
    verify=ssl.create_default_context(cafile=certificate),
    timeout=120,
)
request = {"model": model, "messages": [{"role": "user", "content": "Name a tree."}]}
answers = [
    client.post("/v1/chat/completions", json={**request, "max_tokens": 8}),
    client.post("/api/chat", json={**request, "options": {"num_predict": 8}}),
    client.post("/api/pull", json={"model": model, "stream": False}),
]
print(*(answer.status_code for answer in answers))
