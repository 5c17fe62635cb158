# SPDX-License-Identifier: Apache-2.0
"""Certificates read again while the server runs: nobody is dropped, a bad pair is refused."""
import concurrent.futures
import hashlib
import os
import shutil
import signal
import ssl
import threading

import pytest

from conftest import owner_on
from harness import CliError, wait_for
from pki import Authority, key_pem, new_key
from test_tls import TlsWire, client, https_server, message
from wire import request


@pytest.fixture
def gate(tmp_path):
    """A server with a settings file, its certificate in files that can be exchanged."""
    ca = Authority(tmp_path)
    server = https_server(tmp_path / "home", config=tmp_path / "sluice.yaml")
    server.ca, server.folder = ca, tmp_path
    server.cert, server.key = tmp_path / "live.pem", tmp_path / "live.key"

    def install(name, **rest):
        """A new pair takes the files' place; the certificate's digest."""
        cert, key = ca.server(name, "localhost", **rest).split(":")
        for source, target in ((cert, server.cert), (key, server.key)):
            shutil.copy(source, f"{target}.new")
            os.rename(f"{target}.new", target)
        return digest(server.cert)

    def settings(text=""):
        server.config.write_text(f"tls:\n  certificates: {server.cert}:{server.key}\n{text}")

    server.install, server.write = install, settings
    server.first = install("first")
    settings()
    server.start()
    server.owner = owner_on(server, "ann")
    yield server
    server.close()


def digest(path):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(path.read_text())).hexdigest()


def shown(server):
    with TlsWire(server.https_port, client(server.ca)) as w:
        assert w.ask(message(server.owner)).status == 202
        return w.certificate_digest()


def test_a_new_pair_is_shown_and_open_connections_stay(gate):
    old = TlsWire(gate.https_port, client(gate.ca))
    assert old.ask(message(gate.owner)).status == 202 and shown(gate) == gate.first
    second = gate.install("second")
    assert shown(gate) == gate.first  # until it is told
    gate.cli("reload")
    assert shown(gate) == second != gate.first
    assert old.ask(message(gate.owner)).status == 202 and old.certificate_digest() == gate.first
    old.close()
    third = gate.install("third", kind="rsa")
    os.kill(gate.pid, signal.SIGHUP)
    wait_for("the third", lambda: shown(gate) == third)


def test_sessions_are_resumed_over_a_reload(gate):
    context = client(gate.ca)
    with TlsWire(gate.https_port, context) as w:
        assert w.ask(message(gate.owner)).status == 202
        session = w.sock.session
    gate.install("second")
    gate.cli("reload")
    with TlsWire(gate.https_port, context, session=session) as w:
        assert w.sock.session_reused and w.ask(message(gate.owner)).status == 202


def garbled(gate):
    gate.cert.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    return f"{gate.cert}: no good certificate"


def mismatched(gate):
    gate.key.write_bytes(key_pem(new_key()))
    return f"{gate.cert} with the key {gate.key}: private key mismatch"


def locked(gate):
    gate.key.write_bytes(key_pem(new_key(), b"password"))
    return f"{gate.key}: no private key that can be used"


def missing(gate):
    gate.key.unlink()
    return f"{gate.key}: No such file or directory"


def empty(gate):
    gate.cert.write_bytes(b"")
    return f"{gate.cert}: no good certificate"


def expired(gate):
    gate.install("expired", days=(-9, -2))
    return f"{gate.cert}: the certificate has expired"


def early(gate):
    gate.install("early", days=(2, 9))
    return f"{gate.cert}: the certificate is not yet valid"


def weak(gate):
    """An RSA key of 1024 bits."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    gate.install("weak", key=rsa.generate_private_key(public_exponent=65537, key_size=1024))
    return f"{gate.cert} with the key {gate.key}: ee key too small"


def unnamed(gate):
    gate.config.write_text("tls:\n  certificates: \"\"\n")
    return "tls.certificates: listen.https needs one"


@pytest.mark.parametrize("damage", [garbled, mismatched, locked, missing, empty, expired, early, weak, unnamed])
def test_a_bad_pair_is_refused_and_the_old_one_kept(gate, damage):
    old = TlsWire(gate.https_port, client(gate.ca))
    gate.write("http:\n  idle_timeout: 60s\n")
    words = damage(gate)
    with pytest.raises(CliError) as refused:
        gate.cli("reload")
    assert words in refused.value.stderr
    os.kill(gate.pid, signal.SIGHUP)
    wait_for("the log", lambda: gate.log().count("config.reload_failed") == 2)
    assert words in gate.log()
    assert shown(gate) == gate.first and old.ask(message(gate.owner)).status == 202
    assert gate.metric("tls_certificates_refused_total") == 2
    # And nothing else of that file is in force: with a good pair it is named as changed.
    second = gate.install("mended")
    gate.write("http:\n  idle_timeout: 60s\n")
    assert [c["setting"] for c in gate.cli("reload")["changed"]] == ["http.idle_timeout"]
    assert shown(gate) == second
    old.close()


def test_an_old_certificate_does_not_keep_other_settings_from_changing(tmp_path):
    """What is in force already and has expired meanwhile is no reason to refuse a reload."""
    ca = Authority(tmp_path)
    server = https_server(tmp_path / "home", config=tmp_path / "sluice.yaml")
    pair = ca.server("old", "localhost", days=(-9, -2))
    server.config.write_text(f"tls:\n  certificates: {pair}\n")
    server.start()
    try:
        server.config.write_text(f"tls:\n  certificates: {pair}\nhttp:\n  idle_timeout: 60s\n")
        assert [c["setting"] for c in server.cli("reload")["changed"]] == ["http.idle_timeout"]
    finally:
        server.close()


def test_nobody_is_dropped_while_certificates_change(gate):
    """Sixty exchanges of the pair, good and bad ones, while clients handshake, resume and send."""
    done = threading.Event()
    contexts = [client(gate.ca, v) for v in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]

    def handshakes(context):
        count, session = 0, None
        while not done.is_set():
            with TlsWire(gate.https_port, context, session=session if count % 2 else None, timeout=60) as w:
                assert w.ask(message(gate.owner)).status == 202
                session = w.sock.session
            count += 1
        return count

    def one_connection(context):
        count = 0
        with TlsWire(gate.https_port, context, timeout=60) as w:
            while not done.is_set():
                w.send(message(gate.owner) * 4)
                assert [w.read().status for _ in range(4)] == [202] * 4
                count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        work = [pool.submit(f, c) for c in contexts for f in (handshakes, one_connection)]
        try:
            good = [gate.ca.server(f"pair{n}", "localhost", kind="rsa" if n == 3 else "ec").split(":")
                    for n in range(4)]
            for n in range(60):
                cert, key = good[n % 4]
                shutil.copy(cert, gate.cert)
                shutil.copy(good[(n + 1) % 4][1] if n % 3 == 2 else key, gate.key)
                if n % 3 == 2:
                    with pytest.raises(CliError):
                        gate.cli("reload")
                else:
                    gate.cli("reload")
        finally:
            done.set()
        counts = [w.result() for w in work]
    assert min(counts) > 0
    assert gate.metric("tls_handshakes_failed_total") == 0
    assert gate.metric("tls_certificates_refused_total") == 20
    assert gate.metric("tls_resumed_total") > 0
