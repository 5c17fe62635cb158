# SPDX-License-Identifier: Apache-2.0
"""Messages to MQTT clients above QoS 0, and sessions of subscribers that outlive their connection."""
import os
import signal
import struct

import paho.mqtt.client as paho
import pytest

from conftest import owner_on
from harness import wait_for
from mqtt_wire import (PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK,
                       UNSUBSCRIBE, Mqtt, packet, properties, text)


def expiry(seconds):
    """The property Session Expiry Interval."""
    return b"\x11" + struct.pack(">I", seconds)


class Client(Mqtt):
    """A subscriber by hand; `present` says whether its session was there."""

    def __init__(self, server, owner, name, version=5, clean=False, seconds=300, props=b"", who=None):
        super().__init__(server.mqtt_port, version, timeout=30.0)
        self.later = []
        user, secret = who or (owner.name, owner.key)
        rest = {"props": expiry(seconds) + props} if version == 5 else {}
        self.present = self.login(user, secret, name, clean=clean, **rest).body[0] == 1

    def _filters(self, kind, answer, body, mid):
        props = properties(b"") if self.version == 5 else b""
        self.send(packet(kind, struct.pack(">H", mid) + props + body, 2))
        got = self.expect(answer).body
        assert got[:2] == struct.pack(">H", mid)
        return list(got[3 if self.version == 5 else 2:])

    def subscribe(self, *filters, mid=1):
        return self._filters(SUBSCRIBE, SUBACK, b"".join(text(f) + bytes([q]) for f, q in filters), mid)

    def unsubscribe(self, *filters, mid=1):
        return self._filters(UNSUBSCRIBE, UNSUBACK, b"".join(text(f) for f in filters), mid)

    def message(self):
        """(payload, QoS, packet id, DUP) of the next PUBLISH."""
        return self.parse(self.later.pop(0) if self.later else self.expect(PUBLISH))[1:]

    def parse(self, p):
        qos, at = p.flags >> 1 & 3, 2 + struct.unpack(">H", p.body[:2])[0]
        topic = p.body[2:at].decode()
        mid = struct.unpack(">H", p.body[at:at + 2])[0] if qos else 0
        at += 2 if qos else 0
        if self.version == 5:
            at += 1 + p.body[at]
        return topic, p.body[at:].decode(), qos, mid, bool(p.flags & 8)

    def answer(self, kind, mid, code=None):
        body = struct.pack(">H", mid) + (bytes([code]) if code is not None else b"")
        return self.send(packet(kind, body, 2 if kind == PUBREL else 0))

    def ping(self):
        """All that was sent before has come when this returns."""
        self.send(packet(PINGREQ))
        got = []
        while (p := self.receive()).type != PINGRESP:
            got.append(p)
        return got

    def take(self):
        """The next message, taken to its end; its payload."""
        payload, qos, mid, _ = self.message()
        if qos == 1:
            self.answer(PUBACK, mid)
        if qos == 2:
            self.answer(PUBREC, mid)
            while (p := self.receive()).type == PUBLISH:  # others may be under way meanwhile
                self.later.append(p)
            assert p.type == PUBREL and p.body == struct.pack(">H", mid)
            self.answer(PUBCOMP, mid)
        return payload


    def by_alias(self):
        """(topic, alias or None, payload, QoS, packet id) of the next PUBLISH, for who takes aliases."""
        return self.parse_alias(self.expect(PUBLISH))

    @staticmethod
    def parse_alias(p):
        qos, at = p.flags >> 1 & 3, 2 + struct.unpack(">H", p.body[:2])[0]
        topic = p.body[2:at].decode()
        mid = struct.unpack(">H", p.body[at:at + 2])[0] if qos else 0
        at += 2 if qos else 0
        length = p.body[at]
        props, payload = p.body[at + 1:at + 1 + length], p.body[at + 1 + length:].decode()
        alias = struct.unpack(">H", props[1:3])[0] if props[:1] == b"\x23" else None
        return topic, alias, payload, qos, mid


