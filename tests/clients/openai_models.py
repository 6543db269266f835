"""The list of models, and one of them. Arguments: base URL, model."""
import sys

from openai import NotFoundError, OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
assert [model.id for model in client.models.list()] == [sys.argv[2]]
model = client.models.retrieve(sys.argv[2])
assert model.object == "model" and model.owned_by == "cloister" and model.created > 0, model
try:
    client.models.retrieve("nobody")
except NotFoundError as error:
    assert error.code == "model_not_found", error
else:
    raise AssertionError("a model that is not there was found")
