# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on the wire: what is served, what is refused, and when a connection ends."""
import json
import os
import resource
import signal
import socket
import subprocess
import time

import pytest
import requests

from conftest import owner_on
from harness import wait_for
from wire import Closed, Wire, chunks, request

TARGET = "/v1/telemetry"


def post(owner, body, target=TARGET, **headers):
    return request("POST", target, {**owner.auth, "Content-Type": "application/json", **headers},
                   body)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def last(server, owner, feed):
    """The newest value of a feed, or None."""
    r = requests.get(f"{owner.url}/feeds/{feed}/data/last", headers=owner.key_auth, timeout=10)
    return r.json()["value"] if r.status_code == 200 else None


# ---- real clients ----

def test_curl(server, owner, feed):
    run = subprocess.run(
        ["curl", "-sS", "-w", "\n%{http_code} %{content_type}", server.url + TARGET,
         "-H", f"X-Device-Id: {owner.device}", "-H", f"X-Device-Token: {owner.secret}",
         "-H", "Content-Type: application/json", "-d", json.dumps({feed: 21.5})],
        capture_output=True, text=True, timeout=20)
    body, tail = run.stdout.rsplit("\n", 1)
    assert tail.startswith("202 application/json"), run
    answer = json.loads(body)
    assert answer["accepted"] == 1 and answer["ack"] == "durable"
    assert isinstance(answer["position"]["offset"], int) and answer["position"]["shard"] == 0
    assert answer["position"]["log"]
    assert last(server, owner, feed) == "21.5"


def test_curl_sends_form_and_large_body_with_expect(server, owner, feed):
    """curl announces bodies above 1 MiB with Expect: 100-continue; smaller ones when told to."""
    body = json.dumps([{feed: "x" * 1000} for _ in range(900)])
    run = subprocess.run(
        ["curl", "-sS", "-v", "-w", "\n%{http_code}", server.url + TARGET, "-H", "Expect: 100-continue",
         "-u", f"{owner.device}:{owner.secret}", "-H", "Content-Type: application/json", "-d", "@-"],
        input=body, capture_output=True, text=True, timeout=20)
    assert run.stdout.endswith("\n202"), run.stdout
    assert "HTTP/1.1 100 Continue" in run.stderr
    assert json.loads(run.stdout.rsplit("\n", 1)[0])["accepted"] == 900


def test_requests_session_keeps_its_connection(server, owner, feed):
    before = server.metric("connections_accepted_total")
    with requests.Session() as s:
        offsets = [s.post(server.url + TARGET, headers=owner.auth, json={feed: i}, timeout=10)
                   .json()["position"]["offset"] for i in range(50)]
    assert offsets == sorted(set(offsets))
    # The connections of these two scrapes are on the operator's listener; at most they count too.
    assert server.metric("connections_accepted_total") - before <= 3


# ---- connections ----

def test_keep_alive_and_close(wire, owner, feed):
    w = wire()
    for _ in range(3):
        assert w.ask(post(owner, {feed: 1})).status == 202
    r = w.ask(post(owner, {feed: 1}, Connection="close"))
    assert r.status == 202 and r["connection"].lower() == "close"
    assert w.rest() == b""


def test_http_1_0(wire, owner, feed):
    w = wire()
    old = request("POST", TARGET, owner.auth, {feed: 1}, version="HTTP/1.0")
    assert w.ask(old).status == 202
    assert w.rest() == b""
    w = wire()
    kept = request("POST", TARGET, {**owner.auth, "Connection": "keep-alive"}, {feed: 1},
                   version="HTTP/1.0")
    for _ in range(2):
        r = w.ask(kept)
        assert r.status == 202 and r["connection"].lower() == "keep-alive"


@pytest.mark.parametrize("n", [2, 32, 33, 300])
def test_pipelining_answers_in_order(wire, owner, feed, n):
    w = wire()
    w.send(b"".join(post(owner, {feed: i}) for i in range(n)))
    offsets = [w.read().json()["position"]["offset"] for _ in range(n)]
    assert offsets == sorted(set(offsets)) and len(offsets) == n
    assert w.silent()


