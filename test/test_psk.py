# SPDX-License-Identifier: Apache-2.0
"""TLS with pre-shared keys: a device's key, derived from the operator's, is who it is."""
import os
import re
import subprocess

import pytest

from conftest import owner_on
from harness import Server, free_port, wait_for
from pki import Authority

VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    home = tmp_path_factory.mktemp("psk")
    ca = Authority(home)
    (home / "psk.key").write_bytes(os.urandom(32))
    server = Server(home / "server", {
        "listen.https": f"127.0.0.1:{free_port()}", "listen.mqtts": f"127.0.0.1:{free_port()}",
        "tls.certificates": ca.server("server", "localhost"), "tls.psk_key_file": str(home / "psk.key"),
        "tls.client_ca": str(ca.path)})
    server.https_port = int(server.settings["listen.https"].split(":")[1])
    server.mqtts_port = int(server.settings["listen.mqtts"].split(":")[1])
    server.start()
    server.owner, server.ca = owner_on(server, "ann"), ca
    yield server
    server.close()


def psk(server, device="ann-dev"):
    return server.cli("device", "psk", device)["psk"]


def openssl(server, *args, port=None, send=None):
    """One connection; (whether the handshake went well, everything printed)."""
    body = '{"a": 1}'
    request = send or (f"POST /v1/telemetry HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}")
    run = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port or server.https_port}", "-ign_eof",
                          *args], input=request.encode(), capture_output=True, timeout=30)
    return run.returncode == 0, (run.stdout + run.stderr).decode(errors="replace")


def status(text):
    found = re.search(r"^HTTP/1.1 (\d+)", text, re.M)
    return int(found[1]) if found else None


@VERSIONS
def test_a_key_is_the_device(gate, version):
    good, text = openssl(gate, version, "-psk_identity", "ann-dev", "-psk", psk(gate))
    assert good and status(text) == 202, text
    assert "no peer certificate available" in text


@pytest.mark.parametrize("cipher", ["ECDHE-PSK-CHACHA20-POLY1305", "PSK-AES128-GCM-SHA256", "PSK-AES256-GCM-SHA384",
                                    "PSK-CHACHA20-POLY1305", "PSK-AES128-CCM"])
def test_ciphers_of_tls_12(gate, cipher):
    good, text = openssl(gate, "-tls1_2", "-cipher", cipher, "-psk_identity", "ann-dev", "-psk", psk(gate))
    assert good and status(text) == 202, text


@VERSIONS
def test_a_wrong_key_and_an_unknown_identity_fail_alike(gate, version):
    def alert(identity, key):
        good, text = openssl(gate, version, "-cipher", "PSK", "-psk_identity", identity, "-psk", key)
        assert not good and status(text) is None
        return re.findall(r"alert [a-z ]+", text)
    key = psk(gate)
    other = "0" * 63 + "1"
    assert alert("ann-dev", other) == alert("nobody", other) == alert("nobody", key) != []


@VERSIONS
@pytest.mark.parametrize("identity", ["x" * 129, "with blank", "\u00fc"])
def test_what_is_no_identity(gate, version, identity):
    good, text = openssl(gate, version, "-cipher", "PSK", "-psk_identity", identity, "-psk", psk(gate))
    assert status(text) != 202


def test_a_new_secret_makes_a_new_key(gate):
    secret = gate.add_device("ann", "renewed")
    assert secret
    before = psk(gate, "renewed")
    assert before == psk(gate, "renewed") != psk(gate)
    gate.cli("device", "secret", "renewed")
    after = psk(gate, "renewed")
    assert after != before
    for key, expected in ((before, None), (after, 202)):
        assert status(openssl(gate, "-psk_identity", "renewed", "-psk", key)[1]) == expected
    gate.cli("device", "disable", "renewed")
    assert status(openssl(gate, "-psk_identity", "renewed", "-psk", after)[1]) in (401, 403)
    gate.cli("device", "remove", "renewed")
    assert status(openssl(gate, "-psk_identity", "renewed", "-psk", after)[1]) is None


def test_hashed_secrets_have_keys_too(gate):
    gate.cli("device", "add", "ann", "hashed", "--secret", "of a person", "--bcrypt")
    assert status(openssl(gate, "-psk_identity", "hashed", "-psk", psk(gate, "hashed"))[1]) == 202


@VERSIONS
def test_sessions_by_key_are_not_resumed(gate, tmp_path, version):
    """The ticket, if one was given, starts a handshake that proves the key again, or is no use."""
    ticket = tmp_path / "session"
    key = psk(gate)
    args = (version, "-psk_identity", "ann-dev", "-psk", key, "-cipher", "PSK")
    good, _ = openssl(gate, *args, "-sess_out", str(ticket))
    assert good
    if ticket.exists():
        before = gate.metric("tls_resumed_total")
        openssl(gate, version, "-sess_in", str(ticket), "-cipher", "ALL")
        good, text = openssl(gate, version, "-sess_in", str(ticket))
        assert status(text) != 202, text
        if version == "-tls1_2":
            assert gate.metric("tls_resumed_total") == before


def test_without_a_key_a_certificate_is_shown(gate):
    good, text = openssl(gate, "-CAfile", str(gate.ca.path))
    assert status(text) == 401 and "Verify return code: 0" in text
    cert, key = gate.ca.client("client", "ann-dev")
    assert status(openssl(gate, "-cert", cert, "-key", key)[1]) == 202


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_mosquitto(gate, version):
    args = ["-h", "127.0.0.1", "-p", str(gate.mqtts_port), "--psk", psk(gate), "--psk-identity", "ann-dev",
            "--tls-version", version, "-t", f"ann/feeds/by-{version.replace('.', '')}"]
    before = gate.metric("mqtt_subscriptions")
    sub = subprocess.Popen(["mosquitto_sub", *args, "-C", "1"], stdout=subprocess.PIPE, text=True)
    wait_for("the subscription", lambda: gate.metric("mqtt_subscriptions") == before + 1, 30)
    run = subprocess.run(["mosquitto_pub", *args, "-m", "21.5", "-q", "1"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    assert sub.communicate(timeout=30)[0] == "21.5\n"
    bad = subprocess.run(["mosquitto_pub", *args, "-m", "1", "-q", "1", "--psk", "ab" * 32], capture_output=True,
                         timeout=30)
    assert bad.returncode != 0


def test_mistakes_are_told(make_server, tmp_path):
    short = tmp_path / "short"
    short.write_bytes(b"x" * 31)
    for path, what in ((short, "must hold 32 random bytes"), (tmp_path / "none", "No such file")):
        server = make_server({"tls.psk_key_file": str(path)}, start=False)
        server.spawn()
        assert server.process.wait(20) not in (0, -6, -11)
        assert "tls.psk_key_file: " in server.log() and what in server.log()


def test_without_a_server(tmp_path):
    """The command derives the same key from the files."""
    key_file, settings = tmp_path / "k", tmp_path / "s.yaml"
    key_file.write_bytes(os.urandom(40))
    settings.write_text(f"tls:\n  psk_key_file: {key_file}\n")
    server = Server(tmp_path / "home", {"tls.psk_key_file": str(key_file)})
    server.cli("account", "add", "ann")
    server.cli("device", "add", "ann", "d")
    off = server.cli("device", "psk", "d", "--config", str(settings))["psk"]
    refused = server.cli_run("device", "psk", "d")
    assert refused.returncode != 0 and "tls.psk_key_file is not set" in refused.stderr
    server.start()
    assert server.cli("device", "psk", "d")["psk"] == off and len(off) == 64
    server.close()
