#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Warm senders while somebody attacks the gate and a fleet logs in cold: the third row of the budget in
the design.

The server has one core, all clients (`sluice load`) the other one, the attackers and the fleet standing back
there, so that a warm sender's latency is the server's and not the client's. The attack comes from 50
connections, each from an address of its own unless --attack-sources says otherwise: first secrets of one warm
device, never the same twice, then devices that do not exist. Meanwhile --cold devices with bcrypt hashes log in for the first time, each on a
connection and from an address of its own, at once, and come back when they are told to.

Phases: how fast the warm ones are at most; 15 % of that, quiet; the same under attack until all devices are in;
quiet again; then at full rate without and with an attack and another fleet.

    bench/attack_bench.py --bin build/src/sluice --json results.json
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "test"))

import harness  # noqa: E402
from common import cpu_seconds, machine, parse, parser, stand_back, write_report  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it leaves Python in 3.13; Debian 12 has 3.11
    import crypt

SECRET = "the secret of a device"
GUESSES = "guess-%seq%"


def bcrypt_seconds(cost):
    """CPU time of one hash of that cost on a core that does nothing else, and a stored hash of SECRET."""
    stored = crypt.crypt(SECRET, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << cost))
    times = []
    for _ in range(max(5, 400 >> max(0, cost - 4))):
        begun = time.process_time()
        crypt.crypt(SECRET, stored)
        times.append(time.process_time() - begun)
    return statistics.median(times), stored


def turn_ms(before, after):
    """[what 99 % of the turns of the workers' loops took at most, the longest], to a bucket's upper end."""
    name = 'sluice_worker_turn_seconds_bucket{le="'
    turns = sorted((float(k[len(name):-2]), n - before.get(k, 0)) for k, n in after.items()
                   if k.startswith(name) and k[len(name):-2] != "+Inf")
    total = turns[-1][1] if turns else 0
    return [min((le * 1000 for le, n in turns if n >= share * total), default=0) for share in (0.99, 1)]


class Load:
    """A `sluice load` under way."""
    number = 0

    def __init__(self, bench, name, *args, back=False, url="/v1/telemetry"):
        Load.number += 1
        self.name, self.json = name, bench.home / f"{name}-{Load.number}.json"
        self.log = bench.home / f"{name}-{Load.number}.log"
        command = [harness.BIN, "load", bench.server.url + url, "--quiet", "--json", str(self.json),
                   *(str(a) for a in args)]

        def pin():
            if bench.args.client_cpu is not None:
                os.sched_setaffinity(0, {bench.args.client_cpu})
            if back:
                stand_back()

        with open(self.log, "w") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            preexec_fn=pin)

    def running(self):
        return self.process.poll() is None

    def end(self):
        """Lets it finish what is under way, early if it still runs; what it measured."""
        if self.running():
            self.process.send_signal(2)
        return self.wait()

    def wait(self):
        self.process.wait(900)
        assert self.json.exists(), f"{self.name}: {self.log.read_text()}"
        return json.loads(self.json.read_text())


