# SPDX-License-Identifier: Apache-2.0
"""Who is known must not notice who is not. First by HTTP, the server on one core: warm devices send 15 % of what is possible
while 50 attackers guess secrets and then invent devices, and a fleet logs in for the first time; then at full rate.
Then by MQTT, the server on all cores that the clients leave: a fleet comes back at once, of which no secret is known (cold), then
once more, when all are (warm), with bcrypt of cost 10 and 12. Nobody publishes such a measurement, so there is no peer."""
import json
import os
import subprocess
import sys

import harness
from common import ROOT
from result import Result

HTTP = {"per_second": "messages/s", "offered": "of what was sent %", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "p999_ms": "p99.9 ms",
        "busy": "server busy %", "hashes": "hashes"}
STORM = {"seconds": "all in after s", "ideal": "their hashes take s", "tries": "tries of one", **HTTP}
COSTS = ((10, 1000), (12, 250))  # of bcrypt, and so many devices


def script(args, r, name, *words):
    """What a program of bench/ measured."""
    out = args.home / "script.json"
    command = [sys.executable, str(ROOT / "bench" / name), "--bin", harness.BIN, "--dir", str(args.home), "--json", str(out),
               *(w for k, v in args.settings.items() for w in ("--set", f"{k}={v}")), *map(str, words)]
    r.command(" ".join(["bench/" + name, *map(str, words)]))
    run = subprocess.run(command, capture_output=True, text=True,
                         preexec_fn=lambda: os.sched_setaffinity(0, range(os.cpu_count())))  # it chooses cores itself
    print(run.stdout, flush=True)
    if run.returncode != 0:
        raise OSError(f"{name}: {run.stderr.strip()[-400:]}")
    return json.loads(out.read_text())


def senders(phase):
    """The figures of the warm ones."""
    latency = phase["latency_ms"]
    return {"per_second": phase["answers_per_second"], "offered": 100 * phase["offered"] if "offered" in phase else None,
            "p50_ms": latency["p50"], "p99_ms": latency["p99"], "p999_ms": latency["p99.9"], "busy": phase["server_busy"] * 100,
            "hashes": phase.get("hashes_run", phase.get("hashes"))}


def attack(args, r):
    cold = round(10000 * args.scale)
    found = script(args, r, "attack_bench.py", "--cold", cold, "--cold-saturated", max(10, cold // 5), "--warm", 1000,
                   "--seconds", 3 * args.seconds, "--server-cpu", args.server_cpu, "--client-cpu", args.client_cpu)
    under, full = found["attacked"], found["saturated"]
    group = r.group(f"Warm devices by HTTP, 15 % of the full rate; {cold:,} devices with bcrypt of {found['hash_ms']:.1f} ms log in", HTTP)
    for name, phase in (("quiet", found["quiet"]), ("attack on one device's secret, and logins", under["secrets"]),
                        ("attack with devices that nobody knows, and logins", under["devices"]), ("quiet again", found["quiet_after"]),
                        ("full rate, alone", full["alone"]), ("full rate, attack and logins", full["loaded"]),
                        ("full rate, alone again", full["again"])):
        r.row(group, name, [senders(phase)])
    quiet = (found["quiet"]["latency_ms"]["p99"] + found["quiet_after"]["latency_ms"]["p99"]) / 2
    attacked = (under["secrets"], under["devices"])
    r.claim("gate.p99", [a["latency_ms"]["p99"] / quiet for a in attacked])
    r.claim("gate.offered", [100 * a["offered"] for a in attacked])
    logins = under["logins"]
    r.claim("gate.logins", [logins["accepted_seconds"] * 1000 / (logins["accepted"] * found["hash_ms"])])
    alone = (full["alone"]["answers_per_second"] + full["again"]["answers_per_second"]) / 2
    r.claim("gate.full", [100 * full["loaded"]["answers_per_second"] / alone])
    r.note(f"{logins['accepted']:,} of {logins['devices']:,} devices were in after {logins['accepted_seconds']:.1f} s; {logins['told']:,} times one was told "
           f"when to come back, {logins['kept']:,} of these promises were kept.")


def storm(args, r, cost, devices):
    devices = max(20, round(devices * args.scale))
    found = script(args, r, "mqtt_storm.py", "--cost", cost, "--cold", devices, "--warm", max(50, round(1000 * args.scale)), "--seconds",
                   2 * args.seconds, "--limit", args.limit / 3, "--client-cpu", args.client_cpu)
    group = r.group(f"{devices:,} devices come back at once by MQTT, bcrypt cost {cost} ({found['hash_ms']:.0f} ms)", STORM, "seconds")
    cores = found["machine"]["cores"]
    for name, key in (("quiet", "quiet"), ("cold: nobody is known", "stormed"), ("warm: all are known", "again"), ("quiet again", "quiet_after")):
        figures = senders(found[key])
        if "storm" in found[key]:
            s = found[key]["storm"]
            assert s["in"] == s["devices"], f"of {s['devices']} devices {s['in']} came in: {s['answers']}"
            figures |= {"seconds": s["seconds"], "tries": s["tries_mean"],
                        "ideal": found[key]["hashes"] * found["hash_ms"] / 1000 / cores}
        r.row(group, name, [figures])


def measure(args):
    r = Result()
    attack(args, r)
    for cost, devices in COSTS:
        storm(args, r, cost, devices)
    return r.dict
