# SPDX-License-Identifier: Apache-2.0
"""The RabbitMQ sink against a real broker: what is true of any sink, and what is of a broker's only."""
import os
import re
import signal
import time

import pytest
import requests

from harness import Server, wait_for
from mqtt_wire import PUBACK, Mqtt
from pki import Authority
from rabbitmq import RabbitMQ
from sink_conformance import PATIENCE, Conformance, make_sink, place, send, sender_on  # noqa: F401


@pytest.fixture(scope="module")
def target():
    target = RabbitMQ()
    yield target
    target.close()


class TestRabbitMQ(Conformance):
    pass


def own_queue(target, place, **rest):
    """Settings with which Sluice makes an exchange and a queue of its own."""
    return {"url": target.url(), "password_file": str(target.password), "exchange": f"{place}-made",
            "queue": f"{place}-queue", **rest}


def test_exchange_queue_and_messages_are_as_documented(make_sink, target, place):
    sink = make_sink(**own_queue(target, place, routing_key="x.{account}.{device}.{feed}"))
    owner = sender_on(sink, "ann", "air")
    sink.server.cli("account", "change", "ann", "--topics", "any")
    send(owner, "air", {"value": "7", "lat": 47.5, "lon": -8.25, "ele": 400.125, "created_at": "2001-02-03T04:05:06.789Z"})
    with Mqtt(sink.server.mqtt_port) as c:
        c.login("ann", owner.key)
        c.publish("raw/a/b", b"\xff\0", 1, 1)
        c.expect(PUBACK)
    sink.drained()
    (key, first, body), (topic_key, second, topic_body) = target.take(f"{place}-queue")
    assert (key, body, topic_key, topic_body) == ("x.ann.ann-dev.air", b"7", "x.ann..raw.a.b", b"\xff\0")
    h = first.headers
    assert (h["account"], h["feed"], h["device"], h["ts"]) == ("ann", "air", "ann-dev", 981173106789)
    assert (h["lat"], h["lon"], h["ele"]) == ("47.5", "-8.25", "400.125") and "topic" not in h
    assert abs(time.time() - h["received"] / 1000) < 60
    assert (first.delivery_mode, first.type, first.app_id, first.timestamp) == (2, "datum", "sluice", 981173106)
    log, position = first.message_id.split(":")
    assert re.fullmatch("[0-9a-f]{32}", log) and int(position) == h["position"]
    assert (second.type, second.headers["topic"]) == ("message", "raw/a/b")
    assert second.message_id == f"{log}:{second.headers['position']}" and second.headers["position"] > h["position"]
    sink.server.cli("sink", "replay", "rabbitmq")
    wait_for("the replay to end", lambda: "replay_to" not in sink.listed(), PATIENCE)
    assert [p.message_id for _, p, _ in target.take(f"{place}-queue")] == [first.message_id, second.message_id]
    with target.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(f"{place}-made", "topic", durable=True)
        channel.queue_declare(f"{place}-queue", durable=True, arguments={"x-queue-type": "quorum"})


def test_corrections_are_messages(make_sink, target, place):
    sink = make_sink(**own_queue(target, place))
    owner = sender_on(sink, "bob", "t")
    one, two = send(owner, "t", {"value": "1"}, {"value": "2"})
    r = requests.put(f"{owner.url}/feeds/t/data/{one['id']}", json={"value": "1.10"}, headers=owner.key_auth, timeout=20)
    assert r.status_code == 200, r.text
    r = requests.delete(f"{owner.url}/feeds/t/data/{two['id']}", headers=owner.key_auth, timeout=20)
    assert r.status_code == 200, r.text
    assert requests.delete(f"{owner.url}/feeds/t", headers=owner.key_auth, timeout=20).status_code == 200
    sink.drained()
    found = [(p.type, p.headers, body) for _, p, body in target.take(f"{place}-queue")]
    assert [(type, body) for type, _, body in found] == [
        ("datum", b"1"), ("datum", b"2"), ("changed", b"1.10"), ("deleted", b""), ("deleted", b"")]
    assert found[2][1]["of"] == found[0][1]["position"] and found[3][1]["of"] == found[1][1]["position"]
    assert "of" not in found[4][1]


def test_what_no_queue_takes_may_be_dropped(make_sink, target, place):
    sink = make_sink(**own_queue(target, place, queue=""), mandatory="false")
    owner = sender_on(sink, "dan", "t")
    send(owner, "t", {"value": "1"})
    s = sink.drained()
    assert (s["delivered"], s["dead_letters"], s["failures"]) == (1, 0, 0)


def test_a_full_queue_is_waited_for(make_sink, target, place):
    with target.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(f"{place}-made", "topic", durable=True)
        channel.queue_declare(f"{place}-queue", durable=True, arguments={
            "x-queue-type": "classic", "x-max-length": 10, "x-overflow": "reject-publish"})
    sink = make_sink(**own_queue(target, place))
    owner = sender_on(sink, "fay", "t")
    send(owner, "t", *({"value": f"{i}"} for i in range(25)))
    s = wait_for("it to be refused", lambda: (s := sink.status())["failures"] and s, PATIENCE)
    assert "did not take" in s["error"] and s["lag"] > 0 and s["dead_letters"] == 0
    found = []
    wait_for("all of them", lambda: found.extend(target.take(f"{place}-queue")) or sink.status()["lag"] == 0, PATIENCE, 0.05)
    found += target.take(f"{place}-queue")
    assert {body for _, _, body in found} == {f"{i}".encode() for i in range(25)}


