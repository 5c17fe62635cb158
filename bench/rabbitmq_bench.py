#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the RabbitMQ sink drains a backlog, beside a plain confirm loop of librabbitmq: messages a second into a
queue of the same kind, in turns.

    ninja -C build src/sluice bench/amqp_bench && bench/rabbitmq_bench.py --bin build/src/sluice

2-core virtual machine that others used meanwhile (load 12), quorum queue, 3 rounds of 30,000 messages of 100 bytes, the
broker on the same cores: plain 3459/s (3075-6212) and 9.3 us of CPU a message, sink 3696/s (3444-4451) and 18.0 us, with
names and times of the message as headers and the journal read. The broker was what took the time in both.
"""
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import drain

import common
import harness
from rabbitmq import RabbitMQ


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


def plain(broker, args, name):
    queue_on(broker, name, args.queue)
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    with drain.Cost(args.count, target=broker.process.pid) as cost:
        run = subprocess.run([common.tool("amqp_bench"), str(broker.port), "sluice", "first secret", name, "ann.air",
                              str(args.count), str(args.bytes), str(args.window)], check=True, capture_output=True, text=True)
    cpu = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - cpu
    check_and_drop(broker, name, args.count)
    return {"rate": args.count / float(run.stdout), "cpu_us": cpu * 1e6 / args.count,
            "target_cpu_us": cost.found["target_cpu_us"]}


def sink(broker, binary, args, name, home):
    queue_on(broker, name, args.queue)
    return drain.drain(binary, home, "rabbitmq", {
        "rabbitmq.url": broker.url(), "rabbitmq.password_file": str(broker.password), "rabbitmq.exchange": name},
        args, broker.process.pid, lambda: check_and_drop(broker, name, args.count), lambda i: "x" * args.bytes)


def main():
    p = drain.parser(__doc__, 100000)
    p.add_argument("--bytes", type=int, default=100)
    p.add_argument("--window", type=int, default=5000, help="unconfirmed messages of the plain loop")
    p.add_argument("--queue", default="quorum", choices=("quorum", "classic"))
    args = common.parse(p)
    args.count = args.count // drain.REQUEST * drain.REQUEST
    RabbitMQ.schedulers = 2
    broker, found = RabbitMQ(), {}
    try:
        with tempfile.TemporaryDirectory(dir=args.dir, prefix="rabbitmq-bench-") as home:
            for i in range(args.rounds):
                found.setdefault("plain", []).append(plain(broker, args, f"s-plain-{i}"))
                for k, (name, binary) in enumerate(drain.binaries(args).items()):
                    place = f"s-sink-{i}-{k}"
                    found.setdefault(name, []).append(sink(broker, binary, args, place, Path(home) / place))
                print(f"round {i + 1}")
                drain.tell(found)
    finally:
        broker.close()
    drain.summarize(args, found, "plain")
    return 0


if __name__ == "__main__":
    sys.exit(main())
