# SPDX-License-Identifier: Apache-2.0
"""Topics that store nothing: /get, time/..., {user}/throttle, {user}/errors, $SYS."""
import json
import re
import subprocess
import time

import paho.mqtt.client as paho
import pytest
import requests

from harness import wait_for
from mqtt_wire import PUBACK, PUBCOMP, PUBREC, PUBREL, Mqtt, packet


@pytest.fixture
def client(server, owner):
    """client(version=4, ...): a connection by hand, logged in with the account's key."""
    opened = []

    def open_one(version=4, user=owner.name, secret=owner.key, **rest):
        opened.append(Mqtt(server.mqtt_port, version))
        opened[-1].login(user, secret, **rest)
        return opened[-1]

    yield open_one
    for c in opened:
        c.close()


def post(owner, feed, value, **rest):
    r = requests.post(f"{owner.url}/feeds/{feed}/data", json={"value": value, **rest}, headers=owner.key_auth)
    assert r.status_code == 200, r.text
    return r.json()


# ---- /get ----

@pytest.mark.parametrize("version", [4, 5])
def test_get(client, owner, version):
    """The newest value, whoever sent it, in the form of the topic, to who asks and to nobody else."""
    c, other = client(version), client(version)
    u, feed = owner.name, f"get{version}"
    requests.post(f"{owner.url}/feeds", json={"name": feed}, headers=owner.key_auth)
    post(owner, feed, "old")
    datum = post(owner, feed, "a,b", lat=1, lon=2.5, ele=3)
    for x in (c, other):
        assert x.subscribe((f"{u}/f/{feed}", 0), (f"{u}/feeds/{feed}/json", 1), (f"{u}/feeds/+/csv", 0)) == [0, 1, 0]
    for qos, topic, payload in ((0, f"{u}/f/{feed}", "a,b"), (1, f"{u}/feeds/{feed}/csv", '"a,b",1,2.5,3')):
        c.publish(f"{topic}/get", b"\0", qos, 7)
        assert c.message() == (topic, payload)
        if qos:
            assert c.code(PUBACK, 7) == 0
    c.publish(f"{u}/feeds/{feed}/json/get", "", 2, 8)
    topic, payload = c.message()
    assert topic == f"{u}/feeds/{feed}/json" and json.loads(payload) == datum
    assert c.code(PUBREC, 8) == 0
    c.send(packet(PUBREL, b"\0\x08", 2))
    assert c.code(PUBCOMP, 8) == 0
    assert other.silent()
    stored = requests.get(f"{owner.url}/feeds/{feed}/data", headers=owner.key_auth).json()
    assert [d["value"] for d in stored] == ["a,b", "old"]


def test_get_behind_a_message(client, owner):
    """What was acknowledged to the account is what is given."""
    c = client()
    topic = f"{owner.name}/feeds/behind"
    publisher = client()
    for i in range(20):
        publisher.publish(topic, str(i), 1, 1)
        assert publisher.code(PUBACK, 1) == 0
        if not i:
            assert c.subscribe((topic, 0)) == [0]
        else:
            assert c.message() == (topic, str(i))
        c.publish(f"{topic}/get", "", 0)
        assert c.message() == (topic, str(i))


def test_get_of_a_group(client, owner):
    u = owner.name
    requests.post(f"{owner.url}/groups", json={"name": "Weather"}, headers=owner.key_auth)
    values = {"temp": "21.50", "note": 'say "hi", twice', "empty": None}
    for feed, value in values.items():
        requests.post(f"{owner.url}/feeds?group_key=weather", json={"name": feed}, headers=owner.key_auth)
        if value:
            post(owner, f"weather.{feed}", value)
    c = client()
    c.subscribe((f"{u}/groups/weather", 0), (f"{u}/g/weather/csv", 1), (f"{u}/g/weather/json", 0))
    for topic in (f"{u}/groups/weather", f"{u}/g/weather/json"):
        c.publish(f"{topic}/get", "")
        got = c.message()
        assert got[0] == topic and json.loads(got[1]) == {"feeds": {k: v for k, v in values.items() if v}}
    c.publish(f"{u}/g/weather/csv/get", "")
    topic, payload = c.message()
    assert sorted(payload.splitlines()) == ['note,"say ""hi"", twice"', "temp,21.50"]


def test_get_of_nothing(client, server, owner):
    """No feed, no value, another's, one that the device may not see: nothing is said of it."""
    u = owner.name
    for feed in ("hollow", "hidden"):
        requests.post(f"{owner.url}/feeds", json={"name": feed}, headers=owner.key_auth)
    post(owner, "hidden", "secret")
    secret = server.cli("device", "add", u, "bound-get", "--feeds", "mine")["secret"]
    c = client(5, "bound-get", secret)
    assert c.subscribe((f"{u}/#", 0)) == [0]
    for topic in (f"{u}/feeds/nothing/get", f"{u}/feeds/hollow/get", f"{u}/f/hidden/json/get", f"{u}/g/default/get",
                  f"{u}/groups/none/csv/get", f"{u}/f/no key/get"):
        c.publish(topic, "", 1, 3)
        assert c.code(PUBACK, 3) == 0, topic
    c.publish("somebody/feeds/x/get", "", 1, 3)
    assert c.message()[0] == f"{u}/errors"
    assert c.code(PUBACK, 3) == 0x87
    unheard = client(5)  # who has not subscribed is told so
    unheard.publish(f"{u}/feeds/hidden/get", "", 1, 4)
    assert unheard.code(PUBACK, 4) == 0x10
    assert c.silent()


