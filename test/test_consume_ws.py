# SPDX-License-Identifier: Apache-2.0
"""Consumer groups over WebSocket: messages are pushed under lease, no more than the client will hold; the rules are those
of HTTP (test_consume.py), whose consumers it shares groups with."""
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import requests

from conftest import owner_on
from consumers import Group, Worker, filler, run_schedules, send
from harness import ROOT, device_auth, wait_for
from websocket_wire import BINARY, CLOSE, CONTINUATION, PING, TEXT, Consumer, frame, upgrade
from wire import Closed, Wire, basic


COUNT = itertools.count()


@pytest.fixture
def ann(server):
    return owner_on(server, f"ann-{next(COUNT)}")


@pytest.fixture
def push():
    """push(server, auth, **query): a connection to the group g, or another."""
    opened = []

    def connect(server, auth, group="g", **rest):
        opened.append(Consumer(server.http_port, group, auth, **rest))
        return opened[-1]

    yield connect
    for c in opened:
        c.close()


def ask(w, data):
    """The answer; of one that lets in only the status."""
    w.send(data)
    while b"\r\n\r\n" not in w.buffer:
        w._more()
    return SimpleNamespace(status=101) if w.buffer.startswith(b"HTTP/1.1 101 ") else w.read()


def refused(server, auth, target="/v1/consume/g", **fields):
    with Wire(server.http_port) as w:
        return ask(w, upgrade(target, None, **auth, **fields))


# ---- one consumer ----


def test_pushed_until_acknowledged_and_no_more_than_its_credit(server, ann, push):
    send(server, ann.auth, {"a": "before"})
    c = push(server, ann.key_auth, credit=2)
    assert b"Sec-WebSocket-Protocol" not in c.head and c.quiet()
    first = send(server, ann.auth, {"a": 1, "b": {"value": "x\ty", "lat": 1.5, "lon": -2}}, {"c": 3}, {"a": "4"})
    got = c.take(2)
    assert [(m["feed"], m["value"], m["offset"], m["delivery"], m["kind"]) for m in got] == [
        ("a", "1", first, 1, "datum"), ("b", "x\ty", first + 1, 1, "datum")]
    assert got[1]["lat"] == 1.5 and got[0]["device"] == ann.device
    g = Group(server, ann.key_auth)
    status = g.status()
    assert (status["leased"], status["connected"], status["waiting"]) == (2, 1, 1)
    assert c.quiet()  # it has all it asked for
    assert c.told("ack", got[:1]) == {"stale": [], "count": 1}
    third, = c.take(1)
    assert third["value"] == "3" and c.quiet()
    c.say(credit=3, id="more")
    assert c.next() == {"credit": 3, "id": "more"}
    last, = c.take(1)
    assert last["value"] == "4"
    c.say(ack={"tokens": [m["token"] for m in (got[1], third, last)]}, id=7)
    assert c.next() == {"ack": {"stale": [], "count": 3}, "id": 7}
    assert c.told("ack", got) == {"stale": [], "count": 2}  # told twice is told
    c.say(credit=0)
    assert c.next() == {"credit": 0}
    send(server, ann.auth, {"a": 5})
    assert c.quiet() and g.status()["leased"] == 0
    c.say(credit=1)
    assert c.next() == {"credit": 1}
    assert c.told("ack", c.take(1))["count"] == 1
    assert server.metric("consume_connections") >= 1
    c.close()
    wait_for("the end", lambda: g.status()["connected"] == 0)
    assert g.drained() and g.status()["waiting"] == 0


def test_given_back_extended_and_expired(server, ann, push):
    c = push(server, ann.key_auth, credit=3, lease=1)
    send(server, ann.auth, {"a": 1}, {"a": 2}, {"b": 3})
    got = c.take(3)
    assert c.told("extend", got[2:], lease=30) == {"stale": [], "count": 1}
    assert c.told("nack", got[:1], delay=0.5)["count"] == 1  # and "2" with it
    again = c.take(2)
    assert [(m["value"], m["delivery"]) for m in again] == [("1", 2), ("2", 1)]
    # Nothing is said: the lease ends, its credit is free, and they come again, with new tokens.
    once_more = c.take(2)
    assert [(m["value"], m["delivery"]) for m in once_more] == [("1", 3), ("2", 2)]
    assert c.told("ack", again[:1])["stale"] == [again[0]["token"]]
    assert c.told("ack", once_more + got[2:])["count"] == 3
    c.close()
    assert Group(server, ann.key_auth).status()["expired"] >= 2


