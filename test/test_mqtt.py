# SPDX-License-Identifier: Apache-2.0
"""MQTT 3.1, 3.1.1 and 5.0: logins, messages in, acknowledgements, refusals, take-over."""
import itertools
import json
import os
import select
import signal
import ssl
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
import requests

import mqtt_wire as wire
from conftest import owner_on
from harness import free_port, wait_for
from mqtt_wire import (CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBSCRIBE, UNSUBACK,
                       UNSUBSCRIBE, Mqtt, packet, text, subscribe)
from pki import Authority


@pytest.fixture
def client(server, owner):
    """client(version=4, login=True, ...): a connection by hand, logged in with the account's key."""
    opened = []

    def open_one(version=4, login=True, **rest):
        opened.append(Mqtt(server.mqtt_port, version))
        if login:
            opened[-1].login(owner.name, owner.key, **rest)
        return opened[-1]

    yield open_one
    for c in opened:
        c.close()


_numbers = itertools.count(1)


@pytest.fixture
def new_feed():
    """new_feed(): a key that no feed has yet."""
    return lambda: f"mqtt-{next(_numbers)}"


def values(owner, feed):
    """Newest first; the ack level `applied` is not asked for, reads wait for what was accepted."""
    r = requests.get(f"{owner.url}/feeds/{feed}/data?include=value", headers=owner.key_auth)
    return [d["value"] for d in r.json()] if r.status_code == 200 else []


def last(owner, feed):
    r = requests.get(f"{owner.url}/feeds/{feed}/data/last", headers=owner.key_auth)
    return r.json() if r.status_code == 200 else None


def mosquitto_pub(server, owner, *args):
    return subprocess.run(["mosquitto_pub", "-p", str(server.mqtt_port), "-u", owner.name, "-P", owner.key,
                           *args], capture_output=True, text=True, timeout=20)


# ---- clients that people have ----

@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_pub(server, owner, new_feed, version, qos):
    name = new_feed()
    run = mosquitto_pub(server, owner, "-V", version, "-q", qos, "-t", f"{owner.name}/feeds/{name}",
                        "-m", "21.5")
    assert run.returncode == 0, run.stderr
    wait_for("the value", lambda: values(owner, name) == ["21.5"])


