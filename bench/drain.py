# SPDX-License-Identifier: Apache-2.0
"""What the measurements of sinks have in common: a backlog that is drained, of which binaries, in which turns.

A backlog is made while the sink is paused, of numbers of 100 feeds from one device; once the server is idle the sink is
resumed, and the time runs until it has delivered all. Several binaries (--also) and the target's own client go by turns.
"""
import json
import statistics
import time
from pathlib import Path

import common
import harness
import requests
from common import TICK
from conftest import owner_on

FEEDS = 100
REQUEST = 1000  # messages
PATIENCE = 600


def parser(doc, count):
    p = common.parser(doc)
    p.add_argument("--also", action="append", default=[], help="another sluice binary to measure in the same turns")
    p.add_argument("--count", type=int, default=count, help="messages of the backlog")
    p.add_argument("--rounds", type=int, default=3)
    return p


def binaries(args):
    """{name: path}: "sink", and what --also names, by its path."""
    return {"sink": harness.BIN, **{path: str(Path(path).resolve()) for path in args.also}}


def ticks_of(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    total = sum(map(int, fields[11:15]))
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += ticks_of(int(child))
    return total


def cpu_of(pid):
    """Seconds of a process, of the children it waited for, and of those that run."""
    while True:
        try:
            return ticks_of(pid) / TICK
        except (FileNotFoundError, ProcessLookupError):  # one ended just now: it is waited for by the next look
            assert Path(f"/proc/{pid}").exists()


class Cost:
    """with Cost(count, server=pid, ...) as c: c.found has the rate, and for each pid its CPU in us a message."""

    def __init__(self, count, **pids):
        self.count, self.pids = count, pids

    def __enter__(self):
        self.cpu = {name: cpu_of(pid) for name, pid in self.pids.items()}
        self.begun = time.monotonic()
        return self

    def __exit__(self, *_):
        took = time.monotonic() - self.begun
        self.found = {"rate": self.count / took}
        for name, pid in self.pids.items():
            self.found[f"{name}_cpu_us"] = (cpu_of(pid) - self.cpu[name]) * 1e6 / self.count


def wait_until_idle(pid):
    """The views have applied the backlog, too."""
    def idle():
        before = cpu_of(pid)
        time.sleep(0.5)
        return cpu_of(pid) - before <= 1 / TICK
    harness.wait_for("the server to be idle", idle, PATIENCE)


def wait_until_delivered(delivered, count):
    """Looks seldom, as looking takes from the same cores: each time when half of what is left may be there."""
    begun = time.monotonic()
    while (there := delivered()) < count:
        took = time.monotonic() - begun
        assert took < PATIENCE, f"{there} of {count} messages are delivered"
        time.sleep(min(0.5, max(0.01, took * (count - there) / there / 2)) if there else 0.05)


def number(i):
    return float(f"{i % 97}.{i * 31 % 100:02d}")


def drain(binary, home, kind, settings, args, target_pid, check=lambda: None, value=number):
    """What it found: the rate, "cpu_us" of the server and "target_cpu_us" a message. `check` looks whether all is there."""
    usual, harness.BIN = harness.BIN, binary
    server = harness.Server(home, {"journal.segment_size": "64MiB", **settings, **args.settings})
    try:
        server.start()
        status = lambda: json.loads(server.operator("/v1/status"))["sinks"][kind]
        owner = owner_on(server, "acme")
        harness.wait_for("the sink to be idle", lambda: status()["lag"] == 0 and status()["state"] == "running", 60)
        server.cli("sink", "pause", kind)
        body = json.dumps([{f"truck-{i * 7 % FEEDS}": value(i)} for i in range(REQUEST)])
        session = requests.Session()
        for _ in range(args.count // REQUEST):
            r = session.post(f"{server.url}/v1/telemetry", data=body, timeout=60,
                             headers={**owner.auth, "Content-Type": "application/json"})
            assert r.status_code == 202, r.text
        wait_until_idle(server.pid)
        before = status()
        with Cost(args.count // REQUEST * REQUEST, target=target_pid, sink=server.pid) as cost:
            server.cli("sink", "resume", kind)
            # The lag ends seconds later: the order to resume is a record behind the messages, with nothing to deliver.
            wait_until_delivered(lambda: status()["delivered"] - before["delivered"], cost.count)
        harness.wait_for("no lag", lambda: status()["lag"] == 0, PATIENCE, 0.1)
        after = status()
        assert after["delivered"] - before["delivered"] == cost.count and after["failures"] == before["failures"], after
        check()
        return {"rate": cost.found["rate"], "cpu_us": cost.found["sink_cpu_us"],
                "target_cpu_us": cost.found["target_cpu_us"], "batches": after["batches"] - before["batches"]}
    finally:
        harness.BIN = usual
        server.close()


def tell(found):
    """The last turn, one line each."""
    for name, runs in found.items():
        one = runs[-1]
        print(f"  {name}: {one['rate']:.0f} messages/s, CPU a message {one['cpu_us']:.2f} us, "
              f"the target's {one['target_cpu_us']:.2f} us", flush=True)


def summarize(args, found, *peers):
    """Prints the medians, and writes the report. `peers`: the target's own clients; the sink is compared with the best."""
    median = {name: {what: statistics.median(one[what] for one in runs) for what in runs[0]}
              for name, runs in found.items()}
    peer = max(peers, key=lambda name: median[name]["rate"])
    print("medians")
    for name, m in median.items():
        print(f"  {name}: {m['rate']:.0f} messages/s ({100 * m['rate'] / median[peer]['rate']:.0f} % of {peer}), CPU a "
              f"message {m['cpu_us']:.2f} us, the target's {m['target_cpu_us']:.2f} us")
    common.write_report(args, {"args": vars(args), "found": found, "medians": median, "peer": peer,
                               "percent": {name: 100 * m["rate"] / median[peer]["rate"] for name, m in median.items()}})
