# SPDX-License-Identifier: Apache-2.0
"""The webhook sink against a receiver that verifies: what is true of any sink, and what is of webhooks only."""
import random
import re
import time

import pytest
import requests

from harness import Server, wait_for
from pki import Authority
from sink_conformance import PATIENCE, Conformance, make_sink, place, send, sender_on  # noqa: F401
from webhook_receiver import FIRST, SECOND, Webhooks


@pytest.fixture
def target(receiver):
    return receiver


class TestWebhook(Conformance):
    pass


class TestBatches(Conformance):
    """Several events in one request, one request after the other."""

    @pytest.fixture(scope="class")
    def target(self):
        receiver = Webhooks(events_max="20")
        yield receiver
        receiver.close()


def test_events_are_what_was_sent(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "ann", "air")
    made, = send(owner, "air", {"value": "21.50", "lat": 47.5, "lon": -8.25, "ele": 400.125,
                                "created_at": "2001-02-03T04:05:06.789Z"})
    url = f"{owner.url}/feeds/air/data/{made['id']}"
    assert requests.put(url, json={"value": "é"}, headers=owner.key_auth, timeout=20).status_code == 200
    assert requests.delete(url, headers=owner.key_auth, timeout=20).status_code == 200
    assert requests.delete(f"{owner.url}/feeds/air", headers=owner.key_auth, timeout=20).status_code == 200
    sink.drained()
    events = sorted(target.events(place), key=lambda e: int(e[0].rsplit("_", 1)[1]))
    common = {"account": "ann", "feed_id": made["feed_id"]}
    # Its feed was gone when some of it was sent.
    assert [(e["type"], {**e["data"], "feed": "air", "device": None}) for _, e in events] == [
        ("datum.created", {**common, "feed": "air", "device": None, "id": made["id"], "value": "21.50", "number": 21.5,
                           "created_at": "2001-02-03T04:05:06.789000Z", "lat": 47.5, "lon": -8.25, "ele": 400.125}),
        ("datum.changed", {**common, "feed": "air", "device": None, "id": made["id"], "value": "é", "lat": 47.5,
                           "lon": -8.25, "ele": 400.125}),
        ("datum.deleted", {**common, "feed": "air", "device": None, "id": made["id"]}),
        ("feed.deleted", {**common, "feed": "air", "device": None})]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", e["timestamp"]) for _, e in events)
    ids = {id.rsplit("_", 1)[0] for id, _ in events}
    assert len(ids) == 1 and re.fullmatch("msg_[0-9a-f]{32}", ids.pop())


def test_secrets_are_replaced_without_a_gap(make_sink, target, place):
    """Old and new sign for a while, so that the receiver may change over in between."""
    sink = make_sink()
    owner = sender_on(sink, "ann", "air")
    try:
        send(owner, "air", {"value": "1"})
        sink.drained()
        target.replace("secret", f"{SECOND}\n{FIRST}\n")
        both = lambda: (send(owner, "air", {"value": "2"}), sink.drained(), target.tried(place)[-1]["signatures"] == 2)[2]
        wait_for("both to sign", both, PATIENCE, 0.5)
        target.accept_secrets(SECOND)
        send(owner, "air", {"value": "3"})
        sink.drained()
        target.replace("secret", f"{SECOND}\n")
        wait_for("one to sign", lambda: not both(), PATIENCE, 0.5)
        assert not any("unsigned" in t for t in target.tried(place))
        target.accept_secrets(FIRST)  # somebody forgot to tell
        send(owner, "air", {"value": "4"})
        wait_for("it to be told", lambda: "HTTP 401: the signature is wrong" in sink.status()["error"], PATIENCE)
        assert not any(secret[6:] in sink.server.log() for secret in (FIRST, SECOND))
    finally:
        target.replace("secret", f"{FIRST}\n")
        target.accept_secrets(FIRST)
    sink.drained()
    assert sink.values()[-1] == "4"