@pytest.fixture
def feeder(server, owner):
    """Publishes values to a feed: each is durable when it returns."""
    class Feeder:
        def __init__(self):
            self.c = Mqtt(server.mqtt_port)
            self.c.login(owner.name, owner.key, "feeder")

        def __call__(self, feed, *values):
            for v in values:
                self.c.publish(f"{owner.name}/f/{feed}", str(v), 1)
                assert self.c.code(PUBACK, 1) == 0

    return Feeder()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_came_while_away(server, owner, feeder, version, qos):
    feed = f"away-{version}-{qos}"
    topic = f"{owner.name}/f/{feed}"
    c = Client(server, owner, feed, version)
    assert not c.present and c.subscribe((topic, qos)) == [qos]
    feeder(feed, "a")
    assert c.take() == "a"
    c.close()
    feeder(feed, *range(250))
    c = Client(server, owner, feed, version)
    assert c.present
    assert [c.take() for _ in range(100)] == [str(i) for i in range(100)]
    feeder(feed, "live", "alive")  # comes behind what was missed
    assert [c.take() for _ in range(152)] == [str(i) for i in range(100, 250)] + ["live", "alive"]
    feeder(feed, "b")
    assert c.take() == "b"
    assert not [p for p in c.ping() if p.type == PUBLISH]
    c.close()
    c = Client(server, owner, feed, version)  # nothing is left
    assert c.present and not c.ping()
    c.close()


def test_qos_0_is_for_who_is_there(server, owner, feeder):
    c = Client(server, owner, "zero")
    assert c.subscribe((f"{owner.name}/f/zero", 0)) == [0]
    c.close()
    feeder("zero", 1)
    c = Client(server, owner, "zero")
    assert c.present and not c.ping()
    feeder("zero", 2)
    assert c.message() == ("2", 0, 0, False)
    c.close()


@pytest.mark.parametrize("version", [4, 5])
def test_sent_again_with_its_id(server, owner, feeder, version):
    feed = f"again-{version}"
    c = Client(server, owner, feed, version)
    c.subscribe((f"{owner.name}/f/{feed}", 1))
    feeder(feed, *range(6))
    first = [c.message() for _ in range(6)]
    assert [m[0] for m in first] == [str(i) for i in range(6)] and not any(m[3] for m in first)
    for i in (1, 3):
        c.answer(PUBACK, first[i][2])
    assert not c.ping()
    c.close()
    c = Client(server, owner, feed, version)
    assert [c.message() for _ in range(4)] == [m[:3] + (True,) for i, m in enumerate(first) if i not in (1, 3)]
    feeder(feed, "new")
    payload, qos, mid, dup = c.message()
    assert (payload, qos, dup) == ("new", 1, False) and mid not in [m[2] for m in first]
    c.close()


@pytest.mark.parametrize("version", [4, 5])
def test_qos_2_over_kill(server, owner, feeder, version):
    """One message each whose PUBREC, PUBREL and PUBCOMP are missing when the server is killed."""
    feed = f"twokill-{version}"
    c = Client(server, owner, feed, version)
    assert c.subscribe((f"{owner.name}/f/{feed}", 2)) == [2]
    feeder(feed, *"abc")
    sent = [c.message() for _ in range(3)]
    c.answer(PUBREC, sent[1][2])
    assert c.code(PUBREL, sent[1][2]) == 0
    c.answer(PUBREC, sent[2][2])
    assert c.code(PUBREL, sent[2][2]) == 0
    c.answer(PUBCOMP, sent[2][2])
    server.kill()
    server.start()
    c = Client(server, owner, feed, version)
    assert c.present
    got = [c.receive()]
    while got[-1].type != PUBLISH:
        got.append(c.receive())
    # PUBREL of the second, of the third too if PUBCOMP had not become durable; the first one again.
    released = {struct.unpack(">H", p.body[:2])[0] for p in got[:-1]}
    assert all(p.type == PUBREL for p in got[:-1])
    assert {sent[1][2]} <= released <= {sent[1][2], sent[2][2]}
    assert c.parse(got[-1])[1:] == ("a", 2, sent[0][2], True)
    for mid in released:
        c.answer(PUBCOMP, mid)
    c.answer(PUBREC, sent[0][2])
    assert c.code(PUBREL, sent[0][2]) == 0
    c.answer(PUBCOMP, sent[0][2])
    assert not c.ping()
    c.close()
    c = Client(server, owner, feed, version)
    assert not c.ping()
    c.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_receive_maximum(server, owner, feeder, qos):
    """At most three at a time, now and when it comes back."""
    feed = f"max-{qos}"
    three = b"\x21\0\3"
    c = Client(server, owner, feed, props=three)
    c.subscribe((f"{owner.name}/f/{feed}", qos))
    feeder(feed, *range(9))
    got = [c.message() for _ in range(3)]
    assert not c.ping()
    c.close()
    c = Client(server, owner, feed, props=three)
    assert [c.message() for _ in range(3)] == [m[:3] + (True,) for m in got]
    assert not c.ping()
    if qos == 2:  # the window opens with PUBCOMP, not before
        c.answer(PUBREC, got[0][2])
        assert c.code(PUBREL, got[0][2]) == 0
        assert not c.ping()
        c.answer(PUBCOMP, got[0][2])
    else:
        c.answer(PUBACK, got[0][2])
    payload, _, mid, dup = c.message()
    assert (payload, dup) == ("3", False)
    assert not c.ping()
    c.close()


