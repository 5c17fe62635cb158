# SPDX-License-Identifier: Apache-2.0
"""Wills that outlive their connection: delayed, cancelled, published once after the server was killed."""
import json
import struct
import time

import pytest

import mqtt_wire as wire
from conftest import owner_on
from harness import wait_for
from mqtt_wire import CONNACK, DISCONNECT, Mqtt, packet, text
from test_mqtt_topics import client, message, owner, root, subscribe  # noqa: F401


def delay(seconds):
    return b"\x18" + struct.pack(">I", seconds)


def with_will(server, owner, name, topic, payload="gone", expiry=0, will_props=b"", flags=0x08, version=5, clean=True):  # noqa: F811
    """A connection that has one."""
    c = Mqtt(server.mqtt_port, version)
    props = b"\x11" + struct.pack(">I", expiry) if expiry else b""
    c.send(wire.connect(name, owner.name, owner.key, version, clean=clean, props=props, will=(topic, payload),
                        will_props=will_props, will_flags=flags))
    assert c.expect(CONNACK).body[1] == 0
    return c


def test_all_of_a_will_is_published(client, server, owner, root):  # noqa: F811
    """Its properties, QoS and flag; at once when there is no delay, or no session to wait for."""
    s = client(5)
    assert subscribe(s, (f"{root}/#", 1 | 8)) == [1]
    props = b"\x03" + text("ct") + b"\x26" + text("k") + text("v") + b"\x01\x01"
    for expiry, late in ((0, 0), (100, 0), (0, 100)):
        began = time.monotonic()
        c = with_will(server, owner, f"{root}-all", f"{root}/w", b"\0\1", expiry, props + delay(late), 0x28)
        c.close()
        m = message(s)
        assert (m.topic, m.payload, m.qos, m.retain) == (f"{root}/w", b"\0\1", 1, 1)
        assert m.props == b"\x01\x01\x03" + text("ct") + b"\x26" + text("k") + text("v") and time.monotonic() - began < 60
        s.send(packet(wire.PUBACK, struct.pack(">H", m.mid)))
    assert s.silent()


def test_delay(client, server, owner, root):  # noqa: F811
    s = client(5)
    assert subscribe(s, (f"{root}/#", 0)) == [0]
    c = with_will(server, owner, f"{root}-late", f"{root}/late", expiry=100, will_props=delay(1))
    began = time.monotonic()
    c.close()
    assert message(s).topic == f"{root}/late" and time.monotonic() - began > 0.9
    # The session ends before the delay does.
    c = with_will(server, owner, f"{root}-ends", f"{root}/ends", expiry=1, will_props=delay(1000))
    c.close()
    assert message(s).topic == f"{root}/ends"
    # To a feed, too.
    c = with_will(server, owner, f"{root}-feed", f"{owner.name}/feeds/{root}", "5", expiry=100, will_props=delay(1))
    assert subscribe(s, (f"{owner.name}/f/{root}", 0)) == [0]
    c.close()
    assert message(s).payload == b"5"
    assert s.silent(1.5)


@pytest.mark.parametrize("version, code, published", [(5, None, False), (5, 0, False), (5, 0x04, True), (5, 0x82, True),
                                                      (5, 0x97, True), (4, None, False)])
def test_a_disconnect_says_whether(client, server, owner, root, version, code, published):  # noqa: F811
    """Only who disconnects with reason code 0 has ended as it should (MQTT-3.14.4-3)."""
    s = client(5)
    assert subscribe(s, (f"{root}/#", 0)) == [0]
    c = with_will(server, owner, f"{root}-says", f"{root}/w", version=version)
    c.send(packet(DISCONNECT, b"" if code is None else bytes([code])))
    assert c.closed()
    if published:
        assert message(s).topic == f"{root}/w"
    assert s.silent()


def test_a_will_too_large_for_a_session(make_server):
    """It is not kept there, so it is not left to it either."""
    server = make_server({"mqtt.connect_max": "200KiB"})
    owner = owner_on(server, "large")  # noqa: F811
    server.cli("account", "change", owner.name, "--topics", "any")
    s = Mqtt(server.mqtt_port, 5)
    s.login(owner.name, owner.key)
    assert subscribe(s, ("w", 0)) == [0]
    props = delay(1000) + b"\x26" + text("k") + text("v" * 1000)
    with_will(server, owner, "large", "w", "x" * 65000, expiry=100, will_props=props).close()
    assert message(s).payload == b"x" * 65000


