# SPDX-License-Identifier: Apache-2.0
"""WebSocket by hand (RFC 6455): MQTT and messages of consumer groups in frames of any shape, and what no client library
would send."""
import base64
import hashlib
import json
import os
import struct
from urllib.parse import urlencode

from mqtt_wire import Mqtt
from wire import Closed, Connection

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


class Frames:
    """Frames out and in, on a connection of any protocol."""

    raw, pongs, pings, close_code, close_reason, head = b"", (), (), None, b"", b""

    def shake(self, request):
        """Sends the request, and reads the answer that lets it in."""
        self.raw, self.pongs, self.pings = b"", [], []
        self.sock.sendall(request)
        while b"\r\n\r\n" not in self.raw:
            got = self.sock.recv(65536)
            assert got, self.raw
            self.raw += got
        self.head, self.raw = self.raw.split(b"\r\n\r\n", 1)
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head + self.raw
        accept = base64.b64encode(hashlib.sha1(KEY.encode() + GUID).digest())
        assert b"\r\nSec-WebSocket-Accept: " + accept + b"\r\n" in self.head + b"\r\n"

    def frame(self, payload, opcode=BINARY, **shape):
        self.sock.sendall(frame(payload, opcode, **shape))
        return self

    def bytes(self, data):
        self.sock.sendall(data)
        return self

    def _have(self, n):
        """Whether so many bytes come; a timeout loses none."""
        while len(self.raw) < n:
            try:
                got = self.sock.recv(65536)
            except (ConnectionResetError, BrokenPipeError):
                got = b""
            if not got:
                return False
            self.raw += got
        return True

    def next_frame(self):
        """(opcode, payload), or None at the end of the connection."""
        if not self._have(2):
            return None
        first, short = self.raw[:2]
        assert first & 0xf0 == 0x80 and not short & 128, self.raw[:2]
        size = {126: 2, 127: 8}.get(short, 0)
        if not self._have(2 + size):
            return None
        length = int.from_bytes(self.raw[2:2 + size], "big") if size else short
        if not self._have(2 + size + length):
            return None
        payload, self.raw = self.raw[2 + size:2 + size + length], self.raw[2 + size + length:]
        return first & 15, payload

    def next_data(self, kind):
        """The payload of the next frame of that kind; control frames before it are noted."""
        while True:
            got = self.next_frame()
            if got is None:
                raise Closed(f"closed with code {self.close_code}: {self.close_reason!r}")
            opcode, payload = got
            if opcode == kind:
                return payload
            if opcode in (PONG, PING):
                (self.pongs if opcode == PONG else self.pings).append(payload)
            else:
                assert opcode == CLOSE and self.close_code is None, got
                self.close_code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                self.close_reason = payload[2:]


class WebSocket(Frames, Mqtt):
    """An MQTT connection over WebSocket: what is sent is put in frames, what is received taken out."""

    def __init__(self, port, version=4, tls=None, protocol="mqtt", **fields):
        super().__init__(port, version, tls=tls)
        self.shake(upgrade(protocol=protocol, **fields))

    def send(self, data):
        return self.frame(data)

    def _need(self, n):
        while len(self.buffer) < n:
            try:
                self.buffer += self.next_data(BINARY)
            except Closed as e:
                raise Closed(f"{e} with {self.buffer!r} in hand") from None


class Consumer(Frames, Connection):
    """A connection that is pushed messages of a consumer group."""

    def __init__(self, port, group, auth, behind=b"", timeout=10.0, **query):
        super().__init__(port, timeout)
        self.waiting = []
        target = f"/v1/consume/{group}" + ("?" + urlencode(query) if query else "")
        self.shake(upgrade(target, None, **auth) + behind)

    def say(self, **message):
        return self.frame(json.dumps(message).encode(), TEXT)

    def next(self):
        """The next message of the server."""
        return json.loads(self.next_data(TEXT))

    def take(self, count):
        """So many messages of the group; answers that come meanwhile wait for `told`."""
        got = []
        while len(got) < count:
            m = self.next()
            got += m["messages"] if "messages" in m else []
            self.waiting += [] if "messages" in m else [m]
        assert len(got) == count, got
        return got

    def told(self, what, messages, **rest):
        """Says so of them; the answer. No messages must come meanwhile."""
        self.say(**{what: {"tokens": [m["token"] for m in messages], **rest}})
        return self.next()[what]

    def quiet(self, seconds=0.3):
        """Whether nothing comes for so long."""
        assert not self.raw
        self.sock.settimeout(seconds)
        try:
            self.raw = self.sock.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)
        return False

    def closed(self):
        """The code and sentence it is closed with, behind whatever else comes."""
        try:
            while True:
                self.next()
        except Closed:
            return self.close_code, self.close_reason.decode()
