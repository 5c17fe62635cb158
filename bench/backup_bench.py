#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a backup costs the senders: `sluice load` sends 500 messages a second on a fixed schedule, and their
answers are measured while nothing else runs and while a backup is made, at each rate, in turns.

    bench/backup_bench.py --bin build/src/sluice

The data directory is filled with --megabytes first, so that a backup lasts as long as a measurement.

2-core virtual machine whose disk others used meanwhile, two rounds, ms, median and range: p50 0.33 quiet, 0.33 at
16 MB/s, 0.34 at 64 MB/s; p99 15 (0.9-30) quiet, 10 (4-16) at 16 MB/s, 21 (1.2-40) at 64 MB/s. So a backup was not to
be told from the others' work; how much it costs on a disk of one's own is for this file to say there.
"""
import argparse
import json
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402
import requests  # noqa: E402


def fill(server, auth, megabytes):
    session = requests.Session()
    for _ in range(megabytes):
        body = [{"bulk": secrets.token_urlsafe(700)} for _ in range(1000)]
        r = session.post(f"{server.url}/v1/telemetry", json=body, headers=auth, timeout=60)
        assert r.status_code == 202, r.text


def measure(server, home, device, secret, args):
    """{p50, p99, max} in ms."""
    out = home / "load.json"
    subprocess.run([harness.BIN, "load", "--device", device, "--token", secret, "--connections", "16",
                    "--rate", str(args.post_rate), "--seconds", str(args.seconds), "--warmup", "1", "--quiet",
                    "--json", str(out), server.url + "/v1/telemetry"], check=True, stdout=subprocess.DEVNULL)
    result = json.loads(out.read_text())
    assert set(result["status"]) == {"202"}, result["status"]
    return result["latency_ms"]


def during(server, home, rate, device, secret, args):
    """The same while a backup is made, which must outlast it."""
    to = home / "backup"
    command = subprocess.Popen([harness.BIN, "backup", to, "--data", server.data, "--rate", str(rate)],
                               stdout=subprocess.DEVNULL)
    harness.wait_for("the copying", lambda: (to / "journal").exists() or command.poll() is not None)
    result = measure(server, home, device, secret, args)
    lasted = command.poll() is None
    if lasted:
        os.kill(command.pid, signal.SIGKILL)
    command.wait()
    shutil.rmtree(to)
    if not lasted:
        sys.exit(f"the backup at {rate} MB/s was over before the measurement: give more --megabytes")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--bin", default=harness.BIN)
    parser.add_argument("--megabytes", type=int, default=900, help="what is there to be copied")
    parser.add_argument("--rates", default="16,64", help="MB/s of the backups")
    parser.add_argument("--post-rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    harness.BIN = args.bin
    rates = [int(r) for r in args.rates.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        server = harness.Server(home / "server", {"journal.segment_size": "64MiB"})
        server.start()
        try:
            server.add_account("bench")
            secret = server.add_device("bench", "d1")
            fill(server, harness.device_auth("d1", secret), args.megabytes)
            found = {0: [], **{r: [] for r in rates}}
            for _ in range(args.rounds):
                found[0].append(measure(server, home, "d1", secret, args))
                for rate in rates:
                    found[rate].append(during(server, home, rate, "d1", secret, args))
        finally:
            server.close()
    for rate, results in found.items():
        what = f"backup at {rate} MB/s" if rate else "quiet"
        text = ", ".join(f"{name} {statistics.median(r[name] for r in results):.2f} "
                         f"({min(r[name] for r in results):.2f}-{max(r[name] for r in results):.2f})"
                         for name in ("p50", "p99", "p99.9"))
        print(f"{what:20} ms: {text}")


if __name__ == "__main__":
    main()
