#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A fleet comes back at once, by MQTT, and nobody knows its secrets yet: how long until all are in, and what
those who are in already notice of it.

--warm devices publish at QoS 1, open loop, at 15 % of the rate that fills the server when each of them waits for
one answer before its next message, as devices do. (Those that keep twenty messages under way fill it at six times
that rate, because their messages share reads and writes; 15 % of that, message by message, is more than the server
can take.) Meanwhile --cold devices with
bcrypt hashes connect, each from an address of its own. Who is told that the server is busy comes back after
some seconds (--backoff, half of it to one and a half), as firmware does, and keeps its connection once it is in.
All clients share one core, on which the cold ones stand back; the server has all cores for what they leave.

    bench/mqtt_storm.py --bin build/src/sluice --cost 10 --json results.json
"""
import heapq
import json
import multiprocessing
import os
import random
import resource
import select
import socket
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
from common import cpu_seconds, machine, parse, parser, stand_back, write_report  # noqa: E402
from attack_bench import SECRET, bcrypt_seconds  # noqa: E402
from mqtt_wire import CONNACK, connect  # noqa: E402


class Storm:
    """The cold devices: one process, as little work for each try as Python can do, and it stands back."""

    def __init__(self, port, devices, backoff_s, limit_s):
        self.port, self.devices, self.backoff_s, self.limit_s = port, devices, backoff_s, limit_s
        self.answers, self.waits, self.tries = Counter(), [], [0] * len(devices)
        self.slowest_answer = 0.0
        self.poll, self.open, self.kept, self.due = select.epoll(), {}, [], []

    def begin(self, i):
        """Connects and asks; the answer comes by `poll`."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by the whole address
        sock.bind((f"127.{3 + (i >> 16)}.{i >> 8 & 255}.{i & 255 or 1}", 0))
        sock.connect_ex(("127.0.0.1", self.port))
        self.tries[i] += 1
        self.open[sock.fileno()] = [sock, i, time.monotonic(), False]
        self.poll.register(sock.fileno(), select.EPOLLOUT)

    def ready(self, fd):
        """The connection is there, or has an answer, or is broken. The CONNACK's code or a word, when it is over."""
        entry = self.open[fd]
        sock, i, _, asked = entry
        try:
            if not asked:
                sock.send(connect(self.devices[i], self.devices[i], SECRET, version=5, keep_alive=0))
                entry[3] = True
                self.poll.modify(fd, select.EPOLLIN)
                return None
            answer = sock.recv(1024)
        except OSError as e:
            return e.strerror
        return answer[3] if len(answer) > 3 and answer[0] >> 4 == CONNACK else "closed"

    def over(self, fd, answer, now):
        sock, i, begun, _ = self.open.pop(fd)
        self.poll.unregister(fd)
        self.answers[f"0x{answer:02x}" if isinstance(answer, int) else answer] += 1
        if isinstance(answer, int):
            self.slowest_answer = max(self.slowest_answer, now - begun)
        if answer == 0:
            self.waits.append(now - self.begun)
            self.kept.append(sock)
            return
        sock.close()
        heapq.heappush(self.due, (now + self.backoff_s * random.uniform(0.5, 1.5), i))

    def run(self):
        now = self.begun = time.monotonic()
        self.due = [(now, i) for i in range(len(self.devices))]
        while len(self.kept) < len(self.devices) and now < self.begun + self.limit_s:
            for _ in range(64):
                if not self.due or self.due[0][0] > now:
                    break
                self.begin(heapq.heappop(self.due)[1])
            wait = min(1, max(0, self.due[0][0] - now)) if self.due else 1
            events = self.poll.poll(wait)
            now = time.monotonic()
            for fd, _ in events:
                answer = self.ready(fd)
                if answer is not None:
                    self.over(fd, answer, now)
        return {"devices": len(self.devices), "in": len(self.waits), "answers": dict(self.answers),
                "seconds": self.waits[-1] if self.waits else None,
                "median_s": self.waits[len(self.waits) // 2] if self.waits else None,
                "tries_mean": sum(self.tries) / len(self.tries), "tries_max": max(self.tries),
                "slowest_answer_s": self.slowest_answer, "client_cpu_s": time.process_time()}


def storm_process(args, cpu, out):
    os.sched_setaffinity(0, {cpu})
    stand_back()
    out.send(Storm(*args).run())


def storm_of(cpu, *args):
    """Storm(*args).run() in a process of its own."""
    here, there = multiprocessing.Pipe(False)
    process = multiprocessing.Process(target=storm_process, args=(args, cpu, there))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


class Bench:
    def __init__(self, args, home):
        self.args, self.home = args, home
        self.hash_s, self.stored = bcrypt_seconds(args.cost)
        self.cheap = bcrypt_seconds(4)[1]  # the warm ones' are computed once, before anything is measured
        settings = {"journal.segment_size": "64MiB", "http.connections_max": "100000", "mqtt.connections_max": "100000",
                    "listen.backlog": "16384", **args.settings}
        self.server = harness.Server(home / "server", settings)
        self.server.start(60)
        self.server.add_account("bench")
        self.warm = self.devices("warm", args.warm, self.cheap)
        self.cold = self.devices("cold", args.cold, self.stored)

    def devices(self, name, count, stored):
        made = self.server.add_devices("bench", [(f"{name}-{i:05d}", SECRET, stored) for i in range(count)])
        return [d["X-Device-Id"] for d in made]

    def senders(self, seconds, rate=None):
        """Starts the warm ones; they measure from when all of them are in."""
        csv, out = self.home / "warm.csv", self.home / "warm.json"
        csv.write_text("".join(f"{d},{SECRET}\n" for d in self.warm))
        out.unlink(missing_ok=True)
        command = [harness.BIN, "load", f"mqtt://127.0.0.1:{self.server.mqtt_port}", "--quiet", "--json", str(out),
                   "--devices", str(csv), "--order", "fixed", "--topic", "bench/feeds/%device%.temperature",
                   "--payload", "21.5", "--connections", str(self.args.warm), "--window", "20" if rate else "1", "--timeout", "900",
                   "--seconds", str(seconds), *(["--rate", f"{rate:.0f}"] if rate else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   preexec_fn=lambda: os.sched_setaffinity(0, {self.args.client_cpu}))

        def end(early=False):
            cpu = cpu_seconds(process.pid)
            if early:
                process.send_signal(2)
            said = process.communicate(timeout=900)[0]
            assert out.exists(), said
            return {**json.loads(out.read_text()), "client_cpu_s": cpu}
        return end

    def log_in(self):
        """The warm ones once, so that their secrets are known and their feeds are there."""
        done = storm_of(self.args.client_cpu, self.server.mqtt_port, self.warm, 1, 120)
        assert done["in"] == len(self.warm), done
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
        storm = storm_of(self.args.client_cpu, self.server.mqtt_port, self.cold, self.args.backoff, self.args.limit)
        return {**end(early=True), "storm": storm}

    def run(self):
        self.log_in()
        best = self.phase(None, lambda _: self.senders(self.args.seconds)())
        rate = best["answers_per_second"] * self.args.share

        def quiet(r):
            return self.senders(self.args.seconds, r)()
        return {"hash_ms": self.hash_s * 1000, "best": best, "rate": rate, "quiet": self.phase(rate, quiet),
                "stormed": self.phase(rate, self.storm), "again": self.phase(rate, self.storm),
                "quiet_after": self.phase(rate, quiet)}


def row(name, r):
    latency = r["latency_ms"]
    print(f"{name:14} {r['answers_per_second']:9.0f} {r.get('offered', 1) * 100:7.1f} {latency['p50']:8.3f} "
          f"{latency['p99']:8.3f} {latency['p99.9']:8.3f} {r['server_busy'] * 100:6.0f} {r['hashes']:7.0f}")


def table(args, report):
    print(f"bcrypt cost {args.cost}: {report['hash_ms']:.2f} ms; offered {report['rate']:.0f}/s")
    print(f"{'warm, MQTT':14} {'per s':>9} {'of off.':>7} {'p50 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'CPU %':>6} {'hashes':>7}")
    for name, key in (("full rate", "best"), ("quiet", "quiet"), ("storm", "stormed"), ("storm, known", "again"), ("quiet again", "quiet_after")):
        row(name, report[key])
    s, cores = report["stormed"]["storm"], os.cpu_count()
    if s["in"]:
        ideal = s["in"] * report["hash_ms"] / 1000 / cores
        clients = (s["client_cpu_s"] + report["stormed"]["client_cpu_s"]) / s["seconds"]
        left = cores - clients - report["quiet"]["server_busy"]
        print(f"storm: {s['in']} of {s['devices']} in {s['seconds']:.1f} s, half of them in {s['median_s']:.1f}; hashes x cost / "
              f"{cores} cores is {ideal:.1f} s: ratio {s['seconds'] / ideal:.2f}, and {s['seconds'] / ideal * left / cores:.2f} of the "
              f"{left:.2f} that the clients ({clients:.2f}) and the warm messages leave; tries {s['tries_mean']:.1f} mean, "
              f"{s['tries_max']} most; slowest answer {s['slowest_answer_s']:.2f} s; {s['answers']}")
    s = report["again"]["storm"]
    if s["in"]:
        print(f"storm, known: {s['in']} of {s['devices']} in {s['seconds']:.1f} s; {s['answers']}")


def parse_args():
    p = parser(__doc__)
    p.add_argument("--cost", type=int, default=10, help="of the devices' bcrypt hashes")
    p.add_argument("--warm", type=int, default=1000)
    p.add_argument("--cold", type=int, default=10000)
    p.add_argument("--backoff", type=float, default=5, help="seconds, of a device that was told to come back")
    p.add_argument("--share", type=float, default=0.15, help="of the full rate that is offered")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--limit", type=float, default=900, help="seconds that the storm may take")
    p.add_argument("--client-cpu", type=int, default=1)
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
