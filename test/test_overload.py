# SPDX-License-Identifier: Apache-2.0
"""A disk that cannot follow: reading stops before anything is refused, and then the ladder of
gate/overload.h, level by level. The disk is journal.disk=slow: as slow and as full as we say."""
import http.client
import json
import threading
import time
from types import SimpleNamespace

import pytest
import requests

from conftest import owner_on
from harness import device_auth, wait_for
from test_gate import add_bcrypt
from wire import Wire, request

pytestmark = pytest.mark.alone

URL = "/v1/telemetry"
LIMIT = 20  # messages that may wait; the pressure is their number / LIMIT


class Disk:
    def __init__(self, server):
        self.dir = server.data / "journal"

    def slow(self, ms):
        self.put("slow_ms", ms)

    def fill(self, percent):
        self.put("fill_percent", percent)

    def put(self, name, number):
        (self.dir / (name + ".new")).write_text(str(number))
        (self.dir / (name + ".new")).rename(self.dir / name)


@pytest.fixture
def slow_server(make_server):
    def make(settings=None):
        server = make_server({"journal.disk": "slow", "server.workers": 1, "ack.timeout": "60s",
                              "overload.waiting_min": LIMIT, "overload.waiting_max": LIMIT,
                              **(settings or {})})
        server.disk = Disk(server)
        return server
    return make


class Senders:
    """`count` senders, each with one message waiting for the disk, all the time."""

    def __init__(self, server, owner, count, feed="load"):
        self.stop, self.answers = threading.Event(), []
        self.threads = [threading.Thread(target=self.run, args=(server, owner, feed), daemon=True)
                        for _ in range(count)]
        for t in self.threads:
            t.start()

    def run(self, server, owner, feed):
        with requests.Session() as s:
            while not self.stop.is_set():
                r = s.post(server.url + URL, json={feed: 1}, headers=owner.auth, timeout=90)
                self.answers.append(r.status_code)

    def end(self, server):
        self.stop.set()
        server.disk.slow(0)
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()
        assert set(self.answers) == {202}


def level(server):
    return server.metric("overload_level")


def wait_level(server, wanted):
    wait_for(f"level {wanted}", lambda: level(server) == wanted, timeout=20)


def ask(server, owner, method="GET", path=None, source="127.0.0.1", headers=None, body=None):
    """One request from that address."""
    c = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60,
                                   source_address=(source, 0))
    try:
        c.request(method, path, body=None if body is None else json.dumps(body),
                  headers={"Content-Type": "application/json", **(headers or owner.key_auth)})
        r = c.getresponse()
        text = r.read()
        r.fields = {k.lower(): v for k, v in r.getheaders()}
        r.text = text.decode()
        return r
    finally:
        c.close()


def feeds(owner):
    return f"/api/v2/{owner.name}/feeds"


def last(owner, feed="load"):
    return f"/api/v2/{owner.name}/feeds/{feed}/data/last"


def load(server, owner, level_wanted, count, ms=700):
    """Senders that hold the server at that level."""
    assert requests.post(server.url + URL, json={"load": 0}, headers=owner.auth).status_code == 202
    assert level(server) == 0
    server.disk.slow(ms)
    senders = Senders(server, owner, count)
    wait_level(server, level_wanted)
    return senders


# ---- back-pressure ----

def test_reading_stops_before_anything_is_refused(slow_server):
    """20 MB for a journal that may have 5 MiB in hand: senders wait, and every message is taken."""
    server = slow_server({"journal.pending_max": 5242880, "overload.enabled": "false"})
    owner = owner_on(server, "a")
    body = json.dumps([{"f": "x" * 1000}] * 500)
    assert requests.post(server.url + URL, data=body, headers=owner.auth).status_code == 202
    answers = []

    def send():
        r = requests.post(server.url + URL, data=body, headers=owner.auth, timeout=90)
        answers.append(r.status_code)

    threads = [threading.Thread(target=send) for _ in range(40)]
    server.disk.slow(2500)
    for t in threads:
        t.start()
    wait_for("reading to stop", lambda: server.metric("workers_holding") == 1, timeout=20)
    held_at = server.metric("bytes_received_total")  # others may be half read
    assert held_at < 40 * len(body)
    assert not answers or set(answers) == {202}
    assert server.operator("/healthz")
    server.disk.slow(0)
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    assert answers == [202] * 40
    assert server.metric("reading_held_total") >= 1
    wait_for("reading to go on", lambda: server.metric("workers_holding") == 0)
    assert server.metric("journal_refused_total") == 0
    assert server.metric("overload_level") == 0  # that is apart from the ladder


