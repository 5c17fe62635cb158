# SPDX-License-Identifier: Apache-2.0
"""MQTT by hand: exact packets out, exact packets in. For what no client library would send."""
import socket
import struct
from collections import namedtuple

from wire import Closed, Connection

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

Packet = namedtuple("Packet", "type flags body")


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(value)) + value


def varint(n):
    out = b""
    while True:
        out += bytes([n % 128 | (128 if n > 127 else 0)])
        n //= 128
        if not n:
            return out


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def properties(values):
    """The bytes of properties (given encoded) with their length."""
    return varint(len(values)) + values


def connect(client="", user=None, password=None, version=4, clean=True, keep_alive=60, props=b"",
            will=None, will_props=b"", will_flags=0):
    flags = (2 if clean else 0) | (128 if user is not None else 0) | (64 if password is not None else 0)
    body = text("MQIsdp" if version == 3 else "MQTT")
    if will:
        flags |= 4 | will_flags
    body += bytes([version, flags]) + struct.pack(">H", keep_alive)
    if version == 5:
        body += properties(props)
    body += text(client)
    if will:
        body += (properties(will_props) if version == 5 else b"") + text(will[0]) + text(will[1])
    body += text(user) if user is not None else b""
    body += text(password) if password is not None else b""
    return packet(CONNECT, body)


def publish(topic, payload, qos=0, mid=None, version=4, props=b"", dup=False, retain=False):
    payload = payload if isinstance(payload, bytes) else payload.encode()
    body = text(topic) + (struct.pack(">H", mid) if qos else b"")
    body += properties(props) if version == 5 else b""
    return packet(PUBLISH, body + payload, qos << 1 | (8 if dup else 0) | (1 if retain else 0))


class Mqtt(Connection):
    """One connection; `version` is what its packets are written in."""

    def __init__(self, port, version=4, timeout=10.0, tls=None):
        super().__init__(port, timeout)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.version = version

    def _need(self, n):
        while len(self.buffer) < n:
            self._more()

    def receive(self):
        self._need(2)
        length, at = 0, 1
        while True:
            self._need(at + 1)
            byte = self.buffer[at]
            length += (byte & 127) << (7 * (at - 1))
            at += 1
            if byte < 128:
                break
        self._need(at + length)
        first, body = self.buffer[0], self.buffer[at:at + length]
        self.buffer = self.buffer[at + length:]
        return Packet(first >> 4, first & 15, body)

    def expect(self, kind):
        p = self.receive()
        assert p.type == kind, p
        return p

    def closed(self):
        """Whether nothing more comes, and the connection ends."""
        try:
            p = self.receive()
        except Closed:
            return True
        raise AssertionError(f"{p} instead of the end")

    def silent(self, seconds=0.3):
        """Whether nothing comes for so long, and the connection stays."""
        assert not self.buffer, f"{self.buffer!r} instead of silence"
        self.sock.settimeout(seconds)
        try:
            got = self.sock.recv(1)
            raise AssertionError(f"{got!r} instead of silence")
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(10)

    def login(self, user, password, client="", **rest):
        """CONNECT; the CONNACK, which must be a good one."""
        self.send(connect(client, user, password, self.version, **rest))
        p = self.expect(CONNACK)
        assert p.body[1] == 0, p
        return p

    def publish(self, topic, payload, qos=0, mid=1, **rest):
        return self.send(publish(topic, payload, qos, mid, self.version, **rest))

    def subscribe(self, *filters, mid=5, props=b""):
        """[(filter, options), ...]; the codes."""
        body = mid.to_bytes(2, "big") + (properties(props) if self.version == 5 else b"")
        body += b"".join(text(f) + bytes([o]) for f, o in filters)
        p = self.send(packet(SUBSCRIBE, body, 2)).expect(SUBACK)
        assert p.body[:2] == mid.to_bytes(2, "big"), p
        return list(p.body[-len(filters):])

    def message(self):
        """(topic, payload) of the next message, which is acknowledged."""
        p = self.expect(PUBLISH)
        n = int.from_bytes(p.body[:2], "big")
        topic, rest = p.body[2:2 + n].decode(), p.body[2 + n:]
        if p.flags & 6:
            self.send(packet(PUBACK, rest[:2]))
            rest = rest[2:]
        if self.version == 5:
            rest = rest[1 + rest[0]:]
        return topic, rest.decode()

    def code(self, kind, mid):
        """The reason code of an answer to message `mid`."""
        p = self.expect(kind)
        assert struct.unpack(">H", p.body[:2]) == (mid,), p
        return p.body[2] if len(p.body) > 2 else 0


def subscribe(c, *filters, mid=5, props=b""):
    """[(filter, options), ...]; the codes."""
    body = mid.to_bytes(2, "big") + (properties(props) if c.version == 5 else b"")
    body += b"".join(text(f) + bytes([o]) for f, o in filters)
    p = c.send(packet(SUBSCRIBE, body, 2)).expect(SUBACK)
    assert p.body[:2] == mid.to_bytes(2, "big")
    return list(p.body[-len(filters):])