def test_pipelining_mixes_writes_reads_and_refusals(wire, owner, feed):
    w = wire()
    read = request("GET", f"{owner.api}/feeds/{feed}/data/last", owner.key_auth)
    w.send(post(owner, {feed: "one"}) + read + post(owner, "{") + request("GET", "/nowhere") +
           post(owner, {feed: "two"}) + read)
    got = [w.read() for _ in range(6)]
    assert [r.status for r in got] == [202, 200, 422, 404, 202, 200]
    # Each read sees what was accepted before it on its own connection, and nothing later.
    assert [got[1].json()["value"], got[5].json()["value"]] == ["one", "two"]


def long_answers(w, owner, feed, slowly):
    """Lists of 330 kB between short answers, on one connection."""
    w.send(b"".join(post(owner, {feed: f"{i:03}" * 300}) for i in range(300)))
    assert [w.read().status for _ in range(300)] == [202] * 300
    data = f"{owner.api}/feeds/{feed}/data"
    long, short = request("GET", data, owner.key_auth), request("GET", data + "/last", owner.key_auth)
    want = [d["value"] for d in requests.get(owner.url + f"/feeds/{feed}/data", headers=owner.key_auth, timeout=10).json()]
    assert want == [f"{i:03}" * 300 for i in reversed(range(300))]
    for asked in [[long] * 20] if slowly else [[long], [long, short], [short, long, long, short, long]]:
        w.send(b"".join(asked))
        if slowly:
            time.sleep(0.5)
        for one in asked:
            r = w.read()
            assert r.status == 200 and len(r.body) == int(r["content-length"])
            assert [d["value"] for d in r.json()] == want if one is long else r.json()["value"] == want[0]
    head = w.send(request("HEAD", data, owner.key_auth)).read(head=True)
    assert int(head["content-length"]) > 300 * 900 and not head.body
    assert w.silent()


@pytest.mark.parametrize("slowly", [False, True])
def test_long_answers_between_short_ones(wire, owner, feed, slowly):
    """They are sent behind their head without being copied; what the kernel does not take is kept. Of 20 at once (6.5 MB) that
    is a part of one and all that follows it."""
    long_answers(wire(), owner, feed, slowly)


def test_a_long_answer_that_another_waited_for(wire, owner, feed):
    """The second is done first, so both leave in one write."""
    w = wire()
    assert w.ask(post(owner, {feed: 1})).status == 202
    data = [{"value": f"{i:03}"} for i in range(100)]
    batch = request("POST", f"{owner.api}/feeds/{feed}/data/batch", {**owner.key_auth, "Content-Type": "application/json"},
                    {"data": data})
    for _ in range(5):
        w.send(batch + post(owner, "{"))
        first, second = w.read(), w.read()
        assert first.status == 200 and len(first.body) > 4096 and second.status == 422
        assert [d["value"] for d in first.json()] == [d["value"] for d in data]
    assert w.silent()


def test_half_closed_client_still_gets_its_answer(wire, owner, feed):
    w = wire()
    w.send(post(owner, {feed: 7}))
    w.sock.shutdown(socket.SHUT_WR)
    assert w.read().status == 202
    assert w.rest() == b""


# ---- bodies ----

@pytest.mark.parametrize("cuts", [(), (1,), (3, 4, 5), tuple(range(1, 20))])
def test_chunked(wire, server, owner, feed, cuts):
    body = json.dumps({feed: "in pieces"}).encode()
    edges = [0, *cuts, len(body)]
    parts = [body[a:b] for a, b in zip(edges, edges[1:])]
    w = wire()
    r = w.ask(post(owner, chunks(*parts), **{"Transfer-Encoding": "chunked"}))
    assert r.status == 202, r
    assert last(server, owner, feed) == "in pieces"


