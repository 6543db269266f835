"""Eight clients that ask, cancel, disconnect and send rubbish at random. Arguments: base URL, process id of serve,
seconds, seed. Prints figures as JSON; fails at an error that is not the client's own, a slot that stays busy, or
memory that grows.
"""
import http.client
import json
import random
import re
import sys
import threading
import time
import urllib.parse
import urllib.request

BASE, PID, SECONDS, SEED = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
HOST = urllib.parse.urlparse(BASE).netloc
END = time.monotonic() + SECONDS
CLIENTS = 8
GROWTH = 1.02

counts, wrong, lock = {}, [], threading.Lock()


def note(what):
    with lock:
        counts[what] = counts.get(what, 0) + 1


def chat(rng, **more):
    words = " ".join(rng.choice(["cat", "sea", "light", "seven", "why"]) for _ in range(rng.randint(1, 120)))
    return {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": words}],
            "max_tokens": rng.randint(1, 48), "seed": rng.randint(0, 9), **more}


def post(path, body, read=True, after=0.0):
    """The status and the body; or, without reading, nothing: the connection is closed."""
    connection = http.client.HTTPConnection(HOST, timeout=120)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        if not read:
            time.sleep(after)
            return None, None
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask(rng):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    more = rng.choice([{}, {}, {"stream": True, "return_progress": True}, {"temperature": 0},
                       {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
                       {"service_tier": "flex"}, {"stop": ["cat"]}, {"truncation": "middle"}])
    status, body = post("/v1/chat/completions", json.dumps(chat(rng, **more)))
    assert status in (200, 429), (status, body)
    assert status == 429 or b'"finish_reason":"' in body and b'"error"' not in body, body
    note(f"asked: {status}")
    if status == 429:
        time.sleep(0.5)


def ask_otherwise(rng):
    words = chat(rng)["messages"]
    path, body = rng.choice([
        ("/api/chat", {"messages": words, "options": {"num_predict": 8}}),
        ("/api/generate", {"prompt": words[1]["content"], "options": {"num_predict": 8}, "stream": False}),
        ("/v1/responses", {"input": words[1]["content"], "max_output_tokens": 8}),
    ])
    status, body = post(path, json.dumps(body))
    assert status in (200, 429), (status, body)
    note(f"asked otherwise: {status}")
    if status == 429:
        time.sleep(0.5)


def leave(rng):
    post("/v1/chat/completions", json.dumps(chat(rng, max_tokens=400)), read=False, after=rng.choice([0, 0.01, 0.3]))
    note("left")


def leave_a_stream(rng):
    connection = http.client.HTTPConnection(HOST, timeout=120)
    body = json.dumps(chat(rng, max_tokens=400, stream=True))
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status in (200, 429), answer.status
    answer.read(rng.randint(1, 2000))
    connection.close()
    note("left a stream")


def rubbish(rng):
    noise = bytes(rng.randrange(256) for _ in range(rng.randint(0, 300)))
    body = rng.choice([
        noise, b"", b"{", b'{"messages": ' + b"[" * 5000, json.dumps(chat(rng, max_tokens=-1)),
        json.dumps(chat(rng, colour="red")), json.dumps({"messages": [{"role": "user", "content": "x " * 9000}]}),
        json.dumps(chat(rng, response_format={"type": "grammar", "syntax": "lark", "definition": "start: a"})),
        b'{"messages": [{"role": "user", "content": "\xff"}]}', json.dumps(chat(rng, tools=[{"type": "x"}])),
    ])
    status, answer = post(rng.choice(["/v1/chat/completions", "/v1/chat/completions", "/api/chat"]), body)
    # An empty object and an empty text ask Ollama's API for the model to be loaded.
    assert 400 <= status < 500, (status, body[:200], answer)
    note("rubbish refused")


def client(number):
    rng = random.Random(SEED * 100 + number)
    deeds = [ask] * 5 + [ask_otherwise] * 2 + [leave, leave_a_stream, rubbish]
    while time.monotonic() < END:
        deed = rng.choice(deeds)
        try:
            deed(rng)
        except (AssertionError, OSError, http.client.HTTPException) as error:
            with lock:
                wrong.append(f"{deed.__name__}: {error!r}"[:600])


def resident():
    with open(f"/proc/{PID}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) / 1024


def metric(name):
    with urllib.request.urlopen(BASE + "/metrics") as answer:
        return float(re.search(rf"^cloister_{name} (\S+)$", answer.read().decode(), re.M)[1])


threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
for thread in threads:
    thread.start()
# What is made when first asked for, as the tree for grammars, is there after a minute.
time.sleep(min(60, SECONDS / 3))
samples = [resident()]
while any(thread.is_alive() for thread in threads):
    time.sleep(1)
    samples.append(resident())
waited = time.monotonic()
while (metric("slots_busy") or metric("queue_waiting")) and time.monotonic() - waited < 30:
    time.sleep(0.1)
busy = metric("slots_busy") + metric("queue_waiting")
tenth = max(1, len(samples) // 10)
begin, end = max(samples[:tenth]), max(samples[-tenth:])
print(json.dumps({"seconds": SECONDS, **counts, "wrong": len(wrong), "busy_after": busy,
                  "resident_mib": [round(begin, 1), round(end, 1)], "growth": round(end / begin, 4)}))
for line in wrong[:20]:
    print(line, file=sys.stderr)
if wrong or busy or end > begin * GROWTH:
    sys.exit(1)
