# SPDX-License-Identifier: Apache-2.0
"""`sluice load` over TLS and WebSocket, and what it believes of a server."""
import base64
import hashlib
import json
import socket
import struct
import subprocess
import threading

import pytest

from harness import BIN, Server, free_port
from pki import Authority


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    home = tmp_path_factory.mktemp("tls")
    ca = Authority(home)
    https, mqtts = free_port(), free_port()
    server = Server(home / "server", {
        "listen.https": f"127.0.0.1:{https}", "listen.mqtts": f"127.0.0.1:{mqtts}",
        "tls.certificates": ca.server("server", "localhost", "127.0.0.1")})
    server.start()
    server.add_account("demo")
    auth, = server.add_devices("demo", [("d", None, None)])
    csv = home / "devices.csv"
    csv.write_text(f"{auth['X-Device-Id']},{auth['X-Device-Token']}\n")
    server.ports = {"https": https, "mqtts": mqtts, "wss": https, "ws": server.http_port}
    yield server, csv, server.add_key("demo"), ca.path
    server.close()


def load(url, *args, status=0):
    run = subprocess.run([BIN, "load", url, "--quiet", "--json", "/dev/fd/2", *(str(a) for a in args)],
                         capture_output=True, text=True, timeout=120)
    assert run.returncode == status, (run.returncode, run.stdout, run.stderr)
    return json.loads(run.stderr)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("scheme", ["https", "mqtts", "wss", "ws"])
def test_all_that_is_acknowledged_is_stored(served, scheme, host):
    """Also across connections that break in the middle."""
    server, csv, key, ca = served
    args = ["--devices", csv, "--ca", ca, "--connections", 3, "--requests", 600, "--rate", 1500, "--storm", 0.1,
            "--verify", key]
    if scheme != "https":
        args += ["--topic", "demo/feeds/t%feed%", "--feeds", 3, "--verify-url", f"https://{host}:{server.ports['https']}",
                 "--payload-size", 400]
    got = load(f"{scheme}://{host}:{server.ports[scheme]}", *args)
    v = got["verified"]
    assert v["sound"] and v["acked"] == v["stored"] > 500, got
    assert not got["bad_responses"] and not got["broken"] and got["sent"] == 600


def test_large_messages_travel_in_many_pieces(served):
    server, csv, _, ca = served
    got = load(f"wss://localhost:{server.ports['wss']}", "--devices", csv, "--ca", ca, "--connections", 2, "--requests", 60,
               "--topic", "demo/feeds/large", "--payload-size", 1000, "--window", 60, "--subscribe", "demo/feeds/large")
    assert got["status"] == {"0": 60} and got["delivered"] == 60


def test_a_server_that_is_not_believed_gets_nothing(served, tmp_path):
    server, csv, _, ca = served
    url = f"https://localhost:{server.ports['https']}"
    other = Authority(tmp_path, "Other CA").path
    before = server.metric("messages_accepted_total")
    got = load(url, "--devices", csv, "--ca", other, "--connections", 1, "--requests", 5, status=1)
    assert got["answered"] == 0 and got["connect_errors"] == 1 and "TLS: certificate: " in got["last_error"]
    assert server.metric("messages_accepted_total") == before
    run = subprocess.run([BIN, "load", url, "--devices", csv, "--ca", other, "--verify", "k", "--timeout", "5"],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 1 and "TLS: certificate: " in run.stderr
    got = load(url, "--devices", csv, "--insecure", "--connections", 1, "--requests", 5)
    assert got["answered"] == 5
    missing = subprocess.run([BIN, "load", url, "--ca", tmp_path / "none"], capture_output=True, text=True, timeout=60)
    assert missing.returncode == 1 and "--ca:" in missing.stderr and "cannot be read" in missing.stderr


class Peer(threading.Thread):
    """A server of one connection that answers an upgrade with `answer(accept)`, and then sends `frames`."""

    def __init__(self, answer, frames=b""):
        super().__init__(daemon=True)
        self.answer, self.frames, self.got = answer, frames, b""
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.sock.getsockname()[1]}/x"
        self.start()

    def run(self):
        try:
            self.serve()
        except OSError:
            pass  # reset: it was not what the other end wanted

    def serve(self):
        peer, _ = self.sock.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(4096)
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        peer.sendall(self.answer(base64.b64encode(digest)))
        for i in range(len(self.frames)):  # byte by byte
            peer.sendall(self.frames[i:i + 1])
        while data := peer.recv(65536):
            self.got += data


def accepts(accept):
    return b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"


@pytest.mark.parametrize("answer,frames,why", [
    (lambda a: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", "does not accept the upgrade"),
    (lambda a: accepts(b"AAAA"), b"", "does not accept the upgrade"),
    (lambda a: b"x" * 9000, b"", "too long"),
    (accepts, b"\x82\x81aaaab", "no frame of a server"),
    (accepts, b"\xf2\x01a", "no frame of a server"),
    (accepts, b"\x89\x7e\x00\x80", "no frame of a server"),
    (accepts, b"\x83\x01a", "no frame of a server"),
], ids=["200", "accept", "long", "masked", "rsv", "long ping", "opcode"])
def test_what_is_no_websocket_is_told(answer, frames, why):
    got = load(Peer(answer, frames).url, "--topic", "t", "--connections", 1, "--requests", 1, "--seconds", 20, status=1)
    assert why in got["last_error"], got


def test_frames_in_pieces_between_pings():
    """CONNACK in two frames with a ping between; the pong carries the ping's bytes back."""
    connack = b"\x20\x03\x00\x00\x00"
    peer = Peer(accepts, b"\x02\x02" + connack[:2] + b"\x89\x03abc" + b"\x80\x00" + b"\x82\x7e\x00\x03" + connack[2:] +
                b"\x82\x04\x40\x02\x00\x01")
    got = load(peer.url, "--topic", "t", "--connections", 1, "--requests", 1, "--window", 1, "--seconds", 20)
    assert got["answered"] == 1 and got["status"] == {"0": 1}
    peer.join(20)
    frames, at = [], 0
    while at < len(peer.got):
        size = peer.got[at + 1] & 127
        assert peer.got[at + 1] & 128
        head = 2
        if size == 126:
            size, head = struct.unpack(">H", peer.got[at + 2:at + 4])[0], 4
        mask = peer.got[at + head:at + head + 4]
        body = bytes(b ^ mask[i % 4] for i, b in enumerate(peer.got[at + head + 4:at + head + 4 + size]))
        frames.append((peer.got[at] & 15, body))
        at += head + 4 + size
    assert (10, b"abc") in frames and frames[0][0] == 2 and frames[0][1][:1] == b"\x10"
