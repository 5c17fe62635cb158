# SPDX-License-Identifier: Apache-2.0
"""MQTT topics that are no feeds, in accounts that have them: published, acknowledged, delivered."""
import itertools
import os
import subprocess
import threading
import time
from types import SimpleNamespace

import paho.mqtt.client as paho
import pytest
import requests
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import mqtt_wire as wire
from conftest import owner_on
from harness import wait_for
from mqtt_wire import PUBACK, PUBCOMP, PUBREC, PUBREL, Mqtt, packet, text, subscribe

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def owner(server):
    """An account that has any topics."""
    o = owner_on(server, "anyone")
    assert server.cli("account", "change", o.name, "--topics", "any")["topics"] == "any"
    return o


@pytest.fixture
def root():
    """The first level of topics that no other test uses."""
    return f"t{next(_numbers)}"


@pytest.fixture
def client(server, owner):
    """client(version, ...): a connection by hand, logged in with the account's key."""
    opened = []

    def open_one(version=5, user=None, password=None, **rest):
        opened.append(Mqtt(server.mqtt_port, version))
        opened[-1].login(user or owner.name, password or owner.key, **rest)
        return opened[-1]

    yield open_one
    for c in opened:
        c.close()


def message(c):
    """The next packet, a PUBLISH; .props are the bytes of its properties."""
    return unpacked(c, c.expect(wire.PUBLISH))


