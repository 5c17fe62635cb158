# SPDX-License-Identifier: Apache-2.0
"""Consumer groups: every message is handed out until it is acknowledged, those of a feed in their order, whatever
crashes; and nobody who sends notices."""
import base64
import hashlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import requests

from conftest import owner_on
from consumers import Group, Worker, filler, run_schedules, send
from harness import BIN, ROOT, device_auth, wait_for
from mqtt_wire import PUBACK, Mqtt

TOPIC = "plant/line/7"


@pytest.fixture
def ann(server, request):
    return owner_on(server, re.sub(r"\W|_", "-", request.node.name)[:50].rstrip("-"))


# ---- one consumer ----


def test_handed_out_until_acknowledged(server, ann):
    g = Group(server, ann.key_auth)
    send(server, ann.auth, {"a": "before"})
    assert g.fetch() == [] and g.fetch(max=10, wait=0) == []  # the group begins when it is made
    first = send(server, ann.auth, {"a": 1, "b": {"value": "x\ty", "lat": 1.5, "lon": -2, "ele": 3}}, {"a": "21.50"})
    r = g.fetch_raw(max=10)
    assert r.headers["Cache-Control"] == "no-store" and "X-Sluice-Gap" not in r.headers
    got = r.json()["messages"]
    assert [(m["feed"], m["value"], m["offset"], m["delivery"], m["kind"]) for m in got] == [
        ("a", "1", first, 1, "datum"), ("b", "x\ty", first + 1, 1, "datum"), ("a", "21.50", first + 2, 1, "datum")]
    assert (got[1]["lat"], got[1]["lon"], got[1]["ele"]) == (1.5, -2, 3) and "lat" not in got[0]
    assert got[0]["device"] == ann.device and abs(got[0]["receive_us"] / 1e6 - time.time()) < 60
    datum = requests.get(f"{ann.url}/feeds/a/data/{got[0]['id']}", headers=ann.key_auth, timeout=20)
    assert datum.json()["value"] == "1" and datum.json()["created_at"] == got[0]["created_at"]
    assert g.fetch(max=10) == []  # somebody has them
    assert g.ack(got[1:]) == {"stale": [], "count": 2}
    assert g.status()["position"] == first and g.status()["leased"] == 1
    assert g.ack(got) == {"stale": [], "count": 3}  # told twice is told
    assert g.drained() and g.status()["position"] > first + 2
    # Another group has its own; so has another account of the same group name.
    other = Group(server, ann.key_auth, "other")
    assert other.values(max=10, **{"from": "oldest"}) == ["before", "1", "x\ty", "21.50"]
    bob = owner_on(server, "bob-" + ann.name[:20])
    assert Group(server, bob.key_auth).fetch(max=10, **{"from": "oldest"}) == []


