#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the Kafka sink drains a backlog, with its usual headers and with `kafka.headers: none`, beside librdkafka's own
producer (bench/kafka_bench.c) with the same values, keys and headers, idempotent as the sink is, but without transactions,
against a broker on the same machine.

    ninja -C build src/sluice bench/kafka_bench && bench/kafka_bench.py --bin build/src/sluice [--also OTHER] [--json results.json]
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import drain

import common
import harness
import kafka


class Broker(kafka.Kafka):
    """As brokers are run: compiled code, larger messages."""
    java_options = ["-Xmx1g", "-Xshare:auto"]

    def __init__(self):
        super().__init__()
        self.stop()
        self.config.write_text(self.config.read_text().replace(f"message.max.bytes={kafka.MESSAGE_MAX}\n", ""))
        self.start()

    def count(self, topic):
        """Messages and the markers of transactions: at least as many as there are messages."""
        consumer = kafka.Consumer(self.client(**{"group.id": "count"}))
        try:
            partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            return sum(consumer.get_watermark_offsets(kafka.TopicPartition(topic, p), timeout=20)[1] for p in partitions)
        finally:
            consumer.close()


def plain(broker, args, topic, kind):
    with drain.Cost(args.count, target=broker.process.pid) as cost:
        out = subprocess.run([common.tool("kafka_bench"), f"127.0.0.1:{broker.port}", topic, str(args.count), "20000", "1", kind],
                             check=True, capture_output=True, text=True).stdout
    (rate, cpu), = re.findall(rf"{kind} (\d+) messages/s, ([\d.]+) us", out)
    return {"rate": float(rate), "cpu_us": float(cpu), "target_cpu_us": cost.found["target_cpu_us"]}


def sink(broker, binary, args, topic, home, **more):
    def check():
        assert broker.count(topic) >= args.count
    settings = {**broker.settings(topic), **{f"kafka.{name}": value for name, value in more.items()}}
    return drain.drain(binary, home, "kafka", settings, args, broker.process.pid, check)


def main():
    args = common.parse(drain.parser(__doc__, 1000000))
    args.count = args.count // drain.REQUEST * drain.REQUEST
    broker, found = Broker(), {}
    try:
        with tempfile.TemporaryDirectory(dir=args.dir, prefix="kafka-bench-") as home:
            for kind in ("brief", "plain"):  # the broker's code is compiled meanwhile
                plain(broker, args, f"warm-{kind}", kind)
            for i in range(args.rounds):
                for name, kind in (("plain", "brief"), ("plain, no headers", "plain")):
                    found.setdefault(name, []).append(plain(broker, args, f"{kind}-{i}", kind))
                for k, (name, binary) in enumerate(drain.binaries(args).items()):
                    topic = f"sink-{i}-{k}"
                    found.setdefault(name, []).append(sink(broker, binary, args, topic, Path(home) / topic))
                topic = f"bare-{i}"
                found.setdefault("sink, no headers", []).append(
                    sink(broker, harness.BIN, args, topic, Path(home) / topic, headers="none"))
                print(f"round {i + 1}")
                drain.tell(found)
    finally:
        broker.close()
    drain.summarize(args, found, "plain", "plain, no headers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
