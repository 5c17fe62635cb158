#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU per delivery, one publisher to many subscribers of QoS 0: Sluice beside Mosquitto and FlashMQ.

All servers run all the time on one core, publisher and subscribers on another; they are measured turn by
turn. A round publishes `--burst` messages of QoS 0 and ends when every subscriber has all of them. CPU is
that of all threads of a server; Sluice authenticates and stores besides.

    bench/mqtt_fanout.py --bin build/src/sluice --subscribers 1000
"""
import argparse
import json
import os
import resource
import select
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))
sys.path.insert(0, str(ROOT / "bench"))

import harness  # noqa: E402
import mqtt_wire as wire  # noqa: E402
from common import machine, median  # noqa: E402
from mqtt_bench import FLASHMQ_CONF, MOSQUITTO_CONF, Sluice  # noqa: E402
from peers import Peer  # noqa: E402


class Fan:
    """A server with its subscribers and its publisher."""

    def __init__(self, target, count, payload, key):
        self.target, self.payload = target, payload
        self.topic = f"{target.topic_root}/feeds/fan"
        user = ("bench", key) if key else (None, None)
        self.publisher = self.open(user)
        self.subscribers = [self.open(user) for _ in range(count)]
        self.poll = select.epoll()
        self.socks = {}
        for c in self.subscribers:
            assert c.subscribe((self.topic, 0)) == [0]
            c.sock.setblocking(False)
            self.poll.register(c.sock.fileno(), select.EPOLLIN)
            self.socks[c.sock.fileno()] = c.sock
        self.size = len(wire.publish(self.topic, "x" * payload))

    def open(self, user):
        c = wire.Mqtt(self.target.port, timeout=60)
        c.login(*user)
        return c

    def round(self, burst):
        self.publisher.sock.sendall(wire.publish(self.topic, "x" * self.payload) * burst)
        due = burst * self.size * len(self.subscribers)
        end = time.monotonic() + 30
        while due > 0:
            assert time.monotonic() < end, f"{self.target.name}: {due} bytes did not come"
            for fd, _ in self.poll.poll(1):
                due -= len(self.socks[fd].recv(1 << 20))
        assert due == 0

    def measure(self, rounds, burst):
        for _ in range(5):
            self.round(burst)
        cpu, start = self.target.cpu(), time.monotonic()
        for _ in range(rounds):
            self.round(burst)
        seconds = time.monotonic() - start
        deliveries = rounds * burst * len(self.subscribers)
        return {"us": (self.target.cpu() - cpu) * 1e6 / deliveries, "per_second": deliveries / seconds}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", default=harness.BIN)
    p.add_argument("--mosquitto", default="mosquitto")
    p.add_argument("--flashmq", help="its binary; without it that one is left out")
    p.add_argument("--subscribers", type=int, default=1000)
    p.add_argument("--payload", type=int, default=100)
    p.add_argument("--deliveries", type=int, default=100000, help="of each turn")
    p.add_argument("--bursts", default="1,10", help="messages of a round")
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--server-cpu", type=int, default=0)
    p.add_argument("--client-cpu", type=int, default=1)
    p.add_argument("--json", help="where the results go")
    args = p.parse_args()
    harness.BIN = args.bin
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = {"machine": machine(), "subscribers": args.subscribers, "payload": args.payload, "us": {}}
    with tempfile.TemporaryDirectory() as home:
        home = Path(home)
        targets = [Sluice(home, {args.server_cpu}, {}, 1, 1),
                   Peer("mosquitto", home, {args.server_cpu}, [args.mosquitto, "-c"], MOSQUITTO_CONF)]
        if args.flashmq:
            targets.append(Peer("flashmq", home, {args.server_cpu}, [args.flashmq, "--config-file"], FLASHMQ_CONF))
        os.sched_setaffinity(0, {args.client_cpu})
        try:
            key = targets[0].server.add_key("bench")
            fans = [Fan(t, args.subscribers, args.payload, key if t is targets[0] else None) for t in targets]
            for burst in map(int, args.bursts.split(",")):
                rounds = max(1, args.deliveries // (burst * args.subscribers))
                runs = {t.name: [] for t in targets}
                for _ in range(args.turns):
                    for fan in fans:
                        runs[fan.target.name].append(fan.measure(rounds, burst))
                for name, turns in runs.items():
                    us = median(turns, "us")
                    results["us"][f"{name} burst {burst}"] = us
                    print(f"burst {burst:3d}  {name:10s} {us:6.2f} us CPU per delivery, "
                          f"{median(turns, 'per_second'):9.0f}/s", flush=True)
        finally:
            for t in targets:
                t.stop()
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
