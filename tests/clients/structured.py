"""Answers as objects of classes, with both packages. Arguments: URL, model."""
import sys
from typing import Literal, Optional

import ollama
import openai
from pydantic import BaseModel, Field

url, name = sys.argv[1:]


class Device(BaseModel):
    name: str = Field(max_length=24)
    room: Literal["kitchen", "hall"]
    watts: int = Field(ge=0, le=3000)


class House(BaseModel):
    devices: list[Device] = Field(min_length=1, max_length=2)
    note: Optional[str] = Field(max_length=16)


messages = [{"role": "user", "content": "List the devices: a toaster of 900 watts in the kitchen."}]

client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
answer = client.chat.completions.parse(model=name, messages=messages, response_format=House, temperature=0)
house = answer.choices[0].message.parsed
assert isinstance(house, House) and house.devices[0].room in ("kitchen", "hall"), answer
with client.chat.completions.stream(model=name, messages=messages, response_format=House, temperature=0) as stream:
    assert stream.get_final_completion().choices[0].message.parsed == house

client = ollama.Client(host=url)
options = {"temperature": 0}
answer = client.chat(name, messages, format=House.model_json_schema(), options=options)
assert House.model_validate_json(answer.message.content) == house, answer
pieces = client.chat(name, messages, format=House.model_json_schema(), options=options, stream=True)
assert "".join(piece.message.content for piece in pieces) == answer.message.content
answer = client.generate(name, "A cat, as JSON.", format="json", options={**options, "num_predict": 40})
assert answer.response.startswith("{"), answer
