#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The incident behind Sluice, replayed: 30,000 devices against the gateway as it was, with the first fix, with
the final fix, and against Sluice, turn by turn in one run.

The first three are bench/incident/gateway.go with Redis. Each gateway (with its Redis) has one core, the client
(`sluice load`) and this program another one. The result is a report (docs/incident.md, its plots, and the table
that opens the README), in which nothing stands that was not measured or computed by this run; the numbers
themselves are in build/incident/incident.json. A gateway that does not do what it is measured for is shown as failed, and the
exit status is 1.

    bench/incident.py --bin build/src/sluice
    bench/incident.py --bin build/src/sluice --quick        a minute, to see that it works; no document is changed
"""
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402
import incident_report  # noqa: E402
from attack_bench import bcrypt_seconds  # noqa: E402
from common import TICK, machine, parse, parser, stand_back, write_report  # noqa: E402
from incident_gateways import (  # noqa: E402
    SECRET, Failure, GoGateway, Redis, Sluice, build_gateway, first_accepted, versions)

# What is measured. "final" is the whole fleet as it is; "held" the same gateway while every verified pair
# is in Redis; "few" the same with as few devices as a load test has.
CASES = ("was", "rbac", "held", "final", "few", "sluice")
GATEWAY_OF = {"was": "was", "rbac": "rbac", "held": "final", "final": "final", "few": "final", "sluice": "sluice"}
QUICK = {"devices": 200, "few": 20, "rounds": 1, "seconds": 1, "few_seconds": 3, "course_seconds": 4, "attack_seconds": 2,
         "restart_seconds": 5, "cold": 10, "ttl": 3}


class Load:
    """A `sluice load` under way on the client's core."""
    number = 0

    def __init__(self, run, gateway, *args, back=False):
        Load.number += 1
        self.json, self.log = run.home / f"load-{Load.number}.json", run.home / f"load-{Load.number}.log"
        command = [harness.BIN, "load", gateway.url + "/v1/telemetry", "--quiet", "--json", str(self.json),
                   *(str(a) for a in args)]

        def before():
            os.sched_setaffinity(0, {run.args.client_cpu})
            if back:
                stand_back()

        with open(self.log, "w") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            preexec_fn=before)
        run.loads.append(self.process)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(2)
        return self.wait()

    def wait(self, timeout=900):
        self.process.wait(timeout)
        if not self.json.exists():
            raise Failure(f"the load ended with {self.process.returncode}: {self.log.read_text().strip()[-300:]}")
        return json.loads(self.json.read_text())


def core_seconds(cpu):
    """User and system time that a core has spent on whatever program."""
    line = next(x for x in Path("/proc/stat").read_text().splitlines() if x.startswith(f"cpu{cpu} "))
    return sum(int(n) for n in line.split()[1:4]) / TICK


def accepted(gateway, result):
    return result["status"].get(gateway.accepted, 0)


def refused(gateway, result):
    return {s: n for s, n in result["status"].items() if s != gateway.accepted}


