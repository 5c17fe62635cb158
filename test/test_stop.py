# SPDX-License-Identifier: Apache-2.0
"""SIGTERM under load: nothing acknowledged is lost, nobody waits for ever, the exit status is 0."""
import os
import signal
import socket
import threading
import time

import pytest
import requests

from conftest import owner_on
from fleet import Pusher, missing, read_back
from harness import wait_for
from wire import Closed, Wire, request


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("level", ["received", "durable", "applied"])
def test_stop_under_load(make_server, level, number):
    server = make_server({"server.stop_deadline": "5s"})
    owner = owner_on(server, "a")
    acked = []
    for turn in range(3):
        pushers = [Pusher(server.http_port, owner.auth, f"stop-{i}", turn * 10 + i, ack=level)
                   for i in range(4)]
        for p in pushers:
            p.start()
        time.sleep(0.15)
        begun = time.monotonic()
        os.kill(server.pid, number)
        assert server.process.wait(20) == 0, server.log()[-3000:]
        assert time.monotonic() - begun < 6
        for p in pushers:
            p.join(10)
            assert not p.is_alive()
            # Nothing but "stopping" may be said to those who come too late.
            assert all(status == 503 for status, _ in p.refused), p.refused[:3]
            acked += p.acked
        server.start()
        stored = {f"stop-{i}": read_back(server, owner, f"stop-{i}") for i in range(4)}
        if level == "received":  # no offsets were told: the values must be there
            have = {v for data in stored.values() for v in data.values()}
            lost = [a for a in acked if a[2] not in have]
        else:
            lost = missing(acked, stored)
        assert not lost, lost[:3]
    assert len(acked) > 50


def test_stop_with_idle_and_stuck_connections(make_server):
    """Silent clients, half a request, and one that never reads: none holds the stop up."""
    server = make_server({"server.stop_deadline": "3s"})
    owner = owner_on(server, "a")
    idle = [Wire(server.http_port) for _ in range(20)]
    half = Wire(server.http_port).send(request("POST", "/v1/telemetry", {
        **owner.auth, "Content-Length": "100"}))
    deaf = Wire(server.http_port).send(request("GET", "/v1/telemetry", owner.auth) * 20)
    time.sleep(0.2)
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 5
    for w in [*idle, half, deaf]:
        w.close()


def test_stop_of_an_idle_server_is_quick(make_server):
    server = make_server({"server.stop_deadline": "10s"})
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 3


def test_request_under_way_is_answered(make_server):
    """A whole request that came before the signal gets its answer, and the connection is closed."""
    server = make_server()
    owner = owner_on(server, "a")
    body = b'{"t":1}'
    with Wire(server.http_port) as w:
        w.send(request("POST", "/v1/telemetry", owner.auth, body))
        os.kill(server.pid, signal.SIGTERM)
        try:
            assert w.read().status in (202, 503)
            w.rest()
        except Closed as e:
            pytest.fail(f"closed without an answer: {e}")
    assert server.process.wait(20) == 0


def test_readyz_says_no_before_the_end(make_server):
    """A balancer must hear of the stop: /readyz turns bad or the port closes; /healthz never lies."""
    server = make_server()
    os.kill(server.pid, signal.SIGTERM)

    def gone():
        try:
            return requests.get(server.operator_url + "/readyz", timeout=2).status_code == 503
        except requests.ConnectionError:
            return True

    wait_for("/readyz to turn bad", gone, 5)
    assert server.process.wait(20) == 0


def test_start_after_stop_is_clean(make_server):
    server = make_server()
    owner = owner_on(server, "a")
    for i in range(3):
        r = requests.post(server.url + "/v1/telemetry", json={"t": i}, headers=owner.auth, timeout=10)
        assert r.status_code == 202
        assert server.stop() == 0
        server.start()
    r = requests.get(owner.url + "/feeds/t/data", headers=owner.key_auth, timeout=10)
    assert [d["value"] for d in r.json()] == ["2", "1", "0"]


SLOW_SYNC = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
             "-e", "inject=fdatasync:delay_enter=250000:when=4+")


