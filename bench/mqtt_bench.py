#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU per published message: Sluice (authenticated, permitted, throttled, durable, all views on) beside
Mosquitto and FlashMQ, which neither store nor authenticate: the second row of the budget in the design.

All servers run all the time on one core, the client (`sluice load`) on another; they are measured turn by
turn, so that whatever else the machine does hits all alike. CPU is that of all threads of a server, from
/proc/PID/stat. 16 connections, 100,000 feeds in random order, payloads of 100 bytes. Of QoS 1 the window is
how many messages of a connection are without an answer; of QoS 0 how many are not known to have been read.

    bench/mqtt_bench.py --bin build/src/sluice --flashmq /path/to/flashmq --json results.json
"""
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))
sys.path.insert(0, str(ROOT / "bench"))

import harness  # noqa: E402
from common import cpu_seconds, machine, median, memory_bytes, parse, parser, write_report  # noqa: E402
from peers import Peer  # noqa: E402

MOSQUITTO_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
persistence false
log_dest none
"""

FLASHMQ_CONF = """\
thread_count 1
allow_anonymous true
log_file {home}/flashmq.log
log_level error
listen {{
    protocol mqtt
    inet_protocol ip4
    inet4_bind_address 127.0.0.1
    port {port}
}}
"""


class Sluice:
    def __init__(self, home, cpu, settings, connections, feeds):
        self.name, self.topic_root = "sluice", "bench"
        self.server = harness.Server(home / "sluice", {
            "server.workers": "1", "journal.segment_size": "64MiB", **settings}, cpus=cpu)
        self.server.start(60)
        self.command, self.port = self.server.command(), self.server.mqtt_port
        self.server.add_account("bench")
        self.csv = home / "devices.csv"
        auths = self.server.add_devices("bench", [(f"gateway-{i:02d}", None, None) for i in range(connections)])
        self.csv.write_text("device_id,secret\n" + "".join(
            f"{a['X-Device-Id']},{a['X-Device-Token']}\n" for a in auths))

    def login(self):
        return ["--devices", str(self.csv)]

    def cpu(self):
        return cpu_seconds(self.server.pid)

    def memory(self):
        return memory_bytes(self.server.pid)

    def taken(self):
        m = self.server.metrics()
        return m["sluice_messages_accepted_total"] + m["sluice_messages_received_unacked_total"]

    def commits(self):
        return self.server.metric("journal_commits_total")

    def stop(self):
        assert self.server.stop(60) == 0


class Client:
    def __init__(self, args, home):
        self.args, self.home = args, home

    def run(self, target, qos, window, seconds, *more):
        out = self.home / "load.json"
        command = ["taskset", "-c", str(self.args.client_cpu), self.args.load or harness.BIN, "load",
                   f"mqtt://127.0.0.1:{target.port}", *target.login(), "--mqtt", "3.1.1",
                   "--topic", f"{target.topic_root}/feeds/f%feed%", "--feeds", str(self.args.feeds),
                   "--payload-size", str(self.args.payload), "--connections", str(self.args.connections),
                   "--qos", str(qos), "--window", str(window), "--seconds", str(seconds), "--quiet",
                   "--json", str(out), *more]
        cpu, commits, taken = target.cpu(), target.commits(), target.taken()
        run = subprocess.run(command, capture_output=True, text=True)
        cpu, commits = target.cpu() - cpu, target.commits() - commits
        if run.returncode != 0:
            sys.exit(f"{shlex.join(command)}\n{run.stdout}{run.stderr}")
        result = json.loads(out.read_text())
        if set(result["status"]) != {"0"} or any(result[k] for k in ("broken", "timed_out", "bad_responses", "closed")):
            sys.exit(f"{target.name}: not all messages were acknowledged:\n{run.stdout}")
        if taken is not None and target.taken() - taken != result["answered"]:
            sys.exit(f"{target.name}: {result['answered']} answers, {target.taken() - taken} messages taken")
        return {
            "cpu_us": cpu / result["answered"] * 1e6,
            "per_second": result["answers_per_second"],
            "messages_per_commit": result["answered"] / commits if commits else 0,
            "p50_ms": result["latency_ms"]["p50"],
            "p99_ms": result["latency_ms"]["p99"],
            "p999_ms": result["latency_ms"]["p99.9"],
            "memory_mib": target.memory() / 2**20,
            "delivered": result["delivered"],
            "delivery_p50_ms": result.get("delivery_ms", {}).get("p50", 0),
            "delivery_p99_ms": result.get("delivery_ms", {}).get("p99", 0),
            "delivery_p999_ms": result.get("delivery_ms", {}).get("p99.9", 0),
            "sent": result["sent"],
            "series": result["series"],
            "command": shlex.join(command),
        }


def measure(args, client, targets):
    results = []
    for t in targets:  # every feed is there, and all secrets are known
        client.run(t, 1, 100, 600, "--requests", str(args.feeds * 10))
    for qos, window in args.cases:
        rounds = {t.name: [] for t in targets}
        for number in range(args.rounds):
            for t in targets:
                r = client.run(t, qos, window, args.seconds)
                rounds[t.name].append(r)
                print(f"QoS {qos}, window {window:4d}, round {number + 1}: {t.name:10s} {r['cpu_us']:7.2f} us "
                      f"{r['per_second']:9.0f}/s", file=sys.stderr)
        for t in targets:
            full = rounds[t.name]
            results.append({"server": t.name, "qos": qos, "window": window, "cpu_us": median(full, "cpu_us"),
                            "per_second": median(full, "per_second"),
                            "messages_per_commit": median(full, "messages_per_commit"),
                            "p50_ms": median(full, "p50_ms"), "p99_ms": median(full, "p99_ms"), "rounds": full})
        mine = results[-1]["cpu_us"]
        for r in results[-len(targets):]:
            r["of_sluice"] = r["cpu_us"] / mine
    return results


