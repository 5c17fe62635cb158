# SPDX-License-Identifier: Apache-2.0
"""WebSocket by hand (RFC 6455): MQTT in frames of any shape, and what no client library would send."""
import base64
import hashlib
import os
import struct

from mqtt_wire import Closed, Mqtt

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"sixteen bytes ok").decode()


def upgrade(path="/mqtt", protocol="mqtt", version="HTTP/1.1", method="GET", **fields):
    """The request; a field given as None is left out, `_` in a name is `-`."""
    head = {"Host": "sluice", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY,
            "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": protocol,
            **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = "".join(f"{n}: {v}\r\n" for n, v in head.items() if v is not None)
    return f"{method} {path} {version}\r\n{lines}\r\n".encode()


def frame(payload, opcode=BINARY, final=True, mask=True, reserved=0, wide=0):
    """`wide`: the least bytes the length is written in."""
    n = len(payload)
    size = max(wide, 0 if n < 126 else 2 if n < 65536 else 8)
    out = bytes([(128 if final else 0) | reserved << 4 | opcode,
                 (128 if mask else 0) | (n if size == 0 else 126 if size == 2 else 127)])
    out += n.to_bytes(size, "big") if size else b""
    if not mask:
        return out + payload
    key = os.urandom(4)
    return out + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


class WebSocket(Mqtt):
    """An MQTT connection over WebSocket: what is sent is put in frames, what is received taken out."""

    def __init__(self, port, version=4, tls=None, protocol="mqtt", **fields):
        super().__init__(port, version, tls=tls)
        self.raw, self.pongs, self.close_code, self.close_reason = b"", [], None, b""
        self.sock.sendall(upgrade(protocol=protocol, **fields))
        while b"\r\n\r\n" not in self.raw:
            got = self.sock.recv(65536)
            assert got, self.raw
            self.raw += got
        self.head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head
        accept = base64.b64encode(hashlib.sha1(KEY.encode() + GUID).digest())
        assert b"\r\nSec-WebSocket-Accept: " + accept + b"\r\n" in self.head + b"\r\n"

    def send(self, data):
        return self.frame(data)

    def frame(self, payload, opcode=BINARY, **shape):
        self.sock.sendall(frame(payload, opcode, **shape))
        return self

    def bytes(self, data):
        self.sock.sendall(data)
        return self

    def _raw(self, n):
        while len(self.raw) < n:
            try:
                got = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                got = b""
            if not got:
                return None
            self.raw += got
        got, self.raw = self.raw[:n], self.raw[n:]
        return got

    def next_frame(self):
        """(opcode, payload), or None at the end of the connection."""
        head = self._raw(2)
        if head is None:
            return None
        assert head[0] & 0xf0 == 0x80 and not head[1] & 128, head
        size = {126: 2, 127: 8}.get(head[1], 0)
        length = int.from_bytes(self._raw(size), "big") if size else head[1]
        return head[0] & 15, self._raw(length) if length else b""

    def _need(self, n):
        while len(self.buffer) < n:
            got = self.next_frame()
            if got is None:
                raise Closed(f"closed with {self.buffer!r} in hand, code {self.close_code}")
            opcode, payload = got
            if opcode == BINARY:
                self.buffer += payload
            elif opcode == PONG:
                self.pongs.append(payload)
            else:
                assert opcode == CLOSE and self.close_code is None, got
                self.close_code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                self.close_reason = payload[2:]