@pytest.mark.parametrize("how", ["close frame", "end", "reset"])
def test_at_the_end_all_it_has_is_anothers_at_once(server, ann, push, how):
    """With a lease of an hour; the counts tell that it was handed out before."""
    c = push(server, ann.key_auth, credit=10, lease=3600)
    g = Group(server, ann.key_auth)
    send(server, ann.auth, *[{f"f{i % 3}": i} for i in range(6)])
    got = c.take(6)
    assert g.fetch(max=10) == []
    if how == "close frame":
        # What was said before counts, and is answered before the connection ends.
        c.say(ack={"tokens": [got[0]["token"]]}, id=1)
        c.frame(struct.pack(">H", 1000), CLOSE)
        assert c.next() == {"ack": {"stale": [], "count": 1}, "id": 1}
        assert c.closed() == (1000, "")
        got = got[1:]
    elif how == "reset":
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.close()
    begun = time.monotonic()
    again = g.fetch(max=10, wait=10)
    assert time.monotonic() - begun < 5
    assert [(m["offset"], m["delivery"]) for m in again] == [(m["offset"], 2) for m in got]
    assert g.ack(again)["count"] == len(got) and g.drained()


def test_a_consumer_with_no_credit_left_holds_nobody_up(server, ann, push):
    """It waits in front of the others, who get what comes."""
    full = push(server, ann.key_auth)
    send(server, ann.auth, {"a": 1})
    held = full.take(1)
    assert full.quiet()  # its next fetch waits
    other = push(server, ann.key_auth, credit=5)
    g = Group(server, ann.key_auth)
    send(server, ann.auth, {"b": 2}, {"a": 3}, {"c": 4})
    assert [m["value"] for m in other.take(2)] == ["2", "4"]
    send(server, ann.auth, {"d": 5})
    assert [m["value"] for m in other.take(1)] == ["5"]
    fetched = []
    t = threading.Thread(target=lambda: fetched.extend(g.fetch(max=5, wait=20)))
    t.start()
    wait_for("the fetch", lambda: g.status()["waiting"] == 3)
    other.say(credit=1)
    assert other.next() == {"credit": 1}
    send(server, ann.auth, {"e": 6})
    t.join(20)
    assert [m["value"] for m in fetched] == ["6"]
    assert full.told("ack", held)["count"] == 1
    assert [m["value"] for m in full.take(1)] == ["3"]


def test_a_gap_is_told(make_server, push):
    server = make_server({"journal.segment_size": "1MiB", "journal.retain_size": "1MiB", "consume.hold_size": "2MiB",
                          "journal.ring_size": "1MiB"})
    ann = owner_on(server, "ann")
    push(server, ann.key_auth, feeds="a").close()
    lost = send(server, ann.auth, {"a": "lost"})
    filler(server, ann.auth, 12)
    server.stop()
    server.start()
    filler(server, ann.auth, 2)
    wait_for("retention", lambda: json.loads(server.operator("/v1/status"))["journal"]["segments"] <= 8, 20)
    c = push(server, ann.key_auth, credit=9)
    at = send(server, ann.auth, {"a": "there"})
    got = c.next()
    first, last = map(int, got["gap"].split("-"))
    assert first <= lost <= last < at and [m["value"] for m in got["messages"]] in ([], ["there"])
    assert server.metric("consume_missed_total") == last - first + 1


# ---- what is refused ----


def test_refused_before_the_upgrade_as_over_http(server, ann, push):
    assert refused(server, {}).status == 401
    assert refused(server, {"X_AIO_Key": "aio_wrong"}).status == 401
    key = {"X_AIO_Key": ann.key}
    for query in ("credit=0", "credit=1001", "credit=x", "lease=0", "feeds=a/b", "from=then", "max=0"):
        r = refused(server, key, "/v1/consume/g?" + query)
        assert r.status == 400 and r.json()["error"], query
    assert refused(server, key, "/v1/consume/-g").status == 400
    assert refused(server, key, "/v1/consume").status == 200  # there is nothing to upgrade: a list
    for fields, status in (({"Sec_WebSocket_Version": "8"}, 426), ({"Sec_WebSocket_Key": "short"}, 400)):
        assert refused(server, key, **fields).status == status
    assert refused(server, key, Upgrade="h2c").status == 200  # a fetch
    assert refused(server, key, "/v1/consume/g/ack").status == 405
    push(server, ann.key_auth, group="narrow", feeds="a, b*")
    assert refused(server, key, "/v1/consume/narrow?feeds=a").status == 400
    reader = {"X-AIO-Key": server.cli("key", "add", ann.name, "reader", "--role", "reader")["key"]}
    assert refused(server, {"X_AIO_Key": reader["X-AIO-Key"]}).status == 403
    bound = device_auth("ws-bound", server.add_device(ann.name, "ws-bound", "--feeds", "a", "--role", "owner"))
    fields = {name.replace("-", "_"): value for name, value in bound.items()}
    assert refused(server, fields).status == 403 and refused(server, fields, "/v1/consume/own").status == 101
    # In the query, where browsers can put it; and on a connection that did something else before.
    with Wire(server.http_port) as w:
        assert w.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status == 200
        assert ask(w, upgrade(f"/v1/consume/g?X-AIO-Key={ann.key}", None)).status == 101
    # A request that was refused leaves the connection as it was.
    with Wire(server.http_port) as w:
        assert ask(w, upgrade("/v1/consume/g", None)).status == 401
        assert w.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status == 200