def test_a_will_that_is_throttled_comes_later(make_server):
    """Who dies with a full window has a will all the same."""
    server = make_server()
    owner = owner_on(server, "full")  # noqa: F811
    server.cli("account", "change", owner.name, "--topics", "any", "--device-limits", "2/3s")
    secret = server.add_device(owner.name, "full-device")
    s = Mqtt(server.mqtt_port, 5, timeout=30)
    s.login(owner.name, owner.key)
    assert subscribe(s, ("w", 0)) == [0]
    c = Mqtt(server.mqtt_port, 5)
    c.send(wire.connect("full", "full-device", secret, 5, will=("w", "gone"), will_flags=0x08))
    assert c.expect(CONNACK).body[1] == 0
    for mid, code in enumerate([0, 0, 0x97], 1):
        c.publish("other", "1", 1, mid)
        assert c.code(wire.PUBACK, mid) == code
    c.close()
    assert message(s).payload == b"gone"


@pytest.mark.parametrize("how", ["anew", "resumed", "later", "killed"])
def test_a_throttled_will_outlives_who_is_back(make_server, how):
    """Its time had come when the window was full, so it is no longer its client's to cancel (section 3.1.3.2.2)."""
    server = make_server()
    owner = owner_on(server, "full")  # noqa: F811
    server.cli("account", "change", owner.name, "--topics", "any", "--device-limits", "2/8s" if how == "later" else "2/4s")
    secret = server.add_device(owner.name, "full-device")

    def connect(clean, **will):
        c = Mqtt(server.mqtt_port, 5, timeout=30)
        expiry = b"" if clean else b"\x11" + struct.pack(">I", 100)
        c.send(wire.connect("full" * 60, "full-device", secret, 5, clean=clean, props=expiry, **will))
        assert c.expect(CONNACK).body[1] == 0
        return c

    s = Mqtt(server.mqtt_port, 5, timeout=30)
    s.login(owner.name, owner.key)
    assert subscribe(s, ("w", 0)) == [0]
    c = connect(how == "anew", will=("w", "gone"), will_flags=0x08, will_props=delay(how == "later"))
    for mid, code in enumerate([0, 0, 0x97], 1):
        c.publish("other", "1", 1, mid)
        assert c.code(wire.PUBACK, mid) == code
    c.close()
    if how == "later":
        assert s.silent(2.5)  # due, and refused
        s.sock.settimeout(30)
    back = connect(how == "anew", will=("w", "new"), will_flags=0x08, will_props=delay(100))
    if how == "killed":
        back.send(wire.packet(wire.PINGREQ, b"")).expect(wire.PINGRESP)
        time.sleep(0.5)
        server.kill()
        server.start()
        back = connect(False)
        s = Mqtt(server.mqtt_port, 5, timeout=30)
        s.login(owner.name, owner.key)
        assert subscribe(s, ("w", 0)) == [0]
    assert subscribe(back, ("w", 4)) == [0]  # it does not see its own
    assert message(s).payload == b"gone"
    assert s.silent(11 if how == "later" else 1) and back.silent()


def test_cancelled(client, server, owner, root):  # noqa: F811
    """By a DISCONNECT, and by who comes back in time; a session that is begun anew has ended, so its will is due."""
    s = client(5)
    assert subscribe(s, (f"{root}/#", 0)) == [0]
    name = f"{root}-back"
    c = with_will(server, owner, name, f"{root}/a", expiry=100, will_props=delay(1))
    c.send(packet(DISCONNECT, b""))
    c.closed()
    c = with_will(server, owner, name, f"{root}/b", expiry=100, will_props=delay(2))
    c.close()
    c = with_will(server, owner, name, f"{root}/c", expiry=100, will_props=delay(60), clean=False)
    assert s.silent(3)
    c.close()
    c = with_will(server, owner, name, f"{root}/d", expiry=100, will_props=delay(60))
    assert message(s).topic == f"{root}/c"
    c.send(packet(DISCONNECT, b"\x04"))  # with its will
    c.closed()
    assert s.silent()
    with_will(server, owner, name, f"{root}/e").send(packet(DISCONNECT, b"\x04")).closed()
    assert {message(s).topic for _ in range(2)} == {f"{root}/d", f"{root}/e"}


