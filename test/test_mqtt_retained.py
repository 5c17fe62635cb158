# SPDX-License-Identifier: Apache-2.0
"""Retained MQTT messages: kept, replaced, deleted, delivered to who subscribes, over kill -9."""
import random
import struct
import subprocess

import pytest

import mqtt_wire as wire
from conftest import owner_on
from harness import wait_for
from mqtt_wire import (CONNACK, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, Mqtt,
                       packet, text)
from test_mqtt_deliver import Client
from test_mqtt_topics import client, message, owner, root, subscribe, unpacked  # noqa: F401


def put(c, topic, payload, qos=1, retain=True, props=b""):
    """Publishes; the code of its answer."""
    c.publish(topic, payload, qos, 77, retain=retain, props=props)
    if not qos:
        return 0
    code = c.code(PUBACK if qos == 1 else PUBREC, 77)
    if qos == 2 and code == 0:
        c.send(packet(PUBREL, b"\0\x4d", 2)).expect(PUBCOMP)
    return code


def retained(c, *filters, props=b""):
    """{topic: payload} of what a subscription brings, all with the flag. What a connection is to get comes in the
    order of its subscriptions: another retained message ends it."""
    mark = f"mark/{random.getrandbits(60)}"
    with Mqtt(c.sock.getpeername()[1], 4) as other:
        other.login(*c.who)
        assert put(other, mark, "end") == 0
    body = b"\0\5" + (wire.properties(props) if c.version == 5 else b"")
    body += b"".join(text(f) + bytes([o]) for f, o in [*filters, (mark, 0)])
    c.send(packet(SUBSCRIBE, body, 2))
    got, codes = {}, None
    while codes is None or mark not in got:
        p = c.receive()
        if p.type == SUBACK:
            codes = p.body[2 + (c.version == 5):]
            continue
        assert p.type == wire.PUBLISH, p
        m = unpacked(c, p)
        assert m.retain == 1 and m.topic not in got, m
        got[m.topic] = m.payload
        if m.qos:
            c.send(packet(PUBACK, struct.pack(">H", m.mid)))
    assert all(code < 3 for code in codes) and list(got)[-1] == mark
    del got[mark]
    return got


@pytest.fixture
def open_one(client, owner):  # noqa: F811
    def go(version=5, **rest):
        c = client(version, **rest)
        c.who = (owner.name, owner.key)
        return c
    return go


def test_kept_replaced_deleted(open_one, root):  # noqa: F811
    for version in (4, 5):
        base = f"{root}/{version}"
        c = open_one(version)
        for qos in range(3):
            assert put(c, f"{base}/q{qos}", f"first{qos}", qos) == 0
            assert put(c, f"{base}/q{qos}", f"at{qos}", qos) == 0
        assert put(c, f"{base}/not", "x", retain=False) == 0
        assert put(c, f"{base}", "top") == 0
        want = {base: b"top", **{f"{base}/q{q}": f"at{q}".encode() for q in range(3)}}
        assert retained(open_one(version), (f"{base}/#", 1)) == want
        del want[base]
        assert retained(open_one(version), (f"{root}/+/+", 1)) == {k: v for k, v in want.items()}
        assert retained(open_one(version), (f"{base}/q1", 0)) == {f"{base}/q1": b"at1"}
        assert put(c, f"{base}/q1", "") == 0
        del want[f"{base}/q1"]
        assert retained(open_one(version), (f"{base}/+", 0)) == want
        for t in (base, *want):  # nothing is left for the other version
            assert put(c, t, "") == 0


def test_live_messages_have_no_flag_unless_asked_for(open_one, root):  # noqa: F811
    plain, as_published = open_one(), open_one()
    assert subscribe(plain, (f"{root}/x", 0)) == [0] and subscribe(as_published, (f"{root}/x", 8)) == [0]
    c = open_one()
    assert put(c, f"{root}/x", "1") == 0 and put(c, f"{root}/x", "2", retain=False) == 0
    assert put(c, f"{root}/x", "") == 0
    assert [message(plain).retain for _ in range(3)] == [0, 0, 0]
    assert [message(as_published).retain for _ in range(3)] == [1, 0, 1]


def test_retain_handling(open_one, root):  # noqa: F811
    topic = f"{root}/x"
    assert put(open_one(), topic, "1") == 0
    c = open_one()
    assert retained(c, (topic, 0x20)) == {}
    assert retained(c, (topic, 0x10)) == {}  # it has this subscription already
    assert retained(c, (topic, 0x00)) == {topic: b"1"}
    assert retained(c, (topic, 0x00)) == {topic: b"1"}
    c.send(packet(UNSUBSCRIBE, b"\0\6\0" + text(topic), 2)).expect(UNSUBACK)
    assert retained(c, (topic, 0x10)) == {topic: b"1"}
    assert retained(c, (topic, 0x10)) == {}


