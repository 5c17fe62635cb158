# SPDX-License-Identifier: Apache-2.0
"""The Kafka sink against a real broker: what is true of any sink, and what is of Kafka's only."""
import re
import time

import pytest
import requests
from confluent_kafka import KafkaException, Producer, libversion

from harness import Server, wait_for
from kafka import Kafka
from sink_conformance import PATIENCE, Conformance, make_sink, place, send, sender_on  # noqa: F401


@pytest.fixture(scope="module")
def target():
    target = Kafka()
    yield target
    target.close()


class TestKafka(Conformance):
    pass


def headers_of(message):
    return {name: value.decode() for name, value in message.headers()}


def log_of(sink):
    """The journal's id, as the cursor's topic has it."""
    return re.search(r"sink.cursor_made .*topic=sluice\.cursors\.(\w+)", sink.server.log())[1]


def test_messages_have_key_headers_and_time(make_sink, target, place):
    sink = make_sink(headers="full")
    owner = sender_on(sink, "ann", "air", "gone")
    made = send(owner, "air", {"value": "21.50", "lat": 47.5, "lon": -8.25, "ele": 400.125,
                               "created_at": "2001-02-03T04:05:06.789Z"}, {"value": "2"}, {"value": "3"})
    assert requests.put(f"{owner.url}/feeds/air/data/{made[1]['id']}", json={"value": "2.0"}, headers=owner.key_auth,
                        timeout=20).status_code == 200
    for path in (f"air/data/{made[2]['id']}", "gone"):
        assert requests.delete(f"{owner.url}/feeds/{path}", headers=owner.key_auth, timeout=20).status_code == 200
    sink.drained()
    found = sorted(target.consume(place), key=lambda m: int(headers_of(m)["position"]))
    heads = [headers_of(m) for m in found]
    assert [(m.key(), m.value(), h["kind"]) for m, h in zip(found, heads)] == [
        (b"ann/air", b"21.50", "datum"), (b"ann/air", b"2", "datum"), (b"ann/air", b"3", "datum"),
        (b"ann/air", b"2.0", "changed"), (b"ann/air", b"", "deleted"),
        (f"ann/#{heads[5]['feed_no']}".encode(), None, "deleted")]
    assert len({m.partition() for m in found[:5]}) == 1
    assert {h["log"] for h in heads} == {log_of(sink)}
    assert (heads[3]["target"], heads[4]["target"], "target" in heads[5]) == (
        heads[1]["position"], heads[2]["position"], False)
    first = heads[0]
    assert (first["ts"], first["lat"], first["lon"], first["ele"]) == ("981173106789", "47.5", "-8.25", "400.125")
    assert (first["account"], first["feed"], first["device"]) == ("ann", "air", "ann-dev")
    # Brokers delete by this time, so it is not what a device says.
    assert all(abs(m.timestamp()[1] / 1000 - time.time()) < 60 for m in found)


@pytest.mark.parametrize("key, rest", [("feed", "device"), ("device", "feed")])
def test_brief_headers_say_what_key_and_time_do_not(make_sink, target, place, key, rest):
    sink = make_sink(key=key)
    owner = sender_on(sink, "ann", "air")
    send(owner, "air", {"value": "1"}, {"value": "2", "lat": 1.5, "lon": 2, "created_at": "2001-02-03T04:05:06.789Z"})
    sink.drained()
    names = {"feed": "air", "device": "ann-dev"}
    plain, other = sorted(target.consume(place), key=lambda m: int(headers_of(m)["position"]))
    assert {m.key().decode() for m in (plain, other)} == {f"ann/{names[key]}"}
    assert headers_of(plain) == {rest: names[rest], "position": headers_of(plain)["position"]}
    assert headers_of(other) == {rest: names[rest], "position": headers_of(other)["position"], "ts": "981173106789",
                                 "lat": "1.5", "lon": "2"}


def test_topics_and_keys_by_setting(make_sink, target, place):
    sink = make_sink(topic=f"{place}.{{account}}.{{feed}}", key="device", compression="zstd")
    for name in ("kim", "lee"):
        send(sender_on(sink, name, "t"), "t", {"value": name})
    sink.drained()
    for name in ("kim", "lee"):
        found, = target.consume(f"{place}.{name}.t")
        assert (found.key().decode(), found.value().decode()) == (f"{name}/{name}-dev", name)


def test_a_former_self_is_fenced_off(make_sink, target, place):
    """What it has begun never counts, and it can finish nothing; nor is the sink lost when it is fenced off itself."""
    sink = make_sink()
    owner = sender_on(sink, "joe", "t")
    send(owner, "t", {"value": "0"})
    sink.drained()
    former = Producer(target.client(**{"transactional.id": f"sluice-{log_of(sink)}-kafka"}))
    former.init_transactions(20)
    former.begin_transaction()
    former.produce(place, value=b"of a former self", headers={"position": "0"})
    former.flush(20)
    send(owner, "t", {"value": "1"})
    sink.drained()
    with pytest.raises(KafkaException):
        former.commit_transaction(20)
    send(owner, "t", {"value": "2"})
    sink.drained()
    assert sink.values() == ["0", "1", "2"]
    assert b"of a former self" in [m.value() for m in target.consume(place, committed=False)]
    assert "transactional" in sink.server.log() and sink.status()["failures"] >= 1


