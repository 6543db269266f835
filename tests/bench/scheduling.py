#!/usr/bin/env python3
"""What a long prompt costs a running answer, and what the running answer costs the prompt, in one run of `serve`.

In: the release build, a model. Out: a line for each round, and in RESULTS.md the medians: the answer's tokens per second while a
prompt of 2,000 tokens is read, as a share of its tokens per second before; the time of the prompt beside it, as a
multiple of its time alone.

usage: tests/bench/scheduling.py MODEL.gguf [ROUNDS]
"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from bench import CORES, cpu
from record import RESULTS, record

PROMPT = 2000
ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Serve:
    def __init__(self, model):
        self.folder = tempfile.TemporaryDirectory()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [ROOT / "target/release/cloister", "serve", "--model", model, "--listen", f"127.0.0.1:{port}",
             "--state", self.folder.name, "--ctx", "4096", "--slots", "2"],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/health")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("serve does not start")

    def ask(self, text, **fields):
        # Without drafts, which only an answer that runs alone has.
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "ignore_eos": True,
                "speculative.n_max": 0, **fields}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return urllib.request.urlopen(request)

    def prompt(self, first):
        """Reads a prompt that begins with a word of its own, so that nothing of it is known. Gives the seconds."""
        answer = json.load(self.ask(f"{first} " + "word " * PROMPT, max_tokens=1))
        assert answer["timings"]["prompt_n"] >= PROMPT, answer
        return answer["timings"]["prompt_ms"] / 1e3


class Running:
    """An answer that runs, and when its tokens came."""

    def __init__(self, serve):
        self.times = []
        self.over = False
        self.stream = serve.ask("Count.", max_tokens=3900, stream=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with self.stream:
            for line in self.stream:
                if line.startswith(b"data: {"):
                    self.times.append(time.monotonic())
                if self.over:
                    return

    def rate(self, begin, end):
        return sum(begin <= at < end for at in self.times) / (end - begin)

    def close(self):
        # Who reads closes: two threads at one stream wait for each other.
        self.over = True
        self.thread.join()


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    rounds = int(sys.argv[2]) if len(sys.argv) == 3 else 3
    serve = Serve(sys.argv[1])
    rates, times = [], []
    try:
        for n in range(rounds):
            alone = serve.prompt(f"Alone{n}")
            running = Running(serve)
            time.sleep(1)
            begin = time.monotonic()
            time.sleep(3)
            before = running.rate(begin, time.monotonic())
            begin = time.monotonic()
            beside = serve.prompt(f"Beside{n}")
            during = running.rate(begin, time.monotonic())
            longest = max(b - a for a, b in zip(running.times, running.times[1:]) if a >= begin)
            running.close()
            rates.append(during / before)
            times.append(beside / alone)
            print(f"answer {before:.1f} -> {during:.1f} t/s ({rates[-1]:.2f}), longest gap {longest:.2f} s; "
                  f"prompt {alone:.1f} -> {beside:.1f} s ({times[-1]:.2f})", flush=True)
            time.sleep(1)
    finally:
        serve.process.terminate()
        serve.process.wait()
    record(RESULTS, "A long prompt beside a running answer", [
        f"`tests/bench/scheduling.py {os.path.basename(sys.argv[1])} {rounds}`, {CORES} threads on {cpu()}. Medians.", "",
        "| what | measured | promised |",
        "| --- | --- | --- |",
        f"| of its rate an answer keeps while a prompt of {PROMPT} tokens is read | {statistics.median(rates):.2f} | above 0.5 |",
        f"| the prompt's time beside the answer, against alone | {statistics.median(times):.2f} | at most 3 |",
    ])


main()
