# SPDX-License-Identifier: Apache-2.0
"""Reading back over Adafruit's API from a server that holds 10 million points of 100 feeds: the newest value, 1,000 points of a
range, a chart, and an answer that nothing has changed. Each costs what all threads of the server used. What a stored point takes, and
the same reads inside the history, are measured on telemetry that looks real: values that move a little, every ten seconds."""
import re
import statistics
import subprocess
import time
import urllib.request

import harness
from common import load, tool
from http_bench import Sluice
from result import Result
from scenarios.recovery import CONNECTIONS, status

FEEDS, POINTS = 100, 10
COLUMNS = {"cpu_us": "CPU µs a read", "per_second": "reads/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}


def fill(args, sluice, count):
    csv = args.home / "devices.csv"
    csv.write_text("".join(f"{a['X-Device-Id']},{a['X-Device-Token']}\n" for a in sluice.auths))
    load(args, f"mqtt://127.0.0.1:{sluice.server.mqtt_port}", "--devices", csv, "--topic", "bench/feeds/f%feed%", "--feeds", FEEDS,
         "--connections", CONNECTIONS, "--window", 200, "--payload", "21.%random%", "--requests", count, "--seconds", 300)
    harness.wait_for("the history to have all", lambda: status(sluice.server)["views"]["history"]["lag"] == 0, 120, 0.1)


def get(url, key):
    """The answer's ETag, and how many bytes it has."""
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-AIO-Key": key})) as answer:
        return answer.headers["ETag"], len(answer.read())


def ask(args, sluice, key, path, expected="200", *more, connections=16, rate=None):
    """Reads of one path, as fast as the answers come, or at a rate."""
    cpu, begun = sluice.cpu(), time.monotonic()
    found = load(args, sluice.server.url + path, "--method", "GET", "--key", key, "--payload", "", "--connections", connections,
                 "--seconds", args.seconds, *more, *(["--rate", f"{rate:.0f}"] if rate else []))
    assert set(found["status"]) == {expected}, f"GET {path}: {found['status']}"
    return {"cpu_us": (sluice.cpu() - cpu) * 1e6 / found["answered"], "per_second": found["answers_per_second"],
            "p50_ms": found["latency_ms"]["p50"], "p99_ms": found["latency_ms"]["p99"], "p999_ms": found["latency_ms"]["p99.9"],
            "took": time.monotonic() - begun}


def inside(args, r):
    """What the history costs by itself: bytes, and reads from its cache."""
    million = max(1, round(POINTS * args.scale))
    run = subprocess.run(["taskset", "-c", str(args.server_cpu), tool("history_bench"), str(args.home / "history"), str(million)],
                         check=True, capture_output=True, text=True).stdout
    group = r.group(f"The history alone, {million} million points", {"bytes": "bytes a point", "range": "µs a range of 1,000"}, "bytes")
    stored, name = {}, ""
    for line in run.splitlines():
        title = line[:28].strip()
        name = title if title != "when merged" else name
        found = re.search(r"([\d.]+) B/point", line)
        if found:
            stored.setdefault((name, title == "when merged"), {})["bytes"] = float(found[1])
        found = re.search(r"([\d.]+) us per range, (\d+) points", line)
        if found and int(found[2]) == 1000:
            stored[name, title == "when merged"]["range"] = float(found[1])
    for (name, merged), figures in stored.items():
        r.row(group, name + (", merged" if merged else ""), [figures])
    r.claim("bytes", [f["bytes"] for (name, merged), f in stored.items() if merged and name.startswith("100,000")])
    return stored["100 feeds in turn", True]["range"]


def measure(args):
    r, count = Result(), round(POINTS * 1e6 * args.scale)
    range_us = inside(args, r)
    sluice = Sluice(args.home, {args.server_cpu}, "Sluice", [(f"gateway-{i}", None) for i in range(CONNECTIONS)], args.settings)
    try:
        key = sluice.server.add_key("bench")
        fill(args, sluice, count)
        feed = "/api/v2/bench/feeds/f000042/data"
        unchanged, _ = get(f"{sluice.server.url}{feed}?limit=10", key)
        _, size = get(f"{sluice.server.url}{feed}?limit=1000", key)
        asks = {"newest value": (f"{feed}/last", "200"), "1,000 points": (f"{feed}?limit=1000", "200"),
                "chart of an hour": (f"{feed}/chart?hours=1&resolution=1", "200"),
                "nothing has changed (304)": (f"{feed}?limit=10", "304", "--header", f"If-None-Match: {unchanged}")}
        rounds = {name: [] for name in asks}
        for turn in range(args.rounds + 1):
            for name, words in asks.items():
                found = ask(args, sluice, key, *words)
                if turn:  # the first one warms the cache
                    rounds[name].append(found)
    finally:
        sluice.stop()
    group = r.group(f"Over HTTP, {count:,} points of {FEEDS} feeds", COLUMNS, "cpu_us")
    for name, measured in rounds.items():
        r.row(group, name, measured)
    last = statistics.median(m["cpu_us"] for m in rounds["newest value"])
    whole = [m["cpu_us"] for m in rounds["1,000 points"]]
    r.claim("range", [range_us], must=2 * last + 50)
    r.claim("range.http", whole, must=2 * last + 50)
    r.note(f"Finding 1,000 points in the history takes {range_us:.0f} µs of the {statistics.median(whole):,.0f} µs; the rest is to write them as "
           f"Adafruit's JSON, {size / 1000:,.0f} bytes a point, and to send that.")
    return r.dict
