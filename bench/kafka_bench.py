#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the Kafka sink drains, beside librdkafka's own producer, against a broker on the same machine.

    ninja -C build bench/kafka_bench && /usr/bin/python3 bench/kafka_bench.py [--messages N] [--batch N] [--rounds N]

2-core virtual machine with a load of 16 to 20 from others, batches of 20,000, three rounds, messages/s: plain 44,000, 88,000,
165,000; with the sink's headers 21,000, 41,000, 43,000; the sink 15,000, 24,000, 44,000. CPU of the process per message,
median: plain 2.2 us, with headers 7.3 us, the sink 11.5 us. A measurement on a machine of one's own is for this file to give.
"""
import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

from kafka import Kafka  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=str(ROOT / "build" / "bench" / "kafka_bench"))
    parser.add_argument("--messages", type=int, default=500000)
    parser.add_argument("--batch", type=int, nargs="+", default=[10000])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    broker = Kafka()
    broker.config.write_text(broker.config.read_text().replace(f"message.max.bytes={80000}\n", ""))
    broker.stop()
    broker.start()
    try:
        for batch in args.batch:
            out = subprocess.run([args.bin, f"127.0.0.1:{broker.port}", "bench", str(args.messages), str(batch),
                                  str(args.rounds)], check=True, capture_output=True, text=True).stdout
            print(f"batches of {batch}\n{out}", end="")
            rates = {}
            for line in out.splitlines():
                rates.setdefault(line.split()[0], []).append(int(line.split()[1]))
            middle = {what: statistics.median(v) for what, v in rates.items()}
            print(f"  the sink's median is {100 * middle['sink'] / middle['plain']:.0f} % of plain's, "
                  f"{100 * middle['sink'] / middle['headers']:.0f} % of that with headers", flush=True)
    finally:
        broker.close()


if __name__ == "__main__":
    main()
