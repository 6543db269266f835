"""Answers held to schemas of the JSON Schema test suite: each is valid unless it was cut off, and a schema that
cannot be kept to is refused with the name of what is not supported.

Arguments: base URL, the npm archive, how many schemas, drawn by which seed. Prints figures as JSON.
"""
import concurrent.futures
import itertools
import json
import random
import re
import statistics
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


def keywords(schema):
    """All keys of a schema, however deep, and what they are set to where that is a word."""
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key
            yield from keywords(value)
            if key == "$ref" and value == DIALECT:
                yield from keywords(jsonschema.Draft4Validator.META_SCHEMA)
    elif isinstance(schema, list):
        for value in schema:
            yield from keywords(value)
    elif isinstance(schema, str):
        yield schema


def ask(**more):
    body = {"messages": [{"role": "user", "content": "Answer with some JSON."}], "max_tokens": MAX_TOKENS, **more}
    request = urllib.request.Request(
        BASE + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        return json.load(urllib.request.urlopen(request, timeout=300))
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.load(error)}


def judge(drawn):
    """`finished`, `cut`, `refused`, or what is wrong."""
    schema, where = drawn
    text = json.dumps(schema)
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = ask(response_format=format, seed=SEED)
    if "error" in answer:
        message = answer["error"]["message"]
        named = any(word.partition("#")[0] in message for word in keywords(schema) if word.partition("#")[0])
        # A schema that nothing can meet has no keyword that is not supported.
        unmet = re.search(r"unsatisfiable|empty|no .*value", message, re.I)
        if answer["status"] == 400 and answer["error"]["param"] == "response_format" and (named or unmet):
            return "refused", message
        return "wrong", f"{where}: {text}: {answer}"
    choice = answer["choices"][0]
    if choice["finish_reason"] == "length":
        return "cut", text
    try:
        value = json.loads(choice["message"]["content"])
        jsonschema.Draft4Validator(schema).validate(value)
    except (ValueError, jsonschema.ValidationError) as error:
        return "wrong", f"{where}: {text}: {choice['message']['content']!r}: {str(error).splitlines()[0]}"
    return "finished", answer["timings"]


def rate():
    """Tokens per second of a long answer in a shape against a free one; the median of pairs."""
    items = {"type": "array", "minItems": 40, "items": {"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
        "required": ["name", "age"], "additionalProperties": False}}
    shape = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": items}}}
    ratios = []
    for i in range(5):
        free, held = (
            ask(seed=i, ignore_eos=True, **{"speculative.n_max": 0}, **more)["timings"]["predicted_per_second"]
            for more in ({}, shape)
        )
        ratios.append(held / free)
    return statistics.median(ratios)


drawn = list(itertools.islice(schemas(random.Random(SEED)), COUNT))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    outcomes = list(pool.map(judge, drawn))
count = {kind: sum(k == kind for k, _ in outcomes) for kind in ("finished", "cut", "refused", "wrong")}
for kind, detail in outcomes:
    if kind in ("wrong", "refused"):
        print(kind, detail, file=sys.stderr)
share = count["finished"] / max(1, count["finished"] + count["cut"])
print(json.dumps({"schemas": len(drawn), **count, "finished_share": round(share, 3), "rate": round(rate(), 3)}))
if count["wrong"] or share < 0.95:
    sys.exit(1)