def test_chunk_extensions_and_trailers_are_read_over(wire, owner, feed):
    body = json.dumps({feed: 1}).encode()
    coded = b"%x;name=value\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body)
    w = wire()
    for _ in range(2):
        assert w.ask(post(owner, coded, **{"Transfer-Encoding": "chunked"})).status == 202


def test_expect_100_continue(wire, owner, feed):
    body = json.dumps({feed: 1}).encode()
    whole = post(owner, body, Expect="100-continue")
    w = wire()
    w.send(whole[:-len(body)])
    assert w._head() == (100, [])
    assert w.ask(body).status == 202
    # A body that comes along needs no invitation, and may get one.
    r = w.ask(whole)
    assert r.status == 202 and r.interim in ([], [100])


def test_expect_is_not_answered_when_the_body_is_unwanted(server, owner, feed):
    for headers, status in [({"Expect": "100-continue", "Content-Length": "99999999"}, 413),
                            ({"Expect": "200-maybe", "Content-Length": "5"}, 417)]:
        with Wire(server.http_port) as w:
            r = w.ask(request("POST", TARGET, {**owner.auth, **headers}))
            assert (r.status, r.interim) == (status, [])
            assert w.rest() == b""


def test_get_with_a_body_is_framed(wire, owner):
    w = wire()
    get = request("GET", TARGET, owner.auth, "{}")
    assert [w.ask(get).status for _ in range(2)] == [200, 200]


# ---- methods ----

def test_head_is_get_without_the_body(wire, owner, feed):
    w = wire()
    w.ask(post(owner, {feed: 1}))
    get = w.ask(request("GET", TARGET, owner.auth))
    head = w.ask(request("HEAD", TARGET, owner.auth), head=True)
    assert head.status == get.status == 200
    assert head["content-length"] == get["content-length"] == str(len(get.body))
    assert w.ask(request("HEAD", "/nowhere", owner.auth), head=True).status == 404
    assert w.ask(request("GET", TARGET, owner.auth)).status == 200  # nothing was left behind


def test_options_and_cors(wire, owner):
    w = wire()
    preflight = request("OPTIONS", TARGET, {"Origin": "https://a.example",
                                            "Access-Control-Request-Method": "POST",
                                            "Access-Control-Request-Headers": "X-AIO-Key"})
    r = w.ask(preflight)
    assert r.status in (200, 204)
    assert r["access-control-allow-origin"] == "*"
    for method in ("GET", "POST", "DELETE"):
        assert method in r["access-control-allow-methods"]
    allowed = r["access-control-allow-headers"].lower()
    for name in ("x-aio-key", "x-device-id", "x-device-token", "content-type", "authorization"):
        assert name in allowed
    r = w.ask(request("GET", TARGET, {**owner.auth, "Origin": "https://a.example"}))
    assert r["access-control-allow-origin"] == "*"
    r = w.ask(request("GET", TARGET, {"Origin": "https://a.example"}))
    assert r.status == 401 and r["access-control-allow-origin"] == "*"


def test_cors_can_be_turned_off(make_server):
    s = make_server({"http.cors_origin": ""})
    r = requests.get(s.url + TARGET, headers={"Origin": "https://a.example"}, timeout=10)
    assert "access-control-allow-origin" not in r.headers


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW", "get"])
def test_other_methods(wire, owner, method):
    w = wire()
    r = w.ask(request(method, TARGET, owner.auth))
    assert r.status in (405, 501), r
    assert r.json()["error"]
    if r.status == 405:
        assert "POST" in r["allow"]


