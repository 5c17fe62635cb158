# SPDX-License-Identifier: Apache-2.0
"""How long after `kill -9` until the first message is on disk again, and until reads are current. The journal alone, opened with
as many messages as the table says; then the whole server, killed while 10 million messages lie in its journal."""
import json
import re
import signal
import subprocess
import time

import harness
from common import load, tool
from http_bench import Sluice
from result import Result

SIZES = (1, 3, 10)  # millions
FEEDS, CONNECTIONS = 10000, 16


def reopened(args, millions):
    """[{"open_s", "accept_s"}] of the journal, killed once and opened again and again."""
    count = round(millions * 1e6 * args.scale)
    folder = args.home / f"journal-{millions}"
    folder.mkdir()
    run = subprocess.run([tool("journal_bench"), "fill", str(folder), str(count)], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stdout + run.stderr
    found = []
    for _ in range(args.rounds):
        text = subprocess.run([tool("journal_bench"), "reopen", str(folder)], check=True, capture_output=True, text=True).stdout
        stored, opened, accepted = re.search(r"(\d+) messages: open ([\d.]+) ms, first durable accept ([\d.]+)", text).groups()
        assert int(stored) >= count, text
        found.append({"open_s": float(opened) / 1000, "accept_s": float(accepted) / 1000})
    return found


def status(server):
    return json.loads(server.operator("/v1/status"))


def accepts(server, auth):
    """Whether it takes a message, which is on disk then."""
    import requests
    try:
        return requests.post(f"{server.url}/v1/telemetry", json={"back": 1}, headers=auth, timeout=60).status_code == 202
    except requests.ConnectionError:
        return False


def killed(server, auth):
    """kill -9 and a new start; seconds to the first message, and to views that have all of it."""
    durable = status(server)["journal"]["durable"]
    server.kill()
    begun = time.monotonic()
    server.spawn()
    harness.wait_for("the first message", lambda: accepts(server, auth), 120, 0.002)
    first = time.monotonic() - begun
    harness.wait_for("current views", lambda: all(
        v["applied"] >= durable for name, v in status(server)["views"].items() if name != "audit"), 300, 0.005)
    return {"accept_s": first, "current_s": time.monotonic() - begun}


def fill(args, sluice, count):
    """By MQTT, with every view on; the server is killed before the last of it is written to the history."""
    csv = args.home / "devices.csv"
    csv.write_text("".join(f"{a['X-Device-Id']},{a['X-Device-Token']}\n" for a in sluice.auths))
    found = load(args, f"mqtt://127.0.0.1:{sluice.server.mqtt_port}", "--devices", csv, "--topic", "bench/feeds/f%feed%", "--feeds",
                 FEEDS, "--connections", CONNECTIONS, "--window", 200, "--payload-size", 100, "--requests", count, "--seconds", 300)
    assert found["answered"] >= count * 0.99, f"only {found['answered']} of {count} were acknowledged"


def measure(args):
    r = Result()
    columns = {"open_s": "opened s", "accept_s": "first message on disk s", "current_s": "reads current s"}
    group = r.group("After kill -9", columns, "accept_s")
    for millions in SIZES:
        r.row(group, f"journal alone, {round(millions * 1e6 * args.scale):,} messages of 200 B", reopened(args, millions))
    count = round(SIZES[-1] * 1e6 * args.scale)
    sluice = Sluice(args.home, {args.server_cpu}, "Sluice", [(f"gateway-{i}", None) for i in range(CONNECTIONS)], args.settings)
    try:
        fill(args, sluice, count)
        rounds = [killed(sluice.server, sluice.auths[0]) for _ in range(args.rounds)]
    finally:
        if sluice.server.process.poll() is None:
            sluice.stop()
    r.row(group, f"whole server, {count:,} messages, right after they came", rounds)
    r.claim("recovery", [m["accept_s"] for m in rounds])
    r.note("The journal's files are in the machine's cache when they are opened again, as after a crash of the process, not of the machine.")
    return r.dict
