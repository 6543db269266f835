"""Answers held to schemas of the JSON Schema test suite: each is valid, or the beginning of some JSON if it was cut off,
and a schema that cannot be kept to is refused with the name of what is not supported. The prompt names the schema: small
models that do not know it say the same for ever where it leaves that open. 19 of 20 are to come to their end.

Arguments: base URL, the npm archive, how many schemas, drawn by which seed. Prints figures as JSON.
"""
import concurrent.futures
import itertools
import json
import random
import re
import sys
import tarfile
import urllib.error
import urllib.request

import jsonschema

BASE, ARCHIVE, COUNT, SEED = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
MAX_TOKENS = 192


DIALECT = "http://json-schema.org/draft-04/schema#"


def schemas(rng):
    """The schemas of draft 4, each once and with the name of its file; and endlessly, objects of two of them."""
    found = {}
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if re.fullmatch(r"package/tests/draft4/.*\.json", member.name):
                for group in json.load(archive.extractfile(member)):
                    found.setdefault(json.dumps(group["schema"], sort_keys=True), member.name)
    single = sorted(found.items())
    rng.shuffle(single)
    for text, name in single:
        yield {"$schema": DIALECT, **json.loads(text)}, name
    # What refers to its own root is another schema inside of another one.
    movable = [(json.loads(text), name) for text, name in single if "$ref" not in text and '"id"' not in text]
    while True:
        (one, where), (other, at) = rng.sample(movable, 2)
        both = {"type": "object", "properties": {"one": one, "other": other}, "required": ["one", "other"]}
        yield {"$schema": DIALECT, **both}, f"{where} and {at}"


KEYWORDS = set(jsonschema.Draft4Validator.META_SCHEMA["properties"]) | {"$ref", "format"}
BY_NAME = ("properties", "patternProperties", "definitions", "dependencies")


def keywords(schema):
    """The keywords of a schema and of those in it, not the names of properties or values that look alike."""
    found = set()
    if isinstance(schema, dict):
        found |= KEYWORDS & set(schema)
        for key, value in schema.items():
            parts = value.values() if key in BY_NAME and isinstance(value, dict) else [value]
            if key not in ("enum", "default"):
                for part in parts:
                    found |= keywords(part)
        if schema.get("$ref") == DIALECT:
            found |= keywords(jsonschema.Draft4Validator.META_SCHEMA)
    elif isinstance(schema, list):
        for value in schema:
            found |= keywords(value)
    return found


def ask(prompt, **more):
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": MAX_TOKENS, **more}
    request = urllib.request.Request(
        BASE + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        return json.load(urllib.request.urlopen(request, timeout=300))
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def begins(text):
    """Whether a text is the beginning of some JSON: what is wrong with it is at its end."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or error.pos >= len(text) - len("\\u0000")
    return True


def judge(number, schema, where):
    """`finished`, `cut`, `refused`, or what is wrong.

    Each is drawn by a seed of its own: with one for all, schemas that begin alike get the same text, which counts as often.
    """
    text = json.dumps(schema)
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = ask(f"Answer with a short JSON value of this schema: {text}", response_format=format, seed=number)
    if "error" in answer:
        message = answer["error"]["message"]
        # What is in quotation marks is the schema's. None of the suite is refused for another reason than a keyword.
        named = KEYWORDS & set(re.findall(r'"([^"]+)"', message))
        if answer["status"] == 400 and answer["error"]["param"] == "response_format" and named and named <= keywords(schema):
            return "refused", message
        return "wrong", f"{where}: {text}: {answer}"
    choice = answer["choices"][0]
    if choice["finish_reason"] == "length":
        whole = answer["usage"]["completion_tokens"] == MAX_TOKENS and begins(choice["message"]["content"])
        return ("cut", text) if whole else ("wrong", f"{where}: {text}: {answer}")
    try:
        value = json.loads(choice["message"]["content"])
        jsonschema.Draft4Validator(schema).validate(value)
    except (ValueError, jsonschema.ValidationError) as error:
        return "wrong", f"{where}: {text}: {choice['message']['content']!r}: {str(error).splitlines()[0]}"
    return "finished", text


drawn = list(itertools.islice(schemas(random.Random(SEED)), COUNT))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    outcomes = list(pool.map(judge, range(COUNT), *zip(*drawn)))
count = {kind: sum(k == kind for k, _ in outcomes) for kind in ("finished", "cut", "refused", "wrong")}
for kind, detail in outcomes:
    if kind in ("wrong", "refused"):
        print(kind, detail, file=sys.stderr)
share = count["finished"] / max(1, count["finished"] + count["cut"])
print(json.dumps({"schemas": len(drawn), **count, "finished_share": round(share, 3)}))
if count["wrong"] or share < 0.95:
    sys.exit(1)
