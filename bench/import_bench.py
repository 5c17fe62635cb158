#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Devices a second of `sluice device import` into a running server: 100,000 ids with bcrypt hashes in
one CSV file, without and with sealing, turn by turn. From the start of the command to its answer, by
which time all are durable and every worker knows them; then one of them is asked for.

    bench/import_bench.py --bin build/src/sluice --json results.json
"""
import argparse
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402

BASE64 = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def write_fleet(path, count, seed):
    """Hashes of the right form; nobody will ever present their secrets."""
    rand = random.Random(seed)
    with open(path, "w") as f:
        f.write("device,hash\n")
        for i in range(count):
            # The last characters of salt and digest carry fewer bits than the others.
            salt = "".join(rand.choices(BASE64, k=21)) + rand.choice(".Oeu")
            digest = "".join(rand.choices(BASE64, k=30)) + rand.choice(BASE64[::4])
            f.write(f"import-{seed}-{i},$2b$10${salt}{digest}\n")


def measure(home, count, sealed, seed):
    """Seconds of one import into an empty server."""
    settings = {"server.workers": "2"}
    if sealed:
        (home / "master.key").write_text("0123456789abcdef" * 4)
        settings["encryption.master_key_file"] = str(home / "master.key")
    server = harness.Server(home / f"server{seed}", settings)
    fleet = home / "fleet.csv"
    write_fleet(fleet, count, seed)
    try:
        server.start(timeout=60)
        server.add_account("fleet")
        began = time.monotonic()
        answer = server.cli("device", "import", "fleet", str(fleet))
        seconds = time.monotonic() - began
        if answer.get("added") != count:
            sys.exit(f"of {count} devices not all were added: {json.dumps(answer)[:500]}")
        last = f"import-{seed}-{count - 1}"
        if server.cli("device", "show", last)["name"] != last:
            sys.exit(f"{last} is not there")
        server.stop(timeout=60)
    finally:
        server.close()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the sluice binary")
    parser.add_argument("--devices", type=int, default=100000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the results to this file")
    args = parser.parse_args()
    harness.BIN = str(Path(args.bin).resolve())
    rates = {"plain": [], "sealed": []}
    with tempfile.TemporaryDirectory(prefix="import-bench-") as home:
        for number in range(args.rounds):
            for name, all_rates in rates.items():
                seed = 2 * number + (name == "sealed")
                all_rates.append(args.devices / measure(Path(home), args.devices, name == "sealed", seed))
    result = {"devices": args.devices, "machine": platform.platform(),
              **{name: {"devices_per_second": round(statistics.median(r)), "all": [round(v) for v in r]}
                 for name, r in rates.items()}}
    for name in rates:
        print(f"{name}: {result[name]['devices_per_second']} devices/s {result[name]['all']}")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