def test_gone_disables(make_sink, target, place):
    sink = make_sink()
    server = sink.server
    owner = sender_on(sink, "ann", "air")
    send(owner, "air", {"value": "1"})
    sink.drained()
    target.rule(place, status=410, body="we moved")
    send(owner, "air", {"value": "2"})
    wait_for("it to be disabled", lambda: sink.status()["state"] == "disabled", PATIENCE)
    asked = len(target.tried(place))
    target.rule(place)
    server.kill()
    server.start()
    send(owner, "air", {"value": "3"})
    listed = sink.listed()
    assert (listed["state"], listed["error"]) == ("disabled", "HTTP 410: we moved") and listed["lag"] >= 2
    assert server.metric('sink_up{sink="webhook"}') == 0
    assert "sink.disabled sink=webhook" in server.log()
    assert len(target.tried(place)) == asked
    assert server.cli("sink", "resume", "webhook")["state"] != "disabled"
    assert sink.drained()["state"] == "running"
    assert sink.values() == ["1", "2", "3"]


def test_it_waits_as_long_as_it_is_asked_to(make_sink, target, place):
    """Far beyond the longest pause of its own."""
    sink = make_sink()
    owner = sender_on(sink, "ann", "air")
    sink.drained()
    target.rule(place, status=429, headers={"Retry-After": "3"})
    send(owner, "air", {"value": "1"})
    wait_for("an attempt", lambda: target.tried(place), PATIENCE)
    target.rule(place)
    sink.drained()
    first, second = target.tried(place)
    assert 2.5 < second["at"] - first["at"] < 30
    target.rule(place, status=503, headers={"Retry-After": "86400"})
    send(owner, "air", {"value": "2"})
    wait_for("an attempt", lambda: len(target.tried(place)) == 3, PATIENCE)
    target.rule(place)
    time.sleep(1)
    assert len(target.tried(place)) == 3
    sink.server.cli("sink", "pause", "webhook")
    sink.server.cli("sink", "resume", "webhook")  # somebody knows better
    sink.drained()
    assert sink.values() == ["1", "2"]


def test_attempts_are_shown(make_sink, target, place):
    """Those of messages and those by hand, which go beside a sink that is paused too."""
    sink = make_sink()
    cli = sink.server.cli
    owner = sender_on(sink, "ann", "air")
    cli("sink", "pause", "webhook")
    tested = cli("sink", "test", "webhook")
    assert tested["taken"] and tested["status"] == 200 and "offset" not in tested
    assert [t["type"] for _, t in target.events(place)] == ["webhook.test"]
    cli("sink", "resume", "webhook")
    target.rule(place, status=503, body="later")
    send(owner, "air", {"value": "1"})
    wait_for("attempts", lambda: len(target.tried(place)) > 2, PATIENCE)
    target.rule(place)
    position = sink.drained()["position"]
    newest, before, *_ = cli("sink", "log", "webhook", "--limit", "2")["attempts"]
    assert newest["taken"] and newest["messages"] == 1 and newest["offset"] < position
    assert not before["taken"] and (before["status"], before["said"]) == (503, "HTTP 503: later")
    assert before["offset"] == newest["offset"]
    assert cli("sink", "log", "webhook")["attempts"][-1]["said"] == "HTTP 200"
    assert "sink_test" in [e["op"] for e in cli("audit", "list")["entries"]]


def test_redirects_are_not_followed(make_sink, target, place):
    """Neither to the machine's metadata nor to a good place."""
    sink = make_sink()
    owner = sender_on(sink, "ann", "air")
    for location in ("http://169.254.169.254/latest/meta-data/", f"http://127.0.0.1:{target.port}/{place}-other"):
        target.rule(place, status=307, headers={"Location": location})
        send(owner, "air", {"value": "1"})
        asked = len(target.tried(place))
        wait_for("more attempts", lambda: len(target.tried(place)) > asked + 1, PATIENCE)
        assert sink.status()["error"] == "HTTP 307"
    assert not target.tried(f"{place}-other")
    target.rule(place)
    sink.drained()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0"])
def test_private_addresses_must_be_allowed(make_sink, target, place, host):
    sink = make_sink(url=f"http://{host}:{target.port}/{place}", allow="10.0.0.0/8")
    owner = sender_on(sink, "ann", "air")
    send(owner, "air", {"value": "1"})
    wait_for("it to be told", lambda: "webhook.allow" in sink.status()["error"], PATIENCE)
    assert not target.tried(place)
    assert sink.status()["state"] == "failing"