def unpacked(c, p):
    n = int.from_bytes(p.body[:2], "big")
    m = SimpleNamespace(topic=p.body[2:2 + n].decode(), qos=p.flags >> 1 & 3, retain=p.flags & 1, mid=None, props=b"")
    rest = p.body[2 + n:]
    if m.qos:
        m.mid, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    if c.version == 5:
        length, at, shift = 0, 0, 0
        while True:
            length |= (rest[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if rest[at - 1] < 128:
                break
        m.props, rest = rest[at:at + length], rest[at + length:]
    m.payload = rest
    return m


def test_topics_of_an_account(client, server, owner, root):
    """At each QoS and in each version; to its own account only; feeds are there as ever."""
    other = owner_on(server, f"other-{root}")
    server.cli("account", "change", other.name, "--topics", "any")
    stranger = client(4, other.name, other.key)
    assert subscribe(stranger, ("#", 1)) == [1]
    c5, c4 = client(5), client(4)
    assert subscribe(c5, (f"{root}/+/c", 1)) == [1]
    assert subscribe(c4, (f"{root}/#", 0), (f"{owner.name}/f/{root}", 0)) == [0, 0]
    for i, publisher in enumerate((client(5), client(4))):
        for qos in range(3):
            payload = bytes([0, 255, i, qos])  # no text
            publisher.publish(f"{root}/b/c", payload, qos, 9)
            if qos:
                assert publisher.code(PUBACK if qos == 1 else PUBREC, 9) == 0
            if qos == 2:
                publisher.send(packet(PUBREL, b"\0\x09", 2)).expect(PUBCOMP)
            m = message(c5)
            assert (m.topic, m.qos, m.payload, m.retain) == (f"{root}/b/c", min(qos, 1), payload, 0)
            if m.qos:
                c5.send(packet(PUBACK, m.mid.to_bytes(2, "big")))
            m = message(c4)
            assert (m.topic, m.qos, m.payload) == (f"{root}/b/c", 0, payload)
    c4.publish(f"{owner.name}/feeds/{root}", "21.50", 1)
    got = [c4.receive(), c4.receive()]
    assert {p.type for p in got} == {PUBACK, wire.PUBLISH}
    r = requests.get(f"{owner.url}/feeds/{root}/data/last", headers=owner.key_auth)
    assert r.json()["value"] == "21.50"
    assert stranger.silent()


@pytest.mark.parametrize("topic,code", [
    ("{u}", 0x90), ("{u}/errors", 0x90), ("{u}/x/y", 0x90), ("$SYS/x", 0x90), ("$a", 0x90), ("x" * 1025, 0x90),
    ("fleet1/feeds/x", 0), ("fleet1", 0), ("/", 0), ("/a//b/", 0), ("x" * 1024, 0), ("time/seconds", 0)])
def test_what_may_be_published_to(client, owner, topic, code):
    topic = topic.format(u=owner.name)
    c = client(5)
    c.publish(topic, "x", 1)
    assert c.code(PUBACK, 1) == code
    c.publish(topic, "x", 2, 2)
    assert c.code(PUBREC, 2) == code


def test_filters(client, owner):
    filters = [("#", 0), ("+/+", 1), ("a/b", 0), ("other/f/x", 0), (f"{owner.name}/#", 0), (owner.name, 0), ("$x/#", 0)]
    assert subscribe(client(5), *filters) == [0, 1, 0, 0, 0, 0x8f, 0x87]
    assert subscribe(client(4), *filters) == [0, 1, 0, 0, 0, 0x80, 0x80]


def test_properties_are_passed_on(client, root):
    """Those of the message, in their order; not the alias; the expiry counted down."""
    passed = (b"\x26" + text("k") + text("1") + b"\x01\x01" + b"\x03" + text("text/plain")
              + b"\x08" + text("back/here") + b"\x09" + text(b"\0\1\2") + b"\x26" + text("k") + text(""))
    subscriber, plain, publisher = client(5), client(4), client(5)
    assert subscribe(subscriber, (f"{root}/x", 0), props=b"\x0b\x87\x01") == [0]
    assert subscribe(plain, (f"{root}/x", 0)) == [0]
    publisher.publish(f"{root}/x", "1", 1, props=b"\x23\0\1" + passed + b"\x02\0\0\0\x64")
    assert publisher.code(PUBACK, 1) == 0
    publisher.publish("", "2", 1, props=b"\x23\0\1")
    assert publisher.code(PUBACK, 1) == 0
    m = message(subscriber)
    props = Properties(PacketTypes.PUBLISH)
    props.unpack(wire.varint(len(m.props)) + m.props)
    assert m.payload == b"1" and props.PayloadFormatIndicator == 1 and props.ContentType == "text/plain"
    assert props.ResponseTopic == "back/here" and props.CorrelationData == b"\0\1\2"
    assert props.UserProperty == [("k", "1"), ("k", "")] and props.SubscriptionIdentifier == [135]
    assert 90 <= props.MessageExpiryInterval <= 100 and not hasattr(props, "TopicAlias")
    m = message(subscriber)
    assert (m.payload, m.props) == (b"2", b"\x0b\x87\x01")
    assert [message(plain).payload for _ in range(2)] == [b"1", b"2"]


def test_expired_messages_are_not_delivered(client, root, server):
    subscriber, publisher = client(5), client(5)
    assert subscribe(subscriber, (f"{root}/#", 1)) == [1]
    before = server.metric("mqtt_drops_expired_total")
    publisher.publish(f"{root}/a", "old", 1, props=b"\x02\0\0\0\0")
    publisher.publish(f"{root}/b", "new", 1, 2)
    assert message(subscriber).payload == b"new"
    assert server.metric("mqtt_drops_expired_total") == before + 1


@pytest.mark.parametrize("version", [4, 5])
def test_what_waits_for_the_window_ages(server, client, root, version):
    """What a subscriber gets late says how long it still lasts (MQTT-3.3.2-6), or does not come at all."""
    props = b"\x21\0\1" if version == 5 else b""  # Receive Maximum
    subscriber, publisher = client(version, props=props), client(5)
    many = 1 if version == 5 else 100  # before 5.0 the window is ours
    assert subscribe(subscriber, (f"{root}/#", 1)) == [1]
    before = server.metric("mqtt_drops_expired_total")
    for n in range(many):
        publisher.publish(f"{root}/a", "first", 1, n + 1)
    publisher.publish(f"{root}/b", "lasts", 1, 200, props=b"\x01\x01\x02\0\0\0\x64\x03" + text("ct"))
    publisher.publish(f"{root}/c", "does not", 1, 201, props=b"\x02\0\0\0\1")
    publisher.publish(f"{root}/d", "last", 1, 202)
    first = [message(subscriber) for _ in range(many)]
    time.sleep(2.1)
    for m in first:
        subscriber.send(packet(PUBACK, m.mid.to_bytes(2, "big")))
    m = message(subscriber)
    assert m.payload == b"lasts" and (version == 4 or m.props in
                                      (b"\x01\x01\x02\0\0\0%c\x03\0\2ct" % n for n in (96, 97, 98)))
    subscriber.send(packet(PUBACK, m.mid.to_bytes(2, "big")))
    assert message(subscriber).payload == b"last"
    assert server.metric("mqtt_drops_expired_total") == before + 1


def test_no_local(client, root, owner):
    """Goes by the client id: two clients of one key see each other's messages, and what came by HTTP."""
    a, b = client(5, client=f"a-{root}"), client(5, client=f"b-{root}")
    feed = f"{owner.name}/f/{root}"
    for c in (a, b):
        assert subscribe(c, (f"{root}/l", 4), (feed, 5)) == [0, 1]
        c.send(packet(wire.PINGREQ)).expect(wire.PINGRESP)
    for c, other in ((a, b), (b, a)):
        c.publish(f"{root}/l", "x")
        c.publish(feed, "1", 1)
        assert c.code(PUBACK, 1) == 0  # what it were to get would have come by now, or come first
        assert (message(other).payload, other.message()[1]) == (b"x", "1")
    requests.post(f"{owner.url}/feeds/{root}/data", headers=owner.key_auth, json={"value": "2"}).raise_for_status()
    assert [c.message()[1] for c in (a, b)] == ["2", "2"]


@pytest.mark.parametrize("killed", [False, True])
def test_no_local_of_a_session(make_server, root, killed):
    """What a client itself sent (here its will) is not among what it missed, nor retained for it; before and after a
    crash."""
    server = make_server()
    o = owner_on(server, "nl")
    server.cli("account", "change", o.name, "--topics", "any")

    def login(name, **rest):
        c = Mqtt(server.mqtt_port, 5)
        c.login(o.name, o.key, name, props=b"\x11\0\0\x0e\x10", **rest)
        return c

    b = login("b")
    assert subscribe(b, (f"{root}/#", 1)) == [1]
    a = login("a", will=(f"{root}/w", "mine"), will_flags=8 | 32)
    assert subscribe(a, (f"{root}/+", 5)) == [1]
    a.close()  # no DISCONNECT
    assert b.message() == (f"{root}/w", "mine")
    b.publish(f"{root}/w2", "other", 1, 1, retain=True)
    got = [b.receive() for _ in range(2)]  # its own, and PUBACK
    assert sorted(p.type for p in got) == [wire.PUBLISH, PUBACK]
    if killed:
        server.kill()
        server.start()
        b = login("b")
    a = login("a", clean=False)
    assert a.message() == (f"{root}/w2", "other")

    def retained(options, count):
        a.send(packet(wire.SUBSCRIBE, b"\0\1\0" + text(f"{root}/#") + bytes([options]), 2))
        got = []
        while (p := a.receive()).type == wire.PUBLISH:  # they may come before SUBACK
            got.append(unpacked(a, p).payload)
        assert p == (wire.SUBACK, 0, b"\0\1\0" + bytes([options & 3]))
        b.publish(f"{root}/end", str(options), 1, 1)
        end = str(options).encode()
        while len(got) < count or end not in got:  # in any order
            got.append(message(a).payload)
        a.send(packet(wire.PINGREQ, b""))
        while (p := a.receive()).type == wire.PUBLISH:
            got.append(unpacked(a, p).payload)
        got.remove(end)
        return sorted(got)

    assert retained(4, 2) == [b"other"]  # its own is not sent
    assert retained(0, 3) == [b"mine", b"other"]
    a.close()


def test_bound_accounts_have_adafruits_topics_only(server, client):
    """And a change is in force with the next message."""
    o = owner_on(server, "bound")
    assert server.cli("account", "show", o.name)["topics"] == "adafruit"
    c = client(5, o.name, o.key)

    def codes():
        c.publish("a/b", "x", 1)
        return c.code(PUBACK, 1), subscribe(c, ("a/b", 0), ("#", 0))

    assert codes() == (0x90, [0x87, 0x8f])
    server.cli("account", "change", o.name, "--topics", "any")
    c.publish("a/b", "x", 1)
    assert c.code(PUBACK, 1) == 0
    assert subscribe(c, ("a/b", 0)) == [0]
    server.cli("account", "change", o.name, "--topics", "adafruit")
    assert codes() == (0x90, [0x87, 0x8f])
    r = requests.post(f"{o.url}/x", headers=o.key_auth)
    assert r.status_code == 404
    bad = server.cli_run("account", "change", o.name, "--topics", "all")
    assert bad.returncode == 1 and "topics must be adafruit or any" in bad.stderr
    assert server.cli("account", "add", "born-any", "--topics", "any")["topics"] == "any"


def test_topics_of_a_role(client, server, owner, root):
    """Refused with 0x87 (3.1.1: acknowledged and told, as ever); a change is in force at once, for what was subscribed
    before too."""
    role = f"role-{root}"
    shown = server.cli("role", "add", role, "data_write,data_read", "--publish", f"{root}/{{name}}/#,{root}/all",
                       "--subscribe", f"{root}/cmd/{{name}},{root}/all")
    assert shown["publish"] == f"{root}/{{name}}/#,{root}/all" and shown["subscribe"].endswith("/all")
    secret = server.cli("device", "add", owner.name, f"d-{root}", "--role", role)["secret"]
    c, all_seeing = client(5, f"d-{root}", secret), client(5)
    assert subscribe(all_seeing, (f"{root}/#", 0)) == [0]
    for topic, code in ((f"{root}/d-{root}/x", 0), (f"{root}/d-{root}", 0), (f"{root}/all", 0), (f"{root}/other/x", 0x87),
                        (f"{root}/{{name}}/x", 0x87), (root, 0x87)):
        c.publish(topic, "1", 1)
        assert c.code(PUBACK, 1) == code, topic
    assert [message(all_seeing).topic for _ in range(3)] == [f"{root}/d-{root}/x", f"{root}/d-{root}", f"{root}/all"]
    filters = [(f"{root}/cmd/d-{root}", 0), (f"{root}/cmd/+", 0), (f"{root}/#", 0), ("#", 0), (f"{root}/all", 1)]
    assert subscribe(c, *filters) == [0, 0x87, 0x87, 0x87, 1]
    c3 = client(4, f"d-{root}", secret)
    c3.publish(f"{root}/other", "1", 1)
    assert c3.expect(PUBACK) and subscribe(c3, ("#", 0)) == [0x80]
    before = client(5, f"d-{root}", secret)
    assert subscribe(before, (f"{root}/all", 0)) == [0]
    server.cli("role", "change", role, "data_write,data_read", "--subscribe", f"{root}/cmd/{{name}}")
    assert subscribe(before, (f"{root}/cmd/d-{root}", 0)) == [0]
    for topic in (f"{root}/all", f"{root}/cmd/d-{root}"):
        all_seeing.publish(topic, "2", 0)
    assert message(before).topic == f"{root}/cmd/d-{root}"
    assert server.cli("role", "show", role)["publish"] == f"{root}/{{name}}/#,{root}/all"
    assert server.cli("role", "show", "owner")["publish"] == "#"
    for bad in ("a#", "", "a,,b", "$share/g/a"):
        assert server.cli_run("role", "change", role, "data_read", "--publish", bad).returncode == 1


def test_one_window_for_topics_and_feeds(make_server):
    s = make_server()
    s.add_account("a", limits="3/60s")
    s.cli("account", "change", "a", "--topics", "any")
    key = s.add_key("a")
    with Mqtt(s.mqtt_port, 5) as c:
        c.login("a", key)
        codes = []
        for i, topic in enumerate(["x", "a/f/y", "x/y", "x", "a/f/y"]):
            c.publish(topic, "1", 1, i + 1)
            codes.append(c.code(PUBACK, i + 1))
    assert codes == [0, 0, 0, 0x97, 0x97]


def test_large_messages(client, root):
    subscriber, publisher = client(4), client(4)
    assert subscribe(subscriber, (f"{root}/#", 0)) == [0]
    payload = bytes(range(256)) * 3900  # a packet of nearly mqtt.packet_max
    publisher.publish(f"{root}/big", payload, 1)
    assert publisher.code(PUBACK, 1) == 0
    assert message(subscriber).payload == payload


@pytest.mark.parametrize("sealed", [False, True])
def test_messages_survive_kill_9(make_server, tmp_path, sealed):
    """What was acknowledged is in the journal, also when it is sealed; the server starts from it."""
    settings = {}
    if sealed:
        key = tmp_path / "master"
        key.write_bytes(os.urandom(32).hex().encode() + b"\n")
        key.chmod(0o600)
        settings = {"encryption.master_key_file": str(key)}
    s = make_server(settings)
    s.add_account("a")
    s.cli("account", "change", "a", "--topics", "any")
    key = s.add_key("a")
    with Mqtt(s.mqtt_port, 5) as c:
        c.login("a", key)
        assert subscribe(c, ("a-topic/#", 0)) == [0]
        c.publish("a-topic/x", "payload-of-it", 2, 1, props=b"\x03" + text("ct"))
        got = [c.receive(), c.receive()]
        assert {p.type for p in got} == {PUBREC, wire.PUBLISH}
        assert any(p.body.endswith(b"\x03\0\x02ctpayload-of-it") for p in got)
    s.kill()
    stored = b"".join(p.read_bytes() for p in (s.data / "journal").iterdir() if p.is_file())
    assert (b"payload-of-it" in stored) is not sealed
    s.start()
    with Mqtt(s.mqtt_port, 5) as c:
        c.login("a", key)
        c.publish("a-topic/x", "again", 1)
        assert c.code(PUBACK, 1) == 0


def test_mosquitto_and_paho(server, owner, root):
    got, ready = [], threading.Event()
    c = paho.Client(client_id="", protocol=paho.MQTTv5)
    c.username_pw_set(owner.name, owner.key)
    c.on_connect = lambda c, *_: c.subscribe(f"{root}/#", 1)
    c.on_subscribe = lambda *_: ready.set()
    c.on_message = lambda _c, _u, m: got.append((m.topic, m.payload, dict(m.properties.UserProperty)))
    c.connect("127.0.0.1", server.mqtt_port)
    c.loop_start()
    assert ready.wait(30)
    subprocess.run(["mosquitto_pub", "-p", str(server.mqtt_port), "-u", owner.name, "-P", owner.key, "-V", "5",
                    "-t", f"{root}/a/b", "-m", "hello", "-q", "2", "-D", "publish", "user-property", "k", "v"],
                   check=True, timeout=60)
    wait_for("the message", lambda: got)
    c.disconnect()
    c.loop_stop()
    assert got == [(f"{root}/a/b", b"hello", {"k": "v"})]