def test_get_needs_the_right_to_read(client, server, owner):
    server.cli("role", "add", "only-writes", "data_write")
    secret = server.cli("device", "add", owner.name, "mute", "--role", "only-writes")["secret"]
    c = client(5, "mute", secret)
    c.publish(f"{owner.name}/feeds/hidden/get", "", 1, 4)
    assert c.code(PUBACK, 4) == 0x87


def test_get_by_paho(server, owner):
    got = []
    requests.post(f"{owner.url}/feeds", json={"name": "by-paho"}, headers=owner.key_auth)
    post(owner, "by-paho", "5")
    topic = f"{owner.name}/feeds/by-paho"
    c = paho.Client()
    c.on_message = lambda _, __, m: got.append((m.topic, m.payload))
    c.on_subscribe = lambda *_: c.publish(f"{topic}/get", b"")
    c.username_pw_set(owner.name, owner.key)
    c.connect("127.0.0.1", server.mqtt_port, 30)
    c.subscribe(topic, 1)
    c.loop_start()
    wait_for("the value", lambda: got == [(topic, b"5")])
    c.disconnect()
    c.loop_stop()


# ---- time ----

def test_time(client, owner):
    c = client()
    assert c.subscribe(("time/seconds", 0), ("time/+", 1), ("time/nothing", 0), ("time", 0)) == [0, 1, 0x80, 0x80]
    seen = {}
    for _ in range(12):
        topic, payload = c.message()
        seen.setdefault(topic, []).append(payload)
        now = time.time()
        if topic == "time/seconds":
            assert abs(int(payload) - now) < 20
        elif topic == "time/millis":
            assert len(payload) == 13 and abs(int(payload) / 1000 - now) < 20
        elif topic == "time/ISO-8601":
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", payload)
        else:  # only when an hour begins
            assert topic == "time/hours" and int(payload) in range(24)
    assert len(seen["time/millis"]) >= 2
    each = [int(s) for s in seen["time/seconds"]]
    assert each == sorted(set(each))  # once, though two subscriptions match


def test_nobody_publishes_time(client):
    c = client(5)
    c.publish("time/seconds", "0", 1, 3)
    assert c.code(PUBACK, 3) == 0x90


# ---- notices ----

def test_errors_have_adafruits_words(client, owner):
    """On every worker's connections, in Adafruit's exact form."""
    u = owner.name
    watchers = [client() for _ in range(8)]
    for w in watchers:
        assert w.subscribe((f"{u}/errors", 1)) == [1]
    c = client(client="my-client")
    c.publish("somebody/feeds/x", "1", 1, 1)
    assert c.code(PUBACK, 1) == 0
    c.publish(f"{u}/feeds/a!", "1", 1, 1)
    assert c.code(PUBACK, 1) == 0
    assert c.subscribe(("nonsense/#", 0), ("+/feeds/x", 0)) == [0x80, 0x80]
    said = ["my-client 127.0.0.1 PUBLISH somebody/feeds/x rejected, only shared feeds may be published to",
            '"Validation failed: Name may contain only letters, digits, underscores, spaces, or dashes"',
            "my-client 127.0.0.1 SUBSCRIBE nonsense/# rejected, resource not available or not authorized",
            "my-client 127.0.0.1 SUBSCRIBE +/feeds/x rejected, not a valid resource topic"]
    for w in watchers:
        assert [w.message() for _ in said] == [(f"{u}/errors", s) for s in said]


# ---- $SYS ----

def test_figures(server, owner):
    """For who may see all of this server, named as Mosquitto's."""
    server.cli("role", "add", "watcher", "admin_read")
    secret = server.cli("device", "add", owner.name, "operator", "--role", "watcher")["secret"]
    with Mqtt(server.mqtt_port) as c, Mqtt(server.mqtt_port, 5) as other:
        c.login("operator", secret)
        other.login(owner.name, owner.key)
        assert c.subscribe(("$SYS/#", 0)) == [0] and c.subscribe((f"{owner.name}/#", 0)) == [0x80]
        assert other.subscribe(("$SYS/#", 0), ("$SYS/broker/uptime", 0)) == [0x87, 0x87]
        got = dict(c.message() for _ in range(9))
        b = "$SYS/broker/"
        assert set(got) == {b + t for t in (
            "version", "uptime", "clients/connected", "subscriptions/count", "publish/messages/dropped",
            "publish/messages/received", "publish/messages/sent", "bytes/received", "bytes/sent")}
        assert got[b + "version"].startswith("sluice version ")
        assert re.fullmatch(r"\d+ seconds", got[b + "uptime"])
        assert int(got[b + "clients/connected"]) >= 2 and int(got[b + "subscriptions/count"]) >= 1
        assert int(got[b + "bytes/received"]) > 0
        # Not any more once the right is gone.
        server.cli("role", "change", "watcher", "data_read")
        assert c.subscribe(("$SYS/broker/version", 0)) == [0x80]


def test_mosquitto_sub_of_figures(server, owner):
    server.cli("role", "add", "seer", "admin_read")
    secret = server.cli("device", "add", owner.name, "seer", "--role", "seer")["secret"]
    run = subprocess.run(["mosquitto_sub", "-p", str(server.mqtt_port), "-u", "seer", "-P", secret, "-C", "1",
                          "-t", "$SYS/broker/clients/connected"], capture_output=True, text=True, timeout=30)
    assert run.returncode == 0 and int(run.stdout) >= 1, run.stderr