def test_a_subscription_made_again_takes_nothing_away(open_one, root):  # noqa: F811
    """Who subscribes anew and wants none again gets those that the first time has not brought yet."""
    topics = [f"{root}/{n}" for n in range(100)]
    publisher = open_one()
    for t in topics:
        assert put(publisher, t, t) == 0
    for again in (0x10, 0x20):
        c = open_one()
        c.send(b"".join(packet(SUBSCRIBE, b"\0\5\0" + text(f"{root}/#") + bytes([o]), 2) for o in (0, again)))
        got = [c.receive() for _ in range(102)]
        assert [p.type for p in got].count(SUBACK) == 2
        assert sorted(unpacked(c, p).topic for p in got if p.type == wire.PUBLISH) == sorted(topics)


@pytest.mark.parametrize("qos", [1, 2])
def test_sent_again_with_its_session(server, owner, root, open_one, qos):  # noqa: F811
    """What was retained and is not acknowledged is under way like other messages (MQTT-4.4.0-1), whatever the
    client has acknowledged that came later."""
    c = open_one()
    assert put(c, f"{root}/r", "kept", 2) == 0
    name = f"{root}-again"
    s = Client(server, owner, name)
    s.send(packet(SUBSCRIBE, b"\0\1\0" + text(f"{root}/#") + bytes([qos]), 2))
    both = sorted((s.receive(), s.receive()))  # in any order
    assert [p.type for p in both] == [wire.PUBLISH, SUBACK]
    _, payload, got, mid, dup = s.parse(both[0])
    assert (payload, got, dup) == ("kept", qos, False)
    assert put(c, f"{root}/live", "1", qos, retain=False) == 0
    assert s.take() == "1" and s.ping() == []
    s.close()
    for _ in range(2):
        s = Client(server, owner, name)
        assert s.present and s.message() == ("kept", qos, mid, True)
        assert put(c, f"{root}/live", "2", qos, retain=False) == 0
        assert s.take() == "2" and s.ping() == []
        s.close()
    assert server.stop() == 0
    server.start()
    s = Client(server, owner, name)
    assert s.present and s.take() == "kept" and s.ping() == []
    s.close()
    s = Client(server, owner, name)
    assert s.present and s.ping() == []
    s.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_sent_again_as_what_it_is(server, owner, root, open_one, qos):  # noqa: F811
    """RETAIN and the subscription's identifier are there again, DUP is new."""
    assert put(open_one(), f"{root}/r", "kept", 2) == 0
    name = f"{root}-as"
    s = Client(server, owner, name)
    s.send(packet(SUBSCRIBE, b"\0\1\2\x0b\x07" + text(f"{root}/#") + bytes([qos]), 2))
    first = max((s.receive(), s.receive()), key=lambda p: p.type == wire.PUBLISH)
    m = unpacked(s, first)
    assert (m.payload, m.qos, m.retain, m.props) == (b"kept", qos, 1, b"\x0b\x07") and not first.flags & 8
    s.close()
    for restart in (False, True):
        if restart:
            assert server.stop() == 0
            server.start()
        s = Client(server, owner, name)
        p = s.expect(wire.PUBLISH)
        again = unpacked(s, p)
        assert again == m and p.flags & 9 == 9
        assert s.ping() == []
        s.close()


def test_what_comes_with_it(open_one, root):  # noqa: F811
    """QoS is the lower one; properties, subscription identifier, expiry."""
    c = open_one()
    assert put(c, f"{root}/a", "1", props=b"\x03" + text("ct") + b"\x26" + text("k") + text("v") + b"\x02\0\0\0\x64") == 0
    assert put(c, f"{root}/b", "2", qos=0, props=b"\x02\0\0\0\0") == 0
    s = open_one()
    assert subscribe(s, (f"{root}/#", 1), props=b"\x0b\x09") == [1]
    m = message(s)
    assert (m.topic, m.qos, m.retain, m.payload) == (f"{root}/a", 1, 1, b"1")
    assert m.props[:5] == b"\x02\0\0\0" + m.props[4:5] and 60 <= m.props[4] <= 100
    assert m.props[5:] == b"\x03\0\x02ct\x26\0\1k\0\1v\x0b\x09"
    s.send(packet(PUBACK, struct.pack(">H", m.mid)))
    assert retained(s) == {}  # the other has expired


def test_connack_and_wills(open_one, root, server, owner):  # noqa: F811
    """5.0: retained messages are available; a will may be one."""
    c = Mqtt(server.mqtt_port, 5)
    c.send(wire.connect("", owner.name, owner.key, 5, will=(f"{root}/will", "gone"), will_flags=0x28))
    p = c.expect(CONNACK)
    assert p.body[1] == 0 and b"\x25\x00" not in p.body[2:]
    c.close()
    s = open_one()
    assert subscribe(s, (f"{root}/will", 0)) == [0]
    assert message(s).payload == b"gone"
    assert retained(open_one(), (f"{root}/will", 0)) == {f"{root}/will": b"gone"}