def test_what_is_refused(server, ann):
    g = Group(server, ann.key_auth)
    assert g.fetch(feeds="a, b*") == []
    for query in ({"max": 0}, {"max": 1001}, {"max": "1.5"}, {"wait": 61}, {"wait": ""}, {"lease": 0}, {"from": "then"},
                  {"feeds": ""}, {"feeds": "a,,b"}, {"feeds": "a*b"}, {"feeds": "x" * 2000}, {"feeds": "a/b"}):
        assert g.fetch_raw(**query).status_code == 400, query
    assert g.fetch_raw(feeds="a").status_code == 400 and g.fetch_raw(feeds="a,b*").status_code == 200
    for name in ("-a", "a b", "x" * 65, "a%2Fb", "%C3%A9"):
        assert Group(server, ann.key_auth, name).fetch_raw().status_code in (400, 404), name
    for body in ("", "[]", "{}", '{"tokens":"1-1"}', '{"tokens":[]}', '{"tokens":["1"]}', '{"tokens":[1]}', '{"tokens":["1-g"]}',
                 '{"tokens":["1-1"],"tokens":["1-1"]}', '{"tokens":["1-1"],"delay":1}', '{"tokens":["-1"]}',
                 '{"tokens":["1-11111111111111111"]}', json.dumps({"tokens": ["1-1"] * 1001})):
        r = requests.post(g.url + "/ack", data=body, headers=ann.key_auth, timeout=20)
        assert r.status_code == 422, (body[:50], r.text)
    assert requests.post(g.url + "/nack", json={"tokens": ["1-1"], "delay": 3601}, headers=ann.key_auth,
                         timeout=20).status_code == 422
    for token in ("1-1", f"{2**63}-1", "9999999999999999999-ffffffffffffffff"):
        told = {"stale": [], "count": 1} if token == "1-1" else {"stale": [token], "count": 0}
        assert g.tell("ack", [token]) == told  # below the group's place all is done
        assert g.tell("nack", [token])["stale"] == g.tell("extend", [token])["stale"] == [token]
    head = requests.head(g.url, headers=ann.key_auth, timeout=20)
    assert head.status_code == 405 and head.headers["Allow"] == "GET"
    for what in ("ack", "nack", "extend"):
        r = requests.post(f"{server.url}/v1/consume/none/{what}", json={"tokens": ["1-1"]}, headers=ann.key_auth, timeout=20)
        assert r.status_code == 404
    assert requests.delete(g.url, headers=ann.key_auth, timeout=20).status_code == 204
    assert requests.delete(g.url, headers=ann.key_auth, timeout=20).status_code == 404 and g.status() is None


def test_a_lease_ends_and_is_extended(server, ann):
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"a": 1}, {"b": 2})
    lost, kept = g.fetch(max=2, lease=1)
    assert g.tell("extend", [kept["token"]], lease=30) == {"stale": [], "count": 1}
    begun = time.monotonic()
    again, = g.fetch(max=2, wait=10)
    assert 0.5 < time.monotonic() - begun < 5
    assert (again["offset"], again["delivery"]) == (lost["offset"], 2) and again["token"] != lost["token"]
    assert g.ack([lost]) == {"stale": [lost["token"]], "count": 0}  # it is another's now
    assert g.ack([again, kept])["count"] == 2
    # Too late, but nobody has it yet: it counts.
    send(server, ann.auth, {"a": 3})
    late = g.fetch(lease=1)
    wait_for("the lease's end", lambda: g.status()["leased"] == 0)
    assert g.ack(late) == {"stale": [], "count": 1} and g.drained()


def test_given_back_with_delay_and_in_order(server, ann):
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"a": 1}, {"a": 2}, {"b": 3})
    got = g.fetch(max=3)
    assert [m["value"] for m in got] == ["1", "2", "3"]
    begun = time.monotonic()
    assert g.nack(got[:1], delay=1.5)["count"] == 1  # and "2" with it, which is behind it
    assert g.nack(got[1:2])["count"] == 0
    assert g.fetch(max=9) == []
    again = g.fetch(max=9, wait=10)
    assert time.monotonic() - begun > 1.2
    assert [(m["value"], m["delivery"]) for m in again] == [("1", 2), ("2", 1)]
    g.ack(again + got[2:])
    assert g.drained()


def test_poison_does_not_hold_other_feeds_up(server, ann):
    """What fails each time comes each time with a greater count, at its feed's head; the rest goes on."""
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"bad": 0}, *[{"good": i} for i in range(50)], {"bad": 1})
    good, counts = [], []
    for _ in range(60):
        for m in g.fetch(max=7):
            if m["feed"] == "bad":
                if m["value"] == "0":
                    counts.append(m["delivery"])
                    g.nack([m])
                else:
                    assert g.nack([m])["count"] == 0  # it went back with the one before it
            else:
                good.append(m["value"])
                g.ack([m])
    assert good == [str(i) for i in range(50)] and counts == list(range(1, 61))


# ---- waiting ----


