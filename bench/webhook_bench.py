#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the webhook sink drains a backlog into nginx's empty 204, beside wrk and plain loops of libcurl
(bench/webhook_bench.c) with as many connections and the same request; a message is a request, and (batches) up to 100 are one.

    bench/webhook_bench.py --bin build/src/sluice [--also OTHER] [--json results.json]

nginx verifies nothing: a receiver that does takes longer, and is what the rate depends on.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import drain

import common
from http_bench import nginx as start_nginx
from peers import find

# A message as this sink posts it.
REQUEST = """
wrk.method = "POST"
wrk.body = '{"type":"datum.created","timestamp":"2026-11-29T08:00:00.250000Z","data":{"account":"acme","feed":"truck-17","feed_id":4,"device":"acme-dev","id":"06E1PZ8X7C0000000000000001","created_at":"2026-11-29T08:00:00.250000Z","value":"21.50","number":21.50}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["webhook-id"] = "msg_0123456789abcdef0123456789abcdef_1234567"
wrk.headers["webhook-timestamp"] = "1795944000"
wrk.headers["webhook-signature"] = "v1,YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
"""
SECRET = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="


def wrk(nginx, args, script):
    with drain.Cost(1, target=nginx.process.pid) as cost:
        out = subprocess.run([find("wrk"), "-t", "1", "-c", str(args.connections), "-d", f"{args.seconds}s", "-s", script, nginx.url],
                             check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in out and "Socket errors" not in out, out
    requests, = re.findall(r"(\d+) requests in", out)
    rate, = re.findall(r"Requests/sec: +([\d.]+)", out)
    return {"rate": float(rate), "cpu_us": 0, "target_cpu_us": cost.found["target_cpu_us"] / int(requests)}


def libcurl(nginx, args, kind):
    with drain.Cost(args.count, target=nginx.process.pid) as cost:
        out = subprocess.run([common.tool("webhook_bench"), nginx.url, str(args.connections), str(args.count), "-", "1", kind],
                             check=True, capture_output=True, text=True).stdout
    (rate, cpu), = re.findall(rf"{kind} (\d+) requests/s, ([\d.]+) us", out)
    return {"rate": float(rate), "cpu_us": float(cpu), "target_cpu_us": cost.found["target_cpu_us"]}


def main():
    p = drain.parser(__doc__, 200000)
    p.add_argument("--connections", type=int, default=8)
    p.add_argument("--seconds", type=int, default=5, help="of wrk")
    args = common.parse(p)
    found = {}
    with tempfile.TemporaryDirectory(dir=args.dir, prefix="webhook-bench-") as home:
        home = Path(home)
        nginx = start_nginx(home, {*range(os.cpu_count())})
        (home / "request.lua").write_text(REQUEST)
        (home / "secret").write_text(SECRET + "\n")
        settings = {"webhook.url": nginx.url, "webhook.secret_file": str(home / "secret"), "webhook.allow": "127.0.0.0/8",
                    "webhook.connections": str(args.connections)}
        try:
            for i in range(args.rounds):
                found.setdefault("wrk", []).append(wrk(nginx, args, home / "request.lua"))
                for kind in ("poll", "socket"):
                    found.setdefault(f"libcurl, {kind}", []).append(libcurl(nginx, args, kind))
                for k, (name, binary) in enumerate(drain.binaries(args).items()):
                    for batches in (False, True):
                        more = {"webhook.events_max": "100", "webhook.batch_max": "1000"} if batches else {}
                        found.setdefault(f"{name}, batches" if batches else name, []).append(drain.drain(
                            binary, home / f"r{i}-{k}-{batches}", "webhook", {**settings, **more}, args, nginx.process.pid))
                print(f"round {i + 1}")
                drain.tell(found)
        finally:
            nginx.stop()
    drain.summarize(args, found, "wrk", "libcurl, poll", "libcurl, socket")
    return 0


if __name__ == "__main__":
    sys.exit(main())
