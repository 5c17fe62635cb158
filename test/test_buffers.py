# SPDX-License-Identifier: Apache-2.0
"""What connections make the server keep has an end, whoever they are and however many."""
import base64
import gzip
import os
import socket
import time
import warnings
from pathlib import Path

import pytest

from conftest import owner_on
from harness import wait_for
from wire import Wire, request

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it leaves Python in 3.13; Debian 12 has 3.11
    import crypt

TARGET = "/v1/telemetry"
BODY = 3 << 20  # http.body_max, its largest
MOST = 64 << 20  # listen.buffers_max, its least
LONG = request("GET", "/openapi.json")  # what it is answered with


def bcrypt(secret, cost):
    return crypt.crypt(secret, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << cost))


@pytest.fixture
def tight(make_server):
    return make_server({"server.workers": "1", "listen.buffers_max": "64MiB", "http.body_max": "3MiB"})


def connect_with_no_room(port):
    """The kernel takes little for who reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    return sock


def is_open(w):
    """Whether the server still holds the connection, of which nothing is to come."""
    w.sock.settimeout(0.05)
    try:
        return w.sock.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def begin(port, how, headers, rest=1000):
    """A request of the largest size of which so many bytes are still to come."""
    body = b'{"f": 1}'.ljust(BODY)
    if how == "length":
        data = request("POST", TARGET, headers, body)
    else:
        data = request("POST", TARGET, {**headers, "Transfer-Encoding": "chunked"}) + b"%x\r\n" % BODY + body
    w = Wire(port)
    try:
        w.send(data[:len(data) - rest])
    except OSError:
        pass  # closed already: is_open sees it
    return w, data[len(data) - rest:] + (b"" if how == "length" else b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_bodies_that_do_not_end(tight, how):
    owner = owner_on(tight, "ann")
    with Wire(tight.http_port) as known:
        assert known.ask(request("POST", TARGET, owner.auth, {"f": 0})).status == 202
        known.send(request("POST", TARGET, {**owner.auth, "Content-Length": "100000"}, b" " * 60000))
        stalled = [begin(tight.http_port, how, {"X-Device-Id": "d", "X-Device-Token": "t"})[0] for _ in range(60)]
        most = MOST // BODY + 1  # what a connection has is less
        wait_for("connections to be closed", lambda: tight.metric("connections_evicted_total") >= 60 - most)
        still = [is_open(w) for w in stalled]
        assert 10 < sum(still) <= most and all(still[-10:]), "it is not those who waited for the longest who are closed"
        # It takes nothing from who means it: one who was here before all of these, and one who comes now.
        assert known.ask(b'{"f": 2}'.ljust(40000)).status == 202
        w, rest = begin(tight.http_port, how, owner.auth)
        assert w.ask(rest).status == 202
        for w, _ in ((w, 0), *((w, 0) for w in stalled)):
            w.close()
    with Wire(tight.http_port) as w:
        assert w.ask(request("POST", TARGET, owner.auth, {"f": 3})).status == 202


def test_who_is_known_and_holds_all_shuts_nobody_out(tight):
    """Neither a newcomer whose login comes in two pieces, nor who is known and waits with a few bytes."""
    owner = owner_on(tight, "ann")
    small = Wire(tight.http_port)
    assert small.ask(request("POST", TARGET, owner.auth, {"f": 0})).status == 202
    login = request("POST", TARGET, owner.auth, {"f": 1})
    small.send(login[:-5])
    hogs = []
    for _ in range(30):
        hogs.append(Wire(tight.http_port))
        assert hogs[-1].ask(login).status == 202
        hogs[-1].send(request("POST", TARGET, owner.auth, b'{"f": 1}'.ljust(BODY))[:-1000])
    wait_for("connections to be closed", lambda: tight.metric("connections_evicted_total") >= 30 - MOST // BODY - 1)
    assert small.ask(login[-5:]).status == 202
    with Wire(tight.http_port) as newcomer:
        newcomer.send(login[:-5])
        time.sleep(0.2)
        assert newcomer.ask(login[-5:]).status == 202
    w, rest = begin(tight.http_port, "length", owner.auth)
    assert w.ask(rest).status == 202, "a quarter is for newcomers"
    for w in (w, small, *hogs):
        w.close()


def test_answers_that_nobody_reads(tight):
    """Nobody knows who asks, and it costs a few bytes: the answer is long."""
    lazy = [connect_with_no_room(tight.http_port) for _ in range(180)]
    for sock in lazy:
        sock.sendall(LONG * 40)
    wait_for("connections to be closed", lambda: tight.metric("connections_evicted_total") > 10, 60)
    with Wire(tight.http_port, timeout=60) as w:
        assert w.ask(LONG).status == 200
    for sock in lazy:
        sock.close()


@pytest.mark.alone
def test_bodies_that_wait_for_a_password_hash(make_server):
    """40 of them would be 120 MiB; who finds no room is told to come back, and is let in then."""
    s = make_server({"server.workers": "1", "auth.hash_threads": "1", "http.body_max": "3MiB", "auth.hash_wait": "60s",
                     "auth.hash_idle_priority": "false"})
    owner_on(s, "ann")
    stored = bcrypt("right", 12)
    auths = s.add_devices("ann", [(f"d{i}", "right", stored) for i in range(42)])
    small, filling = auths.pop(), auths.pop()
    wires = [Wire(s.http_port, timeout=60) for _ in auths]
    body = b'{"f": 1}'.ljust(BODY)
    for w, auth in zip(wires, auths):
        w.send(request("POST", TARGET, auth, body))
    wait_for("the room to be full", lambda: s.metric("overload_logins_shed_total") > 0, 60)
    last = Wire(s.http_port, timeout=60)
    last.send(request("POST", TARGET, filling, body[:(64 << 20) % BODY]))
    with Wire(s.http_port, timeout=60) as w:  # nobody's large ones keep him from his turn
        assert w.ask(request("POST", TARGET, small, {"f": 1})).status == 202
    last.close()
    answers = [w.read() for w in wires]
    assert {r.status for r in answers} == {202, 503}
    assert all(1 <= int(r["retry-after"]) <= 60 for r in answers if r.status == 503)
    for w, auth in zip(wires, auths):
        assert w.ask(request("POST", TARGET, auth, {"f": 1})).status == 202
        w.close()


@pytest.mark.alone
def test_who_reads_nothing_is_not_kept_for_saying_something(make_server):
    """Bytes of a next request that trickle in are no sign that the answers are taken."""
    s = make_server({"server.workers": "1", "http.write_timeout": "2s", "http.head_timeout": "600s"})

    def answered(sock, data):
        """How many requests are, when no more are taken for a while; asking for it is one too."""
        before, asked = s.metric("http_requests_total"), 1
        seen = []
        sock.sendall(data)
        while len(seen) < 6 or len(set(seen[-6:])) > 1:
            time.sleep(0.3)
            seen.append(s.metric("http_requests_total") - before - asked)
            asked += 1
        return int(seen[-1])

    with connect_with_no_room(s.http_port) as one:
        most = answered(one, LONG * 100)
    assert 1 < most < 100
    with connect_with_no_room(s.http_port) as sock:
        assert answered(sock, LONG * (most - 1)) == most - 1  # what is not taken of it is not enough to stop reading
        sock.settimeout(1)
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - begun < 15:
                sock.sendall(b"G")
                time.sleep(0.2)


# ---- what is kept for an answer that waits ----

def rss(server):
    return int(Path(f"/proc/{server.pid}/status").read_text().split("VmRSS:")[1].split()[0]) << 10


def send_at_once(port, requests_):
    """All but the last bytes of each, and then these of all."""
    wires = [Wire(port, timeout=60) for _ in requests_]
    for w, data in zip(wires, requests_):
        w.send(data[:-10])
    for w, data in zip(wires, requests_):
        w.send(data[-10:])
    return wires


@pytest.fixture
def frugal(make_server):
    """make(settings): a server that gives memory back at once, whatever it was built with."""
    def make(settings):
        options = os.environ.get("ASAN_OPTIONS", "")
        return make_server({"server.workers": "1", "http.body_max": "3MiB", **settings},
                           env={"ASAN_OPTIONS": f"{options}:quarantine_size_mb=1:thread_local_quarantine_size_kb=64"})
    return make


PACKED = gzip.compress(b'{"f": 1}'.ljust(BODY))


def post(auth, packed, target=TARGET):
    if packed:
        return request("POST", target, {**auth, "Content-Encoding": "gzip"}, PACKED)
    return request("POST", target, auth, b'{"f": 1}'.ljust(BODY))


@pytest.mark.alone
def test_a_body_that_waits_for_a_hash_is_held_once(frugal):
    """Unpacked, and not copied on top of that."""
    s = frugal({"auth.hash_threads": "1", "auth.hash_wait": "60s", "auth.hash_idle_priority": "false"})
    owner_on(s, "ann")
    stored = bcrypt("right", 13)
    auths = s.add_devices("ann", [(f"d{i}", "right", stored) for i in range(18)])
    before = rss(s)
    wires = send_at_once(s.http_port, [post(auth, True) for auth in auths])
    wait_for("all to wait", lambda: s.metric("hash_queue_length") >= 16)
    assert rss(s) - before < 18 * BODY * 1.5
    for w in wires:
        assert w.read().status == 202
        w.close()


@pytest.mark.alone
@pytest.mark.parametrize("packed", [False, True])
def test_a_refusal_that_is_held_keeps_no_body(frugal, packed):
    """Of those who fail all are asked about at once: most are refused when their turn comes."""
    s = frugal({"auth.hash_threads": "1", "auth.hash_wait": "60s", "auth.refusal_hold": "10s",
                "auth.failures_credential": "3/600s", "auth.hash_idle_priority": "false"})
    owner_on(s, "ann")
    s.add_devices("ann", [("d", "right", bcrypt("right", 13))])
    before = rss(s)
    wires = send_at_once(s.http_port, [post({"X-Device-Id": "d", "X-Device-Token": f"guess {i}"}, packed)
                                       for i in range(18)])
    wait_for("refusals to be held", lambda: s.metric("refusals_held_total") >= 15, 60)
    assert rss(s) - before < 18 * BODY / 3
    for w in wires:
        w.close()


def test_a_fetch_that_waits_keeps_no_body(frugal):
    s = frugal({})
    owner = owner_on(s, "ann")
    before = rss(s)
    wires = send_at_once(s.http_port, [request("GET", "/v1/consume/g?wait=30", owner.key_auth, b" " * BODY)
                                       for _ in range(18)])
    wait_for("all to wait", lambda: s.metric("http_requests_total") >= 18)
    time.sleep(0.2)
    assert rss(s) - before < 18 * BODY / 3
    for w in wires:
        w.close()


def test_what_waits_for_a_sink_counts(make_server, tmp_path):
    """A message that made a feed, so that its request was kept, and whose sender waits for what never comes."""
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(b"x" * 32).decode())
    s = make_server({"server.workers": "1", "listen.buffers_max": "64MiB", "http.body_max": "3MiB",
                     "ack.delivered_timeout": "60s", "webhook.url": "http://127.0.0.1:1/",
                     "webhook.allow": "127.0.0.0/8", "webhook.secret_file": str(tmp_path / "secret")})
    owner = owner_on(s, "ann")
    target = f"{TARGET}?ack=delivered:webhook"
    bodies = [f'{{"f{i}": 1}}'.encode().ljust(BODY) for i in range(30)]
    wires = [Wire(s.http_port) for _ in bodies]
    for w, body in zip(wires, bodies):
        stored = s.metric("journal_records_total")
        w.send(request("POST", target, owner.auth, body))
        wait_for("it to be stored", lambda: s.metric("journal_records_total") >= stored + 2)  # and the feed
    wait_for("connections to be closed", lambda: s.metric("connections_evicted_total") >= 30 - MOST // BODY - 1)
    assert is_open(wires[-1])
    for w in wires:
        w.close()


def test_short_answers_that_wait_for_one_before_them_count(tight):
    """A connection has less of them than makes it stop reading; all of them have not."""
    owner = owner_on(tight, "ann")
    with Wire(tight.http_port) as w:
        size = len(w.ask(LONG).body)
    assert size < 250000
    each = 250000 // size
    waiting = []
    for i in range(MOST // (each * size) + 100):
        waiting.append(Wire(tight.http_port))
        waiting[-1].send(request("GET", f"/v1/consume/g{i // 200}?wait=60", owner.key_auth) + LONG * each)
    wait_for("connections to be closed", lambda: tight.metric("connections_evicted_total") > 50)
    for w in waiting:
        w.close()