def test_large_answers_are_not_read(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "ann", "air")
    target.rule(place, bytes=50_000_000)
    send(owner, "air", *({"value": str(i)} for i in range(20)))
    assert sink.drained()["failures"] == 0
    assert sink.values() == [str(i) for i in range(20)]


def test_what_is_refused_is_tried_again(make_sink, target, place):
    """By the schedule of Standard Webhooks: the first time some five seconds later."""
    sink = make_sink(retry_dead="true")
    owner = sender_on(sink, "ann", "air")
    target.rule(place, refuse=["no"])
    send(owner, "air", {"value": "a"}, {"value": "no"}, {"value": "b"})
    wait_for("a dead letter", lambda: sink.status()["dead_letters"] == 1, PATIENCE)
    target.rule(place)
    wait_for("it to go", lambda: sink.status()["dead_letters"] == 0, PATIENCE)
    first, second = [t["at"] for t in target.tried(place) if t["values"] == ["no"]]
    assert 4.5 < second - first < 40
    assert sink.values() == ["a", "no", "b"]


def test_one_bad_message_holds_up_no_others(make_sink, target, place):
    """An error that may be the endpoint's own is forgiven for a while."""
    sink = make_sink(batch_time="300ms")
    owner = sender_on(sink, "ann", "air")
    target.rule(place, refuse=[], status=500)
    send(owner, "air", *({"value": str(i)} for i in range(20)))
    wait_for("attempts", lambda: len(target.tried(place)) > 5, PATIENCE)
    assert sink.status()["dead_letters"] == 0
    target.rule(place)
    sink.drained()
    assert sink.values() == [str(i) for i in range(20)]


def test_order_of_a_feed_is_kept_on_request(make_sink, target, place):
    """Though requests of several feeds are under way, and each takes another time."""
    sink = make_sink(order="feed")
    owner = sender_on(sink, "ann", *(f"f{i}" for i in range(5)))
    target.rule(place, delay=0.03)
    for i in range(40):
        send(owner, f"f{random.randrange(5)}", *({"value": str(10 * i + k)} for k in range(3)))
    sink.drained()
    feeds = {}
    for _, e in target.events(place):
        feeds.setdefault(e["data"]["feed"], []).append(int(e["data"]["value"]))
    assert sum(map(len, feeds.values())) == 120 and len(feeds) == 5
    assert all(values == sorted(values) for values in feeds.values())


class TestOverTls:
    @pytest.fixture(scope="class")
    def target(self, tmp_path_factory):
        authority = Authority(tmp_path_factory.mktemp("pki"))
        certificate, key = authority.server("receiver", "127.0.0.1").split(":")
        receiver = Webhooks((certificate, key), ca_file=authority.path)
        receiver.scheme = "https"
        yield receiver
        receiver.close()

    def test_whom_the_authority_knows(self, make_sink):
        sink = make_sink()
        send(sender_on(sink, "ann", "air"), "air", {"value": "1"})
        sink.drained()
        assert sink.values() == ["1"]

    def test_whom_nobody_knows(self, make_sink, target, place):
        sink = make_sink(ca_file="")
        send(sender_on(sink, "ann", "air"), "air", {"value": "1"})
        wait_for("it to be told", lambda: "SSL" in sink.status()["error"], PATIENCE)
        assert not target.tried(place)


@pytest.mark.parametrize("name, value, why", [
    ("url", "ftp://example.com/", "https://"),
    ("url", "https://user:hidden@example.com/", "no user and no password"),
    ("secret_file", "", "webhook.secret_file"),
    ("allow", "10.0.0.0/33", "webhook.allow"),
    ("batch_max", "5000", "webhook.batch_max")])
def test_wrong_settings_are_refused(tmp_path, name, value, why):
    server = Server(tmp_path, {"webhook.url": "https://example.com/", "webhook.secret_file": "x",
                               f"webhook.{name}": value})
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log() and "hidden" not in server.log()
