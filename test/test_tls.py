# SPDX-License-Identifier: Apache-2.0
"""HTTPS: versions, names, protocols, sessions, bytes cut anywhere, deadlines, what a stranger may do."""
import hashlib
import json
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from conftest import owner_on
from harness import BIN, Server, free_port, wait_for
from pki import Authority
from test_http import long_answers
from test_proxy import v1, v2
from wire import Wire, request


class TlsWire(Wire):
    """A Wire with TLS on it. `before`: bytes sent ahead of the handshake."""

    def __init__(self, port, context, name="localhost", session=None, before=b"", **rest):
        super().__init__(port, **rest)
        self.sock.sendall(before)
        self.sock = context.wrap_socket(self.sock, server_hostname=name, session=session)

    def certificate_digest(self):
        return hashlib.sha256(self.sock.getpeercert(binary_form=True)).hexdigest()


class Raw:
    """TLS by hand: the client's bytes before they are sent, so that they can be cut or changed."""

    def __init__(self, port, context, name="localhost"):
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.plain = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def pull(self):
        got = self.sock.recv(65536)
        if got:
            self.incoming.write(got)
        else:
            self.incoming.write_eof()
        return got

    def flush(self, send=None):
        data = self.outgoing.read()
        if data:
            (send or self.sock.sendall)(data)

    def handshake(self, send=None):
        while True:
            try:
                self.tls.do_handshake()
                self.flush(send)
                return self
            except ssl.SSLWantReadError:
                self.flush(send)
                self.pull()

    def seal(self, data):
        self.tls.write(data)
        return self.outgoing.read()

    def read_until(self, mark):
        while mark not in self.plain:
            try:
                self.plain += self.tls.read(65536)
            except ssl.SSLWantReadError:
                if not self.pull():
                    raise AssertionError(f"the end, after {self.plain!r}") from None
        return self.plain


def https_server(folder, settings=None, **rest):
    server = Server(folder, settings, **rest)
    server.https_port = free_port()
    server.settings["listen.https"] = f"127.0.0.1:{server.https_port}"
    return server


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, ca):
    server = https_server(tmp_path_factory.mktemp("server"), {
        "server.log_level": "debug",
        "tls.certificates": ", ".join([
            ca.server("first", "localhost", "127.0.0.1"), ca.server("alpha", "alpha.test"),
            ca.server("wild", "*.wild.test"), ca.server("exact", "exact.wild.test"),
            ca.server("both-ec", "both.test"), ca.server("both-rsa", "both.test", kind="rsa")])})
    server.start()
    server.ca = ca
    yield server
    server.close()


@pytest.fixture(scope="module")
def owner(server):
    return owner_on(server, "fleet1")


def client(ca, version=None, **settings):
    """A context that trusts the authority; version: (oldest, newest)."""
    context = ssl.create_default_context(cafile=str(ca.path))
    if version:
        context.minimum_version = context.maximum_version = version
    for name, value in settings.items():
        setattr(context, name, value)
    return context


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


def message(owner, body=None):
    return request("POST", "/v1/telemetry", {**owner.auth, "Content-Type": "application/json"},
                   {"a": 1} if body is None else body)


def curl(server, *args):
    return subprocess.run(["curl", "-sS", "--cacert", str(server.ca.path), *args], text=True,
                          capture_output=True, timeout=30)


# ---- handshakes ----

@BOTH
def test_a_message_over_tls(server, owner, version):
    with TlsWire(server.https_port, client(server.ca, version)) as w:
        assert w.sock.version() == f"TLSv1.{2 if version == V12 else 3}"
        for n in range(3):
            assert w.ask(message(owner)).status == 202


def test_curl(server, owner):
    head = [f"-HX-Device-Id: {owner.device}", f"-HX-Device-Token: {owner.secret}",
            "-HContent-Type: application/json", '-d{"b": 2}', "-w%{http_code} %{http_version} %{ssl_verify_result}"]
    for flags in (["--tls-max", "1.2"], ["--tlsv1.3"]):
        got = curl(server, *flags, *head, f"https://localhost:{server.https_port}/v1/telemetry")
        assert got.returncode == 0 and got.stdout.endswith("202 1.1 0"), got