def test_accounts_and_rights(open_one, root, server, owner):  # noqa: F811
    """Others see none of it, nor does who may not read; an account that goes back to feeds alone has none."""
    assert put(open_one(), f"{root}/x", "1") == 0
    other = owner_on(server, f"stranger-{root}")
    server.cli("account", "change", other.name, "--topics", "any")
    c = Mqtt(server.mqtt_port, 5)
    c.login(other.name, other.key)
    c.who = (other.name, other.key)
    assert retained(c, ("#", 0)) == {}
    c.close()
    server.cli("role", "add", f"blind-{root}", "data_write")
    key = server.cli("key", "add", owner.name, f"blind-{root}", "--role", f"blind-{root}")["key"]
    blind = Mqtt(server.mqtt_port, 5)
    blind.login(owner.name, key)
    assert subscribe(blind, (f"{root}/#", 0)) == [0x87]
    blind.close()


def test_feeds_ignore_the_flag(open_one, owner, root):  # noqa: F811
    """As Adafruit IO does: the value is stored, and nothing comes to who subscribes later."""
    topic = f"{owner.name}/feeds/{root}"
    assert put(open_one(), topic, "5") == 0
    s = open_one()
    assert retained(s, (topic, 0)) == {}
    assert put(open_one(), topic, "6") == 0
    m = message(s)
    assert (m.payload, m.retain) == (b"6", 0)


def test_bounded(make_server):
    """Per account, with the reason; what is there may be replaced; the rest of the account goes on."""
    s = make_server({"session.retained_per_account_max": "3"})
    s.add_account("a")
    s.cli("account", "change", "a", "--topics", "any")
    key = s.add_key("a")
    with Mqtt(s.mqtt_port, 5) as c:
        c.login("a", key)
        for i in range(3):
            assert put(c, f"t/{i}", "x") == 0
        wait_for("the view", lambda: s.metric("retained_messages") == 3)
        assert put(c, "t/3", "x") == 0x97 and put(c, "t/3", "x", 2) == 0x97
        assert put(c, "t/2", "y") == 0 and put(c, "t/3", "x", retain=False) == 0
        assert put(c, "t/0", "z" * 262144) == 0x97  # above what one may be
        assert put(c, "t/1", "") == 0
        wait_for("the view", lambda: s.metric("retained_messages") == 2)
        assert put(c, "t/3", "x") == 0


def test_many_to_a_slow_reader(open_one, root, server):  # noqa: F811
    """More than the socket and the window take: none is lost, others are served meanwhile."""
    c = open_one()
    count, payload = 600, "p" * 2000
    for i in range(0, count, 50):
        for k in range(i, i + 50):
            c.publish(f"{root}/n/{k}", payload, 1, k + 1, retain=True)
        for k in range(i, i + 50):
            assert c.code(PUBACK, k + 1) == 0
    before = server.metric("mqtt_drops_slow_total") + server.metric("mqtt_drops_queue_full_total")
    for qos in (0, 1):
        s = open_one()
        assert subscribe(s, (f"{root}/n/+", qos)) == [qos]
        other = open_one()
        assert retained(other, (f"{root}/n/7", 0)) == {f"{root}/n/7": payload.encode()}
        got = set()
        while len(got) < count:
            m = message(s)
            assert m.retain == 1 and m.qos == qos and m.topic not in got
            got.add(m.topic)
            if qos:
                s.send(packet(PUBACK, struct.pack(">H", m.mid)))
        assert retained(s) == {}
    assert server.metric("mqtt_drops_slow_total") + server.metric("mqtt_drops_queue_full_total") == before


@pytest.mark.parametrize("sealed", [False, True])
def test_over_kill_9(make_server, tmp_path, sealed):
    """What was acknowledged last is what is retained, whenever the server dies."""
    settings = {}
    if sealed:
        path = tmp_path / "master"
        path.write_bytes(random.randbytes(32).hex().encode() + b"\n")
        settings = {"encryption.master_key_file": str(path)}
    s = make_server(settings)
    s.add_account("a")
    s.cli("account", "change", "a", "--topics", "any")
    key = s.add_key("a")
    rng = random.Random(5)
    told = {}
    for cycle in range(4):
        with Mqtt(s.mqtt_port, 5) as c:
            c.login("a", key)
            c.who = ("a", key)
            assert retained(c, ("r/#", 0)) == {k: v for k, v in told.items() if v}
        with Mqtt(s.mqtt_port, 5) as c:
            c.login("a", key)
            for i in range(40):
                topic, value = f"r/{rng.randrange(9)}", rng.choice([b"", b"v%d-%d" % (cycle, i)])
                assert put(c, topic, value, rng.choice([1, 2])) == 0
                told[topic] = value
        s.kill()
        s.start()


def test_mosquitto(server, owner, root):  # noqa: F811
    base = ["-p", str(server.mqtt_port), "-u", owner.name, "-P", owner.key]
    subprocess.run(["mosquitto_pub", *base, "-t", f"{root}/m", "-m", "kept", "-r", "-q", "1"], check=True, timeout=60)
    got = subprocess.run(["mosquitto_sub", *base, "-t", f"{root}/#", "-C", "1", "-W", "30", "-F", "%t %r %p"],
                         check=True, timeout=60, capture_output=True, text=True)
    assert got.stdout == f"{root}/m 1 kept\n"