def test_a_pubrec_that_refuses(server, owner, feeder):
    c = Client(server, owner, "refuses")
    c.subscribe((f"{owner.name}/f/refuses", 2))
    feeder("refuses", "x")
    mid = c.message()[2]
    c.answer(PUBREC, mid, 0x83)
    assert not c.ping()
    c.close()
    c = Client(server, owner, "refuses")
    assert not c.ping()
    c.answer(PUBREC, mid)
    assert c.code(PUBREL, mid) == 0x92  # nobody knows it any more
    c.close()


def test_unsubscribe_lasts(server, owner, feeder):
    topic = f"{owner.name}/f/unsub"
    c = Client(server, owner, "unsub")
    assert c.subscribe((topic, 1), (topic + "/json", 1)) == [1, 1]
    assert c.unsubscribe(topic, mid=2) == [0]
    server.kill()
    server.start()
    feeder.__init__()
    feeder("unsub", "5")
    c = Client(server, owner, "unsub")
    assert c.present
    topic_of, payload, *_ = c.parse(c.expect(PUBLISH))
    assert topic_of == topic + "/json" and '"value":"5"' in payload
    assert not c.ping()
    c.close()


def test_one_copy_for_many_subscriptions(server, owner, feeder):
    """MQTT-3.3.4-2: the greatest QoS of them; a session's message has one place."""
    topic = f"{owner.name}/f/many"
    c = Client(server, owner, "many")
    c.subscribe((topic, 0), (f"{owner.name}/+/many", 2), (f"{owner.name}/f/#", 1))
    feeder("many", "1")
    seen = [c.take() for _ in range(4)]
    assert seen.count("1") == 2  # feeds/ and f/, the others are JSON and CSV
    c.close()
    feeder("many", "2")
    c = Client(server, owner, "many")
    got = [c.parse(c.expect(PUBLISH)) for _ in range(4)]  # with /json, /csv and feeds/
    assert [g[:3] for g in got if g[0] == topic] == [(topic, "2", 2)]
    c.close()


def test_a_clean_start_ends_the_subscriptions(server, owner, feeder):
    topic = f"{owner.name}/f/cleaned"
    c = Client(server, owner, "cleaned")
    c.subscribe((topic, 1))
    c.close()
    feeder("cleaned", 1)
    c = Client(server, owner, "cleaned", clean=True)
    assert not c.present and not c.ping()
    feeder("cleaned", 2)
    assert not c.ping()
    c.close()


def test_take_over_with_messages_under_way(server, owner, feeder):
    topic = f"{owner.name}/f/taken"
    first = Client(server, owner, "taken")
    first.subscribe((topic, 1))
    feeder("taken", *range(5))
    sent = [first.message() for _ in range(5)]
    first.answer(PUBACK, sent[0][2])
    assert not first.ping()
    second = Client(server, owner, "taken")
    assert second.present
    assert [second.message() for _ in range(4)] == [m[:3] + (True,) for m in sent[1:]]
    second.close()


def test_what_comes_while_the_server_stops(make_server):
    """A message that becomes durable while its subscriber only waits for an answer of its own is not taken for
    delivered."""
    server = make_server({"journal.disk": "slow"})
    owner = owner_on(server, "stops")
    with Mqtt(server.mqtt_port) as other:
        other.login(owner.name, owner.key, "other")
        for feed in ("seen", "other"):
            other.publish(f"{owner.name}/f/{feed}", "0", 1)
            assert other.code(PUBACK, 1) == 0
        c = Client(server, owner, "waits")
        assert c.subscribe((f"{owner.name}/f/seen", 1)) == [1]
        (server.data / "journal" / "slow_ms").write_text("700")
        other.publish(f"{owner.name}/f/seen", "1", 1)
        wait_for("the first message", lambda: server.metric("mqtt_publishes_total") == 3)
        c.publish(f"{owner.name}/f/other", "1", 1, 9)
        wait_for("the second one", lambda: server.metric("mqtt_publishes_total") == 4)
        os.kill(server.pid, signal.SIGTERM)
        assert server.process.wait(20) == 0
    (server.data / "journal" / "slow_ms").write_text("0")
    server.start()
    c = Client(server, owner, "waits")
    assert c.present and c.take() == "1"