def test_mosquitto_pub_many_lines(server, owner, new_feed):
    name = new_feed()
    lines = "".join(f"{i}\n" for i in range(500))
    run = subprocess.run(["mosquitto_pub", "-p", str(server.mqtt_port), "-u", owner.name, "-P", owner.key,
                          "-t", f"{owner.name}/f/{name}", "-q", "1", "-l"], input=lines, text=True,
                         capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert values(owner, name) == [str(i) for i in reversed(range(500))]


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
def test_paho(server, owner, new_feed, protocol):
    """Messages as fast as the library sends them: each once, in order."""
    name = new_feed()
    c = paho.Client(protocol=protocol)
    c.username_pw_set(owner.name, owner.key)
    c.connect("127.0.0.1", server.mqtt_port, 30)
    c.loop_start()
    sent = [c.publish(f"{owner.name}/feeds/{name}", str(i), qos=1 + i % 2) for i in range(300)]
    for message in sent:
        message.wait_for_publish(20)
    c.disconnect()
    c.loop_stop()
    wait_for("all of them", lambda: len(values(owner, name)) >= 300)
    assert values(owner, name) == [str(i) for i in reversed(range(300))]


def test_device_and_key(server, owner, new_feed):
    """A device with its secret, also as bcrypt has it; an account with a key; 5.0: a key alone."""
    name = new_feed()
    server.cli("device", "add", owner.name, "old-pump", "--secret", "not so strong", "--bcrypt")
    logins = [(4, owner.device, owner.secret), (5, owner.device, owner.secret), (4, "old-pump", "not so strong"),
              (4, owner.name, owner.key), (5, None, owner.key)]
    for i, (version, user, secret) in enumerate(logins):
        with Mqtt(server.mqtt_port, version) as c:
            c.login(user, secret)
            c.publish(f"{owner.name}/feeds/{name}", f"v{i}", 1)
            assert c.code(PUBACK, 1) == 0
    assert values(owner, name) == ["v4", "v3", "v2", "v1", "v0"]


# ---- logins that fail ----

@pytest.mark.parametrize("user,secret,code5,code3", [
    ("fleet1", "wrong", 0x86, 4), ("nobody", "wrong", 0x86, 4), (None, None, 0x87, 5), ("fleet1-dev", "", 0x86, 4)])
def test_wrong_credentials(server, owner, user, secret, code5, code3):
    for version, code in ((3, code3), (4, code3), (5, code5)):
        with Mqtt(server.mqtt_port, version) as c:
            c.send(wire.connect("c1", user, secret, version))
            p = c.expect(CONNACK)
            assert (p.body[0], p.body[1]) == (0, code)
            assert (b"request failed" in p.body) == (version == 5)
            assert c.closed()


def test_the_first_packet_is_connect(server):
    for data in (packet(PINGREQ), wire.publish("a/b", "x"), b"GET / HTTP/1.1\r\n\r\n", b"\0\0"):
        with Mqtt(server.mqtt_port) as c:
            assert c.send(data).closed()


def test_unserved_versions(server):
    for name, level, answer in (("MQTT", 3, b"\x01"), ("MQTT", 6, b"\x84"), ("MQIsdp", 4, b"\x01"),
                                ("MQTT", 0x84, b"\x01")):
        with Mqtt(server.mqtt_port) as c:
            body = text(name) + bytes([level, 2]) + b"\0\x3c" + text("c")
            p = c.send(packet(wire.CONNECT, body)).expect(CONNACK)
            assert p.body[1:2] == answer
            assert c.closed()


def test_client_ids(server, owner):
    """Empty ones: 3.1.1 with a clean session only; 5.0 is told the one it got."""
    with Mqtt(server.mqtt_port) as c:
        p = c.send(wire.connect("", owner.name, owner.key, clean=False)).expect(CONNACK)
        assert p.body == b"\0\2" and c.closed()
    with Mqtt(server.mqtt_port, 5) as c:
        assert b"\x12\0\x1bauto-" in c.login(owner.name, owner.key).body
    with Mqtt(server.mqtt_port, 5) as c:
        p = c.send(wire.connect("x" * 257, owner.name, owner.key, 5)).expect(CONNACK)
        assert p.body[1] == 0x85
    with Mqtt(server.mqtt_port, 4) as c:
        c.login(owner.name, owner.key, "x" * 256)


def test_a_large_connect_is_refused_before_it_is_read(server, owner):
    with Mqtt(server.mqtt_port, 5) as c:
        assert c.send(b"\x10" + wire.varint(200000)).closed()
    with Mqtt(server.mqtt_port, 5) as c:
        c.login(owner.name, owner.key, will=("a/b", b"x" * 10000))


def test_half_a_connect_times_out(make_server):
    server = make_server({"mqtt.connect_timeout": "300ms"})
    with Mqtt(server.mqtt_port) as c:
        assert c.send(b"\x10\x20\0\4MQTT").closed()


# ---- messages ----

def test_payloads(client, owner, new_feed):
    """What each form of a topic takes, and what it makes of it."""
    c = client()
    for suffix, payload, value, place in (
            ("", "21.5", "21.5", None), ("", "on and off", "on and off", None),
            ("", '{"value":7,"lat":1.5,"lon":2.5}', "7", (1.5, 2.5)), ("", '{"v":7}', '{"v":7}', None),
            ("", "[1,2]", "[1,2]", None), ("", "{", "{", None), ("", '"q"', '"q"', None),
            ("/json", '{"value":"x","lat":1,"lon":2,"ele":3}', "x", (1, 2)),
            ("/csv", '"42",0.000000,0.000000,0.00', "42", (0, 0)), ("/csv", "9", "9", None)):
        for kind in ("feeds", "f"):
            name = new_feed()
            c.publish(f"{owner.name}/{kind}/{name}{suffix}", payload, 1)
            assert c.code(PUBACK, 1) == 0
            got = last(owner, name)
            assert got["value"] == value, payload
            assert (got.get("lat"), got.get("lon")) == (place or (None, None))


def test_groups(client, owner, new_feed):
    """Feeds, and the group itself, are made as they are published to."""
    c = client()
    group = new_feed()
    topic = f"{owner.name}/groups/{group}"
    c.publish(topic, '{"feeds":{"a":"1","b":2},"location":{"lat":5,"lon":6}}', 1)
    assert c.code(PUBACK, 1) == 0
    c.publish(f"{owner.name}/g/{group}/csv", "a,10\nc,30\nlocation,7,8,9\n", 1, 2)
    assert c.code(PUBACK, 2) == 0
    c.publish(topic + "/json", '{"feeds":[{"key":"b","value":"20"}]}', 1, 3)
    assert c.code(PUBACK, 3) == 0
    assert [last(owner, f"{group}.{k}")["value"] for k in "abc"] == ["10", "20", "30"]
    assert last(owner, f"{group}.c")["lat"] == 7
    got = requests.get(f"{owner.url}/groups/{group}", headers=owner.key_auth).json()
    assert sorted(f["key"] for f in got["feeds"]) == [f"{group}.{k}" for k in "abc"]


REFUSED = [("other/feeds/x", "1", 0x87), ("a/b/c", "1", 0x90), ("{u}/feeds", "1", 0x90), ("{u}/feeds/", "1", 0x90),
           ("{u}/feeds/x/xml", "1", 0x90), ("{u}/feeds/x/json/y", "1", 0x90), ("{u}/feeds/x/json", "nope", 0x99),
           ("{u}/feeds/!", "1", 0x90), ("{u}/feeds/x", b"\xff", 0x99), ("{u}/feeds/x", b"a\0", 0x99),
           ("{u}/feeds/x", "v" * 2000, 0x99), ("{u}/groups/g", "{}", 0x99), ("$SYS/x", "1", 0x90)]


def test_refused_messages(client, owner, server):
    """5.0 is told why, per message; 3.1.1 gets its acknowledgement all the same; nothing is stored."""
    c5, c3 = client(5), client(4)
    before = server.metrics()
    for topic, payload, code in REFUSED:
        c5.publish(topic.format(u=owner.name), payload, 1, 9)
        p = c5.expect(PUBACK)
        assert (p.body[:2], p.body[2]) == (b"\0\x09", code), (topic, p)
        assert p.body[4] == 0x1f and len(p.body) > 20  # a reason string
        c5.publish(topic.format(u=owner.name), payload, 2, 9)  # the same id each time: it is free again
        assert c5.expect(PUBREC).body[2] == code
        c3.publish(topic.format(u=owner.name), payload, 1, 9)
        assert c3.code(PUBACK, 9) == 0
    after = server.metrics()
    assert after["sluice_mqtt_publishes_refused_total"] - before["sluice_mqtt_publishes_refused_total"] == \
        3 * len(REFUSED)
    assert after["sluice_messages_accepted_total"] == before["sluice_messages_accepted_total"]


def test_no_reason_strings_when_not_wanted(client, owner):
    c = client(5, props=b"\x17\0")
    c.publish("a/b", "1", 1, 3)
    assert c.expect(PUBACK).body == b"\0\x03\x90"
    c = client(5, client="short", props=b"\x27\0\0\0\x20")  # packets of at most 32 bytes
    c.publish("a/b", "1", 1, 3)
    assert c.expect(PUBACK).body == b"\0\x03\x90"
    c = client(5, login=False)  # of which even the CONNACK is too large
    assert c.send(wire.connect("tiny", owner.name, owner.key, 5, props=b"\x27\0\0\0\4")).closed()


def test_refused_messages_close_when_told_to(make_server):
    server = make_server({"mqtt.refusal_3": "close"})
    owner = owner_on(server, "strict")
    with Mqtt(server.mqtt_port) as c:
        c.login(owner.name, owner.key)
        assert c.publish("a/b", "1", 1).closed()
    with Mqtt(server.mqtt_port, 5) as c:
        c.login(owner.name, owner.key)
        c.publish("a/b", "1", 1)
        assert c.code(PUBACK, 1) == 0x90


def test_roles_and_patterns(server, owner, new_feed):
    """A device that may write some feeds only, and make none."""
    name = new_feed()
    server.cli("device", "add", owner.name, f"bound-{name}", "--role", "reader")
    reader = server.cli("device", "secret", f"bound-{name}")["secret"]
    with Mqtt(server.mqtt_port, 5) as c:
        c.login(f"bound-{name}", reader)
        c.publish(f"{owner.name}/feeds/{name}", "1", 1)
        assert c.code(PUBACK, 1) == 0x87


# ---- acknowledgements ----

def test_answers_keep_the_order_of_the_messages(client, owner, new_feed):
    """A message whose feed must be made first holds back those behind it, and their answers."""
    c = client(5)
    names = [new_feed() for _ in range(20)]
    for i, name in enumerate(names):
        c.publish(f"{owner.name}/feeds/{name}", "1", 1 + i % 2, 100 + i)
        c.publish("not/a/feed", "1", 1, 200 + i)
    for i in range(20):
        assert c.code(PUBREC if i % 2 else PUBACK, 100 + i) == 0
        assert c.code(PUBACK, 200 + i) == 0x90


def test_qos_2_is_stored_once(client, owner, new_feed):
    c = client()
    name = new_feed()
    topic = f"{owner.name}/feeds/{name}"
    for dup in (False, True, True):
        c.publish(topic, "once", 2, 7, dup=dup)
        assert c.code(PUBREC, 7) == 0
    for _ in range(2):
        c.send(packet(PUBREL, b"\0\x07", 2))
        assert c.code(PUBCOMP, 7) == 0
    c.publish(topic, "again", 2, 7)
    assert c.code(PUBREC, 7) == 0
    assert values(owner, name) == ["again", "once"]
    c5 = client(5)
    c5.send(packet(PUBREL, b"\0\x09", 2))
    assert c5.code(PUBCOMP, 9) == 0x92


def test_receive_maximum(make_server):
    server = make_server({"mqtt.receive_max": "3"})
    owner = owner_on(server, "rm")
    topic = f"{owner.name}/feeds/x"
    with Mqtt(server.mqtt_port, 5) as c:
        assert b"\x21\0\3" in c.login(owner.name, owner.key).body
        for mid in (1, 2, 3):
            c.publish(topic, "1", 2, mid)
            assert c.code(PUBREC, mid) == 0
        c.publish(topic, "dup", 2, 3, dup=True)  # is none more
        assert c.code(PUBREC, 3) == 0
        c.publish(topic, "1", 0).publish(topic, "1", 1, 4)
        assert c.expect(DISCONNECT).body[0] == 0x93
        assert c.closed()
    with Mqtt(server.mqtt_port, 4) as c:  # before 5.0 it just waits
        c.login(owner.name, owner.key)
        for mid in range(1, 51):
            c.publish(topic, str(mid), 1, mid)
        for mid in range(1, 51):
            assert c.code(PUBACK, mid) == 0


def test_what_was_acknowledged_survives_kill_9(make_server):
    server = make_server()
    owner = owner_on(server, "crash")
    topic = f"{owner.name}/feeds/x"
    acked = []
    with Mqtt(server.mqtt_port) as c:
        c.login(owner.name, owner.key)
        for first in range(1, 801, 20):
            for mid in range(first, first + 20):
                c.publish(topic, str(mid), 1, mid)
            acked += [str(mid) for mid in range(first, first + 20) if c.code(PUBACK, mid) == 0]
        for mid in range(801, 821):
            c.publish(topic, str(mid), 1, mid)
        server.kill()
    server.start()
    r = requests.get(f"{owner.url}/feeds/x/data?limit=1000&include=value", headers=owner.key_auth)
    found = [d["value"] for d in r.json()]
    assert len(acked) == 800 and set(acked) <= set(found) and len(set(found)) == len(found)


def test_the_disk_decides(make_server):
    """What cannot be stored is never acknowledged: 5.0 is told so, 3.1.1 is closed."""
    server = make_server({"journal.disk": "slow"})
    owner = owner_on(server, "full")
    topic = f"{owner.name}/feeds/x"
    with Mqtt(server.mqtt_port, 5) as c5, Mqtt(server.mqtt_port) as c3:
        c5.login(owner.name, owner.key)
        c3.login(owner.name, owner.key)
        c5.publish(topic, "1", 1)
        assert c5.code(PUBACK, 1) == 0
        (server.data / "journal" / "fill_percent").write_text("97")
        wait_for("the journal to refuse", lambda: not server.ready())
        c5.publish(topic, "2", 1, 2)
        assert c5.code(PUBACK, 2) == 0x97
        assert c3.publish(topic, "3", 1, 3).closed()
        (server.data / "journal" / "fill_percent").write_text("10")
        wait_for("the journal to take messages", lambda: c5.publish(topic, "4", 1, 4).code(PUBACK, 4) == 0)
    wait_for("reads again", lambda: values(owner, "x") == ["4", "1"])


@pytest.mark.parametrize("qos", [1, 2])
def test_the_outcome_is_unknown(make_server, qos):
    """Messages under way when the disk hangs: neither yes nor no is said, and in the end they are there. Nor
    is a client missed whose connection was taken over meanwhile."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "3s"})
    owner = owner_on(server, "hung")
    topic = f"{owner.name}/feeds/x"
    slow = server.data / "journal" / "slow_ms"
    with Mqtt(server.mqtt_port, 5) as c5, Mqtt(server.mqtt_port) as c3, Mqtt(server.mqtt_port) as left, \
            Mqtt(server.mqtt_port) as heir:
        c5.login(owner.name, owner.key)
        c3.login(owner.name, owner.key)
        left.login(owner.name, owner.key, "same")
        c5.publish(topic, "0", qos)
        assert c5.code(PUBREC if qos == 2 else PUBACK, 1) == 0
        slow.write_text("6000")
        for n, c in enumerate((left, c5, c3)):
            for mid in range(2, 12):
                c.publish(topic, f"{n}.{mid}", qos, mid)
        wait_for("all to be under way", lambda: server.metric("mqtt_publishes_total") == 31, 2)
        heir.login(owner.name, owner.key, "same")
        assert left.closed()
        left.sock.close()
        p = c5.expect(DISCONNECT)
        assert p.body[0] == 0x80 and b"outcome unknown" in p.body
        assert c5.closed() and c3.closed()
        slow.write_text("0")
    wait_for("all", lambda: len(values(owner, "x")) == 31, 20)
    assert server.metric("mqtt_publishes_refused_total") == 20
    with Mqtt(server.mqtt_port, 5) as again:
        again.login(owner.name, owner.key)
        again.publish(topic, "last", qos)
        assert again.code(PUBREC if qos == 2 else PUBACK, 1) == 0


def test_many_messages_of_one_read_are_all_counted(make_server):
    """A window that has much room is not asked for each of them, and yet lets in as many as it says."""
    server = make_server({"server.workers": 2})
    limit, each = 20000, 11000
    server.add_account("busy", limits=f"{limit}/1h", device_limits="1000000/1s")
    key = server.add_key("busy")
    with Mqtt(server.mqtt_port) as one, Mqtt(server.mqtt_port) as two:
        one.login("busy", key)
        two.login("busy", key)
        one.publish("busy/feeds/x", "0", 1)
        assert one.code(PUBACK, 1) == 0
        for _ in range(each // 500):
            for c in one, two:
                c.send(packet(wire.PUBLISH, text("busy/feeds/x") + b"1") * 500)
        for c in one, two:
            c.send(packet(PINGREQ)).expect(PINGRESP)
    assert server.metric("messages_received_unacked_total") == limit - 1
    assert server.metric("throttle_refused_total") == 2 * each + 1 - limit


def test_throttled_together_with_http(make_server):
    """One window for both doors; 5.0 is told when, and who obeys succeeds."""
    server = make_server()
    server.add_account("pool", limits="5/2s")
    key = server.add_key("pool")
    with Mqtt(server.mqtt_port, 5) as c:
        c.login("pool", key)
        for mid in range(1, 4):
            c.publish("pool/feeds/x", "1", 1, mid)
            assert c.code(PUBACK, mid) == 0
        for _ in range(2):
            assert requests.post(f"{server.url}/api/v2/pool/feeds/x/data", json={"value": 1},
                                 headers={"X-AIO-Key": key}).status_code == 200
        c.publish("pool/feeds/x", "1", 1, 9)
        p = c.expect(PUBACK)
        assert p.body[2] == 0x97 and b"data rate limit reached" in p.body
        r = requests.post(f"{server.url}/api/v2/pool/feeds/x/data", json={"value": 1}, headers={"X-AIO-Key": key})
        assert r.status_code == 429
        time.sleep(2.1)
        c.publish("pool/feeds/x", "1", 1, 10)
        assert c.code(PUBACK, 10) == 0


# ---- 5.0: aliases, retain, what is forbidden ----

def test_topic_aliases(client, owner, new_feed):
    c = client(5)
    name = new_feed()
    topic = f"{owner.name}/feeds/{name}"
    c.publish(topic, "1", 1, 1, props=b"\x23\0\5")
    c.publish("", "2", 1, 2, props=b"\x23\0\5")
    other = new_feed()
    c.publish(f"{owner.name}/feeds/{other}", "3", 1, 3, props=b"\x23\0\5")  # set anew
    c.publish("", "4", 1, 4, props=b"\x23\0\5")
    for mid in (1, 2, 3, 4):
        assert c.code(PUBACK, mid) == 0
    assert values(owner, name) == ["2", "1"] and values(owner, other) == ["4", "3"]


@pytest.mark.parametrize("data,code", [
    (wire.publish("", "1", version=5, props=b"\x23\0\5"), 0x82),        # an alias that was not set
    (wire.publish("a", "1", version=5, props=b"\x23\0\x11"), 0x94),     # above the maximum
    (wire.publish("a", "1", version=5, props=b"\x23\0\0"), 0x94),
    (wire.publish("a/#", "1", version=5), 0x81),
    (wire.publish("a", "1", version=5, props=b"\x0b\1"), 0x82),
    (b"\x30\xff\xff\xff\x7f", 0x95),
    (b"\x36\x07\0\1a\0\1\0x", 0x81),
    (packet(SUBSCRIBE, b"\0\1\0", 2), 0x82),
    (packet(wire.AUTH, b"\x18\0"), 0x82),
    (packet(CONNACK, b"\0\0\0"), 0x82),
    (packet(DISCONNECT, b"\0\5\x11\0\0\0\5"), 0x82),                    # a session out of none
    (wire.connect("again", version=5), 0x82),
])
def test_errors_are_named(client, data, code):
    c = client(5)
    c.send(data)
    p = c.expect(DISCONNECT)
    assert p.body[0] == code
    assert c.closed()


def test_errors_close_3_1_1(client):
    for data in (wire.publish("a/#", "1"), b"\x30\xff\xff\xff\x7f", packet(CONNACK, b"\0\0"), b"\xf0\0",
                 wire.connect("again"), packet(PUBREL, b"\0\1", 0)):
        assert client().send(data).closed()


def test_connack_tells_the_limits(client, owner):
    c = Mqtt(client(5).sock.getpeername()[1], 5)
    body = c.login(owner.name, owner.key, "lim", keep_alive=0, props=b"\x11\0\0\1\0").body
    assert b"\x21\0\xc8" in body and b"\x27\0\x10\0\0" in body and b"\x22\0\x10" in body
    assert b"\x25\0" not in body and b"\x2a\0" not in body  # retained messages, shared subscriptions
    assert b"\x13\x0e\x10" in body                      # keep alive: one hour, though it wanted none
    assert b"\x11\0" not in body                        # the session is kept as long as it asked for
    c.close()


def test_bad_authentication_method(server):
    with Mqtt(server.mqtt_port, 5) as c:
        p = c.send(wire.connect("c", version=5, props=b"\x15\0\1x")).expect(CONNACK)
        assert p.body[1] == 0x8c


# ---- subscribers ----

def message(c):
    """(topic, payload, qos, packet id) of the next message."""
    p = c.expect(wire.PUBLISH)
    n = int.from_bytes(p.body[:2], "big")
    topic, rest, qos, mid = p.body[2:2 + n].decode(), p.body[2 + n:], p.flags >> 1 & 3, None
    if qos:
        mid, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    if c.version == 5:
        rest = rest[1 + rest[0]:]
    return topic, rest.decode(), qos, mid


def test_what_is_stored_reaches_subscribers(client, owner, server, new_feed):
    """By MQTT and by HTTP, from every worker, in all forms, once per subscription; not before it is
    subscribed to, and not to other accounts."""
    name = new_feed()
    topic = f"{owner.name}/feeds/{name}"
    other = owner_on(server, f"other-{name}")
    stranger = Mqtt(server.mqtt_port)
    stranger.login(other.name, other.key)
    assert subscribe(stranger, (f"{other.name}/feeds/#", 0), (topic, 0), ("#", 0)) == [0, 0x80, 0x80]
    publisher = client()
    publisher.publish(topic, "before", 1)
    assert publisher.code(PUBACK, 1) == 0
    for version in (4, 5):
        c = client(version)
        assert subscribe(c, (topic, 0), (f"{owner.name}/f/+/csv", 1), (f"{owner.name}/groups/default/json", 2)) == [0, 1, 2]
        for i in range(3):
            if i % 2:
                publisher.publish(topic, f"v{i}", 1)
                assert publisher.code(PUBACK, 1) == 0
            else:
                requests.post(f"{owner.url}/feeds/{name}/data", json={"value": f"v{i}", "lat": 1, "lon": 2.5},
                              headers=owner.key_auth)
            got = {t: (payload, qos) for t, payload, qos, _ in (message(c) for _ in range(3))}
            place = ",,," if i % 2 else ",1,2.5,"
            assert got == {topic: (f"v{i}", 0), f"{owner.name}/f/{name}/csv": (f"v{i}{place}", 1),
                           f"{owner.name}/groups/default/json": ('{"feeds":{"%s":"v%d"}}' % (name, i), 2)}
        c.close()
    assert stranger.silent()
    stranger.close()


def test_json_of_a_message_is_the_datum(client, owner, new_feed):
    name = new_feed()
    c = client()
    assert subscribe(c, (f"{owner.name}/feeds/{name}/json", 0)) == [0]
    c.publish(f"{owner.name}/f/{name}", "5", 1)
    answers = [c.receive(), c.receive()]
    got = next(p for p in answers if p.type == wire.PUBLISH)
    assert json.loads(got.body[2 + got.body[1] + 256 * got.body[0]:]) == last(owner, name)


def test_subscription_identifiers_and_replacing(client, owner, new_feed):
    name = new_feed()
    topic = f"{owner.name}/feeds/{name}"
    c = client(5)
    assert subscribe(c, (topic, 1), props=b"\x0b\x07") == [1]
    assert subscribe(c, (topic, 0), props=b"\x0b\x08") == [0]  # the same filter: takes its place
    requests.post(f"{owner.url}/feeds", json={"name": name}, headers=owner.key_auth)
    requests.post(f"{owner.url}/feeds/{name}/data", json={"value": "x"}, headers=owner.key_auth)
    p = c.expect(wire.PUBLISH)
    assert p.body.endswith(b"\x02\x0b\x08x") and p.flags == 0
    p = c.send(packet(UNSUBSCRIBE, b"\0\6\0" + text(topic) + text("nothing"), 2)).expect(UNSUBACK)
    assert p.body == b"\0\6\0\0\x11"
    requests.post(f"{owner.url}/feeds/{name}/data", json={"value": "y"}, headers=owner.key_auth)
    assert c.silent()


@pytest.mark.parametrize("filters,codes5", [
    ([("other/feeds/x", 0)], [0x87]), ([("#", 0)], [0x8f]), ([("+/feeds/x", 0)], [0x8f]),
    ([("$share//{u}/f/x", 0)], [0x8f]), ([("$SYS/#", 0)], [0x87]), ([("{u}", 0)], [0x8f]),
    ([("{u}/f/x", 2), ("a", 0), ("{u}/#", 0)], [2, 0x8f, 0])])
def test_refused_filters(client, owner, filters, codes5):
    named = [(f.format(u=owner.name), o) for f, o in filters]
    assert subscribe(client(5), *named) == codes5
    assert subscribe(client(4), *named) == [c if c < 3 else 0x80 for c in codes5]


def test_subscribers_need_the_right_to_read(server, owner, new_feed):
    """Bound to some feeds: only of these, whatever the filter; a role that may not read: none, at once."""
    a, b = new_feed(), new_feed()
    device = f"{a}-sub"
    secret = server.cli("device", "add", owner.name, device, "--feeds", a)["secret"]
    with Mqtt(server.mqtt_port, 5) as c, Mqtt(server.mqtt_port) as publisher:
        c.login(device, secret)
        publisher.login(owner.name, owner.key)
        assert subscribe(c, (f"{owner.name}/feeds/+", 0)) == [0]
        for name in (b, a, b):
            publisher.publish(f"{owner.name}/feeds/{name}", "1", 1)
            assert publisher.code(PUBACK, 1) == 0
        assert message(c)[0] == f"{owner.name}/feeds/{a}"
        assert c.silent()


def test_a_subscriber_that_does_not_acknowledge(make_server):
    """Its window, then its queue, then drops that are counted; the others get everything."""
    server = make_server({"mqtt.queue_size": "4096", "server.workers": "2"})
    owner = owner_on(server, "slow")
    topic = f"{owner.name}/feeds/x"
    with Mqtt(server.mqtt_port, 5) as slow, Mqtt(server.mqtt_port) as good, Mqtt(server.mqtt_port) as publisher:
        slow.login(owner.name, owner.key, props=b"\x21\0\5")  # receive maximum 5
        good.login(owner.name, owner.key)
        publisher.login(owner.name, owner.key)
        assert subscribe(slow, (topic, 1)) == [1] and subscribe(good, (topic, 1)) == [1]
        count, size = 120, 100
        for i in range(count):
            publisher.publish(topic, f"{i:03d}" + "x" * size, 1, i + 1)
        for i in range(count):
            assert publisher.code(PUBACK, i + 1) == 0
        for i in range(count):
            t, payload, qos, mid = message(good)
            assert payload[:3] == f"{i:03d}" and qos == 1
            good.send(packet(PUBACK, mid.to_bytes(2, "big")))
        first = [message(slow) for _ in range(5)]
        assert slow.silent() and [m[1][:3] for m in first] == [f"{i:03d}" for i in range(5)]
        dropped = wait_for("drops", lambda: server.metric("mqtt_drops_queue_full_total"))
        got = list(first)
        for m in got:
            slow.send(packet(PUBACK, m[3].to_bytes(2, "big")))
            if len(got) < count - dropped:
                got.append(message(slow))
        assert [m[1][:3] for m in got] == [f"{i:03d}" for i in range(int(count - dropped))]
        assert 20 < len(got) < 60


def test_a_subscriber_that_does_not_read(make_server):
    server = make_server()
    owner = owner_on(server, "deaf")
    topic = f"{owner.name}/feeds/x"
    requests.post(f"{owner.url}/feeds", json={"name": "x", "history": False}, headers=owner.key_auth)
    with Mqtt(server.mqtt_port) as deaf, Mqtt(server.mqtt_port) as publisher:
        deaf.sock.setsockopt(wire.socket.SOL_SOCKET, wire.socket.SO_RCVBUF, 4096)
        deaf.login(owner.name, owner.key)
        publisher.login(owner.name, owner.key)
        assert subscribe(deaf, (topic, 0)) == [0]
        for i in range(200):
            publisher.publish(topic, "x" * 50000, 1)
            assert publisher.code(PUBACK, 1) == 0
        wait_for("drops", lambda: server.metric("mqtt_drops_slow_total") > 0)
        publisher.send(packet(PINGREQ)).expect(PINGRESP)


def test_notices(make_server):
    """Who cannot be told by a code is told on {user}/throttle and {user}/errors."""
    server = make_server({"server.workers": "1"})
    server.add_account("noted", limits="3/60s")
    key = server.add_key("noted")
    with Mqtt(server.mqtt_port) as c:
        c.login("noted", key, "my-client")
        assert subscribe(c, ("noted/throttle", 1), ("noted/errors", 1)) == [1, 1]
        c.publish("noted/nothing/x", "1", 0)
        topic, payload, qos, mid = message(c)
        assert (topic, qos) == ("noted/errors", 1)
        assert payload == "my-client 127.0.0.1 PUBLISH noted/nothing/x rejected, not a valid resource topic"
        c.send(packet(PUBACK, mid.to_bytes(2, "big")))
        for i in range(3):
            c.publish("noted/feeds/x", "1", 1)
            assert c.code(PUBACK, 1) == 0
        c.publish("noted/feeds/x", "1", 1, 2)
        topic, payload, qos, mid = message(c)
        assert topic == "noted/throttle"
        assert payload.startswith('"noted data rate limit reached, ') and payload.endswith(' seconds until throttle released"')
        assert c.code(PUBACK, 2) == 0


def test_mosquitto_sub(server, owner, new_feed):
    name = new_feed()
    sub = subprocess.Popen(["mosquitto_sub", "-p", str(server.mqtt_port), "-u", owner.name, "-P", owner.key, "-q", "1",
                            "-t", f"{owner.name}/feeds/{name}", "-C", "2"], stdout=subprocess.PIPE, text=True)
    wait_for("the subscription", lambda: server.metric("mqtt_subscriptions") > 0)
    mosquitto_pub(server, owner, "-q", "1", "-t", f"{owner.name}/feeds/{name}", "-m", "21.5")
    requests.post(f"{owner.url}/feeds/{name}/data", json={"value": "by http"}, headers=owner.key_auth)
    assert sub.communicate(timeout=20)[0] == "21.5\nby http\n"
    wait_for("no subscription", lambda: server.metric("mqtt_subscriptions") == 0)


# ---- connections ----

def test_ping_and_keep_alive(client):
    c = client(keep_alive=1)
    for _ in range(4):
        time.sleep(0.5)
        assert c.send(packet(PINGREQ)).expect(PINGRESP).body == b""
    begun = time.monotonic()
    assert c.closed()
    assert 1.4 < time.monotonic() - begun < 2.5
    c = client(5, keep_alive=1)
    assert c.expect(DISCONNECT).body[0] == 0x8d
    c = client(keep_alive=0)
    time.sleep(2)
    c.send(packet(PINGREQ)).expect(PINGRESP)


def test_bytes_that_trickle_in_do_not_keep_alive(client):
    c = client(keep_alive=1)
    data = wire.publish("a/b", "x" * 50, 0)
    for i in range(15):
        c.send(data[i:i + 1])
        if select.select([c.sock], [], [], 0.2)[0]:
            break
    assert 6 < i < 13 and c.closed()


@pytest.mark.parametrize("version", [4, 5])
def test_taken_over(make_server, version):
    """Whoever comes with the same client id ends the other, on whatever worker that is; another
    account's client id is another one."""
    server = make_server({"server.workers": "4"})
    owner, other = owner_on(server, "mine"), owner_on(server, "theirs")
    with Mqtt(server.mqtt_port, version) as stranger:
        stranger.login(other.name, other.key, "same")
        before = Mqtt(server.mqtt_port, version)
        before.login(owner.name, owner.key, "same")
        for _ in range(20):
            now = Mqtt(server.mqtt_port, version)
            now.login(owner.name, owner.key, "same")
            if version == 5:
                assert before.expect(DISCONNECT).body[0] == 0x8e
            assert before.closed()
            before.close()
            before = now
        stranger.send(packet(PINGREQ)).expect(PINGRESP)
        before.close()
    assert server.metric("mqtt_taken_over_total") == 20


def test_a_storm_with_one_client_id(make_server):
    """Many at once: the last one let in stays, everybody else is told or closed, nothing is left."""
    server = make_server({"server.workers": "4"})
    owner = owner_on(server, "storm")
    alive = []

    def come_and_go():
        for _ in range(15):
            with Mqtt(server.mqtt_port, 5) as c:
                try:
                    c.login(owner.name, owner.key, "one")
                    c.publish(f"{owner.name}/feeds/x", "1", 1)
                    alive.append(c.code(PUBACK, 1))
                except (wire.Closed, AssertionError, OSError):
                    pass

    threads = [threading.Thread(target=come_and_go) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wait_for("all to be gone", lambda: server.metric("mqtt_connections") == 0)
    with Mqtt(server.mqtt_port, 5) as c:
        c.login(owner.name, owner.key, "one")
        assert c.silent()
    assert alive


def test_wills(client, owner, new_feed, server):
    """Published when a client is lost, or says so; not when it leaves in order."""
    name = new_feed()
    will = (f"{owner.name}/feeds/{name}", "gone")
    client(will=will).close()
    wait_for("the will", lambda: values(owner, name) == ["gone"])
    client(will=will).send(packet(DISCONNECT)).closed()
    client(5, will=will).send(packet(DISCONNECT, b"\0")).closed()
    client(5, will=will).send(packet(DISCONNECT, b"\4")).closed()
    wait_for("the will", lambda: values(owner, name) == ["gone"] * 2)
    c = client(5, will=will)
    c.send(b"\x30\xff\xff\xff\x7f").expect(DISCONNECT)  # an error is no order
    wait_for("the will", lambda: values(owner, name) == ["gone"] * 3)
    client(client="w", will=will)
    client(client="w")  # takes over
    wait_for("the will", lambda: values(owner, name) == ["gone"] * 4)


@pytest.mark.parametrize("version", [4, 5])
def test_revoked(server, owner, new_feed, version):
    """A device that is disabled, or whose secret changes, is cut off before the command returns."""
    for how in ("disable", "secret", "remove"):
        device = f"{new_feed()}-rv{version}"
        secret = server.add_device(owner.name, device)
        c = Mqtt(server.mqtt_port, version)
        c.login(device, secret)
        c.publish(f"{owner.name}/feeds/rv", "1", 1)
        assert c.code(PUBACK, 1) == 0
        server.cli("device", how, device)
        if version == 5:
            assert c.expect(DISCONNECT).body[0] == 0x87
        assert c.closed()
        c.close()


def test_a_changed_role_is_in_force_at_once(server, owner, new_feed):
    device = f"{new_feed()}-role"
    secret = server.add_device(owner.name, device)
    with Mqtt(server.mqtt_port, 5) as c:
        c.login(device, secret)
        c.publish(f"{owner.name}/feeds/role", "1", 1)
        assert c.code(PUBACK, 1) == 0
        server.cli("device", "change", device, "--role", "reader")
        c.publish(f"{owner.name}/feeds/role", "2", 1, 2)
        assert c.code(PUBACK, 2) == 0x87


def test_packets_in_pieces(client, owner, new_feed):
    """Every cut of a login with a message behind it gives the same answers."""
    name = new_feed()
    data = wire.connect("pieces", owner.name, owner.key) + \
        wire.publish(f"{owner.name}/feeds/{name}", "1", 1, 5) + packet(PINGREQ)
    for cut in range(1, len(data)):
        c = client(login=False)
        c.send(data[:cut])
        time.sleep(0.002)
        c.send(data[cut:])
        assert c.expect(CONNACK).body == b"\0\0"
        kinds = sorted([c.receive().type, c.receive().type])
        assert kinds == [PUBACK, PINGRESP]
        c.close()
    assert len(values(owner, name)) == len(data) - 1


def test_busy_at_once(make_server):
    """Logins that need a password hash beyond what may wait are told so at once; a known one gets in."""
    server = make_server({"auth.hash_queue_max": "2", "auth.hash_threads": "1", "auth.bcrypt_cost": "12"})
    server.add_account("slow")
    key = server.add_key("slow")
    for i in range(8):
        server.cli("device", "add", "slow", f"d{i}", "--secret", f"secret {i}", "--bcrypt")
    waiting = [Mqtt(server.mqtt_port, 4 + i % 2, timeout=60) for i in range(8)]
    for i, c in enumerate(waiting):
        c.send(wire.connect("", f"d{i}", f"secret {i}", c.version))
    with Mqtt(server.mqtt_port) as c:
        c.login("slow", key)  # needs no hash
    codes = [c.expect(CONNACK).body[1] for c in waiting]
    for c, code in zip(waiting, codes):
        assert code in (0, 0x89 if c.version == 5 else 3)
        c.close()
    assert 0 in codes and len([c for c in codes if c]) >= 3


def test_over_tls(make_server, tmp_path):
    """MQTTS: with a key; with a client certificate instead, which is the device; never without."""
    ca = Authority(tmp_path)
    port = free_port()
    server = make_server({"listen.mqtts": f"127.0.0.1:{port}", "tls.client_ca": str(ca.path),
                          "tls.certificates": ca.server("server", "localhost")})
    owner = owner_on(server, "tls")
    topic = f"{owner.name}/feeds/x"
    anybody = ssl.create_default_context(cafile=str(ca.path))
    device = ssl.create_default_context(cafile=str(ca.path))
    device.load_cert_chain(*ca.client("client", owner.device))
    with Mqtt(port, 4, tls=anybody) as c:
        c.login(owner.name, owner.key)
        c.publish(topic, "1", 1)
        assert c.code(PUBACK, 1) == 0
    with Mqtt(port, 4, tls=anybody) as c:
        assert c.send(wire.connect("x")).expect(CONNACK).body[1] == 5
    with Mqtt(port, 5, tls=device) as c:
        c.login(None, None)
        c.publish(topic, "2", 1)
        assert c.code(PUBACK, 1) == 0
        server.cli("device", "disable", owner.device)
        assert c.expect(DISCONNECT).body[0] == 0x87
    assert values(owner, "x") == ["2", "1"]
    run = subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(port), "--cafile", str(ca.path), "-u", owner.name,
                          "-P", owner.key, "-t", topic, "-m", "3", "-q", "2"], capture_output=True, timeout=20)
    assert run.returncode == 0, run.stderr
    assert values(owner, "x")[0] == "3"


