# SPDX-License-Identifier: Apache-2.0
"""What one MQTT client may cost: packets that ask for much, repetitions, answers that it does not take."""
import time

import pytest

import mqtt_wire as wire
from conftest import owner_on
from harness import wait_for
from mqtt_wire import DISCONNECT, PUBACK, PUBREC, SUBSCRIBE, Mqtt, packet, subscribe, text
from test_mqtt import values


def test_subscriptions_are_bounded(make_server):
    """Also those of one packet, by how often it names them; one that is there can be made anew."""
    server = make_server({"mqtt.subscriptions_max": "3"})
    owner = owner_on(server, "many")
    for version, full in ((4, 0x80), (5, 0x97)):
        for name in ("", "with-a-session"):
            with Mqtt(server.mqtt_port, version) as c:
                c.login(owner.name, owner.key, name, clean=not name, **({"props": b"\x11\0\0\0\x64"} if version == 5 else {}))
                topics = [f"{owner.name}/f/{n}" for n in "abc"]
                assert subscribe(c, *((t, 0) for t in topics)) == [0, 0, 0]
                assert subscribe(c, (f"{owner.name}/f/d", 0)) == [full]
                assert subscribe(c, *((t, 1) for t in topics)) == [1, 1, 1]
                before = server.metric("journal_records_total")
                assert subscribe(c, *[(topics[0], 1)] * 50000) == [1, 1, 1] + [full] * 49997
                assert server.metric("journal_records_total") < before + 1000


@pytest.mark.parametrize("expiry", [0, 100])
def test_an_answer_that_the_client_does_not_take(server, owner, expiry):
    """No packet is larger than it may be (MQTT-3.1.2-24), nor is half of one sent."""
    with Mqtt(server.mqtt_port, 5) as c:
        props = b"\x27\0\0\0\x28" + (b"\x11\0\0\0%c" % expiry if expiry else b"")
        c.login(owner.name, owner.key, f"small-{expiry}", props=props)
        assert subscribe(c, *[(f"{owner.name}/f/{n}", 0) for n in range(20)]) == [0] * 20
        body = b"".join(text(f"{owner.name}/f/{n}") + b"\0" for n in range(60))
        p = c.send(packet(SUBSCRIBE, b"\0\6\0" + body, 2)).expect(DISCONNECT)
        assert p.body == b"\x95" and c.closed()


def test_receive_maximum_of_a_session(make_server):
    """No more than it can keep: what is received and not released."""
    server = make_server({"mqtt.receive_max": "5000"})
    owner = owner_on(server, "wide")
    for props, says in ((b"", 4096), (b"\x11\0\0\0\x64", 1024)):
        with Mqtt(server.mqtt_port, 5) as c:
            assert b"\x21" + says.to_bytes(2, "big") in c.login(owner.name, owner.key, "w", props=props).body
    with Mqtt(server.mqtt_port) as c:
        c.login(owner.name, owner.key, "w", clean=False)
        c.send(b"".join(wire.publish(f"{owner.name}/f/wide", "1", 2, mid + 1) for mid in range(1024)))
        for mid in range(1024):
            assert c.code(PUBREC, mid + 1) == 0
        c.publish(f"{owner.name}/f/wide", "1", 1, 1025)
        assert c.code(PUBACK, 1025) == 0
        assert c.publish(f"{owner.name}/f/wide", "1", 2, 1026).closed()


def test_repetitions_are_bounded(make_server):
    """What is sent again and again while the disk hangs is not read without end; each gets its answer."""
    server = make_server({"journal.disk": "slow", "ack.timeout": "20s"})
    owner = owner_on(server, "again")
    topic = f"{owner.name}/f/again"
    slow = server.data / "journal" / "slow_ms"
    with Mqtt(server.mqtt_port, 5, timeout=30) as c:
        c.login(owner.name, owner.key)
        c.publish(topic, "1", 2, 1)
        assert c.code(PUBREC, 1) == 0
        slow.write_text("8000")
        c.publish(topic, "2", 1, 2)
        c.send(wire.publish(topic, "1", 2, 1, 5, dup=True) * 20000)
        wait_for("the first repetitions", lambda: server.metric("mqtt_duplicates_total") > 0)
        time.sleep(1)
        assert server.metric("mqtt_duplicates_total") < 1000
        slow.write_text("0")
        assert c.code(PUBACK, 2) == 0
        for _ in range(20000):
            assert c.code(PUBREC, 1) == 0
    assert values(owner, "again") == ["2", "1"]


def test_refusals_of_one_packet_are_told_so_often(server, owner):
    """Each notice goes to all workers; what the packet is answered says all."""
    with Mqtt(server.mqtt_port) as errors, Mqtt(server.mqtt_port, 5) as c:
        errors.login(owner.name, owner.key)
        assert subscribe(errors, (f"{owner.name}/errors", 0)) == [0]
        c.login(owner.name, owner.key)
        assert 0 not in subscribe(c, *[("stranger/f/a", 0)] * 1000)
        told = []
        while not told or b"last" not in told[-1]:
            if len(told) == 1:
                assert 0 not in subscribe(c, ("stranger/f/last", 0))
            told.append(errors.expect(wire.PUBLISH).body)
        assert len(told) <= 12, "a notice for each would be 1,000"


def test_who_lags_is_kept_for_up_to_a_limit(make_server):
    """What subscribers have not acknowledged, of all of them together: they read nothing, and each may have a MiB."""
    server = make_server({"server.workers": "1", "listen.buffers_max": "64MiB", "mqtt.queue_size": "1MiB"})
    owner = owner_on(server, "ann")
    lagging = []
    for _ in range(100):
        lagging.append(Mqtt(server.mqtt_port))
        lagging[-1].login(owner.name, owner.key)
        assert subscribe(lagging[-1], (f"{owner.name}/f/wide", 1)) == [1]
    with Mqtt(server.mqtt_port, timeout=60) as c:
        c.login(owner.name, owner.key)
        for mid in range(1, 1301):
            c.publish(f"{owner.name}/f/wide", "x" * 1000, 1, mid)
            assert c.code(PUBACK, mid) == 0
        wait_for("connections to be closed", lambda: server.metric("connections_evicted_total") > 30)
        assert server.metric("connections_evicted_total") < 70
        assert subscribe(c, (f"{owner.name}/f/narrow", 1)) == [1]
        c.publish(f"{owner.name}/f/narrow", "1", 1, 2000)
        assert {c.receive().type for _ in range(2)} == {PUBACK, wire.PUBLISH}
    for c in lagging:
        c.close()