def test_another_password(make_sink, target):
    """It is read at each connection: no restart."""
    sink = make_sink()
    owner = sender_on(sink, "lea", "t")
    send(owner, "t", {"value": "before"})
    sink.drained()
    target.order('rabbit_auth_backend_internal:change_password(<<"sluice">>, <<"second secret">>, <<"test">>), '
                 'rabbit_networking:close_all_user_connections(<<"sluice">>, <<"test">>)')
    try:
        send(owner, "t", {"value": "after"})
        wait_for("it to be refused", lambda: "ACCESS_REFUSED" in sink.status()["error"], PATIENCE)
    finally:
        target.password.write_text("second secret\n")
    sink.drained()
    assert sink.values() == ["before", "after"]
    assert "secret" not in sink.server.log()


def test_tls_and_whom_it_trusts(make_sink, target, place, tmp_path):
    url = f"amqps://sluice@localhost:{target.tls_port}"
    sink = make_sink(url=url, ca_file=str(target.ca.path))
    owner = sender_on(sink, "tom", "t")
    send(owner, "t", {"value": "sealed"})
    sink.drained()
    assert sink.values() == ["sealed"]
    for wrong in ({"ca_file": str(Authority(tmp_path, "Another CA").path)},
                  {"url": url.replace("localhost", "127.0.0.1"), "ca_file": str(target.ca.path)}):
        sink.server.stop()
        sink.server.settings.update({f"rabbitmq.{name}": value for name, value in wrong.items()})
        sink.server.start()
        send(owner, "t", {"value": "not to them"})
        s = wait_for("it to be refused", lambda: (s := sink.status())["failures"] and s, PATIENCE)
        assert re.search("cert|hostname", s["error"]) and s["lag"] > 0


def test_a_broker_low_on_memory_is_waited_for(make_sink, target):
    """It reads no more. Each attempt costs one message that comes again, not the whole batch."""
    sink = make_sink(timeout="500ms")
    owner = sender_on(sink, "kit", "t")
    send(owner, "t", {"value": "before"})
    sink.drained()
    target.order("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")
    try:
        for i in range(30):
            send(owner, "t", {"value": f"{i}"})
        s = wait_for("it to be told", lambda: (s := sink.status())["failures"] >= 3 and s, PATIENCE)
        assert "low on memory" in s["error"]
    finally:
        target.order("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")
    sink.drained()
    assert sink.values() == ["before", *map(str, range(30))]
    again = len(target.read(sink.place)) - 31
    assert again <= sink.status()["failures"] + 29


def test_heartbeats(make_sink, target):
    """An idle connection lasts; one whose broker says nothing is given up, also while nothing is sent, and holds
    nobody up who stops the server."""
    sink = make_sink(heartbeat="1s")
    owner = sender_on(sink, "ida", "t")
    send(owner, "t", {"value": "1"})
    sink.drained()
    end = time.monotonic() + 4
    wait_for("some heartbeats", lambda: time.monotonic() > end)
    assert sink.status()["failures"] == 0
    os.kill(target.process.pid, signal.SIGSTOP)
    try:
        s = wait_for("silence to be noticed", lambda: (s := sink.status())["failures"] and s, 20)
        assert "heartbeat" in s["error"]
        send(owner, "t", {"value": "2"})
        begun = time.monotonic()
        sink.server.stop()
        assert time.monotonic() - begun < 15
    finally:
        os.kill(target.process.pid, signal.SIGCONT)
    sink.server.start()
    sink.drained()
    assert sink.values() == ["1", "2"]


def test_an_exchange_that_is_deleted_is_made_again(make_sink, target, place):
    sink = make_sink(**own_queue(target, place))
    owner = sender_on(sink, "gus", "t")
    send(owner, "t", {"value": "1"})
    sink.drained()
    with target.connect() as connection:
        connection.channel().exchange_delete(f"{place}-made")
    send(owner, "t", {"value": "2"})
    assert sink.drained()["failures"] == 1
    assert [body for _, _, body in target.take(f"{place}-queue")] == [b"1", b"2"]


@pytest.mark.parametrize("name, value, why", [
    ("url", "amqp://a:b@127.0.0.1", "password_file"),
    ("url", "http://127.0.0.1", "rabbitmq.url"),
    ("routing_key", "{account}.{topic}", "rabbitmq.routing_key"),
    ("exchange", "x" * 256, "rabbitmq.exchange")])
def test_wrong_settings_are_refused(tmp_path, name, value, why):
    server = Server(tmp_path, {"rabbitmq.url": "amqp://127.0.0.1", f"rabbitmq.{name}": value})
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log()