@pytest.mark.parametrize("origin, auth, status", [
    ("https://any.test", "key", 101), ("https://any.test", "basic", 403), ("http://sluice", "basic", 101)])
def test_pages_of_other_origins(server, ann, origin, auth, status):
    """A browser shows a password by itself that it was told once; no other page may use it."""
    fields = basic(ann.name, ann.key) if auth == "basic" else {"X_AIO_Key": ann.key}
    assert refused(server, fields, Origin=origin).status == status


BAD = [
    (frame(b'{"ack":{"tokens":["1-1"]}}', BINARY), 1003, "only texts"),
    (frame(b"\xff", TEXT), 1007, "UTF-8"),
    (frame(b"{}", TEXT, mask=False), 1002, "masked"),
    (frame(b"{}", CONTINUATION), 1002, "continue"),
    (frame(b" " * 65537, TEXT), 1009, "limit"),
    (frame(b" " * 65536, TEXT, final=False) + frame(b" ", CONTINUATION), 1009, "limit"),
    (frame(b"", TEXT), 4422, "JSON object"),
    (frame(b"[]", TEXT), 4422, "JSON object"),
    (frame(b"{}", TEXT), 4422, "a message has"),
    (frame(b'{"id":1}', TEXT), 4422, "a message has"),
    (frame(b'{"ack":{"tokens":["1-1"]},"more":1}', TEXT), 4422, "a message has"),
    (frame(b'{"ack":{"tokens":["1-1"]},"nack":{"tokens":["1-1"]}}', TEXT), 4422, "one thing"),
    (frame(b'{"ack":["1-1"]}', TEXT), 4422, "objects"),
    (frame(b'{"ack":{"tokens":["1-1"]},"id":[]}', TEXT), 4422, "id must be"),
    (frame(b'{"ack":{"tokens":["1-1"]},"id":"' + b"x" * 129 + b'"}', TEXT), 4422, "id must be"),
    (frame(b'{"credit":1001}', TEXT), 4422, "credit"), (frame(b'{"credit":1.5}', TEXT), 4422, "credit"),
    (frame(b'{"credit":"1"}', TEXT), 4422, "credit"),
    (frame(b'{"ack":{}}', TEXT), 4422, "tokens are missing"),
    (frame(b'{"ack":{"tokens":["1-g"]}}', TEXT), 4422, "token"),
    (frame(b'{"extend":{"tokens":["1-1"],"lease":3601}}', TEXT), 4422, "lease"),
]


@pytest.mark.parametrize("row", range(len(BAD)))
def test_bad_frames_close_and_say_why(server, owner, push, row):
    """What was pushed before is given back; the sentence says what was wrong."""
    data, code, why = BAD[row]
    c = push(server, owner.key_auth, group="bad", lease=3600)
    at = send(server, owner.auth, {"a": code})
    got, = c.take(1)
    assert got["offset"] <= at
    c.bytes(data)
    closed = c.closed()
    assert closed[0] == code and why in closed[1], closed
    g = Group(server, owner.key_auth, "bad")
    again, = g.fetch(wait=10)
    assert (again["offset"], again["delivery"]) == (got["offset"], 2)
    g.ack([again])


