# SPDX-License-Identifier: Apache-2.0
"""What the measurements that drive the real binary have in common: their arguments and their report."""
import argparse
import json
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


def parse(p):
    """The arguments; the binary that they name is the one that harness starts."""
    args = p.parse_args()
    if args.bin:
        harness.BIN = str(Path(args.bin).resolve())
    args.settings = dict(s.split("=", 1) for s in args.set)
    return args


def write_report(args, report):
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=2, default=str) + "\n")