def test_a_topic_that_would_forget_the_cursor_is_refused(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "sue", "t")
    send(owner, "t", {"value": "0"})
    sink.drained()
    topic = f"sluice.cursors.{log_of(sink)}"
    cursors = [(m.key().decode(), m.value().decode()) for m in target.consume(topic)]
    key = f"{log_of(sink)}/kafka"
    assert {k for k, _ in cursors} == {key, f"{key}/opened"}
    assert int([v for k, v in cursors if k == key][-1]) == sink.status()["position"]
    sink.server.stop()
    target.alter(topic, cleanup_policy="delete")
    sink.server.start()
    send(owner, "t", {"value": "1"})
    wait_for("it to be refused", lambda: "cleanup.policy=delete" in sink.status()["error"], PATIENCE)
    target.alter(topic, cleanup_policy="compact")
    sink.drained()
    assert sink.values() == ["0", "1"]


def test_tls_and_a_password_that_changes(make_sink, target, place):
    """A host with an address on which nobody listens, too: localhost may be ::1 first."""
    password = target.home / "sluice.password"
    password.write_text("a-wrong-secret\n")
    sink = make_sink(brokers=f"localhost:{target.secure}", security="sasl_ssl", mechanism="PLAIN",
                     username="sluice", password_file=str(password), ca_file=str(target.authority.path))
    owner = sender_on(sink, "lea", "t")
    send(owner, "t", {"value": "0"})
    wait_for("it to be refused", lambda: "uthentication" in sink.status()["error"], PATIENCE)
    password.write_text("its-secret\n")
    sink.drained()
    assert sink.values() == ["0"] and "secret" not in sink.server.log()
    sink.server.stop()
    sink.server.settings["kafka.ca_file"] = ""
    sink.server.start()
    wait_for("no trust", lambda: "certificate" in sink.status()["error"], PATIENCE)


# Debian 12 has an older one; both of ours are linked with it.
SCRAM_WORKS = libversion()[1] >= 0x020601ff


@pytest.mark.skipif(SCRAM_WORKS, reason="this librdkafka's SCRAM is not refused")
def test_scram_that_is_refused_for_the_library_says_so(make_sink, target, tmp_path):
    (tmp_path / "password").write_text("its-secret\n")
    target.set_password("SCRAM-SHA-512", "sluice", "its-secret")
    sink = make_sink(brokers=f"localhost:{target.secure}", security="sasl_ssl", username="sluice",
                     password_file=str(tmp_path / "password"), ca_file=str(target.authority.path))
    send(sender_on(sink, "mia", "t"), "t", {"value": "0"})
    wait_for("it to say so", lambda: f"Kafka 4 refuse SCRAM of librdkafka {libversion()[0]}" in sink.status()["error"],
             PATIENCE)


@pytest.mark.skipif(not SCRAM_WORKS, reason="brokers of Kafka 4 refuse SCRAM of librdkafka before 2.6.1")
@pytest.mark.parametrize("mechanism", ("SCRAM-SHA-256", None))
def test_scram_and_a_password_that_changes(make_sink, target, place, tmp_path, mechanism):
    """SCRAM-SHA-512 if nothing is set. A connection that is there lives on; the next one reads the password again."""
    set_password = lambda text: target.set_password(mechanism or "SCRAM-SHA-512", "sluice", text)
    password = tmp_path / "password"
    password.write_text("first-secret\n")
    set_password("first-secret")
    sink = make_sink(brokers=f"localhost:{target.secure}", security="sasl_ssl", mechanism=mechanism, username="sluice",
                     password_file=str(password), ca_file=str(target.authority.path))
    owner = sender_on(sink, "mia", "t")
    send(owner, "t", {"value": "0"})
    sink.drained()
    set_password("second-secret")
    send(owner, "t", {"value": "1"})
    sink.drained()
    target.kill()
    target.start()
    send(owner, "t", {"value": "2"})
    wait_for("it to be refused", lambda: "uthentication" in sink.status()["error"], PATIENCE)
    password.write_text("second-secret\n")
    sink.drained()
    set_password("third-secret")
    password.write_text("third-secret\n")
    target.kill()
    target.start()
    send(owner, "t", {"value": "3"})
    sink.drained()
    assert sink.values() == ["0", "1", "2", "3"] and "secret" not in sink.server.log()


@pytest.mark.parametrize("name, value, why", [
    ("topic", "a b", "kafka.topic"), ("topic", "{nobody}", "kafka.topic"), ("cursor_topic", "{feed}", "cursor_topic"),
    ("security", "sasl_ssl", "kafka.username")])
def test_wrong_settings_are_refused(tmp_path, name, value, why):
    server = Server(tmp_path, {"kafka.brokers": "127.0.0.1:9", f"kafka.{name}": value})
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log()
