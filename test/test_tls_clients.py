# SPDX-License-Identifier: Apache-2.0
"""Client certificates that stand for devices: who is let in, as whom, and until when."""
import ssl

import pytest
from cryptography import x509

from conftest import owner_on
from harness import WIDE, wait_for
from pki import Authority
from test_tls import BOTH, TlsWire, V12, V13, client, https_server
from wire import Closed, request

SEND = request("POST", "/v1/telemetry", {"Content-Type": "application/json"}, {"a": 1})


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def gate(tmp_path, ca):
    """make(setting=..., ...): a server that believes the authority, with device ann-dev."""
    made = []

    def make(**settings):
        server = https_server(tmp_path / "home", {
            "tls.certificates": ca.server("server", "localhost"), "tls.client_ca": str(ca.path), **settings},
            config=tmp_path / "sluice.yaml")
        server.config.write_text("{}\n")
        server.start()
        made.append(server)
        server.owner = owner_on(server, "ann")
        return server

    yield make
    for server in made:
        server.close()


def device(ca, name="ann-dev", version=None, file="device", **rest):
    context = client(ca, version)
    context.load_cert_chain(*ca.client(file, name, **rest))
    return context


def status(server, context, data=SEND, session=None):
    with TlsWire(server.https_port, context, session=session) as w:
        return w.ask(data).status


@BOTH
def test_a_certificate_is_the_device(gate, ca, version):
    server = gate()
    with TlsWire(server.https_port, device(ca, version=version)) as w:
        assert [w.ask(SEND).status for _ in range(3)] == [202] * 3
    assert status(server, client(ca, version)) == 401
    assert status(server, device(ca, "nobody", version)) == 401
    assert status(server, device(ca, "ANN-DEV", version)) == 401
    # It was stored as that device's: the account's key reads it.
    got = request("GET", f"{server.owner.api}/feeds/a/data/last", server.owner.key_auth)
    assert status(server, client(ca, version), got) == 200


def test_who_says_something_else_of_himself_means_that(gate, ca):
    server = gate()
    wrong = request("POST", "/v1/telemetry", {"X-Device-Id": "ann-dev", "X-Device-Token": "wrong",
                                              "Content-Type": "application/json"}, {"a": 1})
    assert status(server, device(ca), wrong) == 401
    user = request("GET", "/api/v2/user", server.owner.key_auth)
    assert status(server, device(ca), user) == 200


@BOTH
def test_revoking_the_device_revokes_the_certificate_at_once(gate, ca, version):
    server = gate()
    context = device(ca, version=version)
    with TlsWire(server.https_port, context) as w:
        assert w.ask(SEND).status == 202
        session = w.sock.session
        server.cli("device", "disable", "ann-dev")
        assert w.ask(SEND).status in (401, 403)
        assert status(server, context, session=session) in (401, 403)
        server.cli("device", "enable", "ann-dev")
        assert w.ask(SEND).status == 202
        server.cli("device", "remove", "ann-dev")
        assert w.ask(SEND).status == 401


def test_another_authority_is_not_believed(gate, ca, tmp_path):
    server = gate()
    other = Authority(tmp_path, "Other CA")
    context = client(ca)
    context.load_cert_chain(*other.client("forged", "ann-dev"))
    with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
        status(server, context)
    wait_for("the count", lambda: server.metric("tls_handshakes_failed_total") == 1)


@pytest.mark.parametrize("make", [
    lambda ca: ca.client("late", "ann-dev", days=(-9, -2)),
    lambda ca: ca.client("soon", "ann-dev", days=(2, 9)),
    lambda ca: ca.server("wrong-use", "ann-dev").split(":"),
    lambda ca: ca.client("nul", "ann-dev\0.example"),
    lambda ca: ca.client("long", "a" * 64),
    lambda ca: [str(p) for p in ca.make("two", subject=("ann-dev", "bob-dev"))[:2]],
    lambda ca: [str(p) for p in ca.make("none", subject=())[:2]],
], ids=["expired", "not-yet", "other-use", "nul", "unknown", "two-names", "no-name"])
def test_what_is_no_good_certificate(gate, ca, make):
    server = gate()
    context = client(ca)
    context.load_cert_chain(*make(ca))
    try:
        assert status(server, context) == 401
    except (ssl.SSLError, Closed, ConnectionError):
        wait_for("the count", lambda: server.metric("tls_handshakes_failed_total") == 1)