def test_a_fetch_wakes_when_a_message_is_durable(server, ann):
    g, took = Group(server, ann.key_auth), []
    g.fetch()
    for i in range(20):
        got = {}
        t = threading.Thread(target=lambda: got.update(messages=g.fetch(wait=30), at=time.monotonic()))
        t.start()
        wait_for("the fetch", lambda: (g.status() or {}).get("waiting") == 1)
        begun = time.monotonic()
        offset = send(server, ann.auth, {"a": i})
        t.join(20)
        took.append(got["at"] - begun)
        assert got["messages"][0]["offset"] == offset
        g.ack(got["messages"])
    assert statistics.median(took) < 0.1, took
    begun = time.monotonic()
    assert g.fetch(wait=1) == [] and 0.9 < time.monotonic() - begun < 5


def test_who_left_has_nothing(server, ann):
    """A client that closed its connection while it waited: what came goes to the next one, at once and for the first
    time."""
    g = Group(server, ann.key_auth)
    g.fetch()
    for how in ("close", "reset"):
        s = socket.create_connection(("127.0.0.1", server.http_port))
        s.sendall(f"GET /v1/consume/g?wait=30&lease=600 HTTP/1.1\r\nHost: x\r\nX-AIO-Key: {ann.key}\r\n\r\n".encode())
        wait_for("the fetch", lambda: g.status()["waiting"] == 1)
        if how == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
        time.sleep(0.2)
        send(server, ann.auth, {"a": how})
        got = g.fetch(wait=10)
        assert [(m["value"], m["delivery"]) for m in got] == [(how, 1)]
        g.ack(got)


def test_other_requests_go_on_while_one_waits(server, ann):
    """On one connection too: it is read on, and the answers come in the order of the requests."""
    g = Group(server, ann.key_auth)
    g.fetch()
    s = socket.create_connection(("127.0.0.1", server.http_port), timeout=20)
    key = f"Host: x\r\nX-AIO-Key: {ann.key}\r\n"
    body = '{"a":5}'
    s.sendall(f"GET /v1/consume/g?wait=30 HTTP/1.1\r\n{key}\r\n".encode())
    wait_for("the fetch", lambda: g.status()["waiting"] == 1)
    s.sendall(f"POST /v1/telemetry HTTP/1.1\r\n{key}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    answer = b""
    while b" 202 " not in answer:
        more = s.recv(65536)
        assert more
        answer += more
    assert answer.index(b'"value":"5"') < answer.index(b" 202 ")
    s.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_who_waits(make_server, number):
    server = make_server({"server.stop_deadline": "20s"})
    ann = owner_on(server, "ann")
    answers, threads = [], []
    for i in range(10):
        g = Group(server, ann.key_auth, f"g{i % 3}")
        threads.append(threading.Thread(target=lambda g=g: answers.append(g.fetch_raw(wait=60))))
        threads[-1].start()
    g = Group(server, ann.key_auth)
    wait_for("the fetches", lambda: sum(s["waiting"] for s in requests.get(
        server.url + "/v1/consume", headers=ann.key_auth, timeout=20).json()) == 10)
    begun = time.monotonic()
    os.kill(server.pid, number)
    assert server.process.wait(20) == 0
    assert time.monotonic() - begun < 5
    for t in threads:
        t.join(10)
    assert [(r.status_code, r.json()) for r in answers] == [(200, {"messages": []})] * 10


# ---- several consumers, and crashes ----


@pytest.mark.parametrize("disk", ["posix", "lossy"])
def test_nothing_is_lost_by_any_schedule_and_feeds_keep_their_order(make_server, disk):
    run_schedules(make_server, disk, [Worker] * 4, "consumer group")


def test_what_was_acknowledged_stays_so(make_server):
    """Over power cuts; and a token from before a restart still counts, while nobody else was given the message."""
    server = make_server({"journal.disk": "lossy"})
    ann = owner_on(server, "ann")
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, *[{f"f{i}": i} for i in range(8)])
    got = g.fetch(max=8)
    assert g.ack(got[2:5])["count"] == 3
    server.kill()
    server.start()
    g = Group(server, ann.key_auth)
    assert g.ack([got[0], got[5]])["count"] == 2  # nothing was fetched since
    again = g.fetch(max=8)
    assert [m["value"] for m in again] == ["1", "6", "7"] and {m["delivery"] for m in again} == {1}
    assert g.ack([got[6]]) == {"stale": [got[6]["token"]], "count": 0}
    server.kill()
    server.start()
    g = Group(server, ann.key_auth)
    assert g.values(max=8) == ["1", "6", "7"]
    server.stop()
    server.start()
    g = Group(server, ann.key_auth)
    g.ack(g.fetch(max=8))
    assert g.drained() and g.status()["lag"] < 3