def test_every_refusal_is_json_with_an_error(server, owner, feed):
    for status, data in [
            (404, request("GET", "/")),
            (404, request("GET", "/v1/nothing", owner.auth)),
            (401, request("POST", TARGET, {}, {feed: 1})),
            (401, request("GET", f"{owner.api}/feeds")),
            (404, request("GET", f"{owner.api}/feeds/none-such", owner.key_auth)),
            (415, post(owner, "--x--", **{"Content-Type": "multipart/form-data; boundary=x"})),
            (422, post(owner, "")),
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
            (414, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n")]:
        with Wire(server.http_port) as w:
            r = w.ask(data)
            assert r.status == status, (r, data[:200])
            assert r["content-type"].startswith("application/json")
            assert isinstance(r.json()["error"], str) and r.json()["error"]


# ---- what two parsers could read differently ----

AUTH = "@AUTH@"


def smuggle(*lines, body=b"", first="POST /v1/telemetry HTTP/1.1", host="Host: a"):
    head = [first, host, AUTH, *lines]
    return b"\r\n".join(x if isinstance(x, bytes) else x.encode() for x in head if x) + \
        b"\r\n\r\n" + body


SMUGGLED = b"POST /v1/telemetry HTTP/1.1\r\nHost: a\r\n@AUTH@\r\nContent-Length: 14\r\n\r\n{\"smuggled\":1}"
CHUNKED = "Transfer-Encoding: chunked"
OK_BODY = b"{\"cover\":1}"
OK_LENGTH = f"Content-Length: {len(OK_BODY)}"
CORPUS = {
    "CL.TE": smuggle("Content-Length: 6", CHUNKED, body=b"0\r\n\r\n"),
    "TE.CL": smuggle(CHUNKED, "Content-Length: 4", body=b"0\r\n\r\n"),
    "TE twice": smuggle(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "TE chunked, identity": smuggle("Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
    "TE identity, chunked": smuggle("Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
    "TE xchunked": smuggle("Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "TE empty": smuggle("Transfer-Encoding:", body=b"0\r\n\r\n"),
    "TE quoted": smuggle('Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"),
    "TE VT": smuggle("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "TE FF": smuggle("Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n"),
    "TE NUL": smuggle("Transfer-Encoding: chunked\x00", body=b"0\r\n\r\n"),
    "TE blank before colon": smuggle("Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "TE folded": smuggle("Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "TE in HTTP/1.0": smuggle(CHUNKED, body=b"0\r\n\r\n", first="POST /v1/telemetry HTTP/1.0"),
    "CL twice, different": smuggle("Content-Length: 0", OK_LENGTH, body=OK_BODY),
    "CL twice, equal": smuggle(OK_LENGTH, OK_LENGTH, body=OK_BODY),
    "CL list": smuggle("Content-Length: 11, 11", body=OK_BODY),
    "CL plus": smuggle("Content-Length: +11", body=OK_BODY),
    "CL minus": smuggle("Content-Length: -11", body=OK_BODY),
    "CL hex": smuggle("Content-Length: 0xb", body=OK_BODY),
    "CL inner blank": smuggle("Content-Length: 1 1", body=OK_BODY),
    "CL underscore": smuggle("Content-Length: 1_1", body=OK_BODY),
    "CL empty": smuggle("Content-Length:", body=OK_BODY),
    "CL fraction": smuggle("Content-Length: 11.0", body=OK_BODY),
    "CL octal": smuggle("Content-Length: 011", body=OK_BODY),
    "CL folded": smuggle("Content-Length:\r\n 11", body=OK_BODY),
    "CL blank before colon": smuggle("Content-Length : 11", body=OK_BODY),
    "obs-fold": smuggle("X-A: b\r\n c", OK_LENGTH, body=OK_BODY),
    "fold first": smuggle(" X-A: b", OK_LENGTH, body=OK_BODY),
    "bare LF": smuggle(b"X-A: b\nX-C: d", OK_LENGTH, body=OK_BODY),
    "bare CR": smuggle(b"X-A: b\rX-C: d", OK_LENGTH, body=OK_BODY),
    "LF ends the head": b"POST /v1/telemetry HTTP/1.1\nHost: a\n\n",
    "NUL in a value": smuggle(b"X-A: b\x00c", OK_LENGTH, body=OK_BODY),
    "NUL in a name": smuggle(b"X-\x00A: b", OK_LENGTH, body=OK_BODY),
    "empty name": smuggle(": b", OK_LENGTH, body=OK_BODY),
    "no colon": smuggle("X-A", OK_LENGTH, body=OK_BODY),
    "no Host": smuggle(OK_LENGTH, body=OK_BODY, host=""),
    "two Hosts": smuggle("Host: b", OK_LENGTH, body=OK_BODY),
    "Host list": smuggle(OK_LENGTH, body=OK_BODY, host="Host: a, b"),
    "Host and target differ": smuggle(OK_LENGTH, body=OK_BODY,
                                      first="POST http://b/v1/telemetry HTTP/1.1"),
    "two blanks": smuggle(OK_LENGTH, body=OK_BODY, first="POST  /v1/telemetry HTTP/1.1"),
    "tab for blank": smuggle(OK_LENGTH, body=OK_BODY, first="POST\t/v1/telemetry HTTP/1.1"),
    "blank behind version": smuggle(OK_LENGTH, body=OK_BODY, first="POST /v1/telemetry HTTP/1.1 "),
    "HTTP/0.9": b"GET /v1/telemetry\r\n",
    "lower case version": smuggle(OK_LENGTH, body=OK_BODY, first="POST /v1/telemetry http/1.1"),
    "fragment": smuggle(OK_LENGTH, body=OK_BODY, first="POST /v1/telemetry#a HTTP/1.1"),
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "chunk size 0x": smuggle(CHUNKED, body=b"0xb\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size underscore": smuggle(CHUNKED, body=b"0_b\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size plus": smuggle(CHUNKED, body=b"+b\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size minus": smuggle(CHUNKED, body=b"-b\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size blank first": smuggle(CHUNKED, body=b" b\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size empty": smuggle(CHUNKED, body=b"\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size 17 digits": smuggle(CHUNKED, body=b"0000000000000000b\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk size 2^64": smuggle(CHUNKED, body=b"1000000000000000b\r\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk ended by LF": smuggle(CHUNKED, body=b"b\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "chunk data without CRLF": smuggle(CHUNKED, body=b"b\r\n" + OK_BODY + b"0\r\n\r\n"),
    "chunk data with LF": smuggle(CHUNKED, body=b"b\r\n" + OK_BODY + b"\n0\r\n\r\n"),
    "chunk extension with LF": smuggle(CHUNKED, body=b"b;a\n" + OK_BODY + b"\r\n0\r\n\r\n"),
    "trailer with LF": smuggle(CHUNKED, body=b"b\r\n" + OK_BODY + b"\r\n0\r\nX: y\n\r\n"),
    "trailer without colon": smuggle(CHUNKED, body=b"b\r\n" + OK_BODY + b"\r\n0\r\nX\r\n\r\n"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_smuggling_is_refused_once_and_the_connection_closed(server, owner, name):
    auth = b"\r\n".join(f"{n}: {v}".encode() for n, v in owner.auth.items())
    with Wire(server.http_port) as w:
        try:
            w.send((CORPUS[name] + SMUGGLED).replace(b"@AUTH@", auth))
            r = w.read()
        except Closed:
            # Closing with unread bytes may reset the connection before the answer is read.
            r = None
        rest = w.rest()
    allowed = (400, 501) if name.startswith("TE ") else (400,)
    assert r is None or r.status in allowed, r
    assert r is None or r["connection"].lower() == "close"
    assert b"HTTP/1.1" not in rest, "the bytes behind it were read as a request"
    assert last(server, owner, "smuggled") is None and last(server, owner, "cover") is None


def test_the_corpus_only_differs_by_its_faults(server, owner):
    """The same requests without a fault are accepted: so it is the fault that is refused."""
    auth = b"\r\n".join(f"{n}: {v}".encode() for n, v in owner.auth.items())
    good = [smuggle(OK_LENGTH, body=b"{\"right\":1}"),
            smuggle(CHUNKED, body=b"b\r\n{\"right\":2}\r\n0\r\nX: y\r\n\r\n"),
            smuggle(CHUNKED, body=b"000b;a=b\r\n{\"right\":3}\r\n0\r\n\r\n"),
            smuggle(OK_LENGTH, body=b"{\"right\":4}", first="POST http://a/v1/telemetry HTTP/1.1"),
            b"\r\n" + smuggle(OK_LENGTH, body=b"{\"right\":5}")]
    with Wire(server.http_port) as w:
        for data in good:
            assert w.ask(data.replace(b"@AUTH@", auth)).status == 202, data


# ---- limits: just below, at, just above ----

def padded_head(owner, bytes_wanted):
    data = request("GET", TARGET, {**owner.auth, "X-Pad": ""})
    pad = bytes_wanted - len(data)
    return data.replace(b"X-Pad: ", b"X-Pad: " + b"p" * pad)


@pytest.mark.parametrize("over,status", [(-1, 200), (0, 200), (1, 431)])
def test_limit_of_the_head(wire, owner, over, status):
    assert wire().ask(padded_head(owner, 16384 + over)).status == status


@pytest.mark.parametrize("over,status", [(-1, 200), (0, 200), (1, 414)])
def test_limit_of_the_target(wire, owner, over, status):
    target = TARGET + "?a=" + "b" * (8192 + over - len(TARGET) - 3)
    assert wire().ask(request("GET", target, owner.auth)).status == status


@pytest.mark.parametrize("over,status", [(-1, 200), (0, 200), (1, 431)])
def test_limit_of_the_fields(wire, owner, over, status):
    fields = {**owner.auth, **{f"X-{i}": "a" for i in range(64 + over - 3)}}
    assert wire().ask(request("GET", TARGET, fields)).status == status


def body_of(feed, size):
    """A body of exactly so many bytes that is accepted: an array, filled with blanks."""
    text = json.dumps([{feed: 1}])
    return text + " " * (size - len(text))


@pytest.mark.parametrize("coding", ["length", "chunked"])
@pytest.mark.parametrize("over,status", [(-1, 202), (0, 202), (1, 413)])
def test_limit_of_the_body(server, wire, owner, feed, over, status, coding):
    body = body_of(feed, 1048576 + over).encode()
    w = wire()
    if coding == "length":
        data = post(owner, body)
    else:
        parts = [body[i:i + 65536] for i in range(0, len(body), 65536)]
        data = post(owner, chunks(*parts), **{"Transfer-Encoding": "chunked"})
    try:
        r = w.ask(data)
    except (Closed, BrokenPipeError, ConnectionResetError):
        assert status == 413, "closed though it was within the limit"
        return
    assert r.status == status
    if status == 413:
        w.rest()


def test_refused_body_is_told_before_it_comes(server, owner):
    with Wire(server.http_port) as w:
        r = w.ask(request("POST", TARGET, {**owner.auth, "Content-Length": "1048577"}))
        assert r.status == 413
        assert w.rest() == b""


def test_limit_of_connections(make_server):
    s = make_server({"http.connections_max": "8"})
    open_ones = [Wire(s.http_port) for _ in range(8)]
    for w in open_ones:
        assert w.ask(request("GET", "/nowhere")).status == 404
    refused = s.metric("connections_refused_total")
    with Wire(s.http_port) as w:
        try:
            w.send(request("GET", "/nowhere"))
        except OSError:
            pass
        assert b"404" not in w.rest()
    assert s.metric("connections_refused_total") == refused + 1
    open_ones.pop().close()

    def again():
        with Wire(s.http_port) as w:
            try:
                return w.ask(request("GET", "/nowhere")).status == 404
            except (Closed, OSError):
                return False

    wait_for("a free place", again)
    for w in open_ones:
        w.close()


# ---- time ----

def test_no_descriptors_left_is_no_busy_loop(make_server):
    server = make_server()
    fds = len(os.listdir(f"/proc/{server.pid}/fd"))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (fds + 30, 4096))
    wires = [Wire(server.http_port) for _ in range(80)]
    closed = 0
    for w in wires:
        w.sock.settimeout(2)
        try:
            w.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            closed += w.read().status != 200
        except (Closed, OSError):
            closed += 1
    assert 20 <= closed < 80
    before = cpu_seconds(server.pid)
    time.sleep(1)
    assert cpu_seconds(server.pid) - before < 0.7
    for w in wires:
        w.close()

    def serves():
        try:
            return requests.get(server.url + "/healthz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False  # what was closed here is still open there

    wait_for("a connection", serves)


def test_a_last_request_may_wait_for_its_answer(make_server):
    """The body's deadline ends with the body, also on a connection that takes no further request."""
    server = make_server({"journal.disk": "slow"})
    owner = owner_on(server, "a")
    (server.data / "journal" / "slow_ms").write_text("1500")
    last = request("POST", "/v1/telemetry", {**owner.auth, "Connection": "close"}, {"f": "1"})
    first = request("POST", "/v1/telemetry", owner.auth, {"new": "1"})
    with Wire(server.http_port) as a, Wire(server.http_port) as b, Wire(server.http_port) as c:
        for w, data in (a, last), (b, last + b"\r\n"), (c, first + last):
            w.sock.settimeout(60)
            w.send(data[:len(first) - 2])
            w.later = data[len(first) - 2:]
        time.sleep(0.3)
        for w in a, b, c:
            w.send(w.later)
        for w in a, b, c, c:
            assert w.read().status == 202
    (server.data / "journal" / "slow_ms").write_text("0")


def test_slowloris_meets_one_deadline_for_the_whole_head(make_server):
    s = make_server({"http.head_timeout": "500ms"})
    with Wire(s.http_port) as w:
        begun = time.monotonic()
        data = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000
        got = b""
        w.sock.settimeout(0.05)
        for byte in data:
            try:
                w.send(bytes([byte]))
                got += w.sock.recv(65536)
                break
            except TimeoutError:
                pass
            except OSError:
                break
            assert time.monotonic() - begun < 5, "a trickling head is never ended"
        w.sock.settimeout(5)
        try:
            got += w.rest()
        except OSError:
            pass
        took = time.monotonic() - begun
        assert 0.4 < took < 3, took
        assert got == b"" or b" 408 " in got.split(b"\r\n")[0]
    assert s.metric("connections_timed_out_total") >= 1


def test_idle_connections_are_closed_silently(make_server):
    s = make_server({"http.idle_timeout": "500ms"})
    with Wire(s.http_port) as used:
        assert used.ask(request("GET", "/nowhere")).status == 404
        begun = time.monotonic()
        assert used.rest() == b""
        assert 0.3 < time.monotonic() - begun < 3
    # What is busy is not idle.
    with Wire(s.http_port) as w:
        for _ in range(8):
            assert w.ask(request("GET", "/nowhere")).status == 404
            time.sleep(0.2)


def test_body_must_come_at_a_rate(make_server):
    s = make_server({"http.body_rate_min": "100000"})
    slow = owner_on(s, "slow")
    with Wire(s.http_port) as w:
        w.send(request("POST", TARGET, {**slow.auth, "Content-Length": "100000"}))
        begun = time.monotonic()
        w.sock.settimeout(0.2)
        got = b""
        while time.monotonic() - begun < 15:
            try:
                w.send(b" " * 10)
                got = w.sock.recv(65536)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        took = time.monotonic() - begun
        assert took < 12, "a trickling body is never ended"
        assert 3 < took, "it has five seconds to come up to the rate"
        assert got == b"" or got.split(b" ")[1] == b"408", got


# ---- cuts ----

def test_every_split_point(server, owner, feed):
    """However a request is cut in two, the answer is that of the whole."""
    data = post(owner, {feed: "cut"}) + post(
        owner, chunks(b'{"' + feed.encode(), b'":"cut"}'), **{"Transfer-Encoding": "chunked"})
    with Wire(server.http_port) as w:
        for cut in range(1, len(data)):
            w.send(data[:cut])
            if cut % 8 == 0:
                time.sleep(0.001)  # let some of them really arrive apart
            w.send(data[cut:])
            assert [w.read().status, w.read().status] == [202, 202], cut


def test_byte_by_byte(server, owner, feed):
    data = post(owner, {feed: "bytes"})
    with Wire(server.http_port) as w:
        for byte in data:
            w.send(bytes([byte]))
        assert w.read().status == 202
    assert last(server, owner, feed) == "bytes"


def test_reset_at_every_point_harms_nobody(server, owner, feed):
    import struct
    data = post(owner, {feed: "reset"})
    for cut in range(0, len(data) + 1, 7):
        w = Wire(server.http_port)
        w.send(data[:cut])
        w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        w.close()
    with Wire(server.http_port) as w:
        assert w.ask(data).status == 202
    wait_for("the connections to go", lambda: server.metric("connections_open") <= 5)


def test_client_that_never_reads_is_not_read_from(make_server):
    """Its answers would pile up in memory: the server must stop taking its requests instead."""
    server = make_server({"server.workers": "1", "http.write_timeout": "60s"})
    with Wire(server.http_port, timeout=2) as w:
        many = request("GET", "/healthz") * 1000
        took = 0
        try:
            while took < 40 << 20:
                took += w.sock.send(many)
        except TimeoutError:
            pass
        assert took < 40 << 20, "the server takes requests without end"
        held = server.metric("http_requests_total")
        # Once the client reads, everything that was sent whole is answered.
        w.sock.settimeout(10)
        want, got, edge = took // len(request("GET", "/healthz")), 0, b""
        while got < want:
            more = w.sock.recv(1 << 20)
            assert more, f"closed after {got} of {want} answers"
            got += (edge + more).count(b"HTTP/1.1 200 ")
            edge = more[-12:]
        assert server.metric("http_requests_total") > held


def test_requests_of_one_turn_keep_their_bytes(make_server):
    """Two requests in one packet, between packets of others that are read in the same turn: the second
    one is still put off when the others' bytes arrive."""
    server = make_server({"server.workers": "1"})
    owner = owner_on(server, "turns")
    wires = [Wire(server.http_port) for _ in range(12)]
    for i, w in enumerate(wires):
        assert w.ask(request("POST", TARGET, owner.auth, {f"feed-{i}": "warm"})).status == 202
    os.kill(server.pid, signal.SIGSTOP)
    for i, w in enumerate(wires):
        w.send(b"".join(request("POST", TARGET, owner.auth, {f"feed-{i}": f"{n} of {i:02}"})
                        for n in ("first", "second")))
    os.kill(server.pid, signal.SIGCONT)
    for w in wires:
        assert [w.read().status, w.read().status] == [202, 202]
        w.close()
    for i in range(len(wires)):
        r = requests.get(f"{owner.url}/feeds/feed-{i}/data", headers=owner.key_auth, timeout=10)
        assert [d["value"] for d in r.json()][::-1] == ["warm", f"first of {i:02}", f"second of {i:02}"]


@pytest.mark.parametrize("trusted, scheme", [("127.0.0.0/8", "https"), ("10.0.0.0/8", "http")])
def test_what_comes_next_is_asked_for_as_this_was(make_server, trusted, scheme):
    """By TLS, if a proxy that is believed says that its client came so."""
    server = make_server({"listen.trusted_proxies": trusted})
    owner = owner_on(server, "ann")
    with Wire(server.http_port) as w:
        assert w.ask(request("POST", TARGET, owner.auth, [{"f": 1}, {"f": 2}])).status == 202
        got = w.ask(request("GET", f"{owner.api}/feeds/f/data?limit=1",
                            {**owner.key_auth, "X-Forwarded-Proto": "https"}, host="example.org"))
        assert f'rel="next", <{scheme}://example.org/' in got["link"]


def test_a_long_query_is_no_fault_of_ours(wire, owner, feed):
    w = wire()
    assert w.ask(request("POST", TARGET, owner.auth, {feed: 1})).status == 202
    got = w.ask(request("GET", f"{owner.api}/feeds/{feed}/data?x={'y' * 7900}", owner.key_auth))
    assert got.status == 200 and len(got.json()) == 1