def measure_delivery(args, client, targets):
    """Publish to subscriber, at half of the rate that goes through with that subscriber."""
    results = []
    to = ["--subscribe", "bench/feeds/+"]
    rates = {t.name: [] for t in targets}
    calm = {t.name: [] for t in targets}
    for number in range(args.rounds):
        for t in targets:
            r = client.run(t, 1, args.delivery_window, args.seconds, *to)
            rates[t.name].append(min(r["per_second"], r["delivered"] / args.seconds))
            half = args.delivery_rate or sorted(rates[t.name])[len(rates[t.name]) // 2] / 2
            calm[t.name].append(client.run(t, 1, args.delivery_window, args.seconds, *to, "--rate", f"{half:.0f}"))
            r = calm[t.name][-1]
            print(f"delivery, round {number + 1}: {t.name:10s} {half:9.0f}/s p50 {r['delivery_p50_ms']:.3f} "
                  f"p99 {r['delivery_p99_ms']:.3f} ms", file=sys.stderr)
    for t in targets:
        results.append({"server": t.name, "rate": median(calm[t.name], "per_second"),
                        "cpu_us": median(calm[t.name], "cpu_us"),
                        "delivered_share": min(r["delivered"] / r["sent"] for r in calm[t.name]),
                        "p50_ms": median(calm[t.name], "delivery_p50_ms"),
                        "p99_ms": median(calm[t.name], "delivery_p99_ms"),
                        "puback_p50_ms": median(calm[t.name], "p50_ms"),
                        "puback_p99_ms": median(calm[t.name], "p99_ms"), "rounds": calm[t.name]})
    return results


def table(report):
    print(f"{'QoS':>3} {'window':>6} {'server':10} {'us CPU':>7} {'of sluice':>9} {'msg/s':>8} {'msg/commit':>10} "
          f"{'p50 ms':>7} {'p99 ms':>7}")
    for r in report["results"]:
        print(f"{r['qos']:3d} {r['window']:6d} {r['server']:10} {r['cpu_us']:7.2f} {r['of_sluice']:9.2f} "
              f"{r['per_second']:8.0f} {r['messages_per_commit']:10.1f} {r['p50_ms']:7.3f} {r['p99_ms']:7.3f}")
    if not report["delivery"]:
        return
    print(f"\nhalf load    {'server':10} {'msg/s':>8} {'us CPU':>7} {'to subscriber: p50':>18} {'p99 ms':>7} "
          f"{'PUBACK: p50':>11} {'p99 ms':>7} {'delivered':>9}")
    for r in report["delivery"]:
        print(f"             {r['server']:10} {r['rate']:8.0f} {r['cpu_us']:7.2f} {r['p50_ms']:18.3f} "
              f"{r['p99_ms']:7.3f} {r['puback_p50_ms']:11.3f} {r['puback_p99_ms']:7.3f} {r['delivered_share']:9.1%}")


def case(text):
    qos, window = text.split(":")
    return int(qos), int(window)


def parse_args():
    p = parser(__doc__)
    p.add_argument("--load", help="another binary with the load command")
    p.add_argument("--mosquitto", default="mosquitto", help="its binary; empty: without it")
    p.add_argument("--flashmq", help="its binary, which Debian does not have")
    p.add_argument("--cases", type=case, nargs="*", default=[(1, 100), (1, 20), (1, 1), (0, 2000)],
                   help="QoS:WINDOW")
    p.add_argument("--connections", type=int, default=16)
    p.add_argument("--feeds", type=int, default=100000)
    p.add_argument("--payload", type=int, default=100)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--delivery-window", type=int, default=100)
    p.add_argument("--delivery-rate", type=float, help="messages a second instead of half of what goes through")
    p.add_argument("--no-delivery", action="store_true")
    p.add_argument("--server-cpu", type=int, default=0)
    p.add_argument("--client-cpu", type=int, default=1)
    return parse(p)


def main():
    args = parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=args.dir) as home:
        home = Path(home)
        cpu = {args.server_cpu}
        report = {"machine": machine(), "arguments": vars(args), "delivery": []}
        targets = []
        try:
            if args.mosquitto:
                targets.append(Peer("Mosquitto", home, cpu, [args.mosquitto, "-c"], MOSQUITTO_CONF))
            if args.flashmq:
                targets.append(Peer("FlashMQ", home, cpu, [args.flashmq, "--config-file"], FLASHMQ_CONF))
            targets.append(Sluice(home, cpu, args.settings, args.connections, args.feeds))
            report["commands"] = [shlex.join(t.command) for t in targets]
            client = Client(args, home)
            report["results"] = measure(args, client, targets)
            if not args.no_delivery:
                report["delivery"] = measure_delivery(args, client, targets)
        finally:
            for t in targets:
                t.stop()
    table(report)
    print("\ncommands, servers on core", args.server_cpu, "and client on core", args.client_cpu)
    for command in report["commands"] + [r["rounds"][0]["command"] for r in report["results"] + report["delivery"]]:
        print("  " + command)
    write_report(args, report)


if __name__ == "__main__":
    main()
