# SPDX-License-Identifier: Apache-2.0
"""`sluice load --verify`: what the real server stored is what it acknowledged, and a server that lies is found out."""
import http.client
import json
import os
import pty
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import BIN, wait_for


def fleet_on(server, folder):
    """One account, three devices of it in a file, and a key to read."""
    server.add_account("demo")
    csv = folder / "devices.csv"
    csv.write_text("".join(f"{auth['X-Device-Id']},{auth['X-Device-Token']}\n" for auth in
                           server.add_devices("demo", [(f"d{i}", None, None) for i in range(3)])))
    return server, csv, server.add_key("demo")


@pytest.fixture(scope="module")
def fleet(server, tmp_path_factory):
    return fleet_on(server, tmp_path_factory.mktemp("fleet"))


def load(url, *args, status=0):
    """The results of a run as JSON, and what it printed."""
    run = subprocess.run([BIN, "load", url, "--quiet", "--json", "/dev/fd/2", *(str(a) for a in args)],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == status, (run.returncode, run.stdout, run.stderr)
    return json.loads(run.stderr), run.stdout


def mqtt(server):
    return f"mqtt://127.0.0.1:{server.mqtt_port}"


def test_http_stores_what_it_acknowledges(fleet, feed):
    """More than one page of a feed, and twice: the second run does not see the first one's."""
    server, csv, key = fleet
    for _ in range(2):
        got, printed = load(server.url, "--devices", csv, "--connections", 8, "--requests", 4000, "--verify", key,
                            "--feed", feed + "-%device%")
        v = got["verified"]
        assert v["sound"] and v["acked"] == v["stored"] == 4000 and v["feeds_wrong"] == 0
        assert "4000 of 4000 acknowledged messages are stored once" in printed


def test_mqtt_stores_what_it_acknowledges(fleet, tmp_path):
    server, csv, key = fleet
    log = tmp_path / "acks"
    got, _ = load(mqtt(server), "--devices", csv, "--connections", 4, "--topic", "demo/f/%device%-%feed%",
                  "--feeds", 5, "--requests", 3000, "--verify", key, "--verify-url", server.url, "--ack-log", log)
    v = got["verified"]
    assert v["sound"] and v["acked"] == v["stored"] == 3000
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len({line[0] for line in lines}) == 3000 and all(line[3].endswith(line[0]) for line in lines)
    assert {line[2] for line in lines} == {f"d{d}-{f:06d}" for d in range(3) for f in range(5)}


@pytest.mark.parametrize("protocol", ["http", "mqtt"])
def test_payloads_of_ones_own(fleet, feed, protocol):
    """Templates; a storm of connections in between."""
    server, csv, key = fleet
    args = ["--devices", csv, "--connections", 6, "--seconds", 1, "--rate", 500, "--storm", 0.5, "--verify", key]
    if protocol == "http":
        got, _ = load(server.url, *args, "--feed", feed + "-%device%", "--payload",
                      '{"%s-%%device%%":{"value":"%%random%% %%seq%%"}}' % feed)
    else:
        got, _ = load(mqtt(server), *args, "--topic", f"demo/feeds/{feed}", "--payload", "n=%seq%", "--verify-url",
                      server.url)
    v = got["verified"]
    assert v["sound"] and v["acked"] == v["stored"] > 0, got
    assert got["connect_ms"]["max"] > 0 and not got["broken"]


@pytest.mark.parametrize("protocol", ["http", "mqtt"])
def test_what_is_refused_is_not_stored(fleet, protocol):
    """A device that is over its rate is refused, and that is not stored."""
    server, _, _ = fleet
    account = f"tight-{protocol}"
    server.add_account(account, device_limits="50/60s")
    secret, key = server.add_device(account, f"slow-{protocol}"), server.add_key(account)
    args = ["--device", f"slow-{protocol}", "--token", secret, "--connections", 2, "--requests", 200, "--verify", key]
    if protocol == "http":
        got, _ = load(server.url, *args)
    else:
        got, _ = load(mqtt(server), *args, "--topic", f"{account}/feeds/m", "--verify-url", server.url)
    v = got["verified"]
    assert v["sound"] and v["acked"] == v["stored"] > 0 and v["refused"] > 0
    assert v["acked"] + v["refused"] + v["unknown"] == 200


def test_a_crash_loses_nothing_acknowledged(make_server, tmp_path):
    """kill -9 while it runs, and a start before it reads: of what had no answer anything may be so."""
    server, csv, key = fleet_on(make_server(), tmp_path)
    run = subprocess.Popen([BIN, "load", server.url, "--devices", str(csv), "--quiet", "--json", "/dev/fd/2", "--verify",
                            key, "--rate", "2000", "--seconds", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for("messages", lambda: server.metric("messages_accepted_total") > 300, 30)
    server.kill()
    server.start()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, (out, err)
    v = json.loads(err)["verified"]
    assert v["sound"] and v["acked"] == v["stored"] >= 300


def test_the_screen_shows_the_run_and_the_server(fleet, tmp_path):
    """On a terminal, until SIGINT; and the page with its plots."""
    server, csv, _ = fleet
    page, out = tmp_path / "page.html", tmp_path / "out.json"
    master, terminal = pty.openpty()
    run = subprocess.Popen([BIN, "load", server.url, "--devices", str(csv), "--rate", "500", "--seconds", "60", "--watch",
                            server.operator_url, "--html", str(page), "--json", str(out)], stdout=subprocess.PIPE,
                           stderr=terminal, text=True)
    os.close(terminal)
    seen = b""
    while b"the server: throttle" not in seen:
        seen += os.read(master, 65536)
    os.kill(run.pid, signal.SIGINT)
    while True:
        try:
            seen += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    os.close(master)
    run.communicate(timeout=30)
    assert run.returncode == 0
    assert b"running [" in seen and b"answers/s (at most 500 due)" in seen and b"answers  202: " in seen
    assert page.read_text().count("<svg ") == 3
    series = json.loads(out.read_text())["series"]
    assert len(series) >= 2 and series[0]["answers"] > 0 and series[0]["p99"] > 0


class Liar(ThreadingHTTPServer):
    """A proxy that passes everything on but one POST, which `lie` handles. lie(handler, forward, body)"""
    daemon_threads = True

    def __init__(self, port, lie, when=20):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.lie, self.when = port, lie, when
        self.posts, self.lock = 0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *args):
        pass

    def setup(self):
        super().setup()
        self.upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)

    def forward(self, body):
        self.upstream.request(self.command, self.path, body, dict(self.headers))
        r = self.upstream.getresponse()
        return r.status, r.getheaders(), r.read()

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() == "link":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        self.answer(*self.forward(None))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.posts += 1
            lies = self.server.posts == self.server.when
        self.answer(*(self.server.lie(self.forward, body) if lies else self.forward(body)))


ACCEPTED = 202, [], b'{"accepted":1}'


def loses(forward, body):
    return ACCEPTED


def doubles(forward, body):
    forward(body)
    return forward(body)


def stores_what_it_refuses(forward, body):
    forward(body)
    return 403, [], b"{}"


def stores_elsewhere(forward, body):
    return forward(re.sub(rb'-d\d', lambda m: b"-d0" if m[0] != b"-d0" else b"-d1", body))


def changes_the_value(forward, body):
    return forward(re.sub(rb'\d{16}', b"7" * 16, body))


@pytest.mark.parametrize("lie,found", [(loses, "lost"), (doubles, "doubled"), (stores_what_it_refuses, "refused_stored"),
                                       (stores_elsewhere, "feeds_wrong"), (changes_the_value, "lost")])
def test_one_lie_in_300_is_found(fleet, feed, lie, found):
    server, csv, key = fleet
    liar = Liar(server.http_port, lie)
    try:
        got, printed = load(liar.url, "--devices", csv, "--connections", 3, "--requests", 300, "--verify", key,
                            "--feed", feed + "-%device%", status=3)
    finally:
        liar.shutdown()
    v = got["verified"]
    assert not v["sound"] and v[found] == (2 if found == "feeds_wrong" else 1)
    assert "NOT AS ACKNOWLEDGED" in printed


def test_without_a_key_that_reads_nothing_is_sent(fleet):
    server, csv, _ = fleet
    before = server.metric("messages_accepted_total")
    run = subprocess.run([BIN, "load", server.url, "--devices", csv, "--verify", "aio_wrong", "--requests", "5"],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "--verify: the key is none of an account there (401)" in run.stderr
    assert server.metric("messages_accepted_total") == before


def test_the_fleet_is_made_on_the_server(fleet, feed, tmp_path):
    """And used; the file is there for later, and is not written over."""
    server, _, key = fleet
    root = server.cli("key", "add", "demo", "root", "--role", "admin")["key"]
    csv = tmp_path / "made.csv"
    args = ["--create", 5, "--account", "demo", "--admin-key", root, "--devices", csv, "--connections", 2]
    got, _ = load(server.url, *args, "--requests", 50, "--verify", key, "--feed", feed + "-%device%")
    assert got["verified"]["sound"] and got["verified"]["stored"] == 50
    assert [line.split(",")[0] for line in csv.read_text().splitlines()] == [f"demo-load-{i:06d}" for i in range(5)]
    for change, what in ((lambda: None, "File exists"), (csv.unlink, "there is a device with that id already"),
                         (lambda: (csv.unlink(), args.__setitem__(5, key)), "(403)")):
        change()
        run = subprocess.run([BIN, "load", server.url, *(str(a) for a in args)], capture_output=True, text=True, timeout=60)
        assert run.returncode == 1 and what in run.stderr, run.stderr


@pytest.mark.parametrize("args,what", [
    (["http://x", "--create", "5"], "--create needs --account"),
    (["http://x", "--account", "a"], "are for --create"),
    (["mqtt://x", "--topic", "t", "--create", "5", "--account", "a", "--admin-key", "k", "--devices", "f"], "--verify-url"),
    (["mqtt://x", "--topic", "a/feeds/b", "--verify", "k"], "give --verify-url"),
    (["mqtt://x", "--topic", "a", "--verify", "k", "--verify-url", "http://x"], "such as USER/feeds/NAME"),
    (["mqtt://x", "--topic", "a/f/b", "--verify", "k", "--verify-url", "http://x", "--qos", "0"], "--qos 1"),
    (["mqtt://x", "--topic", "a/f/b", "--verify", "k", "--verify-url", "http://x", "--payload-size", "36"], "37 and more"),
    (["http://x", "--verify-url", "http://x"], "is for --verify"),
    (["http://x", "--verify", "k", "--payload", "1"], "put %seq% into --payload"),
    (["http://x", "--verify", "k", "--payload", "%seq%"], "say with --feed where"),
    (["http://x", "--verify", "k", "--verify-url", "http://x/path"], "--verify-url"),
    (["http://x", "--verify", "k", "--method", "GET"], "--verify reads feeds"),
])
def test_wrong_usage(args, what):
    run = subprocess.run([BIN, "load", *args], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and what in run.stderr, run.stderr