@pytest.mark.parametrize("expiry", [0, 3600])
def test_after_kill_9_of_the_server(make_server, expiry):
    """Once, by whatever comes first: the server's own look, or the client that is back; and over one more kill."""
    s = make_server()
    s.add_account("a")
    s.cli("account", "change", "a", "--topics", "any")
    key = s.add_key("a")

    class Owner:
        name = "a"
    Owner.key = key
    held = [with_will(s, Owner, f"c{i}", f"w/{i}", f"will{i}", expiry, flags=0x28) for i in range(6)]
    fine = with_will(s, Owner, "fine", "w/fine", expiry=expiry, flags=0x28)
    fine.send(packet(DISCONNECT, b"")).closed()
    with Mqtt(s.mqtt_port, 5) as c:  # answered when that is durable
        c.login("a", key, "fine")
    s.kill()
    for c in held:
        c.close()
    s.start()
    again = [with_will(s, Owner, f"c{i}", f"x/{i}", expiry=expiry, flags=0x28) for i in range(3)]

    def published():
        run = s.cli_run("journal", "tail", "--json")
        found = [json.loads(line) for line in run.stdout.splitlines()] if run.returncode == 0 else []
        return sorted(r["topic"] for r in found if r.get("topic", "").startswith(("w/", "x/")))

    wait_for("all wills", lambda: len(published()) >= 6, 30)
    for i, c in enumerate(again):
        c.send(packet(DISCONNECT, b"")).closed()
        with Mqtt(s.mqtt_port, 5) as c:
            c.login("a", key, f"c{i}")
    s.kill()
    s.start()
    # When a will that becomes due now has been published, the server has looked at all of them.
    with_will(s, Owner, "mark", "x/mark", expiry=3600, will_props=delay(2)).close()
    wait_for("the mark", lambda: "x/mark" in published(), 30)
    assert published() == [f"w/{i}" for i in range(6)] + ["x/mark"]


def resumed_after_a_kill(make_server, topic, payload, expiry, **will):
    """Whose will was due when the server was back, and who was back himself before it was published."""
    s = make_server()
    owner = owner_on(s, "back")  # noqa: F811
    s.cli("account", "change", owner.name, "--topics", "any")
    old = with_will(s, owner, "c", topic, payload, expiry, clean=False)
    s.kill()
    old.close()
    s.start()
    c = Mqtt(s.mqtt_port, 5)
    props = b"\x11" + struct.pack(">I", expiry)
    c.send(wire.connect("c", owner.name, owner.key, 5, clean=False, props=props, **will))
    assert c.expect(CONNACK).body[:2] == b"\1\0"
    return s, owner, c


def test_a_due_will_is_not_that_of_the_session_resumed(make_server):
    """The record that says that the old one is published takes nothing from who is back with another."""
    s, owner, c = resumed_after_a_kill(make_server, "w", "old", 3600, will=("x", "new"), will_flags=0x08,
                                       will_props=delay(2))

    def published():
        run = s.cli_run("journal", "tail", "--json")
        found = [json.loads(line) for line in run.stdout.splitlines()] if run.returncode == 0 else []
        return [r["topic"] for r in found if r.get("topic") in ("w", "x")]

    wait_for("the old will", lambda: published() == ["w"], 30)
    c.close()
    began = time.monotonic()
    wait_for("the new one", lambda: published() == ["w", "x"], 30)
    assert time.monotonic() - began < 6


def test_a_due_will_that_is_refused_ends_no_session(make_server):
    """It is dropped; the session has a connection again, so it does not begin to expire."""
    s, owner, c = resumed_after_a_kill(make_server, "back/feeds/f", "x" * 2000, 3)
    time.sleep(6)
    c.send(packet(wire.PINGREQ, b"")).expect(wire.PINGRESP)
    c.close()
    c = Mqtt(s.mqtt_port, 5)
    c.send(wire.connect("c", owner.name, owner.key, 5, clean=False))
    assert c.expect(CONNACK).body[:2] == b"\1\0"
