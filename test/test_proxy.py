# SPDX-License-Identifier: Apache-2.0
"""Connections that begin with a PROXY protocol header: who the client is, and how long it may take."""
import socket
import struct
import time

import pytest

from conftest import owner_on
from harness import wait_for
from wire import Wire, request

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(address, port=4242):
    return f"PROXY TCP4 {address} 127.0.0.1 {port} 80\r\n".encode()


def v2(address, port=4242):
    block = socket.inet_aton(address) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 80)
    return SIGNATURE + b"\x21\x11" + struct.pack(">H", len(block)) + block


@pytest.fixture
def behind(make_server):
    """make(setting=..., ...): a server that believes its loopback peers, and limits addresses."""
    def make(**settings):
        server = make_server({"listen.trusted_proxies": "127.0.0.0/8", "listen.proxy_protocol": "true",
                              "throttle.address": "2/60s", **settings})
        server.owner = owner_on(server, "ann")
        return server
    return make


def message(server):
    return request("POST", "/v1/telemetry", {**server.owner.auth, "Content-Type": "application/json"},
                   {"a": 1})


def test_limits_count_the_client_that_the_proxy_names(behind):
    server = behind()
    for header, statuses in [(v1("192.0.2.1"), [202, 202, 429]), (v2("192.0.2.2"), [202, 202, 429]),
                             (v1("192.0.2.2"), [429]), (v2("192.0.2.3"), [202])]:
        with Wire(server.http_port) as w:
            w.send(header + message(server) * len(statuses))
            assert [w.read().status for _ in statuses] == statuses


@pytest.mark.parametrize("header", [v1("192.0.2.1"), v2("192.0.2.1")], ids=["v1", "v2"])
def test_a_header_may_come_in_pieces(behind, header):
    server = behind(**{"throttle.address": ""})
    for cut in range(1, len(header) + 1):
        with Wire(server.http_port) as w:
            w.send(header[:cut])
            time.sleep(0.002)
            assert w.ask(header[cut:] + message(server)).status == 202
    with Wire(server.http_port) as w:
        for byte in header + message(server):
            w.send(bytes([byte]))
        assert w.read().status == 202


def test_a_wrong_header_closes(behind):
    server = behind()
    for bad in [message(server), b"PROXY TCP4 x y 1 2\r\n", SIGNATURE + b"\x31\x11\0\0", b"\x16\x03\x01"]:
        with Wire(server.http_port) as w:
            assert w.send(bad).rest() == b""
    assert server.metric("proxy_headers_bad_total") == 4


def test_who_says_nothing_is_closed_in_time(behind):
    server = behind(**{"listen.opening_timeout": "300ms"})
    begun = time.monotonic()
    with Wire(server.http_port) as silent, Wire(server.http_port) as dawdling:
        dawdling.send(v1("192.0.2.1")[:9])
        assert silent.rest(3) == dawdling.rest(3) == b""
    assert 0.25 < time.monotonic() - begun < 2
    assert server.metric("connections_timed_out_total") == 2


def test_who_only_holds_a_connection_shuts_nobody_out(behind):
    server = behind(**{"listen.opening_max": "4", "server.workers": "1", "throttle.address": ""})
    holding = [Wire(server.http_port) for _ in range(12)]
    for n in range(4):
        with Wire(server.http_port) as w:
            assert w.ask(v2("192.0.2.1") + message(server)).status == 202
    assert server.metric("openings_evicted_total") >= 8
    for w in holding:
        w.close()


def test_a_fleet_at_once_waits_and_is_served(behind):
    server = behind(**{"listen.opening_max": "4", "server.workers": "1", "throttle.address": ""})
    fleet = [Wire(server.http_port) for _ in range(60)]
    for w in fleet:
        w.send(v2("192.0.2.1") + message(server))
    assert [w.read().status for w in fleet] == [202] * 60
    assert server.metric("openings_evicted_total") == 0
    for w in fleet:
        w.close()


