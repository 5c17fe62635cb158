# SPDX-License-Identifier: Apache-2.0
"""Members of shared subscriptions, by hand."""
import struct

from harness import wait_for
from mqtt_wire import PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, UNSUBACK, UNSUBSCRIBE, Mqtt, packet, text


class Member(Mqtt):
    """One that is in a group, or is not; `got` is what came and was not asked for."""

    def __init__(self, server, owner, name="", version=5, session=False, clean=True, props=b"", who=None,
                 will=None):
        super().__init__(server.mqtt_port, version, timeout=30.0)
        self.pending = 0
        if version == 5 and session:
            props += b"\x11\0\0\x01\x2c"
        user, secret = who or (owner.name, owner.key)
        rest = {"props": props} if version == 5 else {}
        self.present = self.login(user, secret, name, clean=clean, will=will, **rest).body[0] == 1

    def take(self, p):
        """(payload, QoS, packet id, DUP) of a PUBLISH."""
        qos, at = p.flags >> 1 & 3, 2 + struct.unpack(">H", p.body[:2])[0]
        mid = struct.unpack(">H", p.body[at:at + 2])[0] if qos else 0
        at += 2 if qos else 0
        if self.version == 5:
            at += 1 + p.body[at]
        return p.body[at:].decode(), qos, mid, bool(p.flags & 8)

    def answer(self, kind, mid):
        return self.send(packet(kind, struct.pack(">H", mid), 2 if kind == PUBREL else 0))

    def next(self):
        return self.take(self.expect(PUBLISH))

    def drain(self, ack=True):
        """Payloads of all that came before the answer to a PINGREQ; QoS 1 is acknowledged."""
        got = []
        self.send(packet(PINGREQ))
        while (p := self.receive()).type != PINGRESP:
            assert p.type == PUBLISH, p
            payload, qos, mid, _ = self.take(p)
            got.append(payload)
            if ack and qos == 1:
                self.answer(PUBACK, mid)
        return got

    def unsubscribe(self, filter):
        self.send(packet(UNSUBSCRIBE, b"\0\7" + (b"\0" if self.version == 5 else b"") + text(filter), 2))
        while (p := self.receive()).type != UNSUBACK:
            assert p.type == PUBLISH
        return p.body[-1]


def take_all(m, count):
    """The payloads of so many messages, each acknowledged to its end."""
    got = []
    while len(got) < count or m.pending:
        p = m.receive()
        if p.type == PUBREL:
            m.send(packet(PUBCOMP, p.body))
            m.pending -= 1
            continue
        assert p.type == PUBLISH, p
        payload, qos, mid, _ = m.take(p)
        got.append(payload)
        if qos:
            m.answer(PUBACK if qos == 1 else PUBREC, mid)
            m.pending += qos == 2
    return got


def collect(members, count, ack=True):
    """{member: payloads}, once `count` have come to them."""
    got = {m: [] for m in members}

    def all_there():
        for m in members:
            got[m] += m.drain(ack)
        return sum(len(g) for g in got.values()) >= count

    wait_for(f"{count} messages", all_there, 30)
    for m in members:  # and no more
        got[m] += m.drain(ack)
    assert sum(len(g) for g in got.values()) == count, got
    return got
