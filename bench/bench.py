#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every claim of Sluice beside its peers, and docs/benchmarks.md made of what was measured.

    make bench                                       all scenarios, about 45 minutes on a machine that does nothing else
    make bench ARGS="--only http,mqtt --rounds 5"    some of them; the others' figures stay as they were
    make bench ARGS=--report                         only writes the report anew
    make bench-quick                                 three minutes: has something become slower, measured by ratios?

A scenario is a module of bench/scenarios with one function, measure(args), that gives a dict as result.py says. Each
runs in a process of its own, under a time limit, and its figures go to docs/benchmarks/NAME.json, beside the report
that is made of them, so that one can be measured again on a new checkout. One that fails is named in the report with its
reason, and the exit status is 1.
"""
import argparse
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench_report  # noqa: E402
import quick  # noqa: E402
from common import ROOT, TICK, machine, parse, parser  # noqa: E402
from peers import versions  # noqa: E402
from scenarios import FORMAT, SCENARIOS  # noqa: E402

END_S = 30  # for a scenario to stop its servers when its time is over


def scenarios_of(text):
    names = text.split(",")
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"there is no scenario {name}")
    return names


def parse_args(words=None):
    p = parser(__doc__)
    p.formatter_class, p.description = argparse.RawDescriptionHelpFormatter, __doc__
    p.add_argument("--only", type=scenarios_of, metavar="NAME,..", help=", ".join(SCENARIOS))
    p.add_argument("--rounds", type=int, default=3, help="of each measurement; the report shows median, least and most")
    p.add_argument("--seconds", type=float, default=3, help="of one round")
    p.add_argument("--limit", type=float, default=900, help="seconds that a scenario may take")
    p.add_argument("--scale", type=float, default=1, help="of what is filled in and logged in: devices, points, messages")
    p.add_argument("--quick", action="store_true", help="only what is guarded by ratios, in three minutes")
    p.add_argument("--report", action="store_true", help="measure nothing; write the report of what was measured")
    p.add_argument("--out", type=Path, help="where the figures go; the report's folder benchmarks, or build/bench/quick")
    p.add_argument("--docs", type=Path, default=ROOT / "docs", help="where the report goes")
    p.add_argument("--flashmq", type=os.path.abspath, help="its binary, which Debian does not have")
    cpus = sorted(os.sched_getaffinity(0))
    p.add_argument("--server-cpu", type=int, default=cpus[0])
    p.add_argument("--client-cpu", type=int, default=cpus[-1])
    p.add_argument("--scenario", choices=SCENARIOS, help=argparse.SUPPRESS)  # one, in this process
    args = parse(p, words)
    if args.quick:
        args.out, args.docs = (args.out or ROOT / "build" / "bench") / "quick", None
        args.seconds, args.scale = min(args.seconds, 1), min(args.scale, 0.1)
    args.out = args.out or args.docs / "benchmarks"
    args.only = args.only or [name for name, s in SCENARIOS.items() if s.quick or not args.quick]
    args.load = None  # http_bench's and mqtt_bench's client is the binary itself
    return args


def shown(args):
    """The settings that the report names."""
    return {k: v for k, v in vars(args).items() if k in ("rounds", "seconds", "scale", "server_cpu", "client_cpu",
                                                        "flashmq", "settings") and v}


def busy_seconds():
    """What all cores have worked, and what other machines on the same host took of them."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / TICK  # without idle and waiting for disks


def own_seconds():
    """Of this process and of all that it started and has ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Over(BaseException):
    """The scenario's time: no peer that it may lack is to take this for its own failure."""


def end_early(*_):
    raise Over("its time was over")


def measure_here(args):
    """One scenario, in this process: its dict, or why there is none; and what part of the cores others took meanwhile."""
    signal.signal(signal.SIGTERM, end_early)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.sched_setaffinity(0, {args.client_cpu})
    begun, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=args.dir, ignore_cleanup_errors=True) as home:
        args.home = Path(home)
        try:
            found = importlib.import_module(f"scenarios.{args.scenario}").measure(args)
        except (Exception, SystemExit, Over) as e:  # whatever it is, the report names it
            traceback.print_exc()
            found = {"failed": f"{e or type(e).__name__}"}
    cores = (time.monotonic() - begun) * os.cpu_count()
    found["others"] = max(0, (busy_seconds() - busy - own_seconds() + own) / cores)
    # Where all this lay is nobody's business who reads the report.
    return json.loads(json.dumps(found, default=str).replace(home, "TMP").replace(f"{ROOT}/", ""))


def note(args, name, begun, found, before=None):
    """Into its file, with when and on what it was measured."""
    whole = {"format": FORMAT, "scenario": name, "begun": begun, "took_s": time.time() - begun, "machine": before or machine(),
             "versions": versions(), "arguments": shown(args), **found}
    (args.out / f"{name}.json").write_text(json.dumps(whole, indent=1, default=str) + "\n")


def run(args, name, command=None):
    """One scenario in a process of its own and a group of its own, so that nothing of it is left."""
    print(f"== {name}: {SCENARIOS[name].title}", flush=True)
    begun, path = time.time(), args.out / f"{name}.json"
    path.unlink(missing_ok=True)
    command = command or [sys.executable, str(HERE / "bench.py"), *sys.argv[1:], "--scenario", name]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(args.limit)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # what it did not end itself
        except ProcessLookupError:
            pass
        process.wait()
    late = time.time() - begun >= args.limit
    if late or not path.exists():
        note(args, name, begun, {"failed": f"it was not over after {args.limit:g} s" if late else
                                 f"it ended with status {process.returncode}"})
    found = json.loads(path.read_text())
    print(f"== {name}: " + (f"FAILED: {found['failed']}" if "failed" in found else f"{found['took_s']:.0f} s"), flush=True)
    return found


def main():
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.scenario:
        begun, before = time.time(), machine()
        found = measure_here(args)
        note(args, args.scenario, begun, found, before)
        return 1 if "failed" in found else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end the scenario under way
    ran = {} if args.report else {name: run(args, name) for name in args.only}
    if args.quick:
        return quick.judge(ran)
    bench_report.write(args.out, args.docs)
    return 1 if any("failed" in r for r in ran.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
