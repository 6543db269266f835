"""The Responses API as the openai client reads it: plain, streamed, in a shape, with tools, and refused. Arguments:
base URL, model.
"""
import json
import sys

from openai import BadRequestError, OpenAI

client = OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
model = sys.argv[2]
asked = dict(model=model, instructions="You are brief.", input="Name three colours.", temperature=0, max_output_tokens=24)

plain = client.responses.create(**asked)
assert plain.status in ("completed", "incomplete") and plain.output_text, plain
assert plain.output[0].type == "message" and plain.output[0].role == "assistant", plain
assert plain.usage.input_tokens > 5 and plain.usage.total_tokens == plain.usage.input_tokens + plain.usage.output_tokens
assert plain.instructions == "You are brief." and plain.temperature == 0 and plain.max_output_tokens == 24, plain

events = list(client.responses.create(**asked, stream=True))
assert [e.sequence_number for e in events] == list(range(len(events))), events
kinds = [e.type for e in events]
assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added",
                     "response.content_part.added"], kinds
assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"], kinds
text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
last = events[-1]
assert last.type == f"response.{plain.status}", last
assert text == plain.output_text == last.response.output_text, (text, plain)
assert kinds.count("response.output_text.delta") > 3, kinds

cut = client.responses.create(**{**asked, "max_output_tokens": 2})
assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens", cut

again = client.responses.create(
    model=model, temperature=0, max_output_tokens=8,
    input=[{"role": "user", "content": "Name three colours."}, *[o.model_dump(exclude_none=True) for o in plain.output],
           {"role": "user", "content": [{"type": "input_text", "text": "And a fourth?"}]}],
)
assert again.usage.input_tokens > plain.usage.input_tokens + 5, again

schema = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 9}}, "required": ["age"],
          "additionalProperties": False}
shaped = client.responses.create(
    model=model, input="How old are you?", text={"format": {"type": "json_schema", "name": "age", "schema": schema}}
)
assert set(json.loads(shaped.output_text)) == {"age"}, shaped

# Its helper for streams gives what is complete.
format = {"format": {"type": "json_schema", "name": "age", "schema": schema}}
with client.responses.stream(model=model, input="How old are you?", text=format) as stream:
    assert set(json.loads(stream.get_final_response().output_text)) == {"age"}

tool = {"type": "function", "name": "switch", "description": "Switches a light.", "strict": True,
        "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"],
                       "additionalProperties": False}}
calling = dict(model=model, input="Turn the light on.", tools=[tool], tool_choice="required", parallel_tool_calls=False)
called = client.responses.create(**calling)
call = next(o for o in called.output if o.type == "function_call")
assert call.name == "switch" and isinstance(json.loads(call.arguments)["on"], bool), called
streamed = [e for e in client.responses.create(**calling, stream=True)]
assert any(e.type == "response.function_call_arguments.done" and e.name == "switch" for e in streamed), streamed
told = client.responses.create(
    model=model, tools=[tool], max_output_tokens=8,
    input=[{"role": "user", "content": "Turn the light on."}, call.model_dump(exclude_none=True),
           {"type": "function_call_output", "call_id": call.call_id, "output": "done"}],
)
assert told.output, told

for wrong, param in [({"previous_response_id": "resp_1"}, "previous_response_id"), ({"input": []}, "input"),
                     ({"truncation": "auto"}, "truncation"), ({"max_output_tokens": 99999}, "max_output_tokens")]:
    try:
        client.responses.create(**{**asked, **wrong})
    except BadRequestError as error:
        assert error.param == param, (wrong, error)
    else:
        raise AssertionError(f"{wrong} passed")
