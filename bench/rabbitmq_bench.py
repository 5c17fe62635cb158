#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the RabbitMQ sink drains a backlog, beside a plain confirm loop of librabbitmq: messages a second into a
queue of the same kind, in turns.

    ninja -C build src/sluice bench/amqp_bench && bench/rabbitmq_bench.py --bin build/src/sluice

2-core virtual machine that others used meanwhile (load 12), quorum queue, 3 rounds of 30,000 messages of 100 bytes, the
broker on the same cores: plain 3459/s (3075-6212) and 9.3 us of CPU a message, sink 3696/s (3444-4451) and 18.0 us, with
names and times of the message as headers and the journal read. The broker was what took the time in both.
"""
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

import harness
import requests
from conftest import owner_on
from rabbitmq import RabbitMQ

REQUEST = 1000  # messages


def queue_on(broker, name, kind):
    with broker.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(name, "topic", durable=True)
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
        channel.queue_bind(name, name, "#")


def check_and_drop(broker, name, count):
    """All are there, and no more."""
    with broker.connect() as connection:
        channel = connection.channel()
        harness.wait_for("the queue to tell", lambda: channel.queue_declare(
            name, passive=True).method.message_count >= count, 30, 0.2)
        assert channel.queue_declare(name, passive=True).method.message_count == count
        channel.queue_delete(name)


def cpu_of(pid):
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / 100


def plain(broker, args, name):
    tool = Path(harness.BIN).resolve().parent.parent / "bench" / "amqp_bench"
    queue_on(broker, name, args.queue)
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    run = subprocess.run([tool, str(broker.port), "sluice", "first secret", name, "ann.air", str(args.count),
                          str(args.bytes), str(args.window)], check=True, capture_output=True, text=True)
    check_and_drop(broker, name, args.count)
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - cpu
    return {"rate": args.count / float(run.stdout), "cpu_us": cpu * 1e6 / args.count}


def sink(broker, args, name, home):
    """The backlog is made while the sink is paused; the time runs from when it is resumed."""
    queue_on(broker, name, args.queue)
    server = harness.Server(home, {"rabbitmq.url": broker.url(), "rabbitmq.password_file": str(broker.password),
                                   "rabbitmq.exchange": name, "journal.segment_size": "64MiB", **args.settings})
    server.start()
    try:
        owner = owner_on(server, "ann")
        status = lambda: json.loads(server.operator("/v1/status"))["sinks"]["rabbitmq"]
        harness.wait_for("the sink to be idle", lambda: status()["lag"] == 0, 30)
        server.cli("sink", "pause", "rabbitmq")
        for _ in range(args.count // REQUEST):
            r = requests.post(f"{server.url}/v1/telemetry", json=[{"air": "x" * args.bytes}] * REQUEST,
                              headers=owner.auth, timeout=60)
            assert r.status_code == 202, r.text
        before = status()["delivered"]
        cpu = cpu_of(server.pid)
        begun = time.monotonic()
        server.cli("sink", "resume", "rabbitmq")
        harness.wait_for("all to be delivered", lambda: status()["lag"] == 0, 300, 0.01)
        took = time.monotonic() - begun
        assert status()["delivered"] - before == args.count and status()["failures"] == 0
        check_and_drop(broker, name, args.count)
        return {"rate": args.count / took, "cpu_us": (cpu_of(server.pid) - cpu) * 1e6 / args.count}
    finally:
        server.close()


def main():
    p = common.parser(__doc__)
    p.add_argument("--count", type=int, default=100000)
    p.add_argument("--bytes", type=int, default=100)
    p.add_argument("--window", type=int, default=5000, help="unconfirmed messages of the plain loop")
    p.add_argument("--queue", default="quorum", choices=("quorum", "classic"))
    p.add_argument("--rounds", type=int, default=3)
    args = common.parse(p)
    RabbitMQ.schedulers = 2
    broker, found = RabbitMQ(), {"plain": [], "sink": []}
    try:
        with tempfile.TemporaryDirectory(dir=args.dir, prefix="rabbitmq-bench-") as home:
            for i in range(args.rounds):
                found["plain"].append(plain(broker, args, f"s-plain-{i}"))
                found["sink"].append(sink(broker, args, f"s-sink-{i}", Path(home) / str(i)))
                print(", ".join(f"{name} {v[-1]['rate']:.0f}/s, {v[-1]['cpu_us']:.1f} us of CPU a message"
                                for name, v in found.items()), flush=True)
    finally:
        broker.close()
    medians = {name: statistics.median(one["rate"] for one in v) for name, v in found.items()}
    print(f"medians: plain {medians['plain']:.0f}/s, sink {medians['sink']:.0f}/s, "
          f"{100 * medians['sink'] / medians['plain']:.0f} %")
    common.write_report(args, {"args": vars(args), "found": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