class Run:
    def __init__(self, args, home):
        self.args, self.home, self.loads = args, home, []
        self.gateways, self.redis = {}, None
        self.devices = [f"device-{i:05d}" for i in range(args.devices)]
        self.cold = [f"cold-{i:05d}" for i in range(args.cold)]
        self.key = "app_" + os.urandom(16).hex()
        self.csv = {name: self.write_csv(name, devices) for name, devices in (
            ("fleet", self.devices), ("few", self.devices[:args.few]), ("cold", self.cold))}
        self.report = {"cases": {case: {} for case in args.only}, "failed": {}, "measured_s": 0.0, "others_s": 0.0}

    def write_csv(self, name, devices):
        path = self.home / f"{name}.csv"
        path.write_text("".join(f"{device},{SECRET}\n" for device in devices))
        return path

    def attempt(self, case, phase, measure, *args):
        """One measurement of a case, unless that has failed already; a failure becomes part of the report."""
        if case not in self.args.only or case in self.report["failed"]:
            return
        try:
            self.settle()
            result = measure(case, self.gateways[GATEWAY_OF[case]], *args)
        except (Failure, AssertionError, OSError, subprocess.SubprocessError) as e:
            self.report["failed"][case] = f"{phase}: {e or type(e).__name__}"
            print(f"{case} FAILED, {self.report['failed'][case]}", file=sys.stderr)
            return
        measured = self.report["cases"][case]
        if phase in ("full", "half"):
            measured.setdefault(phase, []).append(result)
        else:
            measured[phase] = result
        if "per_second" in result:
            print(f"{case:6} {phase:8} {result['per_second']:9.1f}/s accepted, p99 {result['p99_ms']:.1f} ms, CPU "
                  f"{sum(result['busy'].values()) * 100:.0f} %, hashes {result['hashes']}", file=sys.stderr)

    # ---- preparation ----

    def prepare(self):
        """Starts what is to be measured, and lets it know the devices."""
        args, report = self.args, self.report
        seconds, stored = bcrypt_seconds(args.cost)
        warm_seconds, warm_stored = bcrypt_seconds(args.warm_cost)
        report["hash_ms"], report["warm_hash_ms"] = seconds * 1000, warm_seconds * 1000
        if any(GATEWAY_OF[case] != "sluice" for case in args.only):
            self.prepare_go(stored)
        if "sluice" in args.only:
            self.gateways["sluice"] = Sluice(self.home, args)
            self.attempt("sluice", "start", lambda case, gateway: self.prepare_sluice(gateway, stored, warm_stored))

    def prepare_go(self, stored):
        cases = [case for case in self.args.only if GATEWAY_OF[case] != "sluice"]
        try:
            program = self.args.gateway or build_gateway(self.args.out)
            self.redis = Redis(self.home, self.args.server_cpu)
            self.redis.know(self.devices + self.cold, stored, self.key)
        except (Failure, AssertionError, OSError) as e:
            self.report["failed"].update({case: f"start: {e}" for case in cases})
            print(f"{', '.join(cases)} FAILED: {e}", file=sys.stderr)
            return
        self.report["document_bytes"] = self.redis.document_bytes
        for variant in dict.fromkeys(GATEWAY_OF[case] for case in cases):
            self.gateways[variant] = GoGateway(variant, program, self.redis, self.home, self.args)
        for case in cases:
            self.attempt(case, "start", self.start_go)

    def start_go(self, _case, gateway):
        if not gateway.process:
            gateway.start()
        return {"command": shlex.join([Path(gateway.command[0]).name, *gateway.command[1:]])}

    def prepare_sluice(self, gateway, stored, warm_stored):
        """The fleet's hashes are of the warm cost, those of the cold devices of production's. Then the fleet
        logs in: once for all, for what is verified stays so."""
        gateway.start()
        gateway.server.add_account("incident")
        gateway.know(self.devices, warm_stored)
        gateway.know(self.cold, stored)
        begun, before = time.monotonic(), gateway.hashes()
        while gateway.hashes() - before < len(self.devices):
            if time.monotonic() > begun + 600:
                raise Failure("the fleet was not in after 600 s")
            self.fleet(gateway, 2).wait()
        took = time.monotonic() - begun
        gateway.move_to_disk()
        for _ in range(30):  # the number of hashes does not say that each device had one
            hashes = gateway.hashes()
            self.fleet(gateway, 2).wait()
            if gateway.hashes() == hashes:
                break
        return {"login_seconds": took, "settings": gateway.settings}

    # ---- one measurement ----

    def settle(self):
        """Waits until no gateway computes what nobody waits for any more."""
        running = [g for g in self.gateways.values() if g.is_running()]

        def are_idle():
            before = [sum(g.cpu().values()) for g in running]
            time.sleep(0.2)
            return all(sum(g.cpu().values()) - b <= 0.02 for g, b in zip(running, before))
        harness.wait_for("the gateways to be idle", are_idle, 60)

    def fleet(self, gateway, seconds, rate=None, csv="fleet", connections=None, more=()):
        args = ["--devices", self.csv[csv], "--feed", "%device%.temperature", "--connections",
                connections or self.args.connections, "--seconds", seconds, "--seed", Load.number + 1]
        return Load(self, gateway, *args, *(["--rate", f"{rate:.1f}"] if rate else []), *more)

    def make_ready(self, case):
        """What Redis remembers when the case begins."""
        if case == "held":
            self.redis.remember(self.devices, self.args.ttl)
        elif GATEWAY_OF[case] == "final":
            self.redis.forget(self.devices)

    def measured(self, gateway, run):
        """What `run` measured, and what the gateway used meanwhile."""
        hashes, core = gateway.hashes(), core_seconds(self.args.server_cpu)
        begun, cpu = time.monotonic(), gateway.cpu()
        result = run()
        after, took = gateway.cpu(), time.monotonic() - begun
        core = core_seconds(self.args.server_cpu) - core
        used = {what: after[what] - cpu[what] for what in cpu}
        self.report["measured_s"] += took
        self.report["others_s"] += max(0, core - sum(used.values()))
        done = accepted(gateway, result)
        return {
            "per_second": done / result["seconds"], "accepted": done, "refused": refused(gateway, result),
            "errors": {what: result[what] for what in (
                "connect_errors", "timed_out", "closed", "bad_responses") if result[what]},
            "unanswered": result["broken"], "unsent": result["unsent"], "seconds": result["seconds"],
            "p50_ms": result["latency_ms"]["p50"], "p99_ms": result["latency_ms"]["p99"],
            "busy": {what: s / took for what, s in used.items()},
            "cpu_ms": {what: s * 1000 / done for what, s in used.items()} if done else None,
            "hashes": gateway.hashes() - hashes, "series": result["series"]}

    def strictly(self, gateway, run):
        """The same of a run in which every message must be accepted, but for those under way at its end."""
        result = self.measured(gateway, run)
        if result["refused"] or result["errors"] or not result["accepted"] or \
                result["unanswered"] > self.args.connections or not gateway.is_running():
            raise Failure(f"not all was accepted: {result['accepted']} were, refused {result['refused']}, "
                          f"unanswered {result['unanswered']}, errors {result['errors']}")
        return result

    def full(self, case, gateway):
        """As fast as the answers come. Four connections fill a core with hashes; more of them only wait longer."""
        self.make_ready(case)
        connections = self.args.connections if case in ("held", "sluice") else 4
        result = self.strictly(gateway, lambda: self.fleet(
            gateway, self.args.seconds, connections=connections).wait())
        if case in ("held", "sluice") and result["hashes"] > result["accepted"] / 1000:
            raise Failure(f"{result['hashes']} hashes were computed for devices that are known")
        return result

    def half(self, case, gateway):
        self.make_ready(case)
        rate = self.half_rate(case)
        return {"rate": rate, **self.strictly(gateway, lambda: self.fleet(gateway, self.args.seconds, rate).wait())}

    def half_rate(self, case):
        return statistics.median(r["per_second"] for r in self.report["cases"][case]["full"]) / 2

    def few(self, case, gateway):
        """A few devices: they are in after a moment, and then each costs a hash when its time is up."""
        self.make_ready(case)
        self.fleet(gateway, self.args.few_seconds / 4, csv="few").wait()
        return self.strictly(gateway, lambda: self.fleet(gateway, self.args.few_seconds, csv="few").wait())

    def headless(self, case, gateway):
        """The load test that hid it: an application's key, and no device's header."""
        return self.strictly(gateway, lambda: Load(
            self, gateway, "--key", self.key, "--connections", self.args.connections, "--seconds",
            self.args.seconds).wait())

    # ---- the story ----

    def course(self, case, gateway, rate):
        """The same offer to each, for longer than anything is remembered."""
        self.make_ready(case)
        return {"rate": rate, **self.measured(gateway, lambda: self.fleet(
            gateway, self.args.course_seconds, rate).wait())}

    def logins(self, case, gateway):
        """Devices whose hashes are of production's cost, for the first time, beside the fleet at half rate."""
        fleet = self.fleet(gateway, 600, self.half_rate(case))
        begun, hashes = time.monotonic(), gateway.hashes()
        cold = Load(self, gateway, "--once", "--devices", self.csv["cold"], "--feed", "cold.temperature", "--seconds",
                    300, "--timeout", 300, "--source", "127.2.0.1-127.2.255.254", back=True).wait()
        took, hashes = time.monotonic() - begun, gateway.hashes() - hashes
        result = fleet.end()
        if cold["accepted"] != len(self.cold):
            raise Failure(f"of {len(self.cold)} devices {cold['accepted']} came in")
        return {"devices": len(self.cold), "seconds": took, "hashes": hashes, "fleet_per_second":
                accepted(gateway, result) / result["seconds"], "fleet_p99_ms": result["latency_ms"]["p99"]}

    def attack(self, case, gateway):
        """Wrong secrets of one device, another one each time, beside the fleet at half rate."""
        self.make_ready(case)
        rate, seconds = self.half_rate(case), self.args.attack_seconds
        attacker = Load(self, gateway, "--device", self.cold[0], "--token", "guess-%seq%", "--connections",
                        self.args.attackers, "--rate", self.args.attack_rate, "--seconds", 600, "--reconnect",
                        "--source", f"127.1.0.1-127.1.0.{self.args.attackers}", back=True)
        time.sleep(0.5)
        result = self.measured(gateway, lambda: self.fleet(gateway, seconds, rate).wait())
        guesses = attacker.end()
        return {"rate": rate, **result, "guesses": guesses["answered"], "guesses_per_second":
                guesses["answers_per_second"], "guesses_status": guesses["status"]}

    def restart(self, case, gateway, forget=False):
        """kill -9 and a new start under the fleet at half rate; what Redis remembers stays or goes."""
        self.make_ready(case)
        rate, seconds = self.half_rate(case), self.args.restart_seconds
        fleet = self.fleet(gateway, seconds, rate, more=["--reconnect"])
        time.sleep(seconds / 4)
        killed = time.monotonic()
        gateway.kill()
        if forget:
            self.redis.forget(self.devices)
        gateway.start()
        first_accepted(gateway, self.devices[0])
        first_s = time.monotonic() - killed
        result = fleet.wait()
        at = int(seconds / 4)
        slow = [p["s"] for p in result["series"] if p["s"] > at and (
            p["answers"] - p["refused"] <= 0 or p["p99"] > 1000)]
        last = result["series"][-1]["s"] if result["series"] else 0
        return {"rate": rate, "first_s": first_s, "watched_s": last - at, "slow_s": len(slow),
                "never": bool(slow) and slow[-1] == last, "hashes": gateway.hashes(),
                "series": result["series"], "accepted": accepted(gateway, result),
                "refused": refused(gateway, result)}

    def tell(self):
        """All phases, each case in its turn."""
        self.prepare()
        turns = [case for case in self.args.only if case != "few"]
        for _ in range(self.args.rounds):
            for case in turns:
                self.attempt(case, "full", self.full)
        for _ in range(self.args.rounds):
            for case in turns:
                self.attempt(case, "half", self.half)
        self.attempt("few", "few", self.few)
        for case in ("was", "rbac"):
            self.attempt(case, "headless", self.headless)
        rate = self.course_rate()
        for case in ("was", "rbac", "held", "sluice"):
            self.attempt(case, "course", self.course, rate)
        self.attempt("sluice", "logins", self.logins)
        for case in ("was", "rbac", "held", "sluice"):
            self.attempt(case, "attack", self.attack)
            self.attempt(case, "restart", self.restart)
        self.attempt("held", "restart_lost", lambda *a: self.restart(*a, forget=True))
        return self.report

    def course_rate(self):
        """60 % of what the final fix can do at its best, or of what there is if that failed."""
        full = [statistics.median(r["per_second"] for r in self.report["cases"][case]["full"])
                for case in ("held", "sluice") if self.report["cases"].get(case, {}).get("full")]
        return max(10, round(full[0] * 0.6, -2)) if full else 100

    def stop(self):
        for process in self.loads:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        for gateway in self.gateways.values():
            gateway.stop()
        if self.redis:
            self.redis.stop()


