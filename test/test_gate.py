# SPDX-License-Identifier: Apache-2.0
"""The gate: who is sending, at what cost, and how much they may send.

SLUICE_FULL=1 runs the large tests at full size (10,000 devices)."""
import collections
import json
import os
import re
import resource
import subprocess
import threading
import time
import warnings

import pytest
import requests

import harness
from conftest import owner_on
from harness import device_auth, wait_for
from wire import Wire, request

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it leaves Python in 3.13; Debian 12 has 3.11
    import crypt

FULL = os.environ.get("SLUICE_FULL") == "1"
DEVICES = 10000 if FULL else 1000
TARGET = "/v1/telemetry"


def bcrypt(secret, cost):
    return crypt.crypt(secret, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << cost))


def add_bcrypt(server, account, device, secret, cost):
    server.cli("device", "add", account, device, "--hash", bcrypt(secret, cost))


def post(server, auth, body=None, path=TARGET):
    return requests.post(server.url + path, json=body or {"t": 1}, headers=auth, timeout=30)


def many(server, auths, body=None):
    """One request on a connection of its own for each, all sent before any answer is read."""
    wanted = len(auths) + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    wires = [Wire(server.http_port, timeout=60) for _ in auths]
    try:
        for w, auth in zip(wires, auths):
            w.send(request("POST", TARGET, auth, body or {"t": 1}))
        return [w.read() for w in wires]
    finally:
        for w in wires:
            w.close()


# ---- who ----

def test_wrong_secret_and_unknown_device_are_the_same_401(make_server):
    s = make_server()
    owner_on(s, "a")
    add_bcrypt(s, "a", "known", "right", 4)
    wrong = post(s, device_auth("known", "wrong"))
    unknown = post(s, device_auth("unknown", "wrong"))
    assert (wrong.status_code, wrong.text) == (unknown.status_code, unknown.text)
    assert wrong.status_code == 401 and wrong.json()["error"]
    ours = ("content-type", "www-authenticate", "content-length", "retry-after", "connection")
    assert [wrong.headers.get(h) for h in ours] == [unknown.headers.get(h) for h in ours]
    assert post(s, device_auth("known", "right")).status_code == 202


def test_imported_hashes_of_all_kinds(make_server):
    s = make_server()
    owner_on(s, "a")
    for i, kind in enumerate(("$2b$", "$2y$", "$2a$")):
        stored = bcrypt("the secret", 4).replace("$2b$", kind)
        s.cli("device", "add", "a", f"d{i}", "--hash", stored)
        assert post(s, device_auth(f"d{i}", "the secret")).status_code == 202, kind
        assert post(s, device_auth(f"d{i}", "the secret!")).status_code == 401, kind


@pytest.mark.parametrize("secret", ["a:b", "ü😀", "x" * 72, "with blank", "a" * 55])
def test_awkward_secrets(server, owner, feed, secret):
    add_bcrypt(server, owner.name, feed, secret, 4)
    from wire import basic
    for auth in (basic(feed, secret),) if not secret.isascii() else (basic(feed, secret), device_auth(feed, secret)):
        assert requests.post(server.url + TARGET, json={"t": 1}, headers=auth, timeout=10).status_code == 202
    assert post(server, basic(feed, secret + "x")).status_code == 401
    assert post(server, basic(feed, secret[:-1])).status_code == 401


# ---- what it costs ----

