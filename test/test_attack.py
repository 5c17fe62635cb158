# SPDX-License-Identifier: Apache-2.0
"""A gate nobody can lean on: known senders do not notice an attacker, and a fleet logs in beside him.

The figures are bench/attack_bench.py's, on pinned cores of a quiet machine; here are bounds that hold on
any. SLUICE_FULL=1: 10,000 devices log in, and a million unknown ones are tried."""
import json
import os
import resource
import subprocess
import time
from pathlib import Path

import pytest
import requests

from conftest import owner_on
from harness import BIN, device_auth, wait_for
from test_gate import bcrypt, many, post
from wire import Wire, request

pytestmark = pytest.mark.alone

FULL = os.environ.get("SLUICE_FULL") == "1"
TARGET = "/v1/telemetry"
SECRET = "the secret of a device"


class Load:
    """A `sluice load` under way."""
    number = 0

    def __init__(self, server, *args):
        Load.number += 1
        self.json = server.home / f"load-{Load.number}.json"
        self.process = subprocess.Popen(
            [BIN, "load", server.url, "--quiet", "--json", str(self.json), *(str(a) for a in args)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def running(self):
        return self.process.poll() is None

    def wait(self):
        out, _ = self.process.communicate(timeout=300)
        assert self.process.returncode == 0, out
        return json.loads(self.json.read_text())

    def end(self):
        if self.running():
            self.process.send_signal(2)
        return self.wait()


def fleet(server, name, count, cost):
    """A file of that many devices with a bcrypt hash."""
    stored = bcrypt(SECRET, cost)
    server.add_devices("a", [(f"{name}-{i}", SECRET, stored) for i in range(count)])
    path = server.home / f"{name}.csv"
    path.write_text("".join(f"{name}-{i},{SECRET}\n" for i in range(count)))
    return path


def senders(server, csv, rate, seconds):
    return Load(server, "--devices", csv, "--rate", rate, "--connections", 16, "--seconds", seconds)


def attack(server, device):
    return Load(server, "--device", device, "--token", "guess-%seq%", "--connections", 50, "--seconds", 300,
                "--source", "127.1.0.1-127.1.0.50")


def logins(server, csv):
    return Load(server, "--once", "--devices", csv, "--seconds", 300, "--timeout", 120,
                "--source", "127.2.0.1-127.2.255.254")


def rss_mib(server):
    return int(Path(f"/proc/{server.pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


# ---- the whole ----

def test_known_senders_and_logins_beside_an_attacker(make_server):
    count, rate, seconds = (10000, 2000, 15) if FULL else (600, 200, 4)
    s = make_server({"listen.backlog": "16384"})
    s.add_account("a")
    warm, cold = fleet(s, "warm", 50, 4), fleet(s, "cold", count, 6)
    assert set(senders(s, warm, 100, 2).wait()["status"]) == {"202"}
    quiet = senders(s, warm, rate, seconds).wait()
    begun, before = time.monotonic(), s.metrics()
    fleet_comes = logins(s, cold)
    for device in ("warm-0", "ghost-%seq%"):
        attacker = attack(s, device)
        loaded = senders(s, warm, rate, seconds).wait()
        attacked = attacker.end()
        assert set(loaded["status"]) == {"202"}
        assert loaded["answered"] >= 0.9 * rate * seconds
        # On a machine that others use one per cent of a few seconds is theirs: the bench has the bound of 2.
        how = "p99" if FULL else "p50"
        assert loaded["latency_ms"][how] <= 3 * quiet["latency_ms"][how] + 50, (loaded["latency_ms"], quiet["latency_ms"])
        # Once over the windows each of his connections gets one answer a second.
        assert "202" not in attacked["status"]
        turned_away = attacked["answered"] - attacked["status"].get("401", 0)
        assert turned_away <= 50 * (attacked["seconds"] + 2), attacked
    came = fleet_comes.wait()
    took, after = time.monotonic() - begun, s.metrics()
    assert came["accepted"] == count and came["refused"] == 0
    assert came["not_kept"] <= came["told"] * (0.02 if FULL else 0.5), came
    # What he made us compute is what is left over, and a small share of what the fleet needed.
    decoys = after["sluice_hashes_decoy_total"] - before["sluice_hashes_decoy_total"]
    print(f"{count} logins in {came['accepted_seconds']:.1f} of {took:.1f} s, {decoys:.0f} decoys, "
          f"p99 {quiet['latency_ms']['p99']:.2f} quiet, {loaded['latency_ms']['p99']:.2f} ms attacked")
    assert after["sluice_refusals_held_total"] > before["sluice_refusals_held_total"]


def test_unknown_devices_cost_no_memory(make_server):
    """What he sends is remembered in tables of fixed size, however often he sends something new."""
    count = 1000000 if FULL else 20000
    # The windows of so many last for a minute: their part of the table is full before the second flood.
    s = make_server({"auth.refusal_hold": "0ms", "auth.failures_address": "1000000000/60s",
                     "auth.hash_queue_max": "64", **({} if FULL else {"throttle.subjects_max": "80000"})})
    owner_on(s, "a")

    def flood(first, n):
        return Load(s, "--device", "ghost-%seq%", "--token", "guess-%seq%", "--first-sequence", first,
                    "--requests", n, "--connections", 50).wait()

    # No password hash in use: each try is refused at once, and fills all tables there are.
    assert set(flood(1, count)["status"]) == {"401"}
    was = rss_mib(s)
    assert set(flood(count + 1, count)["status"]) == {"401"}
    assert rss_mib(s) <= was * 1.1 + 8


def test_the_kernel_has_room_for_all_connections(make_server):
    """Making it larger while threads run stops whoever accepts for tens of milliseconds each time."""
    s = make_server({"http.connections_max": "3000", "mqtt.connections_max": "500"})
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{s.pid}/status").read_text().splitlines())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(fields["FDSize"]) >= min(3500, hard)


# ---- refusals that are held ----

def guesses(server, wire, n, device="d"):
    """Statuses and how long each took."""
    found = []
    for i in range(n):
        begun = time.monotonic()
        r = wire.ask(request("POST", TARGET, device_auth(device, f"guess {time.monotonic_ns()}"), {"t": 1}))
        found.append((r.status, time.monotonic() - begun))
    return found


def test_who_goes_on_is_answered_late(make_server):
    s = make_server({"auth.failures_credential": "3/60s", "auth.refusal_hold": "600ms"})
    owner_on(s, "a")
    s.cli("device", "add", "a", "d", "--hash", bcrypt("right", 4))
    with Wire(s.http_port) as w, Wire(s.http_port) as good:
        assert good.ask(request("POST", TARGET, device_auth("d", "right"), {"t": 1})).status == 202
        tries = guesses(s, w, 5)
        assert [status for status, _ in tries] == [401] * 3 + [429] * 2
        assert all(took >= 0.6 for status, took in tries if status == 429)
        # Meanwhile nobody else waits, and what was read with it is answered in its order.
        w.send(request("POST", TARGET, device_auth("d", "guess"), {"t": 1}) +
               request("POST", TARGET, device_auth("d", "right"), {"t": 2}))
        begun = time.monotonic()
        assert good.ask(request("POST", TARGET, device_auth("d", "right"), {"t": 1})).status == 202
        assert time.monotonic() - begun < 0.5
        assert [w.read().status, w.read().status] == [429, 202]
        assert time.monotonic() - begun >= 0.5
    assert s.metric("refusals_held_total") == 3
    # Nobody waits for one that is held: not a client that went away, not a stop.
    with Wire(s.http_port) as w:
        w.send(request("POST", TARGET, device_auth("d", "guess"), {"t": 1}))
        wait_for("the hold", lambda: s.metric("refusals_held_total") == 4)
    w = Wire(s.http_port)
    w.send(request("POST", TARGET, device_auth("d", "guess"), {"t": 1}))
    wait_for("the hold", lambda: s.metric("refusals_held_total") == 5)
    assert s.stop() == 0
    w.close()


def test_through_a_proxy_nobody_is_held(make_server):
    """Its connections carry others too."""
    s = make_server({"auth.failures_credential": "1/60s", "listen.trusted_proxies": "127.0.0.0/8",
                     "auth.refusal_hold": "5s"})
    owner_on(s, "a")
    with Wire(s.http_port) as w:
        begun = time.monotonic()
        for i in range(20):
            auth = {**device_auth("nobody", f"guess {i}"), "X-Forwarded-For": "198.51.100.7"}
            assert w.ask(request("POST", TARGET, auth, {"t": 1})).status == (429 if i else 401)
        assert time.monotonic() - begun < 4
    assert s.metric("refusals_held_total") == 0


# ---- who goes first ----

def test_an_administrator_gets_in_while_the_pool_is_full(make_server):
    s = make_server({"auth.hash_threads": "1", "auth.hash_wait": "60s", "auth.hash_idle_priority": "false"})
    s.add_account("a")
    cold = fleet(s, "cold", 120, 9)
    s.cli("device", "add", "a", "boss", "--hash", bcrypt("right", 9), "--role", "admin")
    fleet_comes = logins(s, cold)
    wait_for("a queue", lambda: s.metric("hash_queue_length") > 80)
    before = s.metric("hashes_run_total")
    r = requests.get(s.url + "/v1/admin/account/list", headers=device_auth("boss", "right"), timeout=60)
    assert r.status_code == 200, r.text
    after = s.metrics()
    # The one that was being computed, his own, and what was done while we asked: the queue is behind him.
    assert after["sluice_hashes_run_total"] - before <= 12
    assert after["sluice_hash_queue_length"] > 40
    assert fleet_comes.wait()["accepted"] == 120


def test_an_address_that_many_share(make_server):
    """A carrier's NAT: one of them guesses until the address is over its window. The others who are known go on
    all along; one who is not known yet has to wait, until anybody's success clears the address."""
    s = make_server({"auth.failures_address": "20/600s", "auth.refusal_hold": "0ms"})
    s.add_account("a")
    stored = bcrypt("right", 4)
    known, cold = s.add_devices("a", [("known", "right", stored), ("cold", "right", stored)])
    assert post(s, known).status_code == 202
    seen = [post(s, device_auth(f"ghost-{i}", "guess")).status_code for i in range(30)]
    assert seen == [401] * 20 + [429] * 10
    r = post(s, cold)
    assert r.status_code == 429 and int(r.headers["retry-after"]) > 60
    assert post(s, known).status_code == 202
    assert post(s, cold).status_code == 202


def test_retry_after_comes_true(make_server):
    """More logins at once than the pool may have waiting: the rest come when they are told to, and get in."""
    s = make_server({"auth.hash_threads": "1", "auth.hash_wait": "5s", "auth.hash_target": "2s",
                     "auth.hash_idle_priority": "false"})
    s.add_account("a")
    count = 800
    came = logins(s, fleet(s, "cold", count, 8)).wait()
    assert came["accepted"] == count and came["told"] > count / 4, came
    # A machine that others use is not as fast in ten seconds as it is now: those who come too early then
    # are told again.
    assert came["not_kept"] <= came["told"] * (0.02 if FULL else 0.5), came