def parse_args(words=None):
    p = parser(__doc__)
    p.add_argument("--quick", action="store_true", help="a minute: " + ", ".join(f"{k} {v}" for k, v in QUICK.items()))
    p.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    p.add_argument("--out", type=Path, default=ROOT / "build" / "incident", help="where the numbers go")
    p.add_argument("--gateway", type=Path, help="a binary of bench/incident/gateway.go, instead of building it")
    p.add_argument("--devices", type=int, default=30000)
    p.add_argument("--few", type=int, default=100)
    p.add_argument("--cold", type=int, default=150)
    p.add_argument("--cost", type=int, default=10, help="of bcrypt")
    p.add_argument("--warm-cost", type=int, default=4, help="of the hashes of the fleet that Sluice knows already")
    p.add_argument("--ttl", type=int, default=30, help="seconds that the final fix remembers a pair")
    p.add_argument("--target", type=int, default=20000, help="requests a second for which cores are counted")
    p.add_argument("--dollars", type=float, default=30, help="a month and core")
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--few-seconds", type=float, default=31)
    p.add_argument("--course-seconds", type=float, default=36)
    p.add_argument("--attack-seconds", type=float, default=12)
    p.add_argument("--attackers", type=int, default=50, help="connections, each from an address of its own")
    p.add_argument("--attack-rate", type=int, default=200, help="guesses a second, all of them")
    p.add_argument("--restart-seconds", type=float, default=12)
    cpus = sorted(os.sched_getaffinity(0))
    p.add_argument("--server-cpu", type=int, default=cpus[0])
    p.add_argument("--client-cpu", type=int, default=cpus[-1])
    args = parse(p, words)
    if args.quick:
        vars(args).update({k: v for k, v in QUICK.items() if getattr(args, k) == p.get_default(k)})
    return args


def main():
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and end what was started
    os.sched_setaffinity(0, {args.client_cpu})
    begun, before = time.time(), machine()
    with tempfile.TemporaryDirectory(prefix="sluice-incident-", dir=args.dir) as home:
        run = Run(args, Path(home))
        try:
            report = run.tell()
        finally:
            run.stop()
    report.update(machine=before, versions=versions(), arguments=vars(args), begun=begun, took_s=time.time() - begun)
    args.json = args.json or args.out / "incident.json"
    write_report(args, report)
    whole = not args.quick and not report["failed"] and set(args.only) == set(CASES)
    incident_report.write(json.loads(Path(args.json).read_text()), ROOT / "docs" if whole else args.out,
                          ROOT / "README.md" if whole else None)
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