def test_older_versions_are_refused(server):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.warns(DeprecationWarning):
            context = client(server.ca, version)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            TlsWire(server.https_port, context)


@pytest.mark.parametrize("name, expected", [
    ("localhost", "first"), ("alpha.test", "alpha"), ("ALPHA.Test", "alpha"), ("a.wild.test", "wild"),
    ("exact.wild.test", "exact"), ("b.exact.wild.test", "first"), ("wild.test", "first"),
    ("unknown.example", "first"), (None, "first"), ("both.test", "both-ec")])
def test_the_certificate_is_chosen_by_name(server, name, expected):
    context = client(server.ca, check_hostname=False)
    pem = (server.ca.folder / f"{expected}.pem").read_text()
    with TlsWire(server.https_port, context, name=name) as w:
        assert w.certificate_digest() == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_a_client_without_ecdsa_gets_the_certificate_with_rsa(server):
    context = client(server.ca, V12)
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    pem = (server.ca.folder / "both-rsa.pem").read_text()
    with TlsWire(server.https_port, context, name="both.test") as w:
        assert w.certificate_digest() == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_alpn(server, owner):
    for offered, agreed in [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), ([], None)]:
        context = client(server.ca)
        context.set_alpn_protocols(offered)
        with TlsWire(server.https_port, context) as w:
            assert w.sock.selected_alpn_protocol() == agreed
            assert w.ask(message(owner)).status == 202
    context = client(server.ca)
    context.set_alpn_protocols(["h2", "mqtt"])
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        TlsWire(server.https_port, context)


@BOTH
def test_a_session_is_resumed_on_whichever_worker(server, owner, version):
    context = client(server.ca, version)
    with TlsWire(server.https_port, context) as w:
        assert w.ask(message(owner)).status == 202 and not w.sock.session_reused
        session = w.sock.session
    before = server.metric("tls_resumed_total")
    for n in range(20):  # the kernel spreads them over the workers
        with TlsWire(server.https_port, context, session=session) as w:
            assert w.sock.session_reused and w.ask(message(owner)).status == 202
    assert server.metric("tls_resumed_total") == before + 20


def test_ciphers(server):
    """Nothing without forward secrecy and AEAD."""
    for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384",
                   "DHE-RSA-AES128-GCM-SHA256", "NULL:aNULL"):
        context = client(server.ca, V12)
        context.set_ciphers(cipher + ":@SECLEVEL=0")
        with pytest.raises(ssl.SSLError):
            TlsWire(server.https_port, context, name="both.test")


def test_no_renegotiation_and_no_compression(server):
    got = subprocess.run(["openssl", "s_client", "-connect", f"localhost:{server.https_port}", "-tls1_2",
                          "-CAfile", str(server.ca.path)], input="R\n", text=True, capture_output=True,
                         timeout=30)
    assert "Secure Renegotiation IS supported" in got.stdout and "Compression: NONE" in got.stdout
    assert "no renegotiation" in got.stderr


# ---- bytes ----

@BOTH
def test_pipelined_requests_and_large_bodies(server, owner, version):
    big = json.dumps({"x": "y" * 900_000}).encode()
    with TlsWire(server.https_port, client(server.ca, version)) as w:
        w.send(message(owner) * 30)
        assert [w.read().status for _ in range(30)] == [202] * 30
        got = w.ask(request("POST", "/v1/telemetry", {**owner.auth, "Content-Type": "application/json"}, big))
        assert got.status in (413, 422) and w.ask(message(owner)).status == 202
        w.send(request("POST", "/v1/telemetry", {**owner.auth, "Content-Type": "application/json"}, big)
               + message(owner) * 5)
        assert [w.read().status for _ in range(6)][1:] == [202] * 5