def test_a_thousand_first_requests_are_one_bcrypt(make_server):
    # At idle priority a check that gets no CPU for long is computed twice; here it is to be one.
    s = make_server({"auth.hash_wait": "60s", "auth.hash_idle_priority": "false"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 11)
    before = s.metrics()
    answers = many(s, [device_auth("d", "right")] * 1000)
    after = s.metrics()
    assert {r.status for r in answers} == {202}
    assert after["sluice_hashes_run_total"] - before["sluice_hashes_run_total"] == 1
    assert after["sluice_auth_ok_total"] - before["sluice_auth_ok_total"] == 1000


def test_one_wrong_among_them_is_refused_alone(make_server):
    # At idle priority a check that gets no CPU for long is computed twice; here it is to be one.
    s = make_server({"auth.hash_wait": "60s", "auth.hash_idle_priority": "false"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 10)
    auths = [device_auth("d", "right")] * 1000
    auths[500] = device_auth("d", "wrong")
    before = s.metric("hashes_run_total")
    statuses = [r.status for r in many(s, auths)]
    assert statuses[500] == 401
    assert statuses.count(202) == 999
    assert s.metric("hashes_run_total") - before <= 2


def test_warm_devices_cost_no_more_bcrypt(make_server):
    """Time alone never makes a password hash: after the TTL only the version is looked at."""
    # At idle priority a check that gets no CPU for long is computed twice; here each is to be one.
    s = make_server({"auth.verified_ttl": "500ms", "auth.hash_idle_priority": "false"})
    owner_on(s, "a")
    auths = s.add_devices("a", [(f"d{i}", f"secret {i}", None) for i in range(DEVICES)])
    with Wire(s.http_port) as w:
        def round_of_all():
            for auth in auths:
                w.send(request("POST", TARGET, auth, {"t": 1}))
            return [w.read().status for _ in auths]

        assert set(round_of_all()) == {202}
        cold = s.metrics()
        assert cold["sluice_hashes_run_total"] == DEVICES
        begun = time.monotonic()
        rounds = 0
        while time.monotonic() - begun < 1.2 or rounds < 2:
            assert set(round_of_all()) == {202}
            rounds += 1
        warm = s.metrics()
    assert warm["sluice_hashes_run_total"] == cold["sluice_hashes_run_total"]
    assert warm["sluice_shield_revalidated_total"] > cold["sluice_shield_revalidated_total"]


def test_known_senders_do_not_notice_an_attacker(make_server):
    """Wrong secrets, cycled, on one warm device and on unknown ones: the device is served all along,
    and the attacker gets refusals that cost no hash."""
    s = make_server({"auth.refusal_hold": "0ms"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 6)
    right = device_auth("d", "right")
    assert post(s, right).status_code == 202
    before = s.metric("hashes_run_total")
    seen = set()
    with Wire(s.http_port) as attacker, Wire(s.http_port) as device:
        for i in range(300):
            auth = device_auth("d" if i % 2 else f"nobody-{i}", f"guess {i}")
            seen.add(attacker.ask(request("POST", TARGET, auth, {"t": 1})).status)
            if i % 10 == 0:
                assert device.ask(request("POST", TARGET, right, {"t": 1})).status == 202
    assert seen <= {401, 429, 503} and 429 in seen
    # 10 failures a credential and 100 an address are the default windows.
    assert s.metric("hashes_run_total") - before <= 110
    assert post(s, right).status_code == 202


def test_the_same_wrong_secret_again_costs_nothing(make_server):
    s = make_server({"auth.negative_ttl": "60s"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 4)
    statuses = [post(s, device_auth("d", "wrong")).status_code for _ in range(8)]
    assert set(statuses) == {401}
    assert s.metric("hashes_run_total") == 1
    assert post(s, device_auth("d", "right")).status_code == 202


def test_failure_window_is_honest_and_passes(make_server):
    s = make_server({"auth.failures_credential": "3/2s", "auth.negative_ttl": "0ms"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 4)
    answers = [post(s, device_auth("d", f"wrong {i}")) for i in range(5)]
    assert [r.status_code for r in answers] == [401, 401, 401, 429, 429]
    wait = int(answers[-1].headers["retry-after"])
    assert 1 <= wait <= 3
    time.sleep(wait)
    assert post(s, device_auth("d", "right")).status_code == 202


def guess(server, source, secret):
    """A try for the device d from another address of this machine."""
    with Wire(server.http_port, source=source) as w:
        return w.ask(request("POST", TARGET, device_auth("d", secret), {"t": 1})).status


def test_who_guesses_shuts_out_himself_and_not_the_owner(make_server):
    s = make_server({"auth.failures_credential": "3/60s", "auth.refusal_hold": "0ms"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 4)
    assert [guess(s, "127.0.0.2", f"wrong {i}") for i in range(5)] == [401, 401, 401, 429, 429]
    assert guess(s, "127.0.0.2", "right") == 429
    assert guess(s, "127.0.0.3", "right") == 202


def test_many_addresses_guess_no_more_than_one(make_server):
    # At idle priority a check that gets no CPU for long is computed twice; here each is to be one.
    s = make_server({"auth.failures_credential": "3/60s", "auth.refusal_hold": "0ms",
                     "auth.hash_idle_priority": "false"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "right", 4)
    assert [guess(s, f"127.0.0.{i}", f"wrong {i}") for i in range(2, 8)] == [401, 401, 401, 429, 429, 429]
    # None of them has a second try.
    assert {guess(s, f"127.0.0.{i}", f"wrong again {i}") for i in range(2, 8)} == {429}
    assert s.metric("hashes_run_total") == 3


def test_full_hash_pool_says_try_later(make_server):
    s = make_server({"auth.hash_queue_max": "4", "auth.hash_threads": "1"})
    owner_on(s, "a")
    stored = bcrypt("right", 10)
    auths = s.add_devices("a", [(f"d{i}", "right", stored) for i in range(40)])
    answers = many(s, auths)
    assert {r.status for r in answers} == {202, 503}
    busy = [r for r in answers if r.status == 503]
    for r in busy:
        assert 1 <= int(r["retry-after"]) <= 60 and r.json()["error"]
    assert s.metric("shield_busy_total") == len(busy)

    def all_in():
        return all(r.status == 202 for r in many(s, auths[:1]))

    wait_for("the pool to drain", all_in, 20)


def test_commits_wait_for_each_other_while_hashes_want_the_cores(make_server, tmp_path):
    """Eight senders, each with one message under way: in quiet half of them share a commit; while hashes are
    computed on every core, nearly all."""
    s = make_server({"server.workers": "1"})
    owner_on(s, "a")
    warm = s.add_devices("a", [(f"w{i}", None, None) for i in range(8)])
    cold = s.add_devices("a", [(f"c{i}", "right", bcrypt("right", 12)) for i in range(12 * os.cpu_count())])
    csv = tmp_path / "warm.csv"
    csv.write_text("".join(f"{d['X-Device-Id']},{d['X-Device-Token']}\n" for d in warm))

    def a_commit(seconds):
        """So many messages."""
        before, out = s.metric("journal_commits_total"), tmp_path / "load.json"
        subprocess.run([harness.BIN, "load", s.url + TARGET, "--devices", str(csv), "--connections", "8", "--seconds", str(seconds),
                        "--quiet", "--json", str(out)], check=True, capture_output=True)
        found = json.loads(out.read_text())
        assert set(found["status"]) == {"202"} and found["broken"] == 0
        return found["answered"] / (s.metric("journal_commits_total") - before)

    a_commit(0.5)
    fleet = threading.Thread(target=many, args=(s, cold))
    fleet.start()
    wait_for("the hashes to begin", lambda: s.metric("hash_queue_length") > 4, 5, 0.01)
    hashing = a_commit(1)
    assert s.metric("hash_queue_length") > 0  # all the time
    fleet.join()
    assert hashing > 6.8


# ---- changes ----

@pytest.mark.parametrize("way", ["weak", "strong"])
def test_new_secret_counts_on_the_very_next_request(make_server, way):
    s = make_server({"server.workers": "2", "auth.verified_ttl": "1h",
                     # The old secret fails here more often than a stranger's may.
                     "auth.failures_credential": "1000/60s", "auth.failures_address": "1000/60s"})
    owner_on(s, "a")
    add_bcrypt(s, "a", "d", "s0", 4)
    old = device_auth("d", "s0")
    # Several connections, so that both workers remember the principal on theirs.
    wires = [Wire(s.http_port) for _ in range(8)]
    for i in range(1, 11):
        for w in wires:
            assert w.ask(request("POST", TARGET, old, {"t": 1})).status == 202
        if way == "weak":
            s.cli("device", "secret", "d", "--hash", bcrypt(f"s{i}", 4))
            new = device_auth("d", f"s{i}")
        else:
            new = device_auth("d", s.cli("device", "secret", "d")["secret"])
        for w in wires:
            assert w.ask(request("POST", TARGET, old, {"t": 1})).status == 401
        for w in wires:
            assert w.ask(request("POST", TARGET, new, {"t": 1})).status == 202
        old = new
    for w in wires:
        w.close()


@pytest.mark.parametrize("what", ["device disable", "device remove", "key remove", "account remove"])
def test_revocation_counts_on_the_very_next_request(make_server, what):
    s = make_server({"server.workers": "2", "auth.verified_ttl": "1h"})
    for i in range(5):
        owner = owner_on(s, f"a{i}")
        add_bcrypt(s, owner.name, f"weak{i}", "s", 4)
        auths = {"device": [owner.auth, device_auth(f"weak{i}", "s")], "key": [owner.key_auth],
                 "account": [owner.auth, owner.key_auth]}[what.split()[0]]
        with Wire(s.http_port) as one, Wire(s.http_port) as two:
            for w in (one, two):
                for auth in auths:
                    assert w.ask(request("POST", TARGET, auth, {"t": 1})).status == 202
            targets = {"device": [[owner.device], [f"weak{i}"]], "key": [[owner.name, "main"]],
                       "account": [[owner.name]]}[what.split()[0]]
            for target in targets:
                s.cli(*what.split(), *target)
            for w in (one, two):
                for auth in auths:
                    r = w.ask(request("POST", TARGET, auth, {"t": 1}))
                    assert r.status == 401, (what, auth, r)


def test_failed_attempt_does_not_spoil_the_next_right_one(server, owner, feed):
    add_bcrypt(server, owner.name, feed, "right", 4)
    for _ in range(3):
        assert post(server, device_auth(feed, "wrong")).status_code == 401
        assert post(server, device_auth(feed, "right")).status_code == 202


# ---- how much ----

def throttled(s, limits, device_limits="1000000/1s", name="t"):
    s.add_account(name, limits=limits, device_limits=device_limits)
    return {"X-AIO-Key": s.add_key(name)}


def test_retry_after_obeyed_by_a_lone_sender_succeeds(make_server):
    s = make_server()
    auth = throttled(s, "5/2s")
    refusals = 0
    for _ in range(18):
        r = post(s, auth)
        if r.status_code == 429:
            refusals += 1
            assert r.json()["error"]
            wait = int(r.headers["retry-after"])
            assert 1 <= wait <= 3
            time.sleep(wait)
            r = post(s, auth)
        assert r.status_code == 202
    assert refusals >= 2


def test_the_headers_say_what_holds(make_server):
    s = make_server()
    auth = throttled(s, "10/60s", "1000/60s")
    device = device_auth("d", s.add_device("t", "d"))
    policy = re.compile(r'"account";q=10;w=60')
    r = None
    for i in range(12):
        r = post(s, device)
        if i < 10:
            assert r.status_code == 202
            continue
        assert r.status_code == 429
        assert policy.search(r.headers["ratelimit-policy"])
        assert '"device";q=1000;w=60' in r.headers["ratelimit-policy"]
        found = re.search(r'"account";r=(\d+);t=(\d+)', r.headers["ratelimit"])
        assert int(found[1]) == 0 and 1 <= int(found[2]) <= 60
        assert int(r.headers["retry-after"]) >= int(found[2])
    assert post(s, auth).status_code == 429  # one pool for key and device


def test_no_more_than_n_in_any_window(make_server):
    """The exact rolling window, seen from outside: by the times of the accepted ones."""
    s = make_server()
    auth = throttled(s, "20/1s, accepted")
    sent, accepted = [], []
    begun = time.monotonic()
    with Wire(s.http_port) as w:
        while time.monotonic() - begun < 3.3:
            before = time.monotonic()
            r = w.ask(request("POST", TARGET, auth, {"t": 1}))
            if r.status == 202:
                sent.append(before)
                accepted.append(time.monotonic())
            time.sleep(0.003)
    for k in range(20, len(sent)):
        # From the earliest moment of the k-20th to the latest moment of the k-th: at least a second.
        assert accepted[k] - sent[k - 20] >= 1.0, k
    assert 60 <= len(accepted) <= 80, len(accepted)


def test_attempts_keep_a_hammering_sender_out_and_a_pause_frees(make_server):
    s = make_server()
    auth = throttled(s, "5/1s")
    with Wire(s.http_port) as w:
        begun = time.monotonic()
        statuses = []
        while time.monotonic() - begun < 2.5:
            statuses.append(w.ask(request("POST", TARGET, auth, {"t": 1})).status)
            time.sleep(0.05)
        assert statuses[:5] == [202] * 5 and set(statuses[5:]) == {429}
        time.sleep(1.1)
        assert [w.ask(request("POST", TARGET, auth, {"t": 1})).status for _ in range(5)] == [202] * 5


def test_a_batch_of_n_counts_n(make_server):
    s = make_server()
    auth = throttled(s, "10/60s")
    assert post(s, auth, [{"t": i} for i in range(6)]).status_code == 202
    assert post(s, auth, [{"t": i} for i in range(6)]).status_code == 429
    auth = throttled(s, "10/60s", name="u")
    # More than the window ever holds: waiting would not help, so no Retry-After is promised.
    r = post(s, auth, [{"t": i} for i in range(11)])
    assert r.status_code in (413, 429) and "retry-after" not in r.headers


def test_one_pool_for_all_ways_in(make_server):
    s = make_server()
    auth = throttled(s, "6/60s")
    device = device_auth("d", s.add_device("t", "d"))
    assert requests.post(s.url + "/api/v2/t/feeds", json={"name": "t"}, headers=auth,
                         timeout=10).status_code == 201
    statuses = []
    for i in range(8):
        statuses.append(post(s, device).status_code if i % 2 else
                        post(s, auth, {"value": 1}, "/api/v2/t/feeds/t/data").status_code)
    good = [x for x in statuses if x in (200, 202)]
    assert 5 <= len(good) <= 6 and set(statuses[len(good):]) == {429}


def test_a_device_has_a_window_of_its_own(make_server):
    s = make_server()
    throttled(s, "1000/60s", "3/60s")
    one, two = (device_auth(d, s.add_device("t", d)) for d in ("d1", "d2"))
    assert [post(s, one).status_code for _ in range(5)] == [202] * 3 + [429] * 2
    assert [post(s, two).status_code for _ in range(3)] == [202] * 3


def test_refused_requests_store_nothing(make_server):
    s = make_server()
    auth = throttled(s, "3/60s")
    for i in range(10):
        post(s, auth, {"only": i})
    r = requests.get(s.url + "/v1/telemetry", headers=auth, timeout=10)
    records = s.metric("throttle_refused_total")
    assert records >= 7
    if r.status_code == 200:
        assert r.json()["feeds"]["only"]["value"] == "2"


# ---- fair shares ----

def test_a_runaway_device_harms_nobody_else(make_server):
    """One of twenty sends without a pause; the others keep their share of the account's window without one
    refusal, and the runaway is free within one window of stopping. (Ten minutes at a hundred times the
    share, with a clock of its own: gate/shares_test.c.)"""
    window, count = (10, 200) if FULL else (3, 60)
    s = make_server()
    s.add_account("a", limits=f"{count}/{window}s", device_limits="1000000/1s")
    auths = s.add_devices("a", [(f"d{i}", None, None) for i in range(20)])
    every = window / (count / 20)  # just the fair share
    until = time.monotonic() + window * (60 if FULL else 4)
    outcomes = [collections.Counter() for _ in auths]
    begin = time.monotonic() + 0.2

    def send(i):
        session, at = requests.Session(), begin + i * every / 20
        while at < until:
            time.sleep(max(0, at - time.monotonic()))
            r = session.post(s.url + TARGET, json={"t": 1}, headers=auths[i], timeout=30)
            outcomes[i][r.status_code] += 1
            runs_away = i == 19 and at > begin + window
            at = time.monotonic() if runs_away else max(at, time.monotonic() - every / 10) + every * 1.05

    threads = [threading.Thread(target=send, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    wait_for("a quarantine", lambda: s.cli("quarantine", "list")["quarantined"], 60, 0.2)
    listed = s.cli("quarantine", "list")["quarantined"]
    for t in threads:
        t.join()
    stopped = time.monotonic()
    for i in range(19):
        assert set(outcomes[i]) == {202}, (i, outcomes)
    assert outcomes[19][429] > 5 * outcomes[19][202]
    assert [(q["credential"], q["manual"]) for q in listed] == [("d19", False)]
    assert s.metric("throttle_quarantine_refused_total") > 0 and "throttle.quarantine" in s.log()
    time.sleep(max(0, stopped + window + 0.05 - time.monotonic()))
    assert post(s, auths[19]).status_code == 202
    assert s.cli("quarantine", "list") == {"quarantined": []}


def test_quarantine_by_hand(make_server):
    s = make_server()
    s.add_account("a")
    auths = s.add_devices("a", [("d0", None, None), ("d1", None, None)])
    assert post(s, auths[0]).status_code == 202
    assert s.cli("quarantine", "add", "d0", "--for", "1h")["manual"]
    r = post(s, auths[0])
    assert r.status_code == 429 and 3590 <= int(r.headers["Retry-After"]) <= 3600
    assert "data rate limit reached" in r.json()["error"]
    assert post(s, auths[1]).status_code == 202
    assert s.cli("quarantine", "remove", "d0") == {"removed": "d0"}
    assert post(s, auths[0]).status_code == 202
    assert s.cli_run("quarantine", "add", "nobody").returncode != 0
    assert s.stop() == 0
    said = s.cli_run("quarantine", "list")
    assert said.returncode != 0 and "none runs here" in said.stderr


# ---- a restart ----

def hashes(server):
    return server.metric("hashes_run_total")


def storm(server, auths):
    """Each device sends once, a thousand at a time: {status: how many}."""
    statuses = [r.status for i in range(0, len(auths), 1000) for r in many(server, auths[i:i + 1000])]
    return dict(collections.Counter(statuses))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_hashes_nothing_again(make_server, tmp_path, how):
    """A snapshot of what was verified: 0 password hashes after a restart (30,000 devices with SLUICE_FULL=1)."""
    count = 30000 if FULL else 300
    key = tmp_path / "snapshot.key"
    key.write_bytes(os.urandom(32))
    server = make_server({"auth.snapshot_key_file": str(key), "auth.snapshot_interval": "200ms",
                          "auth.failures_address": "1000000/60s",
                          # Each hashed once at first, however busy the machine is.
                          "auth.hash_wait": "60s", "auth.hash_target": "0ms", "auth.hash_idle_priority": "false"})
    server.add_account("a")
    stored = bcrypt("right secret", 4)
    auths = server.add_devices("a", [(f"old-{i}", "right secret", stored) for i in range(count)])
    assert storm(server, auths) == {202: count}
    assert hashes(server) == count
    if how == "stop":
        assert server.stop() == 0
    else:
        wait_for("a snapshot", lambda: server.metric("shield_saved") == count)
        server.kill()
    server.start()
    assert server.metric("shield_restored") == count
    assert storm(server, auths) == {202: count}
    assert hashes(server) == 0
    # A secret that was changed while the snapshot was on disk is not revived, nor is a device.
    assert server.stop() == 0
    server.cli("device", "secret", "old-0", "--secret", "another secret")
    server.cli("device", "disable", "old-1")
    server.start()
    assert [requests.post(server.url + "/v1/telemetry", json={"n": 1}, headers=h).status_code
            for h in auths[:3]] == [401, 401, 202]
    assert b"right secret" not in (server.data / "verified.snap").read_bytes()


def test_generated_secrets_are_never_hashed(make_server):
    """Neither at first nor after a restart, without any snapshot (30,000 devices with SLUICE_FULL=1)."""
    count = 30000 if FULL else 300
    server = make_server()
    server.add_account("a")
    auths = server.add_devices("a", [(f"new-{i}", None, None) for i in range(count)])
    assert storm(server, auths) == {202: count} and hashes(server) == 0
    server.kill()
    server.start()
    assert server.metric("shield_restored") == 0
    assert storm(server, auths) == {202: count}
    assert hashes(server) == 0 and server.metric("hashes_decoy_total") == 0


def test_a_snapshot_that_cannot_be_used_is_a_cold_start(make_server, tmp_path):
    key = tmp_path / "snapshot.key"
    key.write_bytes(os.urandom(32))
    server = make_server({"auth.snapshot_key_file": str(key)})
    server.add_account("a")
    stored = bcrypt("right secret", 4)
    auths = server.add_devices("a", [("old", "right secret", stored)])
    assert storm(server, auths) == {202: 1}
    assert server.stop() == 0
    key.write_bytes(os.urandom(32))
    server.start()
    assert "verified.not_restored" in server.log() and "another key" in server.log()
    assert storm(server, auths) == {202: 1} and hashes(server) == 1
    assert server.stop() == 0
    key.write_bytes(b"too short")
    server.spawn()
    assert server.process.wait(20) != 0 and "32 random bytes" in server.log()
    server.process = None