def test_who_does_not_acknowledge_falls_behind(server, owner, feeder):
    """More than the queue holds: the journal is the queue of a session."""
    topic = f"{owner.name}/f/behind"
    c = Client(server, owner, "behind")
    c.subscribe((topic, 1))
    big = "x" * 1000
    feeder("behind", *(f"{i}-{big}" for i in range(600)))
    got = [c.take().split("-")[0] for _ in range(600)]
    assert got == [str(i) for i in range(600)]
    assert not c.ping()
    c.close()


def test_paho(server, owner, feeder):
    """A client of others, which comes back."""
    got = []

    def client():
        c = paho.Client(client_id="paho-sub", clean_session=False)
        c.username_pw_set(owner.name, owner.key)
        c.on_message = lambda *a: got.append(a[2].payload.decode())
        c.on_connect = lambda *a: c.subscribe([(f"{owner.name}/f/paho", 2), (f"{owner.name}/f/paho/csv", 1)])
        ready = []
        c.on_subscribe = lambda *a: ready.append(a)
        c.connect("127.0.0.1", server.mqtt_port)
        c.loop_start()
        wait_for("SUBACK", lambda: ready, 30)
        return c

    c = client()
    feeder("paho", 1)
    wait_for("both", lambda: len(got) == 2, 30)
    c.disconnect()
    c.loop_stop()
    feeder("paho", *range(2, 30))
    c = client()
    wait_for("all", lambda: len(got) >= 58, 30)
    c.disconnect()
    c.loop_stop()
    assert [g for g in got if "," not in g] == [str(i) for i in range(1, 30)]
    assert len(got) == 58


def aliases(n):
    return b"\x22" + struct.pack(">H", n)


@pytest.mark.parametrize("takes,gives", [(0, 0), (3, 3), (65535, 16)])
def test_topic_aliases(server, owner, feeder, takes, gives):
    """The first topics get one each, as many as the client takes and we give."""
    root, feeds = f"{owner.name}/f/alias{takes}-", 20
    c = Client(server, owner, f"alias-{takes}", seconds=0, props=aliases(takes))
    assert c.subscribe(*[(f"{root}{i}", i % 2) for i in range(feeds)]) == [i % 2 for i in range(feeds)]
    for again in (False, True):
        for i in range(feeds):
            feeder(f"alias{takes}-{i}", f"{again}{i}")
            topic, alias, payload, qos, mid = c.by_alias()
            if qos:
                c.answer(PUBACK, mid)
            assert alias == (i + 1 if i < gives else None) and payload == f"{again}{i}"
            assert topic == ("" if again and alias else f"{root}{i}")
    c.close()
    c = Client(server, owner, f"alias-{takes}", seconds=0, props=aliases(takes))  # theirs ended with the connection
    assert c.subscribe((f"{root}1", 0)) == [0]
    feeder(f"alias{takes}-1", "x")
    assert c.by_alias()[:2] == (f"{root}1", 1 if gives else None)
    c.close()


def test_topic_aliases_of_what_waits(server, owner, feeder):
    """Messages of QoS 1 and 2 wait for the window, or for the disk, and others pass them: whichever leaves first says
    what the alias is."""
    topic = f"{owner.name}/f/alias-w"
    c = Client(server, owner, "alias-w", props=aliases(9) + b"\x21\0\1")
    assert c.subscribe((topic, 2), (f"{topic}/json", 0)) == [2, 0]
    feeder("alias-w", *range(4))
    known, got = {}, {topic: [], f"{topic}/json": []}
    while len(got[topic]) < 4 or len(got[f"{topic}/json"]) < 4:
        if (p := c.receive()).type == PUBREL:
            c.send(packet(PUBCOMP, p.body))
            continue
        name, alias, payload, qos, mid = c.parse_alias(p)
        assert alias and bool(name) == (alias not in known)
        name = known.setdefault(alias, name)
        got[name].append(payload)
        if qos:
            c.answer(PUBREC, mid)
    assert got[topic] == ["0", "1", "2", "3"] and len(set(known.values())) == 2
    c.close()


def test_topic_aliases_keep_to_the_maximum_packet(server, owner, feeder):
    """Where only the message itself fits, there is no alias."""
    topic = f"{owner.name}/f/alias-m"
    size = 2 + 2 + len(topic) + 1 + 1  # header, topic, no properties, payload
    c = Client(server, owner, "alias-m", seconds=0, props=aliases(9) + b"\x27" + struct.pack(">I", size + 2))
    assert c.subscribe((topic, 0)) == [0]
    feeder("alias-m", 1, 2)
    assert [c.by_alias()[:3] for _ in range(2)] == [(topic, None, "1"), (topic, None, "2")]
    c.close()
