# SPDX-License-Identifier: Apache-2.0
"""Floods of SUBSCRIBE, of refused messages and of failed logins: each has windows of its own."""
import pytest

from conftest import owner_on
from mqtt_wire import (CONNACK, DISCONNECT, PUBACK, UNSUBACK, UNSUBSCRIBE, Mqtt, connect, packet, text)


def open_one(server, owner, version=4, **rest):
    c = Mqtt(server.mqtt_port, version)
    c.login(owner.name, owner.key, **rest)
    return c


@pytest.mark.parametrize("version", [4, 5])
def test_subscribe(make_server, version):
    """What is above the window is refused, its last ones are announced; unsubscribing goes on."""
    server = make_server({"mqtt.subscribe_limits": "8/600s"})
    owner = owner_on(server, "eager")
    watcher = open_one(server, owner)
    u = owner.name
    assert watcher.subscribe((f"{u}/errors", 0), (f"{u}/throttle", 0)) == [0, 0]
    with open_one(server, owner, version, client="busy") as c:
        for i in range(7):
            assert c.subscribe((f"{u}/f/x{i}", 0)) == [0]
        assert c.subscribe((f"{u}/f/x8", 0), (f"{u}/f/x9", 1)) == [0x97 if version == 5 else 0x80] * 2
        body = b"\0\7" + (b"\0" if version == 5 else b"") + text(f"{u}/f/x3")
        assert c.send(packet(UNSUBSCRIBE, body, 2)).expect(UNSUBACK).body[:2] == b"\0\7"
        c.publish(f"{u}/f/x3", "not to me", 0)
        c.publish(f"{u}/f/x4", "to me", 0)
        assert c.message() == (f"{u}/f/x4", "to me")
    left = [f"busy 127.0.0.1 SUBSCRIBE {u}/f/x{6 - n} only {n} attempts remaining in the next 600 seconds, "
            "please slow your request rate" for n in (5, 4, 3, 2, 1, 0)]
    refused = [f"busy 127.0.0.1 SUBSCRIBE {u}/f/x{n} made too many requests, wait before reconnecting" for n in (8, 9)]
    got = [watcher.message() for _ in range(8)]
    assert got == [(f"{u}/throttle", t) for t in left] + [(f"{u}/errors", t) for t in refused]
    assert server.metric("mqtt_floods_refused_total") >= 2
    watcher.close()


@pytest.mark.parametrize("version", [4, 5])
def test_refused_messages(make_server, version):
    """Above the window each closes its connection; good messages and logins go on."""
    server = make_server({"mqtt.refused_limits": "5/600s"})
    owner = owner_on(server, "wrong")
    u = owner.name
    with open_one(server, owner) as watcher:
        assert watcher.subscribe((f"{u}/errors", 0)) == [0]
        with open_one(server, owner, version, client="lost") as c:
            for i in range(5):
                c.publish("elsewhere/x", "1", 1)
                assert c.code(PUBACK, 1) == (0x90 if version == 5 else 0)
            c.publish("elsewhere/x", "1", 0)
            if version == 5:
                assert c.expect(DISCONNECT).body[0] == 0x97
            assert c.closed()
        assert [watcher.message()[1] for _ in range(7)][-1] == \
            "lost 127.0.0.1 PUBLISH elsewhere/x request flood, disconnecting"
        with open_one(server, owner, version) as c:
            c.publish(f"{u}/f/x", "1", 1)
            assert c.code(PUBACK, 1) == 0
            c.send(packet(8, b"\0\5" + (b"\0" if version == 5 else b"") + text("elsewhere/#") + b"\0", 2))
            codes = c.receive()
            assert codes.type == 9 and codes.body[-1] == (0x87 if version == 5 else 0x80)
            if version == 5:
                assert c.expect(DISCONNECT).body[0] == 0x97
            assert c.closed()
        # Others of the account are not held liable.
        with Mqtt(server.mqtt_port, version) as c:
            c.login(owner.device, owner.secret)
            c.publish("elsewhere/x", "1", 1)
            assert c.code(PUBACK, 1) == (0x90 if version == 5 else 0)
    assert server.metric("mqtt_floods_closed_total") == 2


def test_of_an_address(make_server):
    """Whoever it is from there."""
    server = make_server({"mqtt.subscribe_address_limits": "3/600s", "mqtt.refused_address_limits": "100/600s"})
    codes = []
    for i in range(2):
        owner = owner_on(server, f"neighbour{i}")
        with open_one(server, owner, 5) as c:
            codes += [c.subscribe((f"{owner.name}/f/{n}", 0))[0] for n in range(2)]
    assert codes == [0, 0, 0, 0x97]


def test_failed_logins(make_server):
    """The gate's windows of failures: told as what they are, before any hash."""
    server = make_server({"auth.failures_credential": "3/600s", "auth.refusal_hold": "0"})
    owner = owner_on(server, "guessed")

    def code(version, secret):
        with Mqtt(server.mqtt_port, version) as c:
            return c.send(connect("", owner.device, secret, version)).expect(CONNACK).body[1]

    for i in range(3):
        assert code(5, f"wrong{i}") == 0x86
    assert code(5, "wrong3") == 0x97
    assert code(4, "wrong4") == 3