def test_a_connection_that_is_closed_while_held(slow_server):
    server = slow_server({"journal.pending_max": 5242880})
    owner = owner_on(server, "a")
    body = json.dumps([{"f": "x" * 1000}] * 500)
    assert requests.post(server.url + URL, data=body, headers=owner.auth).status_code == 202
    server.disk.slow(2000)

    def send():
        try:
            requests.post(server.url + URL, data=body, headers=owner.auth, timeout=1.0)
        except requests.RequestException:
            pass

    threads = [threading.Thread(target=send) for _ in range(30)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    server.disk.slow(0)
    wait_for("reading to go on", lambda: server.metric("workers_holding") == 0, timeout=20)
    wait_for("no connections", lambda: server.metric("connections_open") <= 1, timeout=20)
    assert requests.post(server.url + URL, json={"f": 1}, headers=owner.auth).status_code == 202


def test_nobody_is_late_while_held(slow_server):
    """What we do not read is not late: neither the rest of a head nor that of a body."""
    server = slow_server({"journal.pending_max": 5242880, "http.head_timeout": "300ms"})
    owner = owner_on(server, "a")
    body = json.dumps([{"f": "x" * 1000}] * 500)
    assert requests.post(server.url + URL, data=body, headers=owner.auth).status_code == 202
    small = request("POST", URL, owner.auth, {"f": 1})
    server.disk.slow(2500)
    threads = [threading.Thread(target=requests.post, args=(server.url + URL,), daemon=True,
                                kwargs={"data": body, "headers": owner.auth, "timeout": 90})
               for _ in range(30)]
    for t in threads:
        t.start()
    wait_for("reading to stop", lambda: server.metric("workers_holding") == 1, timeout=20)
    with Wire(server.http_port, timeout=60) as w:
        w.send(small[:20])
        time.sleep(0.9)
        late = server.metric("connections_timed_out_total")
        server.disk.slow(0)
        w.send(small[20:])
        assert w.read().status == 202
    assert late == 0
    for t in threads:
        t.join(60)


# ---- the ladder ----

def test_l1_refusals_are_brief(slow_server):
    server = slow_server()
    server.add_account("poor", limits="1/600s")
    poor = SimpleNamespace(name="poor", key_auth={"X-AIO-Key": server.add_key("poor")})

    def try_one():
        return ask(server, poor, "POST", URL, body={"f": 1})

    assert try_one().status == 202
    r = try_one()
    assert r.status == 429 and "ratelimit" in r.fields and "ratelimit-policy" in r.fields
    owner = owner_on(server, "a")
    senders = load(server, owner, 1, LIMIT // 2 + 2)
    assert server.metric("overload_trim") == 1 and server.metric("overload_stale_reads") == 0
    r = try_one()
    assert r.status == 429 and "retry-after" in r.fields and "seconds until" in r.text
    assert "ratelimit" not in r.fields
    assert ask(server, owner, path=last(owner)).status == 200
    senders.end(server)
    wait_level(server, 0)
    assert "ratelimit" in try_one().fields


def test_l2_reads_do_not_wait_for_views(slow_server):
    server = slow_server()
    owner = owner_on(server, "a")
    senders = load(server, owner, 2, LIMIT * 7 // 10 + 1)
    assert server.metric("overload_stale_reads") == 1
    server.disk.slow(5)  # the level lasts a second; commits come thick and fast meanwhile
    stale = None
    for _ in range(3000):
        r = ask(server, owner, path=last(owner))
        assert r.status == 200
        if "x-sluice-stale" in r.fields:
            stale = r
            break
        if level(server) < 2:
            server.disk.slow(700)
            wait_level(server, 2)
            server.disk.slow(5)
    assert stale is not None and int(stale.fields["x-sluice-stale"]) >= 0
    assert server.metric("overload_reads_stale_total") >= 1
    senders.end(server)
    wait_level(server, 0)
    for i in range(50):  # and after it one reads what one wrote
        requests.post(server.url + URL, json={"load": i}, headers=owner.auth)
        r = ask(server, owner, path=last(owner))
        assert json.loads(r.text)["value"] == str(i) and "x-sluice-stale" not in r.fields


def cold_device(server, name):
    """A bcrypt device that has not been seen yet."""
    add_bcrypt(server, "a", name, "secret of " + name, 4)
    return device_auth(name, "secret of " + name)


def test_l3_no_hash_for_unknown_addresses(slow_server):
    server = slow_server()
    owner = owner_on(server, "a")
    early, late, good = (cold_device(server, n) for n in ("early", "late", "good"))
    assert ask(server, owner, "POST", URL, headers=early, body={"f": 1}).status == 202
    senders = load(server, owner, 3, LIMIT * 85 // 100 + 1)
    assert server.metric("overload_no_first_logins") == 1
    hashes = server.metric("hashes_run_total")
    r = ask(server, owner, "POST", URL, source="127.0.0.9", headers=late, body={"f": 1})
    assert r.status == 503 and int(r.fields["retry-after"]) >= 1
    assert server.metric("hashes_run_total") == hashes
    assert server.metric("overload_logins_shed_total") == 1
    # Known addresses may, and known devices may from anywhere.
    assert ask(server, owner, "POST", URL, headers=good, body={"f": 1}).status == 202
    assert ask(server, owner, "POST", URL, source="127.0.0.9", headers=early,
               body={"f": 1}).status == 202
    assert ask(server, owner, path=feeds(owner)).status == 200
    senders.end(server)
    wait_level(server, 0)
    assert ask(server, owner, "POST", URL, source="127.0.0.9", headers=late,
               body={"f": 1}).status == 202


def test_l4_accepts_and_appends_only(slow_server):
    server = slow_server()
    owner = owner_on(server, "a")
    cold = cold_device(server, "cold")
    assert requests.post(server.url + URL + "?ack=applied", json={"still": 1}, headers=owner.auth).status_code == 202
    r = ask(server, owner, path=last(owner, "still"))
    tag = r.fields["etag"]
    senders = load(server, owner, 4, LIMIT + 5)
    assert server.metric("overload_append_only") == 1
    # Who has the answer already is told so; nobody is made a new one.
    for path, sent, status in [(last(owner, "still"), tag, 304), (last(owner, "still"), '"another"', 503),
                               (last(owner), tag, 503), (f"{feeds(owner)}/still/data/next", tag, 503)]:
        r = ask(server, owner, path=path, headers={**owner.key_auth, "If-None-Match": sent})
        assert r.status == status and ("retry-after" in r.fields) == (status == 503), (path, r.text)
        assert r.fields.get("etag") == (tag if status == 304 else None)
    assert server.metric("overload_reads_unchanged_total") == 1
    assert server.metric("overload_reads_shed_total") == 3
    for method, path, body in [("GET", last(owner), None), ("GET", feeds(owner), None),
                               ("POST", feeds(owner), {"name": "new"}),
                               ("DELETE", feeds(owner) + "/load", None)]:
        r = ask(server, owner, method, path, body=body)
        assert r.status == 503 and 1 <= int(r.fields["retry-after"]) <= 5, (method, path, r.text)
    assert ask(server, owner, "POST", URL, headers=cold, body={"f": 1}).status == 503
    assert ask(server, owner, "POST", URL, body={"load": 1}).status == 202
    assert server.operator("/healthz")
    status = json.loads(server.operator("/v1/status"))["overload"]
    assert status["level"] == 4 and status["waiting"] > 0 and status["limit"] == LIMIT
    assert server.metric("overload_reads_shed_total") == 7
    senders.end(server)
    wait_level(server, 0)
    assert ask(server, owner, path=last(owner)).status == 200
    assert "overload.level level=4 was=3" in server.log()
    assert "overload.level level=0 was=1" in server.log()


def test_l5_sheds_the_same_accounts(slow_server):
    server = slow_server()
    owners = [owner_on(server, f"a{i}") for i in range(16)]

    def publish():
        return [ask(server, o, "POST", URL, body={"f": 1}).status for o in owners]

    assert publish() == [202] * 16
    server.disk.fill(93)
    wait_level(server, 5)
    assert publish() == [202] * 16  # first reads and logins go
    assert ask(server, owners[0], path=last(owners[0], "f")).status == 503
    server.disk.fill(94)
    wait_for("cohorts", lambda: server.metric("overload_cohorts_shed") > 0)
    first = publish()
    assert 0 < first.count(503) < 16 and first.count(202) > 0
    for _ in range(5):
        assert publish() == first
    assert server.metric("overload_publishes_shed_total") == 6 * first.count(503)
    server.disk.fill(91)  # not yet: 2 % below
    wait_for("no cohorts", lambda: server.metric("overload_cohorts_shed") == 0)
    assert publish() == [202] * 16
    assert level(server) == 5
    server.disk.fill(50)
    wait_level(server, 0)
    assert ask(server, owners[0], path=last(owners[0], "f")).status == 200


def test_disk_alerts(slow_server):
    server = slow_server()
    owner = owner_on(server, "a")
    wait_for("the first look", lambda: server.metric("disk_fill_percent") > 0)
    for percent, alert in [(79, 0), (80, 80), (79, 80), (77, 0), (91, 90), (89, 90), (85, 80)]:
        server.disk.fill(percent)
        wait_for(f"{percent} %", lambda: server.metric("disk_fill_percent") == percent)
        assert server.metric("disk_fill_alert") == alert, percent
    lines = [line for line in server.log().splitlines() if "journal.disk_fills " in line]
    assert len(lines) == 2 and "above=80" in lines[0] and "above=90" in lines[1]
    server.disk.fill(96)
    # A moment later the overload control has seen it too, and sheds this account before the journal is asked.
    wait_for("refusal", lambda: ask(server, owner, "POST", URL, body={"f": 1}).status in (503, 507), 60)
    assert "journal.disk_full " in server.log()


def test_it_can_be_turned_off(slow_server):
    server = slow_server({"overload.enabled": "false"})
    owner = owner_on(server, "a")
    requests.post(server.url + URL, json={"load": 0}, headers=owner.auth)
    server.disk.slow(300)
    server.disk.fill(94)
    senders = Senders(server, owner, LIMIT * 2)
    wait_for("load", lambda: len(senders.answers) > LIMIT * 4)
    assert level(server) == 0
    assert ask(server, owner, path=last(owner)).status == 200
    senders.end(server)