def test_required(gate, ca):
    server = gate(**{"tls.client_certificate": "required"})
    assert status(server, device(ca)) == 202
    for version in (V12, V13):
        with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
            status(server, client(ca, version))


@pytest.mark.parametrize("kind, name", [
    ("dns", x509.DNSName("ann-dev")), ("email", x509.RFC822Name("ann-dev@fleet.test")),
    ("uri", x509.UniformResourceIdentifier("urn:dev:ann-dev"))])
def test_other_names(gate, ca, kind, name):
    server = gate(**{"tls.client_identity": kind})
    if kind == "email":
        server.add_device("ann", name.value)
    for names, expected in [([name], 202), ([name, x509.DNSName("x.test"), x509.RFC822Name("x@y.test"),
                                             x509.UniformResourceIdentifier("urn:x")], None), ([], None)]:
        cert, key, _ = ca.make("named", names=names, subject=("somebody",))
        context = client(ca)
        context.load_cert_chain(cert, key)
        if expected:
            assert status(server, context) == expected
        else:
            with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
                status(server, context)


def test_revoked_certificates(gate, ca, tmp_path):
    good, bad = ca.client("good", "ann-dev"), ca.client("bad", "ann-dev")
    server = gate(**{"tls.client_crl": str(ca.revoke(bad[0]))})
    context = client(ca)
    context.load_cert_chain(*good)
    assert status(server, context) == 202
    context = client(ca)
    context.load_cert_chain(*bad)
    with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
        status(server, context)


@BOTH
def test_a_session_is_not_resumed_under_another_policy(gate, ca, version):
    """Whom the old list let in must not come in under the new one by resuming."""
    pair = ca.client("revoked-later", "ann-dev")
    server = gate(**{"tls.client_crl": str(ca.revoke())})
    context = client(ca, version)
    context.load_cert_chain(*pair)
    with TlsWire(server.https_port, context) as w:
        assert w.ask(SEND).status == 202
        session = w.sock.session
    assert status(server, context, session=session) == 202
    ca.revoke(pair[0])
    server.cli("reload")
    with pytest.raises((ssl.SSLError, Closed, ConnectionError)):
        status(server, context, session=session)


@BOTH
def test_a_new_list_ends_open_connections(gate, ca, version, tmp_path):
    """Of those whose certificate it names; nobody else's, with a certificate or without."""
    good, bad = ca.client("good", "ann-dev"), ca.client("bad", "ann-dev")
    server = gate(**{"tls.client_crl": str(ca.revoke())})
    wires = []
    for pair in (good, bad, None):
        context = client(ca, version)
        if pair:
            context.load_cert_chain(*pair)
        wires.append(TlsWire(server.https_port, context))
    stays, ends, other = wires
    assert [w.ask(SEND).status for w in (stays, ends)] == [202, 202]
    server.cli("reload")
    assert [w.ask(SEND).status for w in (stays, ends)] == [202, 202]
    ca.revoke(bad[0])
    server.cli("reload")
    ends.sock.settimeout(30)
    assert ends.sock.recv(1) == b""
    assert stays.ask(SEND).status == 202 and other.ask(SEND).status == 401
    assert server.metric("tls_clients_closed_total") == 1
    # Nor is anybody believed whom only the authority before has signed.
    was = ca.path.read_bytes()
    ca.path.write_bytes(Authority(tmp_path, "Another CA").path.read_bytes())
    try:
        server.cli("reload")
    finally:
        ca.path.write_bytes(was)
    stays.sock.settimeout(30)
    assert stays.sock.recv(1) == b"" and server.metric("tls_clients_closed_total") == 2
    assert other.ask(SEND).status == 401
    for w in wires:
        w.close()


def test_limits_of_the_device_count(gate, ca):
    server = gate()
    server.add_account("bob", limits=WIDE, device_limits="2/60s")
    server.add_device("bob", "bob-dev")
    with TlsWire(server.https_port, device(ca, "bob-dev")) as w:
        assert [w.ask(SEND).status for _ in range(3)] == [202, 202, 429]