def test_too_many_connections(make_server):
    server = make_server({"mqtt.connections_max": "3", "server.workers": "1"})
    owner = owner_on(server, "few")
    inside = [Mqtt(server.mqtt_port) for _ in range(3)]
    for c in inside:
        c.login(owner.name, owner.key)
    with Mqtt(server.mqtt_port) as c:
        assert c.closed()
    for c in inside:
        c.send(packet(PINGREQ)).expect(PINGRESP)
        c.close()


def test_stops_in_order(make_server):
    """SIGTERM: what was sent is answered, then 5.0 is told; a message behind that is not lost unseen."""
    server = make_server()
    owner = owner_on(server, "stop")
    c5, c3 = Mqtt(server.mqtt_port, 5), Mqtt(server.mqtt_port)
    c5.login(owner.name, owner.key)
    c3.login(owner.name, owner.key)
    for mid in range(1, 100):
        c5.publish(f"{owner.name}/feeds/x", "1", 1, mid)
    for mid in range(1, 100):
        assert c5.code(PUBACK, mid) == 0
    os.kill(server.pid, signal.SIGTERM)
    assert c5.expect(DISCONNECT).body[0] == 0x8b
    assert c5.closed() and c3.closed()
    c5.close()
    c3.close()
    assert server.process.wait(20) == 0


def test_metrics(client, server, owner):
    before = server.metrics()
    c = client()
    c.publish(f"{owner.name}/feeds/m", "1", 1)
    assert c.code(PUBACK, 1) == 0
    after = server.metrics()
    for name in ("mqtt_connects_total", "mqtt_publishes_total", "messages_accepted_total"):
        assert after[f"sluice_{name}"] == before[f"sluice_{name}"] + 1
    assert after["sluice_mqtt_connections"] >= 1
    assert json.loads(server.operator("/v1/status"))