def test_a_group_that_was_answered_misses_nothing(make_server):
    server = make_server({"journal.disk": "lossy"})
    ann = owner_on(server, "ann")
    assert Group(server, ann.key_auth).fetch() == []
    send(server, ann.auth, {"a": 1})
    server.kill()
    server.start()
    assert Group(server, ann.key_auth).values(max=9) == ["1"]


# ---- who may ----


def test_only_what_the_credential_may_read(server, ann):
    bound = device_auth("bound-1", server.add_device(ann.name, "bound-1", "--feeds", "a,x.*", "--role", "owner"))
    own, whole = Group(server, bound, "own"), Group(server, ann.key_auth, "whole")
    assert own.fetch() == [] and whole.fetch() == []
    assert own.status()["feeds"] == "a,x.*"
    send(server, ann.auth, {"a": 1, "b": 2, "x.y": 3})
    assert own.values(max=9) == ["1", "3"] and whole.values(max=9) == ["1", "2", "3"]
    # Groups that hand out more are not for it, whatever it asks; nor does it see them.
    theirs = Group(server, bound, "whole")
    assert theirs.fetch_raw().status_code == 403 and theirs.status() is None
    for what in ("ack", "nack", "extend"):
        assert requests.post(f"{theirs.url}/{what}", json={"tokens": ["1-1"]}, headers=bound, timeout=20).status_code == 404
    assert requests.delete(theirs.url, headers=bound, timeout=20).status_code == 404
    for feeds, status in (("b", 403), ("a*", 403), ("*", 403), ("a,x*", 403), ("a,x.y", 200), ("x.z*", 200), ("x.*", 200)):
        r = Group(server, bound, "new-" + str(abs(hash(feeds)))).fetch_raw(feeds=feeds)
        assert r.status_code == status, (feeds, r.text)
    # Nor who may only read, or only consume.
    for role, permissions in (("watcher", "data_read,feed_read"), ("blind", "consume")):
        server.cli("role", "add", role, permissions)
        key = {"X-AIO-Key": server.cli("key", "add", ann.name, role, "--role", role)["key"]}
        assert Group(server, key, "own").fetch_raw().status_code == 403
    assert Group(server, {}, "own").fetch_raw().status_code == 401


def test_who_is_revoked_while_waiting_gets_nothing(server, ann):
    key = {"X-AIO-Key": server.cli("key", "add", ann.name, "worker")["key"]}
    g, answers = Group(server, ann.key_auth), []
    g.fetch()
    t = threading.Thread(target=lambda: answers.append(Group(server, key).fetch_raw(wait=20)))
    t.start()
    wait_for("the fetch", lambda: g.status()["waiting"] == 1)
    server.cli("key", "remove", ann.name, "worker")
    send(server, ann.auth, {"a": "secret"})
    t.join(30)
    assert answers[0].status_code == 401 and "secret" not in answers[0].text
    got = g.fetch(wait=5)
    assert [(m["value"], m["delivery"]) for m in got] == [("secret", 1)]