def slow_server(make_server, settings=None):
    """A server whose disk takes its time, with one account and its feed made."""
    server = make_server({"server.workers": "1", **(settings or {})}, wrapper=SLOW_SYNC,
                         env={"ASAN_OPTIONS": "detect_leaks=0"})
    owner = owner_on(server, "a")
    r = requests.post(server.url + "/v1/telemetry", json={"t": 0}, headers=owner.auth, timeout=20)
    assert r.status_code == 202
    return server, owner


def test_what_was_received_is_written_before_the_end(make_server):
    """Its senders are gone, so nobody waits for the append: the stop must."""
    server, owner = slow_server(make_server)
    with Wire(server.http_port) as w:
        r = w.ask(request("POST", "/v1/telemetry?ack=received", owner.auth, b'{"t":"kept"}'))
        assert r.status == 202
    assert server.stop() == 0, server.log()[-3000:]
    server.wrapper, server.env = [], os.environ
    server.start()
    assert "kept" in read_back(server, owner, "t").values()


def test_pipelined_requests_under_way_are_all_answered(make_server):
    """The answer to the first must not close the connection over the others: they are stored too."""
    server, owner = slow_server(make_server)
    with Wire(server.http_port) as w:
        w.send(b"".join(request("POST", "/v1/telemetry", owner.auth, b'{"t":%d}' % i)
                        for i in range(5)))
        time.sleep(0.1)
        os.kill(server.pid, signal.SIGTERM)
        answers = [w.read() for _ in range(5)]
        assert [a.status for a in answers] == [202] * 5
        assert [a.headers.count(("connection", "close")) for a in answers] == [0, 0, 0, 0, 1]
        assert w.rest() == b""
    assert server.process.wait(20) == 0


def test_stop_deadline_ends_in_good_order(make_server):
    """A request that waits for an expensive hash cannot be waited for: exit status 1, no crash."""
    server = make_server({"server.stop_deadline": "100ms"})
    server.add_account("a")
    stored = "$2b$16$" + "abcdefghijklmnopqrstuu" + "x" * 31
    auth = server.add_devices("a", [("dear", "wrong", stored)])[0]
    with Wire(server.http_port) as w:
        w.send(request("POST", "/v1/telemetry", auth, b'{"t":1}'))
        time.sleep(0.2)
        assert server.stop() == 1, server.log()[-3000:]


# ---- sockets that outlive the process ----

def listen_for_it():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    s.listen(1000)
    return s


def hand_over(server, listener):
    """The server finds the socket as descriptor 3, as systemd would give it."""
    port = listener.getsockname()[1]
    server.settings["listen.http"] = f"127.0.0.1:{port}"
    server.url, server.http_port = f"http://127.0.0.1:{port}", port
    fd = listener.fileno()
    server.wrapper = ["bash", "-c", f'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@" 3<&{fd}', "-"]
    server.spawn_options = {"pass_fds": [fd]}


def test_a_restart_behind_an_inherited_socket_refuses_nobody(make_server):
    with listen_for_it() as listener:
        server = make_server(start=False)
        hand_over(server, listener)
        server.start()
        owner = owner_on(server, "acme")
        stop, outcomes = threading.Event(), []

        def send():
            while not stop.is_set():
                r = requests.post(server.url + "/v1/telemetry", json={"n": 1}, headers=owner.auth, timeout=60)
                outcomes.append(r.status_code)

        senders = [threading.Thread(target=send) for _ in range(4)]
        for t in senders:
            t.start()
        for _ in range(3):
            wait_for("answers", lambda n=len(outcomes): len(outcomes) > n + 20)
            assert server.stop() == 0
            server.start()
        wait_for("answers", lambda n=len(outcomes): len(outcomes) > n + 20)
        stop.set()
        for t in senders:
            t.join()
        assert set(outcomes) == {202}


def test_sockets_for_another_process_are_not_taken(make_server):
    with listen_for_it() as listener:
        server = make_server(start=False)
        hand_over(server, listener)
        server.wrapper[2] = server.wrapper[2].replace("LISTEN_PID=$$", "LISTEN_PID=1")
        server.spawn()
        assert server.process.wait(20) != 0
        assert "cannot listen on" in server.log()
        server.process = None