def test_a_stop_does_not_wait_for_headers(behind):
    server = behind()
    with Wire(server.http_port) as silent, Wire(server.http_port) as dawdling:
        dawdling.send(b"PROXY ")
        wait_for("both", lambda: server.metric("connections_open") >= 2)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 5
        assert silent.rest() == dawdling.rest() == b""


def test_only_proxies_owe_a_header(behind):
    server = behind(**{"listen.trusted_proxies": "10.0.0.0/8"})
    with Wire(server.http_port) as w:
        assert w.ask(message(server)).status == 202


class UnixWire(Wire):
    """The same at a Unix socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(path))
        self.buffer = b""


def next_page(w, server, fields):
    """The scheme of the link to it."""
    w.ask(request("POST", "/v1/telemetry", server.owner.auth, [{"f": 1}, {"f": 2}]))
    got = w.ask(request("GET", f"{server.owner.api}/feeds/f/data?limit=1", {**server.owner.key_auth, **fields},
                        host="example.org"))
    return got["link"].partition("://")[0].rpartition("<")[2]


@pytest.mark.parametrize("trusted, scheme", [("10.0.0.0/8", "https"), ("", "http")])
def test_a_proxy_at_a_unix_socket(make_server, tmp_path, trusted, scheme):
    """It is believed if any is: the file's permissions say who it may be."""
    server = make_server({"listen.trusted_proxies": trusted, "throttle.address": "2/60s"}, start=False)
    server.settings["listen.http"] += f",{tmp_path}/http.sock"
    server.start()
    server.owner = owner_on(server, "ann")
    with UnixWire(tmp_path / "http.sock") as w:
        assert next_page(w, server, {"X-Forwarded-Proto": "https"}) == scheme
        sources = [f"192.0.2.{i}" for i in (1, 1, 1, 2)]
        for source in sources:
            w.send(request("POST", "/v1/telemetry", {**server.owner.auth, "X-Forwarded-For": source}, {"a": 1}))
        statuses = [w.read().status for _ in sources]
    assert statuses == ([202, 202, 429, 202] if trusted else [429] * 4)


def test_a_proxy_that_says_it_by_both(behind):
    """The connection's header names the client, the request's says how it came."""
    server = behind(**{"throttle.address": ""})
    with Wire(server.http_port) as w:
        w.send(v2("192.0.2.1"))
        assert next_page(w, server, {"X-Forwarded-Proto": "https"}) == "https"
        assert next_page(w, server, {"X-Forwarded-Proto": "http"}) == "http"
        assert next_page(w, server, {"X-Forwarded-Proto": "https, http"}) == "http"
        assert next_page(w, server, {"Forwarded": "proto=https"}) == "http"


def test_the_standard_header(make_server):
    server = make_server({"listen.trusted_proxies": "127.0.0.0/8", "listen.forwarded_header": "forwarded"})
    server.owner = owner_on(server, "ann")
    with Wire(server.http_port) as w:
        assert next_page(w, server, {"Forwarded": "for=192.0.2.1;proto=https"}) == "https"
        assert next_page(w, server, {"X-Forwarded-Proto": "https"}) == "http"


def test_two_proxies_of_which_each_adds_a_field(make_server):
    """As HAProxy's `option forwardfor` does: all of them are one list."""
    server = make_server({"listen.trusted_proxies": "127.0.0.0/8,10.0.0.0/8", "throttle.address": "1/60s"})
    owner = owner_on(server, "ann")

    def ask(*hops):
        added = "".join(f"X-Forwarded-For: {hop}\r\n" for hop in hops)
        with Wire(server.http_port) as w:
            message = request("POST", "/v1/telemetry", owner.auth, {"a": 1})
            return w.ask(message.replace(b"\r\n", f"\r\n{added}".encode(), 1)).status

    assert [ask("192.0.2.1", "10.0.0.1"), ask("192.0.2.1", "10.0.0.1"), ask("192.0.2.2", "10.0.0.1")] == [202, 429, 202]
    assert ask("6.6.6.6", "192.0.2.1", "10.0.0.2, 10.0.0.1") == 429