def test_a_fetch_counts_against_the_limits(server):
    server.add_account("slow", limits="3/60s", device_limits="")
    g = Group(server, {"X-AIO-Key": server.add_key("slow")})
    assert [g.fetch_raw().status_code for _ in range(4)] == [200, 200, 200, 429]


def test_topics_that_are_no_feeds(server, ann):
    server.cli("account", "change", ann.name, "--topics", "any")
    g, feeds_only = Group(server, ann.key_auth), Group(server, ann.key_auth, "feeds-only")
    g.fetch(), feeds_only.fetch(feeds="*")
    c = Mqtt(server.mqtt_port)
    c.login(ann.name, ann.key)
    for i, payload in enumerate((b"text", b"\x00\xff\x01", b"")):
        c.publish(TOPIC, payload, 1, mid=i + 1)
        c.expect(PUBACK)
    send(server, ann.auth, {"a": 1})
    got = g.fetch(max=9)
    assert [(m["kind"], m.get("topic", m.get("feed"))) for m in got] == [("publish", TOPIC)] * 3 + [("datum", "a")]
    assert got[0]["value"] == "text" and base64.b64decode(got[1]["value_base64"]) == b"\x00\xff\x01" and got[2]["value"] == ""
    assert [m["feed"] for m in feeds_only.fetch(max=9)] == ["a"]
    # A role that may not subscribe to all topics gets none.
    server.cli("role", "add", "narrow", "data_read,consume", "--subscribe", "plant/#")
    narrow = {"X-AIO-Key": server.cli("key", "add", ann.name, "narrow", "--role", "narrow")["key"]}
    assert Group(server, narrow).fetch_raw().status_code == 403
    assert Group(server, narrow, "feeds-only").fetch_raw().status_code == 200


# ---- what a group costs others ----


def test_a_group_holds_the_journal_up_to_a_maximum(make_server):
    server = make_server({"journal.segment_size": "1MiB", "journal.retain_size": "1MiB", "consume.hold_size": "8MiB",
                          "journal.ring_size": "1MiB"})
    ann = owner_on(server, "ann")
    segments = lambda: json.loads(server.operator("/v1/status"))["journal"]["segments"]

    def fill_and_start_anew(mebibytes):
        """The views need nothing of the journal then; nor has the group anything in memory."""
        filler(server, ann.auth, mebibytes)
        server.stop()
        server.start()
        filler(server, ann.auth, 2)  # the keeper looks
        return Group(server, ann.key_auth)

    Group(server, ann.key_auth).fetch(feeds="a,b")
    send(server, ann.auth, {"a": "first"})
    g = fill_and_start_anew(4)
    time.sleep(1)
    assert segments() >= 6
    r = g.fetch_raw()
    assert [m["value"] for m in r.json()["messages"]] == ["first"] and "X-Sluice-Gap" not in r.headers
    g.ack(r.json()["messages"])
    second = send(server, ann.auth, {"a": "second"})
    g = fill_and_start_anew(16)
    wait_for("retention", lambda: segments() <= 12, 20)
    send(server, ann.auth, {"b": "third"})
    r = g.fetch_raw(max=9, wait=5)
    assert [m["value"] for m in r.json()["messages"]] == ["third"]
    first, last = map(int, r.headers["X-Sluice-Gap"].split("-"))
    assert first <= second < last and g.status()["missed"] == last - first + 1
    assert server.metric("consume_missed_total") == last - first + 1
    assert "X-Sluice-Gap" not in g.fetch_raw(max=9).headers  # told once
    g.ack(r.json()["messages"])
    g = fill_and_start_anew(1)
    assert g.fetch() == []
    wait_for("retention", lambda: segments() <= 4, 20)  # nothing is held that nobody needs