def test_frames_in_pieces_and_together(server, ann, push):
    """Also such as came along with the request, before it was answered."""
    behind = frame(b'{"credit":2,"id":1}', TEXT) + frame(b"hello", PING)
    c = push(server, ann.key_auth, behind=behind)
    assert c.next() == {"credit": 2, "id": 1}
    send(server, ann.auth, {"a": 1}, {"b": 2})
    got = c.take(2)
    text = json.dumps({"ack": {"tokens": [m["token"] for m in got]}, "id": "\u00e9"}, ensure_ascii=False).encode()
    cut = text.index("\u00e9".encode()) + 1
    for byte in (frame(text[:cut], TEXT, final=False) + frame(b"between", PING) + frame(b"", CONTINUATION, final=False)
                 + frame(text[cut:], CONTINUATION)):
        c.bytes(bytes([byte]))
    assert c.next() == {"ack": {"stale": [], "count": 2}, "id": "\u00e9"}
    assert c.pongs == [b"hello", b"between"]
    # As many as are not read at once: all are answered.
    c.bytes(b"".join(frame(b'{"nack":{"tokens":["1-1"]},"id":%d}' % i, TEXT) for i in range(300)))
    answers = [c.next() for _ in range(300)]
    assert sorted(a["id"] for a in answers) == list(range(300))
    assert all(a["nack"] == {"stale": ["1-1"], "count": 0} for a in answers)


# ---- who may ----


def test_what_changes_meanwhile(server, ann, push):
    def connect(**rest):
        key = server.cli("key", "add", ann.name, "k", **rest)["key"]
        return push(server, {"X-AIO-Key": key}, credit=5, lease=3600)

    g = Group(server, ann.key_auth)
    c = connect()
    send(server, ann.auth, {"a": 1})
    c.take(1)
    server.cli("key", "remove", ann.name, "k")
    code, why = c.closed()
    assert code == 4401 and "removed" in why
    got = g.fetch(wait=10)
    assert [(m["value"], m["delivery"]) for m in got] == [("1", 2)]
    g.ack(got)
    # A role that loses the permission; and one that changes otherwise goes on.
    server.cli("role", "add", "ws-worker", "consume,data_read")
    secret = server.add_device(ann.name, "ws-worker-1", "--role", "ws-worker")
    worker = device_auth("ws-worker-1", secret)
    c = push(server, worker, credit=5)
    send(server, ann.auth, {"a": 2})
    got = c.take(1)
    server.cli("role", "change", "ws-worker", "consume,data_read,data_write")
    send(server, ann.auth, {"b": 3})
    got += c.take(1)
    assert c.told("ack", got)["count"] == 2
    server.cli("role", "change", "ws-worker", "data_read")
    assert c.closed()[0] == 4403
    # The group is removed, and with the account all is.
    c = push(server, ann.key_auth)
    assert requests.delete(g.url, headers=ann.key_auth, timeout=20).status_code == 204
    assert c.closed() == (4404, "not found - the group was removed")
    c = push(server, ann.key_auth)
    server.cli("account", "remove", ann.name)
    assert c.closed()[0] in (4401, 4404)


def test_limits_make_it_wait_and_cost_the_client_nothing(make_server, push):
    """Each batch and each word counts as a request does; what comes too early is done later, by itself."""
    server = make_server()
    server.cli("account", "add", "ann", "--limits", "12/2s", "--device-limits", "1000000/1s")
    key = {"X-AIO-Key": server.add_key("ann")}
    c = push(server, key, credit=100)
    begun = time.monotonic()
    for i in range(30):
        c.say(nack={"tokens": ["1-1"]}, id=i)
    assert sorted(c.next()["id"] for i in range(30)) == list(range(30))
    assert 3 < time.monotonic() - begun < 30


# ---- the server's end, slow clients ----


def test_a_stop_says_so(make_server, push):
    server = make_server({"server.stop_deadline": "20s"})
    ann = owner_on(server, "ann")
    idle, busy = push(server, ann.key_auth, group="idle"), push(server, ann.key_auth)
    send(server, ann.auth, {"a": 1})
    got = busy.take(1)
    begun = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert idle.closed() == (1001, "the server stops") and busy.closed() == (1001, "the server stops")
    assert server.process.wait(20) == 0 and time.monotonic() - begun < 5
    server.start()
    again, = push(server, ann.key_auth).take(1)
    assert again["offset"] == got[0]["offset"]


