#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU per accepted datum: Sluice (authenticated, permitted, throttled, durable) beside nginx's empty
204, the first row of the budget in the design.

Both servers run all the time on one core, the client (`sluice load`) on another; they are measured turn
by turn, so that whatever else the machine does hits both alike. CPU is that of all threads of all
processes of a server, from /proc/PID/stat. 10,000 devices in random order, each with a feed of its own.

    bench/http_bench.py --bin build/src/sluice --json results.json
"""
import json
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402
from common import cpu_seconds, machine, median, memory_bytes, parse, parser, write_report  # noqa: E402
from peers import Peer  # noqa: E402

NGINX_CONF = """\
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 204; }}
    }}
}}
"""


def nginx(home, cpu):
    return Peer("nginx return 204", home, cpu, ["nginx", "-c"], NGINX_CONF)


class Sluice:
    expected, csv, words = "202", None, ()

    def __init__(self, home, cpu, name, devices, settings):
        """`devices`: pairs of id and secret, None for a new one."""
        self.name = name
        self.server = harness.Server(home / name.replace(" ", "-"), {
            "server.workers": "1", "journal.segment_size": "64MiB", **settings}, cpus=cpu)
        self.server.start(60)
        self.command = self.server.command()
        self.url = self.server.url + "/v1/telemetry"
        self.server.add_account("bench")
        begun = time.monotonic()
        self.auths = self.server.add_devices("bench", [(device, secret, None) for device, secret in devices])
        print(f"{len(devices)} devices made in {time.monotonic() - begun:.1f} s", file=sys.stderr)

    def cpu(self):
        return cpu_seconds(self.server.pid)

    def commits(self):
        return self.server.metric("journal_commits_total")

    def memory(self):
        return memory_bytes(self.server.pid)

    def stop(self):
        assert self.server.stop(60) == 0


class Client:
    def __init__(self, args, home, csv):
        self.args, self.home, self.csv = args, home, csv
        self.shown = set()

    def run(self, target, connections, seconds, rate=None, *more):
        out = self.home / "load.json"
        command = ["taskset", "-c", str(self.args.client_cpu), self.args.load or harness.BIN, "load",
                   target.url, "--devices", str(target.csv or self.csv), *target.words, "--feed", "%device%.temperature",
                   "--connections", str(connections), "--seconds", str(seconds), "--quiet",
                   "--json", str(out), *more]
        if rate:
            command += ["--rate", f"{rate:.0f}"]
        cpu, commits, begun = target.cpu(), target.commits(), time.monotonic()
        run = subprocess.run(command, capture_output=True, text=True)
        took = time.monotonic() - begun
        cpu, commits = target.cpu() - cpu, target.commits() - commits
        if run.returncode != 0:
            sys.exit(f"{shlex.join(command)}\n{run.stdout}{run.stderr}")
        result = json.loads(out.read_text())
        wrong = {s: n for s, n in result["status"].items() if s != target.expected}
        if wrong or any(result[k] for k in ("broken", "timed_out", "connect_errors", "bad_responses")):
            sys.exit(f"{target.name}: not all requests were answered with {target.expected}:\n{run.stdout}")
        return {
            "cpu_us": cpu / result["answered"] * 1e6,
            "per_second": result["answers_per_second"],
            "commits_per_second": commits / took,
            "messages_per_commit": result["answered"] / commits if commits else 0,
            "server_busy": cpu / took,
            "p50_ms": result["latency_ms"]["p50"],
            "p99_ms": result["latency_ms"]["p99"],
            "p999_ms": result["latency_ms"]["p99.9"],
            "memory_mib": target.memory() / 2**20,
            "unsent": result["unsent"],
            "command": shlex.join(command),
        }


def measure(args, client, targets):
    results = []
    for connections in args.connections:
        rounds = {t.name: [] for t in targets}
        for t in targets:
            client.run(t, connections, args.warmup)  # warm: secrets known, feeds made
        for number in range(args.rounds):
            for t in targets:
                r = client.run(t, connections, args.seconds)
                rounds[t.name].append(r)
                print(f"{connections:4d} connections, round {number + 1}: {t.name:17s} "
                      f"{r['cpu_us']:6.2f} us {r['per_second']:9.0f}/s", file=sys.stderr)
        half = {t.name: [] for t in targets}
        for number in range(args.rounds):
            for t in targets:
                rate = median(rounds[t.name], "per_second") / 2
                half[t.name].append(client.run(t, connections, args.seconds, rate))
        for t in targets:
            full, calm = rounds[t.name], half[t.name]
            results.append({
                "server": t.name, "connections": connections,
                "cpu_us": median(full, "cpu_us"), "per_second": median(full, "per_second"),
                "commits_per_second": median(full, "commits_per_second"),
                "messages_per_commit": median(full, "messages_per_commit"),
                "server_busy": median(full, "server_busy"),
                "half_rate": median(rounds[t.name], "per_second") / 2,
                "half_cpu_us": median(calm, "cpu_us"),
                "half_p50_ms": median(calm, "p50_ms"), "half_p99_ms": median(calm, "p99_ms"),
                "rounds": full, "half_rounds": calm,
            })
        base = next(r for r in results if r["connections"] == connections and r["server"] == targets[0].name)
        for r in results:
            if r["connections"] == connections:
                r["ratio"] = r["cpu_us"] / base["cpu_us"]
    return results


def table(results):
    print(f"{'connections':>11} {'server':17} {'us CPU':>7} {'ratio':>6} {'req/s':>8} {'commits/s':>9} "
          f"{'msg/commit':>10} {'half load: req/s':>16} {'p50 ms':>7} {'p99 ms':>7}")
    for r in results:
        print(f"{r['connections']:11d} {r['server']:17} {r['cpu_us']:7.2f} {r['ratio']:6.2f} "
              f"{r['per_second']:8.0f} {r['commits_per_second']:9.0f} {r['messages_per_commit']:10.1f} "
              f"{r['half_rate']:16.0f} {r['half_p50_ms']:7.3f} {r['half_p99_ms']:7.3f}")


def write_csv(path, auths, devices):
    rows = [(a["X-Device-Id"], a["X-Device-Token"]) for a in auths] or \
        [(f"device-{i:05d}", f"slu_{i:032d}") for i in range(devices)]
    path.write_text("device_id,secret\n" + "".join(f"{d},{s}\n" for d, s in rows))


def parse_args():
    p = parser(__doc__)
    p.add_argument("--load", help="another binary with the load command")
    p.add_argument("--devices", type=int, default=10000)
    p.add_argument("--connections", type=int, nargs="+", default=[64, 256])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=5)
    p.add_argument("--warmup", type=float, default=3)
    p.add_argument("--server-cpu", type=int, default=0)
    p.add_argument("--client-cpu", type=int, default=1)
    p.add_argument("--sealed", action="store_true", help="a second sluice too, which seals what it stores")
    p.add_argument("--no-nginx", action="store_true", help="without the peer; ratios are to the first server")
    p.add_argument("--nginx-only", action="store_true", help="only the peer: tries out the measurement")
    return parse(p)


def main():
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=args.dir) as home:
        home = Path(home)
        cpu = {args.server_cpu}
        report = {"machine": machine(), "arguments": vars(args)}
        targets = [] if args.no_nginx else [nginx(home, cpu)]
        auths = []
        try:
            if not args.nginx_only:
                new = [(f"device-{i:05d}", None) for i in range(args.devices)]
                targets.append(Sluice(home, cpu, "sluice durable", new, args.settings))
                auths = targets[-1].auths
            if args.sealed:
                key = home / "master.key"
                key.write_text(secrets.token_hex(32))
                same = [(a["X-Device-Id"], a["X-Device-Token"]) for a in auths]
                targets.append(Sluice(home, cpu, "sluice sealed", same,
                                      {**args.settings, "encryption.master_key_file": str(key)}))
            csv = home / "devices.csv"
            write_csv(csv, auths, args.devices)
            report["commands"] = [shlex.join(t.command) for t in targets]
            report["results"] = measure(args, Client(args, home, csv), targets)
        finally:
            for t in targets:
                t.stop()
    table(report["results"])
    print("\ncommands, server on core", args.server_cpu, "and client on core", args.client_cpu)
    for command in report["commands"] + [r["rounds"][0]["command"] for r in report["results"]]:
        print("  " + command)
    write_report(args, report)


if __name__ == "__main__":
    main()