def test_groups_are_few_and_go_with_their_account(make_server):
    server = make_server({"consume.groups_per_account_max": "2", "consume.groups_max": "3", "consume.idle_time": "3s"})
    ann, bob = owner_on(server, "ann"), owner_on(server, "bob")
    fetch = lambda who, name: Group(server, who.key_auth, name).fetch_raw().status_code
    assert [fetch(ann, "g1"), fetch(ann, "g2"), fetch(ann, "g3"), fetch(bob, "g1"), fetch(bob, "g2")] == [200, 200, 429, 200, 429]
    consumers = lambda: [(c["account"], c["group"]) for c in json.loads(server.operator("/v1/status"))["consumers"]]
    wait_for("the status", lambda: len(consumers()) == 3)
    assert server.metrics()['sluice_consume_leased_messages{account="bob",group="g1"}'] == 0
    server.cli("account", "remove", "bob")
    wait_for("the group's end", lambda: ("bob", "g1") not in consumers() and len(consumers()) == 2)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(Group(server, ann.key_auth, "g2").fetch(wait=7)))
    waiting.start()
    wait_for("the idle one's end", lambda: consumers() == [("ann", "g2")])
    waiting.join(20)
    assert answers == [[]]
    server.kill()
    server.start()
    assert set(consumers()) <= {("ann", "g2")}  # those that were removed are not there again


def test_senders_do_not_notice(server, ann):
    """Consumers that hang with what they have, wait in great number, or never read an answer: messages are stored as
    before."""
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, *[{f"f{i}": i} for i in range(20)])
    assert len(g.fetch(max=20, lease=3600)) == 20
    deaf = []
    for _ in range(100):
        s = socket.create_connection(("127.0.0.1", server.http_port))
        s.sendall(f"GET /v1/consume/g?wait=60 HTTP/1.1\r\nHost: x\r\nX-AIO-Key: {ann.key}\r\n\r\n".encode())
        deaf.append(s)
    wait_for("the fetches", lambda: g.status()["waiting"] == 100)
    took = []
    with requests.Session() as session:
        for i in range(300):
            begun = time.monotonic()
            r = session.post(server.url + "/v1/telemetry", json={"f1": i}, headers=ann.auth, timeout=20)
            took.append(time.monotonic() - begun)
            assert r.status_code == 202
    assert statistics.median(took) < 0.1 and max(took) < 3, sorted(took)[-5:]
    assert g.status()["waiting"] == 100  # those are of a feed that somebody has
    for s in deaf:
        s.close()


def test_a_window_that_is_full_goes_on(make_server):
    """One feed stuck at its head: others go on until the window is full; then all waits, and nothing is lost."""
    server = make_server({"consume.window": "16"})
    ann = owner_on(server, "ann")
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"stuck": 0}, *[{"ok": i} for i in range(40)])
    stuck, got = g.fetch(), []
    while more := g.fetch(max=5):
        got += more
        g.ack(more)
    assert [m["value"] for m in got] == [str(i) for i in range(15)]
    g.ack(stuck)
    while more := g.fetch(max=5):
        got += more
        g.ack(more)
    assert [m["value"] for m in got] == [str(i) for i in range(40)] and g.drained()


def test_a_window_that_was_done_over_a_restart_goes_on(make_server):
    """All that may be handed out is with workers, the server is killed, and they say that it is done before anybody
    fetches again: what comes behind it is handed out; also when the window is narrower then, and nothing again."""
    server = make_server({"consume.window": "32"})
    ann = owner_on(server, "ann")
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, *[{"a": i} for i in range(33)])
    got = g.fetch(max=100)
    assert len(got) == 32
    server.kill()
    server.start()
    g = Group(server, ann.key_auth)
    assert g.ack(got)["count"] == 32
    server.kill()
    server.settings["consume.window"] = "16"
    server.start()
    g = Group(server, ann.key_auth)
    assert g.values(max=100) == ["32"]


