# SPDX-License-Identifier: Apache-2.0
"""MQTT sessions that outlive their connection: take-over, expiry, and publishers and subscribers over kill -9.

SESSION_CYCLES says how often the server is killed; SESSION_SEED repeats a run."""
import os
import random
import re
import struct
import threading
import time
import warnings

import paho.mqtt.client as paho
import pytest
import requests

from conftest import owner_on
from harness import wait_for
from mqtt_wire import CONNACK, DISCONNECT, PUBCOMP, PUBREC, PUBREL, Mqtt, connect, packet

SEED = int(os.environ.get("SESSION_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


def expiry(seconds):
    """The property Session Expiry Interval."""
    return b"\x11" + struct.pack(">I", seconds)


def values(owner, feed):
    """Oldest first."""
    r = requests.get(f"{owner.url}/feeds/{feed}/data?include=value&limit=1000", headers=owner.key_auth)
    return [d["value"] for d in reversed(r.json())] if r.status_code == 200 else []


def login(server, user, secret, client, version=4, clean=False, **rest):
    """A connection, and whether its session was there before."""
    c = Mqtt(server.mqtt_port, version)
    if version == 5 and "props" not in rest:
        rest["props"] = expiry(300)
    p = c.login(user, secret, client, clean=clean, **rest)
    return c, p.body[0] == 1


def pubrel(c, mid):
    return c.send(packet(PUBREL, struct.pack(">H", mid), 2))


@pytest.fixture
def alone(make_server):
    server = make_server({"session.per_account_max": "3"})
    return server, owner_on(server, "keeper")


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_session_is_there_again(server, owner, version):
    name = f"again-{version}"
    for clean, present in [(False, False), (False, True), (False, True), (True, False)]:
        c, found = login(server, owner.name, owner.key, name, version, clean)
        assert found == (present and version != 3)  # 3.1 has no word for it
        c.close()
    if version == 5:  # a clean start can begin a session that is kept; in 3.x it is none
        c, found = login(server, owner.name, owner.key, name, version)
        assert found
        c.close()


def test_a_clean_start_ends_what_was_there(server, owner):
    c, _ = login(server, owner.name, owner.key, "ends")
    c.close()
    c, found = login(server, owner.name, owner.key, "ends", clean=True)
    assert not found
    c.close()
    c, found = login(server, owner.name, owner.key, "ends")
    assert not found
    c.close()


def test_expiry(server, owner):
    c, found = login(server, owner.name, owner.key, "short", 5, props=expiry(1))
    c.close()
    c, found = login(server, owner.name, owner.key, "short", 5, props=expiry(1))
    assert found
    time.sleep(2)  # a connection does not let it expire
    c.close()
    time.sleep(1.5)
    c, found = login(server, owner.name, owner.key, "short", 5)
    assert not found
    # At the end the client may say otherwise.
    c.send(packet(14, b"\0" + bytes([5]) + expiry(0)))
    assert c.closed()
    c, found = login(server, owner.name, owner.key, "short", 5)
    assert not found
    c.close()


def test_expiry_has_a_maximum(make_server):
    server = make_server({"mqtt.session_expiry_max": "60s"})
    owner = owner_on(server, "short")
    with Mqtt(server.mqtt_port, 5) as c:
        p = c.login(owner.name, owner.key, "x", props=expiry(3600))
        assert expiry(60) in p.body
    with Mqtt(server.mqtt_port, 5) as c:
        p = c.login(owner.name, owner.key, "x", clean=False, props=expiry(50))
        assert b"\x11\0" not in p.body and p.body[0] == 1


def test_take_over(server, owner):
    """The second connection gets the session while the first is still there."""
    first, _ = login(server, owner.name, owner.key, "two")
    first.publish(f"{owner.name}/f/two", "1", 2, 7)
    assert first.code(PUBREC, 7) == 0
    second, found = login(server, owner.name, owner.key, "two")
    assert found and first.closed()
    second.publish(f"{owner.name}/f/two", "1", 2, 7, dup=True)
    assert second.code(PUBREC, 7) == 0
    pubrel(second, 7)
    assert second.code(PUBCOMP, 7) == 0
    assert values(owner, "two") == ["1"]
    second.close()


def test_a_storm_of_take_overs(server, owner):
    """Many connections with one client id: each message is there once, and the last one stays."""
    stop = time.time() + 4
    sent, lock = [], threading.Lock()

    def run(k):
        while time.time() < stop:
            try:
                c, _ = login(server, owner.name, owner.key, "storm")
                with lock:
                    mid = len(sent) % 60000 + 1
                    sent.append(mid)
                c.publish(f"{owner.name}/f/storm-{k}", str(mid), 2, mid)
                c.code(PUBREC, mid)
                pubrel(c, mid)
                c.code(PUBCOMP, mid)
                c.close()
            except Exception:
                continue

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
        assert not t.is_alive()
    c, found = login(server, owner.name, owner.key, "storm")
    assert found
    c.close()
    for k in range(4):
        got = values(owner, f"storm-{k}")
        assert len(got) == len(set(got))


def test_a_device_gets_only_its_own(server, owner):
    c, _ = login(server, owner.name, owner.key, "whose")
    c.close()
    c, found = login(server, owner.device, owner.secret, "whose")
    assert not found
    c.close()
    c, found = login(server, owner.device, owner.secret, "whose")
    assert found
    c.close()
    c, found = login(server, owner.name, owner.key, "whose")  # a key may do everything
    assert found
    c.close()


def test_no_room(alone):
    server, owner = alone
    for i in range(3):
        login(server, owner.name, owner.key, f"room-{i}")[0].close()
    for version, code in [(4, 3), (5, 0x97)]:
        with Mqtt(server.mqtt_port, version) as c:
            c.send(connect("room-3", owner.name, owner.key, version, False, props=expiry(9)))
            assert c.expect(CONNACK).body[1] == code
            assert c.closed()
    login(server, owner.name, owner.key, "room-1")[0].close()
    login(server, owner.name, owner.key, "room-3", clean=True)[0].close()
    login(server, owner.name, owner.key, "room-1", clean=True)[0].close()
    login(server, owner.name, owner.key, "room-3")[0].close()


@pytest.mark.parametrize("version", [4, 5])
def test_qos2_over_kill(server, owner, version):
    feed = f"over-kill-{version}"
    topic = f"{owner.name}/f/{feed}"
    c, _ = login(server, owner.name, owner.key, feed, version)
    for mid in (5, 6):
        c.publish(topic, str(mid), 2, mid)
        assert c.code(PUBREC, mid) == 0
    pubrel(c, 6)
    assert c.code(PUBCOMP, 6) == 0
    server.kill()
    server.start()
    c, found = login(server, owner.name, owner.key, feed, version)
    assert found
    c.publish(topic, "5", 2, 5, dup=True)  # this one was received
    assert c.code(PUBREC, 5) == 0
    c.publish(topic, "again", 2, 6)  # this id was free
    assert c.code(PUBREC, 6) == 0
    for mid in (5, 6):
        pubrel(c, mid)
        assert c.code(PUBCOMP, mid) == 0
    server.kill()
    server.start()
    c, found = login(server, owner.name, owner.key, feed, version)
    assert found
    pubrel(c, 5)
    assert c.code(PUBCOMP, 5) == (0x92 if version == 5 else 0)
    c.close()
    assert values(owner, feed) == ["5", "6", "again"]


def test_qos2_and_a_feed_that_is_being_made(make_server):
    """A message that still waits when its connection is taken over is received before the session is gone on with."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "30s"})
    owner = owner_on(server, "making")
    slow = server.data / "journal" / "slow_ms"
    c, _ = login(server, owner.name, owner.key, "same", 5)
    slow.write_text("700")
    c.publish(f"{owner.name}/f/new", "1", 2, 7)
    wait_for("the message", lambda: server.metric("mqtt_publishes_total") == 1)
    heir, found = login(server, owner.name, owner.key, "same", 5)
    assert found and c.expect(DISCONNECT).body == b"\x8e" and c.closed()
    slow.write_text("0")
    heir.publish(f"{owner.name}/f/new", "1", 2, 7, dup=True)
    assert heir.code(PUBREC, 7) == 0
    pubrel(heir, 7)
    assert heir.code(PUBCOMP, 7) == 0
    c.close()
    heir.close()
    assert values(owner, "new") == ["1"]


def test_qos2_whose_outcome_is_unknown(make_server):
    """While the disk hangs nobody goes on with a session whose messages may still be received."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "1s"})
    owner = owner_on(server, "hangs")
    slow = server.data / "journal" / "slow_ms"
    c, _ = login(server, owner.name, owner.key, "same", 5)
    c.publish(f"{owner.name}/f/x", "0", 2, 6)
    assert c.code(PUBREC, 6) == 0
    slow.write_text("5000")
    c.publish(f"{owner.name}/f/x", "1", 2, 7)
    time.sleep(4.3)  # the connection was closed, and its session told so, without an answer
    slow.write_text("0")
    heir, found = login(server, owner.name, owner.key, "same", 5)
    assert found
    heir.publish(f"{owner.name}/f/x", "1", 2, 7, dup=True)
    assert heir.code(PUBREC, 7) == 0
    for mid in (6, 7):
        pubrel(heir, mid)
        assert heir.code(PUBCOMP, mid) == 0
    c.close()
    heir.close()
    assert values(owner, "x") == ["0", "1"]


def test_an_opening_whose_outcome_is_unknown(make_server):
    """The session does not stay connected; one that nobody was told of is not there for who comes next."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "1s"})
    owner = owner_on(server, "opens")
    slow = server.data / "journal" / "slow_ms"
    old = login(server, owner.name, owner.key, "old", 5)[0]
    wait_for("it to be known", lambda: server.metric("sessions_connected") == 1)
    old.close()
    wait_for("its end", lambda: server.metric("sessions_connected") == 0)
    slow.write_text("3000")
    for name in ("new", "old"):
        with Mqtt(server.mqtt_port, 5) as c:
            c.send(connect(name, owner.name, owner.key, 5, False, props=expiry(300)))
            assert c.expect(CONNACK).body[1] != 0 and c.closed()
    slow.write_text("0")
    time.sleep(2)  # both openings are durable
    wait_for("their ends", lambda: server.metric("sessions_connected") == 0)
    for name in ("new", "old"):
        c, found = login(server, owner.name, owner.key, name, 5)
        assert found == (name == "old")
        c.close()


def test_who_is_back_before_its_end_is_known(make_server):
    """It waits for no longer than mqtt.connect_timeout, and is told to come again."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "1s", "mqtt.connect_timeout": "2s"})
    owner = owner_on(server, "back")
    slow = server.data / "journal" / "slow_ms"
    first = login(server, owner.name, owner.key, "c", 5)[0]
    wait_for("it to be known", lambda: server.metric("sessions_connected") == 1)
    slow.write_text("4000")
    first.close()
    with Mqtt(server.mqtt_port, 5) as c:
        begun = time.monotonic()
        c.send(connect("c", owner.name, owner.key, 5, False, props=expiry(300)))
        assert c.expect(CONNACK).body[1] == 0x89 and c.closed()
        assert 1.5 < time.monotonic() - begun < 5
    slow.write_text("0")
    time.sleep(4)  # what is under way takes its time
    c, found = login(server, owner.name, owner.key, "c", 5)
    assert found
    c.close()


def test_an_end_that_the_full_disk_refuses(make_server):
    """It is told when there is room: until then the session is nobody else's, and from then on it expires."""
    server = make_server({"journal.disk": "slow"})
    owner = owner_on(server, "fills")
    fill = server.data / "journal" / "fill_percent"
    c, _ = login(server, owner.name, owner.key, "same", 5, props=expiry(1))
    fill.write_text("97")
    wait_for("a full disk", lambda: server.metric("disk_fill_percent") == 97)
    c.close()
    time.sleep(0.5)
    assert server.metric("sessions_connected") == 1
    fill.write_text("10")
    wait_for("its end", lambda: server.metric("sessions_connected") == 0)
    time.sleep(1.5)
    c, found = login(server, owner.name, owner.key, "same", 5)
    assert not found
    c.close()


class Patient(paho.Client):
    """paho 1.6 publishes a message of QoS 2 anew when a second connection fails while its PUBREL is to
    be sent again, which MQTT-4.3.3-6 forbids: here it goes on waiting for PUBCOMP instead."""

    def _messages_reconnect_reset_out(self):
        with self._out_message_mutex:
            for m in self._out_messages.values():
                if m.state == paho.mqtt_ms_resend_pubrel:
                    m.state = paho.mqtt_ms_wait_for_pubcomp
        super()._messages_reconnect_reset_out()


class Subscriber:
    """paho with a session of its own, which subscribes once to all that is published."""

    def __init__(self, server, owner, names, qos):
        self.qos, self.got, self.topics = qos, {n: [] for n in names}, [(f"{owner.name}/f/{n}", qos) for n in names]
        self.client = paho.Client(client_id=f"loop-sub-{qos}", clean_session=False)
        self.client.username_pw_set(owner.name, owner.key)
        self.client.reconnect_delay_set(0.05, 0.2)
        self.client.on_message = lambda c, u, m: self.got[m.topic.split("/")[-1]].append(m.payload.decode())
        subscribed = []
        self.client.on_subscribe = lambda *a: subscribed.append(a)
        self.client.connect("127.0.0.1", server.mqtt_port, 30)
        self.client.loop_start()
        self.client.subscribe(self.topics)
        wait_for("SUBACK", lambda: subscribed, 30)

    def finish(self, stored):
        """All of it has come. What a publisher of QoS 1 sent again is stored again: at QoS 2 that comes too."""
        count = len if self.qos == 2 else lambda values: len(set(values))
        wait_for("all messages", lambda: all(count(self.got[n]) >= count(v) for n, v in stored.items()), 60)
        self.client.disconnect()
        self.client.loop_stop()


class Publisher:
    """paho with a session of its own: what it was told is stored, it does not send again."""

    def __init__(self, server, owner, name, qos):
        self.topic, self.qos, self.acked, self.sent = f"{owner.name}/f/{name}", qos, [], 0
        self.by_mid, self.lock = {}, threading.Lock()
        self.client = Patient(client_id=name, clean_session=False)
        self.client.username_pw_set(owner.name, owner.key)
        self.client.reconnect_delay_set(0.05, 0.2)
        self.client.max_inflight_messages_set(20)
        self.client.on_publish = self.on_publish
        self.client.connect("127.0.0.1", server.mqtt_port, 30)
        self.client.loop_start()

    def on_publish(self, client, userdata, mid):
        with self.lock:
            self.acked.append(mid)

    def send(self, count):
        for _ in range(count):
            self.client.publish(self.topic, str(self.sent), self.qos)
            self.sent += 1

    def finish(self):
        wait_for("all to be acknowledged", lambda: len(self.acked) >= self.sent, 30)
        self.client.disconnect()
        self.client.loop_stop()


def read_all(owner, feed):
    """All values, oldest first, by pages."""
    got, end = [], ""
    while True:
        r = requests.get(f"{owner.url}/feeds/{feed}/data?limit=1000{end}", headers=owner.key_auth)
        page = r.json() if r.status_code == 200 else []
        got += [d for d in page]
        if len(page) < 1000:
            break
        end = "&before=" + re.findall(r"before=([^&>]+)", r.headers["Link"])[-1]  # behind the page's own
    return [d["value"] for d in reversed(got)]


def live(server, seed, cycles):
    rng = random.Random(seed)
    owner = owner_on(server, "looped")
    publishers = [Publisher(server, owner, f"loop-q{qos}-{i}", qos) for qos in (1, 2) for i in range(2)]
    names = [p.topic.split("/")[-1] for p in publishers]
    subscribers = [Subscriber(server, owner, names, qos) for qos in (1, 2)]
    for _ in range(cycles):
        for p in publishers:
            p.send(rng.randrange(5, 40))
        time.sleep(rng.uniform(0.005, 0.15))
        server.kill()
        server.start()
    for p in publishers:
        p.finish()
    stored = {n: read_all(owner, n) for n in names}
    for p, name in zip(publishers, names):
        want, got = [str(i) for i in range(p.sent)], stored[name]
        lost = set(want) - set(got)
        assert not lost, f"seed {seed}: {p.topic}: {len(lost)} of {p.sent} are lost: {sorted(lost)[:5]}"
        if p.qos == 2:
            assert sorted(got, key=int) == want, f"seed {seed}: {p.topic}: not exactly once"
    for s in subscribers:
        s.finish(stored)
        for name in names:
            if s.qos == 2:  # what is stored, each once and in its order
                assert s.got[name] == stored[name], f"seed {seed}: subscriber, {name}: not exactly once"
            else:
                lost = set(stored[name]) - set(s.got[name])
                assert not lost, f"seed {seed}: subscriber, {name}: {len(lost)} are lost: {sorted(lost)[:5]}"
    warnings.warn(f"seed {seed}: {cycles} cycles, {sum(p.sent for p in publishers)} messages, none lost, none of "
                  f"QoS 2 twice; subscribers got {[sum(map(len, s.got.values())) for s in subscribers]}", stacklevel=1)


# These kill faster than a subscriber comes back, which misses half of all: else it gets the newest only, as documented.
ALL_MISSED = {"session.missed_max": "1000000"}


def test_publishers_over_kill(make_server):
    server = make_server({"history.flush_time": "100ms", "journal.segment_size": "1MiB", **ALL_MISSED})
    live(server, SEED, int(os.environ.get("SESSION_CYCLES", "12")))


def test_publishers_over_power_cuts(make_server):
    server = make_server({"journal.disk": "lossy", "journal.segment_size": "1MiB", **ALL_MISSED})
    live(server, SEED, int(os.environ.get("SESSION_POWER_CYCLES", "8")))
