#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A fleet comes back at once, by MQTT, and nobody knows its secrets yet: how long until all are in, and what
those who are in already notice of it.

--warm devices publish at QoS 1, open loop, at 15 % of the rate that fills the server. Meanwhile --cold devices with
bcrypt hashes connect, each from an address of its own. Who is told that the server is busy comes back after
some seconds (--backoff, half of it to one and a half), as firmware does, and keeps its connection once it is in.

    bench/mqtt_storm.py --bin build/src/sluice --cost 10 --json results.json
"""
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))
sys.path.insert(0, str(ROOT / "bench"))

import harness  # noqa: E402
from common import parse, parser, write_report  # noqa: E402
from attack_bench import SECRET, bcrypt_seconds  # noqa: E402
from http_bench import cpu_seconds, machine  # noqa: E402
from mqtt_wire import CONNACK, connect  # noqa: E402


class Storm:
    """The cold devices."""

    def __init__(self, port, devices, backoff_s, limit_s):
        self.port, self.devices, self.backoff_s, self.limit_s = port, devices, backoff_s, limit_s
        self.answers, self.waits, self.tries, self.kept = Counter(), [], [], []
        self.slowest_answer = 0.0
        self.begun = time.monotonic()

    async def ask(self, i, device):
        """The CONNACK's code, or why there is none."""
        source = f"127.{3 + (i >> 16)}.{i >> 8 & 255}.{i & 255 or 1}"
        begun = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        except OSError as e:
            return f"not connected: {e.strerror}", None
        try:
            writer.write(connect(device, device, SECRET, version=5, keep_alive=0))
            head = await reader.readexactly(2)
            body = await reader.readexactly(head[1])
            self.slowest_answer = max(self.slowest_answer, time.monotonic() - begun)
            return (body[1] if head[0] >> 4 == CONNACK else "no CONNACK"), writer
        except (OSError, asyncio.IncompleteReadError):
            return "closed", writer

    async def device(self, i, device):
        tries = 0
        while time.monotonic() - self.begun < self.limit_s:
            tries += 1
            code, writer = await self.ask(i, device)
            self.answers[f"0x{code:02x}" if isinstance(code, int) else code] += 1
            if code == 0:
                self.waits.append(time.monotonic() - self.begun)
                self.tries.append(tries)
                self.kept.append(writer)
                return
            if writer:
                writer.close()
            await asyncio.sleep(self.backoff_s * random.uniform(0.5, 1.5))

    async def run(self):
        await asyncio.gather(*(self.device(i + 1, d) for i, d in enumerate(self.devices)))
        return self.begun

    def result(self):
        self.waits.sort()
        return {"devices": len(self.devices), "in": len(self.waits), "answers": dict(self.answers),
                "seconds": self.waits[-1] if self.waits else None,
                "median_s": self.waits[len(self.waits) // 2] if self.waits else None,
                "tries_mean": sum(self.tries) / max(1, len(self.tries)), "tries_max": max(self.tries, default=0),
                "slowest_answer_s": self.slowest_answer}


class Bench:
    def __init__(self, args, home):
        self.args, self.home = args, home
        self.hash_s, self.stored = bcrypt_seconds(args.cost)
        settings = {"journal.segment_size": "64MiB", "http.connections_max": "100000", "mqtt.connections_max": "100000",
                    "listen.backlog": "16384", **args.settings}
        self.server = harness.Server(home / "server", settings)
        self.server.start(60)
        self.server.add_account("bench")
        self.warm = self.devices("warm", args.warm)
        self.cold = self.devices("cold", args.cold)

    def devices(self, name, count):
        made = self.server.add_devices("bench", [(f"{name}-{i:05d}", SECRET, self.stored) for i in range(count)])
        return [d["X-Device-Id"] for d in made]

    def senders(self, seconds, rate=None):
        """Starts the warm ones; they measure from when all of them are in."""
        csv, out = self.home / "warm.csv", self.home / "warm.json"
        csv.write_text("".join(f"{d},{SECRET}\n" for d in self.warm))
        out.unlink(missing_ok=True)
        command = [harness.BIN, "load", f"mqtt://127.0.0.1:{self.server.mqtt_port}", "--quiet", "--json", str(out),
                   "--devices", str(csv), "--order", "fixed", "--topic", "bench/feeds/%device%.temperature",
                   "--payload", "21.5", "--connections", str(self.args.warm), "--window", "20", "--timeout", "900",
                   "--seconds", str(seconds), *(["--rate", f"{rate:.0f}"] if rate else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def end(early=False):
            if early:
                process.send_signal(2)
            said = process.communicate(timeout=900)[0]
            assert out.exists(), said
            return json.loads(out.read_text())
        return end

    def log_in(self):
        """The warm ones once, so that their secrets are known and their feeds are there."""
        until = time.monotonic() + 20 + 3 * self.args.warm * self.hash_s
        while self.server.metric("hashes_run_total") < self.args.warm and time.monotonic() < until:
            asyncio.run(Storm(self.server.mqtt_port, self.warm, 1, 120).run())
        self.senders(3)()

    def phase(self, rate, run):
        begun, cpu, before = time.monotonic(), cpu_seconds(self.server.pid), self.server.metrics()
        result = run(rate)
        after, ended = self.server.metrics(), time.monotonic()
        result["server_busy"] = (cpu_seconds(self.server.pid) - cpu) / (ended - begun)
        result["hashes"] = after["sluice_hashes_run_total"] - before["sluice_hashes_run_total"]
        if rate:
            result["offered"] = result["answers_per_second"] / rate
        return result

    def storm(self, rate):
        end = self.senders(self.args.limit, rate)
        time.sleep(2)
        storm = Storm(self.server.mqtt_port, self.cold, self.args.backoff, self.args.limit)
        asyncio.run(storm.run())
        return {**end(early=True), "storm": storm.result()}

    def run(self):
        self.log_in()
        best = self.phase(None, lambda _: self.senders(self.args.seconds)())
        rate = best["answers_per_second"] * self.args.share

        def quiet(r):
            return self.senders(self.args.seconds, r)()
        return {"hash_ms": self.hash_s * 1000, "best": best, "rate": rate, "quiet": self.phase(rate, quiet),
                "stormed": self.phase(rate, self.storm), "quiet_after": self.phase(rate, quiet)}


def row(name, r):
    latency = r["latency_ms"]
    print(f"{name:14} {r['answers_per_second']:9.0f} {r.get('offered', 1) * 100:7.1f} {latency['p50']:8.3f} "
          f"{latency['p99']:8.3f} {latency['p99.9']:8.3f} {r['server_busy'] * 100:6.0f} {r['hashes']:7.0f}")


def table(args, report):
    print(f"bcrypt cost {args.cost}: {report['hash_ms']:.2f} ms; offered {report['rate']:.0f}/s")
    print(f"{'warm, MQTT':14} {'per s':>9} {'of off.':>7} {'p50 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'CPU %':>6} {'hashes':>7}")
    for name, key in (("full rate", "best"), ("quiet", "quiet"), ("storm", "stormed"), ("quiet again", "quiet_after")):
        row(name, report[key])
    s, cores = report["stormed"]["storm"], os.cpu_count()
    if s["in"]:
        ideal = s["in"] * report["hash_ms"] / 1000 / cores
        print(f"storm: {s['in']} of {s['devices']} in {s['seconds']:.1f} s, half of them in {s['median_s']:.1f}; hashes x cost / "
              f"{cores} cores is {ideal:.1f} s: ratio {s['seconds'] / ideal:.2f}; tries {s['tries_mean']:.1f} mean, "
              f"{s['tries_max']} most; slowest answer {s['slowest_answer_s']:.2f} s; {s['answers']}")


def parse_args():
    p = parser(__doc__)
    p.add_argument("--cost", type=int, default=10, help="of the devices' bcrypt hashes")
    p.add_argument("--warm", type=int, default=1000)
    p.add_argument("--cold", type=int, default=10000)
    p.add_argument("--backoff", type=float, default=5, help="seconds, of a device that was told to come back")
    p.add_argument("--share", type=float, default=0.15, help="of the full rate that is offered")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--limit", type=float, default=900, help="seconds that the storm may take")
    return parse(p)


def main():
    args = parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=args.dir) as home:
        bench = Bench(args, Path(home))
        try:
            report = {"machine": machine(), "arguments": vars(args), **bench.run()}
        finally:
            bench.server.stop(60)
    table(args, report)
    write_report(args, report)


if __name__ == "__main__":
    main()