def test_sealed_messages(make_server, tmp_path):
    (tmp_path / "master").write_text("ab" * 32)
    server = make_server({"encryption.master_key_file": str(tmp_path / "master")})
    ann = owner_on(server, "ann")
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"a": "sealed", "b": "gone"})
    requests.delete(f"{ann.url}/feeds/b", headers=ann.key_auth, timeout=20)
    got = g.fetch(max=9)
    assert [m["value"] for m in got] == ["sealed"]  # a feed that was deleted is handed out no more
    g.ack(got)
    assert g.drained()


# ---- examples/ ----


PRINT = 'read v || :; echo "$SLUICE_OFFSET $SLUICE_FEED $v"; [ "$v" != 1 ] || [ "$SLUICE_DELIVERY" -gt 1 ]'


@pytest.mark.parametrize("program", [["worker.py"], ["worker.sh", "sh", "-c", PRINT]])
def test_the_examples_work(server, ann, program):
    """Every message comes in its order, one that fails at first (in the shell) again; and all is acknowledged."""
    g = Group(server, ann.key_auth)
    g.fetch()
    at = send(server, ann.auth, *[{f"f{i % 2}": i} for i in range(4)])
    shell = program[0] == "worker.sh"
    with subprocess.Popen([ROOT / "examples" / program[0], server.url, "g", *program[1:]], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "SLUICE_KEY": ann.key}, start_new_session=True) as p:
        lines = [p.stdout.readline().split() for _ in range(5 if shell else 4)]
        wait_for("the acknowledgements", lambda: g.status()["acknowledged"] == 4)
        os.killpg(p.pid, signal.SIGKILL if shell else signal.SIGTERM)
        p.wait(5)
    values = [line[2] for line in lines]
    assert values == (["0", "1", "2", "1", "3"] if shell else ["0", "1", "2", "3"])
    assert {int(line[0]) for line in lines} == set(range(at, at + 4)) and g.drained()


# ---- sluice consume ----


def command(server, ann, *args, name="g"):
    """A running `sluice consume`, whose command's output is ours."""
    return subprocess.Popen([BIN, "consume", "--url", server.url, "--group", name, *args], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, env={**os.environ, "SLUICE_KEY": ann.key, "OWN": "ours", "SLUICE_LON": "stale"})


def finish(p, status=0):
    out, err = p.communicate(timeout=30)
    assert p.returncode == status, err
    return out.splitlines(), err


def test_the_command_runs_for_each_message(server, ann):
    g = Group(server, ann.key_auth)
    g.fetch(feeds="a,b")
    at = send(server, ann.auth, {"a": {"value": "x y\n", "lat": 1.5, "lon": -2}}, {"c": 1}, {"b": "2"})
    p = command(server, ann, "--drain", "--max", "5", "--feeds", "a,b", "--exec",
                'printf "%s|" "$SLUICE_GROUP $SLUICE_OFFSET $SLUICE_DELIVERY $SLUICE_KIND $SLUICE_FEED $SLUICE_DEVICE '
                '$SLUICE_LAT $SLUICE_LON$SLUICE_ELE$SLUICE_TOPIC$SLUICE_KEY $OWN" "$(cat)"; echo')
    lines, _ = finish(p)
    assert lines == [f"g {at} 1 datum a {ann.device} 1.5 -2 ours|x y|", f"g {at + 2} 1 datum b {ann.device}   ours|2|"]
    assert g.drained()
    # What is not text comes as it is, too.
    server.cli("account", "change", ann.name, "--topics", "any")
    raw = Group(server, ann.key_auth, "raw")
    raw.fetch()
    c = Mqtt(server.mqtt_port)
    c.login(ann.name, ann.key)
    c.publish(TOPIC, bytes(range(256)), 1)
    c.expect(PUBACK)
    lines, _ = finish(command(server, ann, "--drain", "--exec", 'echo "$SLUICE_TOPIC $(sha256sum)"', name="raw"))
    assert lines == [f"{TOPIC} {hashlib.sha256(bytes(range(256))).hexdigest()}  -"]