class Watch(threading.Thread):
    """What the server weighs, all the time."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.samples, self.stopping = pid, [], threading.Event()
        self.start()

    def run(self):
        while not self.stopping.wait(0.25):
            text = Path(f"/proc/{self.pid}/status").read_text()
            kib = int(text.split("VmRSS:")[1].split()[0])
            self.samples.append((time.monotonic(), kib / 1024))

    def between(self, begun, ended):
        return [mib for at, mib in self.samples if begun <= at <= ended]


class Bench:
    def __init__(self, args, home):
        self.args, self.home = args, home
        self.hash_s, self.stored = bcrypt_seconds(args.cost)
        settings = {"server.workers": "1", "auth.hash_threads": "1", "journal.segment_size": "64MiB",
                    "http.connections_max": "100000", "listen.backlog": "16384",
                    **args.settings}
        if args.disk_ms:
            settings["journal.disk"] = "slow"
        cpus = None if args.server_cpu is None else {args.server_cpu}
        self.server = harness.Server(home / "server", settings, cpus=cpus)
        self.server.start(60)
        if args.disk_ms:
            (self.server.data / "journal" / "slow_ms").write_text(str(args.disk_ms))
        self.server.add_account("bench")
        self.warm = self.devices("warm", args.warm)
        self.cold = self.devices("cold", args.cold)
        self.more = self.devices("more", args.cold_saturated)
        self.watch = Watch(self.server.pid)

    def devices(self, name, count):
        made = self.server.add_devices("bench", [(f"{name}-{i:05d}", SECRET, self.stored) for i in range(count)])
        path = self.home / f"{name}.csv"
        path.write_text("".join(f"{d['X-Device-Id']},{SECRET}\n" for d in made))
        return path

    def senders(self, seconds, rate=None):
        args = ["--devices", self.warm, "--feed", "%device%.temperature", "--connections",
                self.args.connections, "--seconds", seconds]
        return Load(self, "warm", *args, *(["--rate", f"{rate:.0f}"] if rate else []))

    def attack(self, how):
        who = {"secrets": ("warm-00000", GUESSES), "devices": ("ghost-%seq%", GUESSES)}[how]
        first, count = "127.1.0.1", self.args.attack_sources
        return Load(self, f"attack-{how}", "--device", who[0], "--token", who[1], "--connections",
                    self.args.attack_connections, "--seconds", 900, "--reconnect", "--source",
                    f"{first}-127.1.0.{count}", back=True)

    def logins(self, csv, name="logins"):
        # Into a feed that is there: what making 10,000 feeds costs is not the gate's.
        return Load(self, name, "--once", "--devices", csv, "--feed", "warm-00000.temperature", "--seconds", 900,
                    "--timeout", 900, "--source", "127.2.0.1-127.2.255.254", back=True)

    # ---- phases ----

    def quiet(self, rate):
        return self.under(rate, lambda: self.senders(self.args.seconds, rate).wait())

    def under(self, rate, run):
        """The phase, with what the server used meanwhile."""
        begun, cpu, before = time.monotonic(), cpu_seconds(self.server.pid), self.server.metrics()
        result = run()
        after, ended = self.server.metrics(), time.monotonic()
        rss = self.watch.between(begun, ended) or [0]
        result["server_busy"] = (cpu_seconds(self.server.pid) - cpu) / (ended - begun)
        result["rss_mib"] = [round(rss[0], 1), round(max(rss), 1), round(rss[-1], 1)]
        result["turn_ms"] = turn_ms(before, after)
        for name in ("hashes_run", "hashes_decoy", "shield_busy", "shield_shed", "shield_failure_window"):
            result[name] = after[f"sluice_{name}_total"] - before[f"sluice_{name}_total"]
        if rate:
            result["offered"] = result["answered"] / (rate * result["seconds"])
        return result

    def attacked(self, rate):
        """[warm under attack on one device's secrets, the same on unknown devices], and the logins."""
        logins, until = self.logins(self.cold), time.monotonic() + self.args.logins_max
        attack = self.attack("secrets")
        secrets = self.under(rate, lambda: self.senders(self.args.seconds, rate).wait())
        secrets["attack"] = attack.end()
        attack = self.attack("devices")

        def until_all_are_in():
            senders, least = self.senders(900, rate), time.monotonic() + self.args.seconds
            while time.monotonic() < least or (logins.running() and time.monotonic() < until):
                time.sleep(0.1)
            return senders.end()

        devices = self.under(rate, until_all_are_in)
        devices["attack"] = attack.end()
        return {"secrets": secrets, "devices": devices, "logins": logins.end()}

    def saturated(self):
        """At full rate: alone, and with an attack and a fleet that logs in; which goes on by itself then."""
        alone = self.under(None, lambda: self.senders(self.args.seconds).wait())
        attack, logins = self.attack("secrets"), self.logins(self.more, "more")
        time.sleep(0.5)
        loaded = self.under(None, lambda: self.senders(self.args.seconds).wait())
        loaded["attack"] = attack.end()
        began = time.monotonic()
        logins.process.wait(self.args.logins_max)
        loaded["logins"] = logins.end()
        loaded["logins_after_s"] = time.monotonic() - began
        again = self.under(None, lambda: self.senders(self.args.seconds).wait())
        return {"alone": alone, "loaded": loaded, "again": again}

    def run(self):
        self.senders(2).wait()  # logs the warm ones in, makes their feeds
        wait = time.monotonic() + 60
        while self.server.metric("hashes_run_total") < self.args.warm and time.monotonic() < wait:
            self.senders(1).wait()
        best = self.under(None, lambda: self.senders(self.args.seconds).wait())
        rate = best["answers_per_second"] * self.args.share
        before = self.quiet(rate)
        attacked = self.attacked(rate)
        after = self.quiet(rate)
        return {"hash_ms": self.hash_s * 1000, "best": best, "rate": rate, "quiet": before,
                "attacked": attacked, "quiet_after": after,
                "saturated": self.saturated() if self.args.cold_saturated else None}


def row(name, r):
    latency = r["latency_ms"]
    attack = r.get("attack")
    refused = attack["answers_per_second"] if attack else 0
    print(f"{name:26} {r['answers_per_second']:8.0f} {r.get('offered', 1) * 100:7.1f} {latency['p50']:7.3f} "
          f"{latency['p99']:7.3f} {latency['p99.9']:8.3f} {r['server_busy'] * 100:5.0f} {refused:9.0f} "
          f"{r['hashes_run']:6.0f} {r['hashes_decoy']:6.0f} {r['turn_ms'][0]:8.2f} {r['turn_ms'][1]:6.2f}  {r['rss_mib']}")


def table(args, report):
    hash_s = report["hash_ms"] / 1000
    print(f"bcrypt cost {args.cost}: {report['hash_ms']:.2f} ms; {args.attack_connections} attacking connections from "
          f"{args.attack_sources} addresses; {args.cold} devices log in; offered {report['rate']:.0f}/s")
    print(f"{'warm senders':26} {'per s':>8} {'of off.':>7} {'p50 ms':>7} {'p99 ms':>7} {'p99.9 ms':>8} {'CPU %':>5} "
          f"{'attack/s':>9} {'hashes':>6} {'decoys':>6} {'turn p99':>8} {'max ms':>6}  RSS MiB first, most, last")
    row("full rate", report["best"])
    row("quiet", report["quiet"])
    a = report["attacked"]
    row("attack on secrets", a["secrets"])
    row("attack with unknown", a["devices"])
    row("quiet again", report["quiet_after"])
    l = a["logins"]
    ideal = l["accepted"] * hash_s
    free = 1 - report["quiet"]["server_busy"]
    print(f"logins: {l['accepted']} of {l['devices']} in {l['accepted_seconds']:.1f} s; {l['accepted']} hashes take "
          f"{ideal:.1f} s of a core: ratio {l['accepted_seconds'] / ideal:.2f}, and {l['accepted_seconds'] * free / ideal:.2f} "
          f"of the {free * 100:.0f} % of it that the warm senders leave; told to come back {l['told']}, of those "
          f"{l['kept']} accepted, {l['not_kept']} told again; longest wait {l['told_s_max']} s; {l['status']}")
    s = report["saturated"]
    if not s:
        return
    row("full rate, alone", s["alone"])
    row("full rate, attacked", s["loaded"])
    row("full rate, alone again", s["again"])
    l = s["loaded"]["logins"]
    base = (s["alone"]["answers_per_second"] + s["again"]["answers_per_second"]) / 2
    print(f"throughput {s['loaded']['answers_per_second'] / base * 100:.0f} %; hashes meanwhile "
          f"{s['loaded']['hashes_run']:.0f}; all {l['accepted']} of {l['devices']} in {s['loaded']['logins_after_s']:.1f} s "
          f"after it; told to come back {l['told']}, of those {l['kept']} accepted, {l['not_kept']} told again; "
          f"{l['status']}")


def parse_args():
    p = parser(__doc__)
    p.add_argument("--disk-ms", type=int, help="an fdatasync takes so much longer: with --dir /dev/shm a disk of "
                   "which nothing is by chance")
    p.add_argument("--cost", type=int, default=6, help="of the devices' bcrypt hashes")
    p.add_argument("--warm", type=int, default=1000)
    p.add_argument("--cold", type=int, default=10000)
    p.add_argument("--cold-saturated", type=int, default=2000, help="0: without that part")
    p.add_argument("--connections", type=int, default=64)
    p.add_argument("--attack-connections", type=int, default=50)
    p.add_argument("--attack-sources", type=int, default=50)
    p.add_argument("--share", type=float, default=0.15, help="of the full rate that is offered")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--logins-max", type=float, default=120)
    p.add_argument("--server-cpu", type=int, default=0)
    p.add_argument("--client-cpu", type=int, default=1)
    return parse(p)


def main():
    args = parse_args()
    os.sched_setaffinity(0, {args.client_cpu})
    with tempfile.TemporaryDirectory(prefix="sluice-bench-", dir=args.dir) as home:
        bench = Bench(args, Path(home))
        try:
            report = {"machine": machine(), "arguments": vars(args), **bench.run()}
        finally:
            bench.watch.stopping.set()
            bench.server.stop(60)
    table(args, report)
    write_report(args, report)


if __name__ == "__main__":
    main()