@BOTH
def test_a_large_answer_to_a_slow_reader(server, owner, version):
    body = [{"value": "v" * 900, "created_at": f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z"} for n in range(900)]
    feed = f"slow-{version.name.lower().replace('_', '-')}"
    with TlsWire(server.https_port, client(server.ca, version), timeout=30) as w:
        made = w.ask(request("POST", f"{owner.api}/feeds", {**owner.key_auth, "Content-Type": "application/json"},
                             {"name": feed}))
        assert made.status < 300
        batch = w.ask(request("POST", f"{owner.api}/feeds/{feed}/data/batch",
                              {**owner.key_auth, "Content-Type": "application/json"}, {"data": body}))
        assert batch.status == 200, batch
        ask = request("GET", f"{owner.api}/feeds/{feed}/data?limit=900", owner.key_auth)
        w.send(ask * 4)  # over 4 MB, more than the kernel's buffers take
        time.sleep(0.5)
        assert [len(w.read().json()) for _ in range(4)] == [900] * 4
        # What comes next is not to be asked for in clear.
        part = w.ask(request("GET", f"{owner.api}/feeds/{feed}/data?limit=1", owner.key_auth))
        assert 'rel="next", <https://' in part["link"] and "http://" not in part["link"]


@pytest.mark.parametrize("slowly", [False, True])
def test_long_answers_between_short_ones(server, owner, feed, slowly):
    with TlsWire(server.https_port, client(server.ca)) as w:
        long_answers(w, owner, feed, slowly)


def test_a_head_is_no_record_of_its_own(server, owner, feed):
    with TlsWire(server.https_port, client(server.ca)) as w:
        assert [w.ask(message(owner, {feed: "x" * 900})).status for _ in range(9)] == [202] * 9
    with Raw(server.https_port, client(server.ca, V12)) as c:
        c.handshake()
        got = b""
        c.sock.sendall(c.seal(request("GET", f"{owner.api}/feeds/{feed}/data", {**owner.key_auth, "Connection": "close"})))
        while more := c.sock.recv(65536):
            got += more
    records = []
    while got:
        kind, _, length = struct.unpack(">BHH", got[:5])
        records.append((kind, length))
        got = got[5 + length:]
    assert [length for kind, length in records if kind == 23][0] > 4096, records


@BOTH
def test_records_cut_at_many_places(server, owner, version):
    """Handshake and request in two parts each, cut at every byte of the request's record."""
    context = client(server.ca, version)
    with Raw(server.https_port, context) as raw:
        length = len(raw.handshake().seal(message(owner)))
    for cut in [*range(1, 12), *range(12, length, 7), length - 1]:
        def halves(data):
            at = min(cut, len(data) - 1)
            raw.sock.sendall(data[:at])
            time.sleep(0.001)
            raw.sock.sendall(data[at:])

        with Raw(server.https_port, context) as raw:
            sealed = raw.handshake(halves).seal(message(owner))
            halves(sealed)
            assert b" 202 " in raw.read_until(b"\r\n\r\n")


@BOTH
def test_byte_by_byte(server, owner, version):
    def bytewise(data):
        for n in range(len(data)):
            raw.sock.sendall(data[n:n + 1])

    with Raw(server.https_port, client(server.ca, version)) as raw:
        bytewise(raw.handshake(bytewise).seal(message(owner)))
        assert b" 202 " in raw.read_until(b"\r\n\r\n")


def test_tiny_records_are_one_stream(server, owner):
    """A record for each byte of three pipelined requests, all sent at once."""
    with Raw(server.https_port, client(server.ca)) as raw:
        raw.handshake()
        data = message(owner) * 3
        raw.sock.sendall(b"".join(raw.seal(data[n:n + 1]) for n in range(len(data))))
        while raw.read_until(b" 202 ").count(b" 202 ") < 3:
            raw.plain += raw.tls.read() if raw.incoming.pending else (raw.pull(), b"")[1]


@BOTH
def test_a_changed_record_ends_the_connection(server, owner, version):
    with Raw(server.https_port, client(server.ca, version)) as raw:
        sealed = bytearray(raw.handshake().seal(message(owner)))
        sealed[-1] ^= 1
        raw.sock.sendall(sealed)
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            raw.read_until(b"\r\n\r\n")


@BOTH
def test_half_close(server, owner, version):
    """The client has said its last: answers still come, then the end, by close_notify too."""
    with Raw(server.https_port, client(server.ca, version)) as raw:
        data = raw.handshake().seal(message(owner) * 2)
        try:
            raw.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        raw.sock.sendall(data + raw.outgoing.read())
        raw.sock.shutdown(socket.SHUT_WR)
        got = b""
        while part := raw.sock.recv(65536):
            got += part
        assert got[-1] != 0 and len(got) > 500  # two answers and a sealed alert


def test_a_request_without_close_notify_is_answered_too(server, owner):
    with Raw(server.https_port, client(server.ca)) as raw:
        raw.sock.sendall(raw.handshake().seal(message(owner)))
        raw.sock.shutdown(socket.SHUT_WR)
        assert b" 202 " in raw.read_until(b"\r\n\r\n")


def test_close_notify_when_the_server_closes(server, owner):
    context = client(server.ca)
    with TlsWire(server.https_port, context) as w:
        w.sock.suppress_ragged_eofs = False  # an end without close_notify would be an error
        got = w.ask(request("GET", "/nothing", {"Connection": "close"}))
        assert got.status == 404 and w.rest() == b""


@pytest.mark.parametrize("garbage", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 70000,
    b"\x16\x03\x01\x00\x00" * 100, b"\x15\x03\x03\x00\x02\x02\x28", b"\x80\x2e\x01\x00\x02" + b"q" * 50,
    bytes(range(256)) * 40], ids=range(7))
def test_garbage_is_refused_and_counted(server, garbage):
    before = server.metric("tls_handshakes_failed_total")
    with Wire(server.https_port) as w:
        try:
            w.send(garbage)
        except OSError:
            pass
        assert len(w.rest()) < 100  # nothing, or an alert
    assert server.metric("tls_handshakes_failed_total") == before + 1


def client_hello(server):
    with Raw(server.https_port, client(server.ca)) as raw:
        with pytest.raises(ssl.SSLWantReadError):
            raw.tls.do_handshake()
        return raw.outgoing.read()


def test_a_reset_at_any_byte_of_the_handshake(server, owner):
    hello = client_hello(server)
    for n in range(0, len(hello) + 1, 5):
        with Wire(server.https_port) as w:
            w.send(hello[:n])
            w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for("all to be gone", lambda: server.metric("connections_open") <= 2)
    with TlsWire(server.https_port, client(server.ca)) as w:
        assert w.ask(message(owner)).status == 202


def test_key_updates_are_answered(server):
    run = subprocess.Popen(["openssl", "s_client", "-connect", f"localhost:{server.https_port}", "-tls1_3",
                            "-CAfile", str(server.ca.path)], text=True, stdin=subprocess.PIPE,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for line in ["K\n"] * 10 + ["GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]:
        time.sleep(0.05)  # a command is what one read begins with
        run.stdin.write(line)
        run.stdin.flush()
    time.sleep(0.3)
    out, err = run.communicate(timeout=30)
    assert err.count("KEYUPDATE") == 10 and "HTTP/1.1 404" in out


# ---- time and number ----

def test_a_slow_handshake_is_ended(tmp_path, ca):
    server = https_server(tmp_path, {"tls.certificates": ca.server("slow", "localhost"),
                                     "listen.opening_timeout": "400ms"}).start()
    server.ca = ca
    try:
        hello = client_hello(server)
        begun = time.monotonic()
        held = [Wire(server.https_port) for _ in range(3)]
        held[1].send(hello[:20])
        held[2].send(hello)
        for w in held:
            w.rest(3)
            w.close()
        assert 0.3 < time.monotonic() - begun < 2.5
        assert server.metric("connections_timed_out_total") == 3
        # Trickling bytes buys no time.
        with Wire(server.https_port) as w:
            begun = time.monotonic()
            with pytest.raises(OSError):
                for n in range(len(hello)):
                    w.send(hello[n:n + 1])
                    time.sleep(0.05)
            assert time.monotonic() - begun < 2.5
    finally:
        server.close()


def test_held_handshakes_shut_nobody_out(tmp_path, ca):
    server = https_server(tmp_path, {"tls.certificates": ca.server("held", "localhost"),
                                     "listen.opening_max": "4", "server.workers": "1"}).start()
    server.ca = ca
    try:
        hello = client_hello(server)
        held = [Wire(server.https_port) for _ in range(16)]
        for w in held:
            w.send(hello)
        for n in range(3):
            with TlsWire(server.https_port, client(ca)) as w:
                assert w.ask(request("GET", "/nothing")).status == 404
        assert server.metric("openings_evicted_total") >= 8
        for w in held:
            w.close()
    finally:
        server.close()


def test_a_stop_does_not_wait_for_handshakes(tmp_path, ca):
    server = https_server(tmp_path, {"tls.certificates": ca.server("stop", "localhost")}).start()
    server.ca = ca
    with Wire(server.https_port) as silent, Wire(server.https_port) as dawdling, \
            Wire(server.https_port) as failed, TlsWire(server.https_port, client(ca)) as open_one:
        dawdling.send(client_hello(server)[:50])
        failed.send(b"\0" * 9)
        assert open_one.ask(request("GET", "/nothing")).status == 404
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 5
        assert silent.rest() == dawdling.rest() == open_one.rest() == b""
        assert len(failed.rest()) < 50
    server.check_log()


def test_many_at_once(server, owner):
    """More connections than one turn has time for, from eight threads: all are served."""
    context = client(server.ca)
    failed = []

    def run():
        try:
            for _ in range(15):
                with TlsWire(server.https_port, context, timeout=60) as w:
                    assert w.ask(message(owner)).status == 202
        except Exception as e:
            failed.append(e)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed


def test_proxy_header_before_tls(tmp_path, ca):
    server = https_server(tmp_path, {
        "tls.certificates": ca.server("proxied", "localhost"), "listen.trusted_proxies": "127.0.0.0/8",
        "listen.proxy_protocol": "true", "throttle.address": "2/60s"}).start()
    try:
        owner = owner_on(server, "ann")
        for header, statuses in [(v1("192.0.2.1"), [202, 202, 429]), (v2("192.0.2.2"), [202]),
                                 (v2("192.0.2.1"), [429])]:
            with TlsWire(server.https_port, client(ca), before=header) as w:
                assert [w.ask(message(owner)).status for _ in statuses] == statuses
        # Header and handshake in one segment, and the header byte by byte.
        server.ca = ca
        hello = client_hello(server)
        for sender in (lambda w, b: w.send(b), lambda w, b: [w.send(b[n:n + 1]) for n in range(len(b))]):
            with Wire(server.https_port) as w:
                sender(w, v2("192.0.2.9") + hello)
                assert w._exactly(3) == b"\x16\x03\x03"
        with pytest.raises((ssl.SSLError, OSError)):
            TlsWire(server.https_port, client(ca))
        assert server.metric("proxy_headers_bad_total") == 1
    finally:
        server.close()


# ---- settings ----

@pytest.mark.parametrize("settings, words", [
    ({}, "tls.certificates: listen.https needs one"),
    ({"tls.certificates": "/nowhere/a.pem:/nowhere/a.key"}, "tls.certificates: /nowhere/a.pem: No such file"),
    ({"tls.certificates": "{first}:{other_key}"}, "with the key {other_key}: "),
    ({"tls.certificates": "{first}"}, "{first}: no private key that can be used"),
    ({"tls.certificates": "{pair}, {pair}"}, "another certificate has the same names (localhost)"),
    ({"tls.certificates": "{pair}", "tls.ciphers": "NONE-SUCH"}, "tls.ciphers: \"NONE-SUCH\""),
    ({"tls.certificates": "{pair}", "tls.client_ca": "{first_key}"}, "tls.client_ca: no good certificates"),
    ({"tls.certificates": "{pair}", "tls.client_crl": "{first}"}, "tls.client_crl: means nothing without"),
    ({"tls.certificates": "{pair}", "tls.client_ca": "{first}", "tls.client_crl": "{first}"},
     "tls.client_crl: no good list"),
    ({"tls.certificates": "{pair}", "listen.http": "0.0.0.0:0"}, "listen.http: at 0.0.0.0:0 secrets would cross"),
    ({"tls.certificates": "{pair}", "listen.http": "[::]:0"}, "tls.required"),
    ({"tls.certificates": "{pair}", "listen.mqtt": "127.0.0.1:0, 0.0.0.0:0"},
     "listen.mqtt: at 0.0.0.0:0 secrets would cross the network in clear: use listen.mqtts"),
])
def test_a_mistake_is_named_and_nothing_starts(tmp_path, ca, settings, words):
    pair = ca.server("one", "localhost")
    first, first_key = pair.split(":")
    other_key = ca.server("two", "localhost").split(":")[1]
    names = {"pair": pair, "first": first, "first_key": first_key, "other_key": other_key}
    server = https_server(tmp_path, {k: v.format(**names) for k, v in settings.items()})
    run = subprocess.run(server.command(), capture_output=True, text=True, timeout=20, cwd=tmp_path)
    assert run.returncode == 1 and words.format(**names) in run.stderr, run.stderr
    check = subprocess.run([BIN, "config", "check", *server.command()[4:]], capture_output=True, text=True,
                           timeout=20, cwd=tmp_path)
    assert check.returncode == 1 and words.format(**names) in check.stderr


def test_plain_listeners_where_secrets_cross_a_network(tmp_path, ca):
    server = Server(tmp_path, {"tls.required": "false"})
    server.settings["listen.http"] = f"0.0.0.0:{server.http_port}"
    server.start()
    server.close()


def test_an_expired_certificate_is_warned_of_at_a_start(tmp_path, ca):
    server = https_server(tmp_path, {"tls.certificates": ca.server("old", "localhost", days=(-9, -2))}).start()
    server.close()
    assert "tls.certificate_out_of_date" in server.log() and "has expired" in server.log()


def test_only_tls_13(tmp_path, ca):
    server = https_server(tmp_path, {"tls.certificates": ca.server("new", "localhost"),
                                     "tls.min_version": "1.3", "tls.session_lifetime": "0"}).start()
    try:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            TlsWire(server.https_port, client(ca, V12))
        context = client(ca)
        with TlsWire(server.https_port, context) as w:
            assert w.ask(request("GET", "/nothing")).status == 404
            session = w.sock.session
        with TlsWire(server.https_port, context, session=session) as w:
            assert not w.sock.session_reused
    finally:
        server.close()


def test_browsers_are_told_to_use_nothing_else(tmp_path, ca):
    """RFC 6797: only where it came by TLS, and only if the operator wants it."""
    name, settings = "strict-transport-security", {"tls.certificates": ca.server("strict", "localhost"),
                                                   "listen.trusted_proxies": "127.0.0.0/8"}
    ask = {None: request("GET", "/nothing")}
    ask.update({proto: request("GET", "/nothing", {"X-Forwarded-Proto": proto}) for proto in ("http", "https")})
    for age, said in [("0", None), ("365d", "max-age=31536000")]:
        server = https_server(tmp_path / age, {**settings, "tls.hsts_max_age": age}).start()
        try:
            with TlsWire(server.https_port, client(ca)) as tls, Wire(server.http_port) as plain:
                assert [dict(tls.ask(r).headers).get(name) for r in ask.values()] == [said] * 3
                assert [dict(plain.ask(r).headers).get(name) for r in ask.values()] == [None, None, said]
        finally:
            server.close()


def test_cert_dev(tmp_path):
    made = subprocess.run([BIN, "cert", "dev", "--name", "gate.test"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0
    cert, key = tmp_path / "dev-cert.pem", tmp_path / "dev-key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    again = subprocess.run([BIN, "cert", "dev"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 1 and "dev-key.pem: File exists" in again.stderr
    server = https_server(tmp_path / "server", {"tls.certificates": f"{cert}:{key}"}).start()
    try:
        context = ssl.create_default_context(cafile=str(cert))
        for name in ("localhost", "127.0.0.1", "::1", socket.gethostname(), "gate.test"):
            with TlsWire(server.https_port, context, name=name) as w:
                assert w.ask(request("GET", "/nothing")).status == 404
    finally:
        server.close()
