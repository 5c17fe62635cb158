# SPDX-License-Identifier: Apache-2.0
"""What the measurements that drive the real binary have in common: their arguments and their report."""
import argparse
import ctypes
import json
import os
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402


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


def write_report(args, report):
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2, default=str) + "\n")