def test_a_client_that_reads_nothing(make_server):
    """It is sent what fits, and no more than its credit; its time is up when nothing moves, and others get all."""
    server = make_server({"http.write_timeout": "2s"})
    ann = owner_on(server, "ann")
    g = Group(server, ann.key_auth)
    with socket.socket() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # so that the kernel holds little
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.http_port))
        s.sendall(upgrade("/v1/consume/g?credit=1000&lease=3600", None, **ann.key_auth))
        assert s.recv(1000).startswith(b"HTTP/1.1 101 ")
        for _ in range(3):
            send(server, ann.auth, *[{"f": "x" * 1000} for _ in range(1000)])
        wait_for("what it is given", lambda: g.status()["leased"] > 0)
        assert g.status()["leased"] <= 1000
        wait_for("its end", lambda: g.status()["connected"] == 0, 30)
    assert g.status()["leased"] == 0 and server.metric("connections_timed_out_total") == 1
    got = 0
    while messages := g.fetch(max=1000, wait=1):
        got += len(messages)
        g.ack(messages)
    assert got == 3000


def test_an_idle_connection_is_pinged(server, ann, push):
    """So that what lies between keeps it open; a client that reads late need not answer in time."""
    c = push(server, ann.key_auth, timeout=30)
    begun = time.monotonic()
    assert c.next_frame() == (PING, b"")
    assert 15 < time.monotonic() - begun < 25
    send(server, ann.auth, {"a": 1})
    assert [m["value"] for m in c.take(1)] == ["1"]


# ---- several consumers, and crashes ----


class Pushed(Worker):
    """The same over WebSocket: connections come and go, and sometimes it forgets what it has."""

    connection = None

    def turn(self):
        if not self.connection:
            try:
                self.connection = Consumer(self.group.port, "g", self.group.auth, credit=self.random.randint(1, 8), lease=1)
            except (OSError, AssertionError) as e:
                raise requests.ConnectionError from e
        c = self.connection
        c.sock.settimeout(0.5)
        try:
            m = c.next()
        except TimeoutError:
            return
        except (Closed, OSError) as e:
            self.connection = None
            c.close()
            raise requests.ConnectionError from e
        for i, m in enumerate(m.get("messages", [])):
            chance = self.random.random()
            if chance < 0.02:
                c.close()
                self.connection = None
                return
            if chance < 0.06:
                c.say(nack={"tokens": [m["token"]], "delay": self.random.choice([0, 0.2])})
                return
            self.done(m)
            try:
                c.say(ack={"tokens": [m["token"]]})
            except OSError:
                return


@pytest.mark.parametrize("disk", ["posix", "lossy"])
def test_nothing_is_lost_beside_consumers_over_http(make_server, disk):
    run_schedules(make_server, disk, [Pushed, Worker] * 2, "HTTP and WebSocket in one group")


def test_as_many_connections_as_may_be(server, ann):
    """The 257th of a group is told to come later; those that go make room."""
    g, opened = Group(server, ann.key_auth), []
    try:
        for _ in range(256):
            opened.append(Consumer(server.http_port, "g", ann.key_auth))
        r = refused(server, {"X_AIO_Key": ann.key})
        assert r.status == 503 and r["retry-after"] == "1"
        opened.pop().close()
        wait_for("room", lambda: g.status()["connected"] == 255)
        opened.append(Consumer(server.http_port, "g", ann.key_auth))
        send(server, ann.auth, *[{f"f{i}": i} for i in range(20)])
        got, end = [], time.monotonic() + 20
        while len(got) < 20 and time.monotonic() < end:
            ready = select.select([c.sock for c in opened], [], [], 1)[0]
            got += [c.take(1)[0] for c in opened if c.sock in ready]
        assert sorted(int(m["value"]) for m in got) == list(range(20))
    finally:
        for c in opened:
            c.close()
    wait_for("their end", lambda: g.status()["connected"] == 0)


def test_the_example_works(server, ann):
    """examples/worker_websocket.py, with a client library: each message once, in order."""
    g = Group(server, ann.key_auth)
    g.fetch()
    at = send(server, ann.auth, *[{f"f{i % 2}": i} for i in range(6)])
    with subprocess.Popen(["/usr/bin/python3", ROOT / "examples" / "worker_websocket.py", server.url.replace("http", "ws"), "g"],
                          stdout=subprocess.PIPE, text=True, env={**os.environ, "SLUICE_KEY": ann.key}) as p:
        lines = [p.stdout.readline().split() for _ in range(6)]
        wait_for("the acknowledgements", lambda: g.status()["acknowledged"] == 6)
        p.send_signal(signal.SIGTERM)
        p.wait(5)
    assert sorted((int(line[0]), line[2]) for line in lines) == [(at + i, str(i)) for i in range(6)]
    wait_for("its end", lambda: g.status()["connected"] == 0)
    assert g.drained()