def test_a_command_that_fails_gets_it_again_and_then_others_do(server, ann):
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"a": "bad"}, {"a": "good"}, {"b": "other"})
    p = command(server, ann, "--max", "9", "--delay", "0", "--tries", "3", "--dead", 'echo "dead $(cat)"', "--exec",
                'read v; echo "$v $SLUICE_DELIVERY"; [ "$v" != bad ]')
    wait_for("all", lambda: g.status()["acknowledged"] == 3, 20)
    p.send_signal(signal.SIGTERM)
    lines, _ = finish(p)
    assert [line for line in lines if line.split()[0] in ("bad", "dead", "good")] == [
        "bad 1", "bad 2", "bad 3", "dead bad", "good 1"]
    assert "other 1" in lines and g.drained()


def test_commands_side_by_side_and_a_graceful_end(server, ann):
    """Longer than their lease, several feeds at once, one feed in its order; SIGTERM: what has begun is finished, what
    has not is another's at once."""
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, *[{f"f{i % 3}": i} for i in range(9)])
    p = command(server, ann, "--parallel", "3", "--lease", "3", "--exec", 'read v; sleep 4; echo "$SLUICE_FEED $v"')
    wait_for("three at once", lambda: g.status()["leased"] == 3)
    begun = time.monotonic()
    wait_for("the first acknowledgements", lambda: g.status()["acknowledged"] >= 3, 20)
    assert time.monotonic() - begun < 9
    p.send_signal(signal.SIGTERM)
    lines, err = finish(p)
    assert 3 <= len(lines) <= 6 and len(set(lines)) == len(lines), (lines, err)
    status = g.status()
    assert status["leased"] == 0 and status["expired"] == 0 and status["acknowledged"] == len(lines)
    for feed in ("f0", "f1", "f2"):
        values = [int(line.split()[1]) for line in lines if line.split()[0] == feed]
        assert values == list(range(int(feed[1]), 9, 3))[:len(values)]
    # One that waits for messages ends at once.
    p = command(server, ann, "--exec", "true", name="idle")
    wait_for("the fetch", lambda: (Group(server, ann.key_auth, "idle").status() or {}).get("waiting") == 1)
    begun = time.monotonic()
    p.send_signal(signal.SIGTERM)
    finish(p)
    assert time.monotonic() - begun < 5


def test_a_command_over_a_restart_of_the_server(make_server):
    server = make_server()
    ann = owner_on(server, "ann")
    g = Group(server, ann.key_auth)
    g.fetch()
    send(server, ann.auth, {"a": 1})
    p = command(server, ann, "--parallel", "2", "--exec", "cat; echo")
    wait_for("the first", lambda: g.status()["acknowledged"] == 1)
    server.kill()
    server.start()
    send(server, ann.auth, {"a": 2})
    g = Group(server, ann.key_auth)
    wait_for("the second", lambda: g.status()["acknowledged"] == 1, 30)
    p.send_signal(signal.SIGTERM)
    assert finish(p)[0] == ["1", "2"]


def test_what_the_command_is_not_told_right(server, ann):
    for args in ([], ["--exec", "true", "--max", "0"], ["--exec", "true", "--parallel", "x"], ["--exec", "true", "--lease", "1"],
                 ["--exec", "true", "--key-file", "/nowhere"]):
        assert finish(command(server, ann, *args), 2)[1]
    assert finish(command(server, ann, "--exec", "true", name="a/b"), 2)[1]
    assert subprocess.run([BIN, "consume", "--group", "g", "--exec", "true", "--url", "mqtt://x"], capture_output=True,
                          env={**os.environ, "SLUICE_KEY": "k"}, timeout=20).returncode == 2
    assert "invalid API key" in finish(command(server, SimpleNamespace(key="wrong"), "--exec", "true"), 1)[1]
    assert "feeds" in finish(command(server, ann, "--exec", "true", "--feeds", "a/b"), 1)[1]
