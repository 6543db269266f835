"""Each refusal is the client's own class of error, with its fields. Arguments: base URL, model.

The context holds 512 tokens.
"""
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)


def refused(kind, code, **changes):
    asked = dict(model=sys.argv[2], messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    for stream in (False, True):
        try:
            client.chat.completions.create(**{**asked, **changes}, stream=stream)
        except kind as error:
            assert code is None or error.code == code, (error.code, code)
            assert error.body["message"], error.body
        else:
            raise AssertionError(f"{changes} was accepted")


refused(openai.NotFoundError, "model_not_found", model="gpt-5")
refused(openai.BadRequestError, "context_length_exceeded", messages=[{"role": "user", "content": "word " * 2000}])
refused(openai.BadRequestError, None, max_tokens=-1)
refused(openai.BadRequestError, None, temperature=1e300)
refused(openai.BadRequestError, None, messages=[])
refused(openai.BadRequestError, None, messages=[{"role": "emperor", "content": "Hi"}])
