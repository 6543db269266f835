"""What there is, what is loaded, what a model is, and a pull that fetches nothing. Arguments: URL, model."""
import sys
from datetime import datetime, timezone

import httpx
import ollama

url, name = sys.argv[1:]
client = ollama.Client(host=url)

assert httpx.get(url).text == "Ollama is running"
assert httpx.head(url).status_code == 200
version = httpx.get(f"{url}/api/version").json()["version"]
assert [part.isdigit() for part in version.split(".")] == [True] * 3, version

listed = client.list().models
assert [model.model for model in listed] == [f"{name}:latest"], listed
model = listed[0]
assert model.size > 90_000_000 and model.modified_at < datetime.now(timezone.utc), model
assert len(model.digest) == 64 and int(model.digest, 16), model
details = model.details
assert (details.format, details.family, details.families) == ("gguf", "llama", ["llama"]), details
assert (details.parameter_size, details.quantization_level) == ("134.52M", "Q4_1"), details

running = client.ps().models
assert [model.model for model in running] == [f"{name}:latest"], running
assert running[0].digest == model.digest and running[0].details == details, running
assert running[0].context_length == 4096 and running[0].size > model.size, running
assert running[0].expires_at > datetime.now(timezone.utc), running

for spelling in (name, f"{name}:latest"):
    shown = client.show(spelling)
    assert shown.details == details, shown
    assert shown.capabilities == ["completion", "tools"], shown
    assert "<|im_start|>" in shown.template, shown.template
    info = shown.modelinfo
    assert info["general.architecture"] == "llama" and info["llama.context_length"] == 8192, info
    assert info["general.parameter_count"] == 134_515_008, info
    assert info["tokenizer.ggml.tokens"] is None, "a vocabulary is long"
    assert client.pull(spelling).status == "success"
    assert [step.status for step in client.pull(spelling, stream=True)][-1] == "success"

for call in (client.show, client.pull, lambda name: list(client.pull(name, stream=True))):
    try:
        call("llama3.2")
    except ollama.ResponseError as error:
        assert error.status_code == 404 and "llama3.2" in error.error, error
    else:
        raise AssertionError("a model that is not there was found")
