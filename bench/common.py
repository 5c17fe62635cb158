# SPDX-License-Identifier: Apache-2.0
"""What the measurements that drive the real binary have in common: their arguments and their report."""
import argparse
import ctypes
import json
import os
import platform
import re
import statistics
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


def parser(doc):
    """The arguments of all; `doc` is the program's."""
    p = argparse.ArgumentParser(description=doc.splitlines()[0])
    p.add_argument("--bin", help="the sluice binary (else SLUICE_BIN, else build/src/sluice)")
    p.add_argument("--json", help="write everything measured here")
    p.add_argument("--dir", help="where the data go; must be on the disk to be measured", default=ROOT)
    p.add_argument("--set", action="append", default=[], help="a setting of sluice: section.name=value")
    return p


def parse(p, words=None):
    """The arguments; the binary that they name is the one that harness starts."""
    args = p.parse_args(words)
    if args.bin:
        harness.BIN = str(Path(args.bin).resolve())
    args.settings = dict(s.split("=", 1) for s in args.set)
    return args


def stand_back():
    """Lets whoever else wakes up on this core run at once, and starves not: for clients beside one that measures
    latencies. Nice alone does not: since Linux 6.6 who runs keeps the core until the next tick, up to 4 ms,
    unless it asked for longer slices than the other one has (sched_setattr(2), 6.12)."""
    os.nice(19)
    wish = struct.pack("IIQiIQQQ", 48, os.SCHED_OTHER, 0, 19, 0, 100_000_000, 0, 0)
    ctypes.CDLL(None, use_errno=True).syscall(314, 0, wish, 0)


def cpu_seconds(pid):
    """User and system time of a process and of its children that still run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    total = (int(fields[11]) + int(fields[12])) / TICK
    return total + sum(cpu_seconds(child) for child in children(pid))


def children(pid):
    """The processes that a process started and that still run."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()]


def memory_bytes(pid):
    """Of a process and its children; what they share counts once."""
    found = re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    return (int(found[1]) << 10 if found else 0) + sum(memory_bytes(child) for child in children(pid))


def tool(name):
    """A program of bench/*.c, built beside the binary."""
    path = Path(harness.BIN).resolve().parent.parent / "bench" / name
    assert path.exists(), f"{path} is not built: ninja -C build benchmarks"
    return str(path)


def load(args, *words):
    """What `sluice load` with these arguments measured, on the client's core."""
    out = args.home / "load.json"
    out.unlink(missing_ok=True)
    run = subprocess.run(["taskset", "-c", str(args.client_cpu), harness.BIN, "load", *map(str, words), "--quiet", "--json",
                          str(out)], capture_output=True, text=True)
    if run.returncode != 0 or not out.exists():
        raise OSError(f"sluice load {' '.join(map(str, words))}: {run.stdout[-300:]}{run.stderr[-300:]}")
    return json.loads(out.read_text())


def median(rounds, what):
    return statistics.median(r[what] for r in rounds)


def machine():
    model = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return {"cpu": model[0] if model else platform.machine(), "cores": os.cpu_count(),
            "kernel": platform.release(), "load_before": os.getloadavg()[0]}


def write_report(args, report):
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2, default=str) + "\n")
