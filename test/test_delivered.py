# SPDX-License-Identifier: Apache-2.0
"""Ack level delivered: "accepted" is said when a sink's target has confirmed it, or what is true instead."""
import json
import re
import signal
import threading
import time

import pytest
import requests

from harness import CliError, wait_for
from mqtt_wire import PUBACK, PUBCOMP, PUBREC, PUBREL, Mqtt, packet
from postgres import Postgres
from sink_conformance import PATIENCE, Target, make_sink, place, sender_on  # noqa: F401
from test_webhooks import hook_on
from webhook_receiver import Webhooks

PENDING = "accepted, not yet delivered"


@pytest.fixture(scope="module")
def webhooks():
    receiver = Webhooks()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def postgres():
    target = Postgres()
    yield target
    target.close()


@pytest.fixture
def target(request):
    """The webhook sink, where a test does not say another."""
    return request.getfixturevalue(getattr(request, "param", "webhooks"))


on_postgres = pytest.mark.parametrize("target", ["postgres"], indirect=True)


def tell(sink, owner, body, ack=None, headers=None, timeout=30):
    r = requests.post(f"{sink.server.url}/v1/telemetry", params={"ack": ack} if ack else None, json=body,
                      headers={**owner.auth, **(headers or {})}, timeout=timeout)
    return r


def delivery(r):
    assert r.status_code == 202 and r.headers["X-Sluice-Delivery"] == r.json()["delivery"]["state"], r.text
    return r.json()["delivery"]


def passed(sink, owner, r):
    return requests.get(sink.server.url + r.headers["Location"], headers=owner.key_auth, timeout=20).json()["delivered"]


def reason_string(p):
    """Of a PUBACK or PUBREC of MQTT 5: (code, text without the receipt's path, which is the end)."""
    if len(p.body) == 2:
        return 0, None
    assert p.body[3] == len(p.body) - 4 and p.body[4] == 31, p
    text = re.fullmatch(r"(.*) \((/v1/receipts/\d+)\)", p.body[7:].decode())
    return p.body[2], text[1]


@on_postgres
def test_the_answer_waits_until_it_is_there(make_sink, target):
    """Who waits makes a batch leave at once; who does not, does not."""
    sink = make_sink(batch_time="20s")
    owner = sender_on(sink, "ann", "t")
    sink.drained()
    for i in range(5):
        begun = time.monotonic()
        r = tell(sink, owner, {"t": i, "u": i}, "delivered:postgres")
        assert delivery(r) == {"sink": "postgres", "state": "delivered", "delivered": 2}
        assert r.json()["ack"] == "delivered:postgres" and r.json()["accepted"] == 2
        assert sink.values() == [str(n) for n in range(i + 1) for _ in "tu"]
        assert passed(sink, owner, r) == {"postgres": "delivered"} and time.monotonic() - begun < 10
    assert sink.server.metric("ack_delivered_total") == 10 and sink.server.metric("ack_not_delivered_total") == 0
    r = tell(sink, owner, {"t": 5})
    assert r.json()["ack"] == "durable" and "delivery" not in r.json() and "X-Sluice-Delivery" not in r.headers
    assert passed(sink, owner, r) == {"postgres": "pending"}
    # What lingers goes along.
    delivery(tell(sink, owner, {"t": 6}, "delivered:postgres"))
    assert sink.values()[-2:] == ["5", "6"]


def test_a_paused_sink_is_not_waited_for_long(make_sink):
    sink = make_sink(rest={"ack.delivered_timeout": "500ms"})
    owner = sender_on(sink, "ann", "t")
    sink.server.cli("sink", "pause", "webhook")
    begun = time.monotonic()
    r = tell(sink, owner, {"t": 1}, "delivered:webhook")
    assert 0.4 < time.monotonic() - begun < 3
    assert delivery(r) == {"sink": "webhook", "state": "pending", "delivered": 0}
    assert r.json()["ack"] == "durable" and passed(sink, owner, r) == {"webhook": "pending"}
    # It goes on while somebody waits.
    sink.server.cli("sink", "pause", "webhook")
    sink.server.settings["ack.delivered_timeout"] = "20s"
    sink.server.stop()
    sink.server.start()
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(tell(sink, owner, {"t": 2}, "delivered:webhook")))
    waiter.start()
    time.sleep(0.5)
    assert not answers and not sink.messages()
    sink.server.cli("sink", "resume", "webhook")
    waiter.join(15)
    assert delivery(answers[0])["state"] == "delivered" and sink.values() == ["1", "2"]
    # It was delivered after the restart only, so the sink knows.
    assert passed(sink, owner, r) == {"webhook": "delivered"}
    assert sink.server.metric("ack_delivered_total") == 1


def test_what_is_not_delivered_is_not_said_to_be(make_sink):
    sink = make_sink(feeds="a,b", batch_time="0")
    owner = sender_on(sink, "ann", "a", "b", "other")
    ask = lambda body: delivery(tell(sink, owner, body, "delivered:webhook"))
    assert ask({"a": 1}) == {"sink": "webhook", "state": "delivered", "delivered": 1}
    assert ask({"other": 1}) == {"sink": "webhook", "state": "not_selected", "delivered": 0}
    assert ask({"a": 2, "other": 2}) == {"sink": "webhook", "state": "not_selected", "delivered": 1}
    assert ask({"a": "poison"}) == {"sink": "webhook", "state": "failed", "delivered": 0}
    assert ask({"a": 3, "b": "poison", "other": 4}) == {"sink": "webhook", "state": "failed", "delivered": 1}
    assert sorted(sink.values()) == ["1", "2", "3"] and sink.status()["dead_letters"] == 2
    dead, fine = (tell(sink, owner, {"a": value}, "delivered:webhook") for value in ("poison", 9))
    assert passed(sink, owner, dead) == {"webhook": "failed"} and passed(sink, owner, fine) == {"webhook": "delivered"}
    sink.server.stop()
    sink.server.start()
    assert passed(sink, owner, dead) == {"webhook": "failed"} and passed(sink, owner, fine) == {"webhook": "passed"}
    # Adafruit's answers are what they are; that it was not delivered stands beside.
    url = f"{owner.url}/feeds/other/data"
    r = requests.post(url, params={"ack": "delivered:webhook"}, json={"value": "5"}, headers=owner.auth, timeout=20)
    assert (r.status_code, r.headers["X-Sluice-Delivery"], r.json()["value"]) == (202, "not_selected", "5")
    assert passed(sink, owner, r) == {"webhook": "not_selected"}
    url = f"{owner.url}/feeds/a/data"
    r = requests.post(url, params={"ack": "delivered:webhook"}, json={"value": "6"}, headers=owner.auth, timeout=20)
    assert (r.status_code, r.headers["X-Sluice-Delivery"], "Location" in r.headers) == (200, "delivered", False)
    assert sink.messages()[-1].value == b"6"


def test_a_sink_that_is_not_there_is_named(make_sink, make_server, target, place):
    sink = make_sink()
    owner = sender_on(sink, "ann", "t")
    for level in ("delivered:kafka", "delivered:Kafka", "delivered:", "delivered", "later", "delivered:webhook,kafka"):
        r = tell(sink, owner, {"t": 1}, level)
        text = r.json()["error"]
        assert r.status_code == 400, level
        assert text == ('ack: there is no sink "kafka"; there are: webhook' if level == "delivered:kafka" else
                        "ack must be received, durable, applied or delivered:SINK"), level
    # One whose target said that it wants no more.
    target.rule(place, status=410)
    assert delivery(tell(sink, owner, {"t": 2}, "delivered:webhook"))["state"] == "pending"
    wait_for("the sink to be disabled", lambda: sink.status()["state"] == "disabled", PATIENCE)
    r = tell(sink, owner, {"t": 3}, "delivered:webhook")
    assert (r.status_code, r.json()["error"]) == (
        400, 'ack: the sink "webhook" is disabled, as its target wants no more; there is none')
    sink.server.cli("account", "change", "ann", "--ack", "delivered:webhook")
    begun = time.monotonic()
    assert delivery(tell(sink, owner, {"t": 4}))["state"] == "pending" and time.monotonic() - begun < 0.8
    sink.server.cli("account", "change", "ann", "--ack", "durable")
    target.rule(place)
    sink.server.cli("sink", "resume", "webhook")
    sink.drained()
    assert [m.value for m in sink.messages()] == [b"2", b"4"], "what was refused was not stored"
    bare = make_server({})
    owner = sender_on(type(sink)(bare, target, place), "ann", "t")
    r = requests.post(f"{bare.url}/v1/telemetry?ack=delivered:webhook", json={"t": 1}, headers=owner.auth, timeout=20)
    assert (r.status_code, r.json()["error"]) == (400, 'ack: there is no sink "webhook"; there is none')
    with pytest.raises(CliError, match='ack: there is no sink "webhook"; there is none'):
        bare.cli("account", "change", "ann", "--ack", "delivered:webhook")


def test_accounts_and_plans_say_it_too(make_sink):
    """The request goes before the account, that before its plan, that before the server."""
    sink = make_sink(rest={"ack.level": "delivered:webhook"})
    server = sink.server
    owner = sender_on(sink, "ann", "t")
    level = lambda ack=None: tell(sink, owner, {"t": 1}, ack).json()["ack"]
    assert level() == "delivered:webhook" and level("durable") == "durable"
    server.cli("plan", "add", "quick", "--ack", "applied")
    assert server.cli("plan", "show", "quick")["ack"] == "applied"
    assert server.cli("account", "change", "ann", "--plan", "quick")["ack"] == "applied"
    assert level() == "applied" and level("delivered:webhook") == "delivered:webhook"
    assert server.cli("account", "change", "ann", "--ack", "received")["ack"] == "received"
    assert level() == "received"
    assert server.cli("plan", "change", "quick", "--ack", "delivered:webhook")["ack"] == "delivered:webhook"
    assert level() == "received"
    server.kill()
    server.start()
    assert level() == "received"
    assert server.cli("account", "change", "ann", "--ack", "")["ack"] == "delivered:webhook"
    assert level() == "delivered:webhook"
    server.cli("plan", "change", "quick", "--ack", "")
    assert level() == "delivered:webhook" and server.cli("account", "show", "ann")["ack"] == "delivered:webhook"
    for bad in ("delivered:kafka", "delivered:", "soon"):
        for what in (("account", "change", "ann"), ("plan", "change", "quick"), ("account", "add", "bob")):
            with pytest.raises(CliError, match="there are: webhook" if ":k" in bad else "ack must be received"):
                server.cli(*what, "--ack", bad)
    told = [e for e in server.cli("audit", "list")["entries"] if e["op"] == "account_limits"]
    assert told[0]["before"]["ack"] == "received" and told[0]["after"]["ack"] is None
    # Changes of data are messages as well.
    r = requests.post(f"{owner.url}/feeds/t/data", json={"value": "7"}, headers=owner.auth, timeout=20)
    assert (r.status_code, r.headers["X-Sluice-Delivery"]) == (200, "delivered")
    server.cli("sink", "pause", "webhook")
    one = f"{owner.url}/feeds/t/data/{r.json()['id']}"
    for r in (requests.put(one, json={"value": "8"}, headers=owner.key_auth, timeout=20),
              requests.delete(one, headers=owner.key_auth, timeout=20)):
        assert (r.status_code, r.headers["X-Sluice-Delivery"], r.json()["value"]) == (202, "pending", "8")
    server.cli("sink", "resume", "webhook")
    sink.drained()
    # The sink is turned off later: the server says so; an account that still names it is told the truth.
    server.cli("account", "change", "ann", "--ack", "delivered:webhook")
    server.stop()
    url = server.settings.pop("webhook.url")
    with pytest.raises(AssertionError):
        server.start()
    assert "ack.level: delivered:webhook: the sink webhook is turned off" in server.log()
    del server.settings["ack.level"]
    server.start()
    r = tell(sink, owner, {"t": 9})
    assert delivery(r) == {"sink": "webhook", "state": "no_sink", "delivered": 0} and r.json()["ack"] == "durable"
    assert url


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_acknowledgements_wait(make_sink, target, place, version):
    """PUBACK and PUBREC come when the target has it; when that takes too long, 5.0 is told so."""
    sink = make_sink(rest={"ack.delivered_timeout": "20s"}, feeds="a,raw")
    server = sink.server
    owner = sender_on(sink, "ann", "a", "other")
    server.cli("account", "change", "ann", "--ack", "delivered:webhook", "--topics", "any")
    with Mqtt(server.mqtt_port, version) as c:
        c.login("ann", owner.key)
        for mid, (topic, qos) in enumerate((("ann/feeds/a", 1), ("raw", 2), ("ann/feeds/a", 2), ("raw", 1)), 1):
            server.cli("sink", "pause", "webhook")
            c.publish(topic, str(mid), qos, mid)
            assert c.silent(0.3)
            server.cli("sink", "resume", "webhook")
            p = c.expect(PUBACK if qos == 1 else PUBREC)
            assert p.body == mid.to_bytes(2, "big") and sink.values()[-1] == str(mid)
            if qos == 2:
                assert c.send(packet(PUBREL, p.body, 2)).expect(PUBCOMP).body == p.body
        c.publish("ann/feeds/a", "quick", 0)
        server.cli("sink", "pause", "webhook")
    # Too late, and what is not delivered for another reason.
    server.settings["ack.delivered_timeout"] = "300ms"
    server.stop()
    server.start()
    with Mqtt(server.mqtt_port, version) as c:
        c.login("ann", owner.key)
        for mid, qos in ((1, 1), (2, 2)):
            begun = time.monotonic()
            c.publish("ann/feeds/a", f"late {mid}", qos, mid)
            p = c.expect(PUBACK if qos == 1 else PUBREC)
            assert 0.25 < time.monotonic() - begun < 5 and p.body[:2] == mid.to_bytes(2, "big")
            assert reason_string(p) == (0, f"webhook: {PENDING}" if version == 5 else None)
        server.cli("sink", "resume", "webhook")
        sink.drained()
        assert {"quick", "late 1", "late 2"} <= set(sink.values())
        c.publish("ann/feeds/other", "1", 1, 3)
        assert reason_string(c.expect(PUBACK)) == (
            0, "webhook: accepted, not delivered: it is not for that sink" if version == 5 else None)
        target.rule(place, refuse=["poison"])
        c.publish("raw", "poison", 1, 4)
        assert reason_string(c.expect(PUBACK)) == (
            0, "webhook: accepted, not delivered: refused there, and kept as a dead letter" if version == 5 else None)
    if version == 5:  # which may ask not to be told, and has a right to short packets (MQTT-3.1.2-29, -24)
        for props in (b"\x17\x00", b"\x27\x00\x00\x00\x28"):
            with Mqtt(server.mqtt_port, 5) as c:
                c.login("ann", owner.key, "short", props=props)
                c.publish("ann/feeds/other", "1", 1, 3)
                assert reason_string(c.expect(PUBACK)) == (0, None)


@on_postgres
def test_none_is_told_too_early_whatever_is_killed(make_sink, target):
    """kill -9 of either side, between accepted, sent, confirmed and told. Who was told delivered finds it there; who
    asks again by its name, after a crash, is told the truth, and nothing is there twice."""
    sink = make_sink(rest={"ack.delivered_timeout": "3s", "journal.idempotency_window": "1h"})
    owner = sender_on(sink, "joe", "n")
    over, told, sent, wrong = threading.Event(), set(), [0], []

    def run(number):
        n = 0
        while not over.is_set():
            key, n = f"{number}-{n}", n + 1
            sent[0] += 1
            while True:  # until there is an answer
                try:
                    r = tell(sink, owner, {"n": key}, "delivered:postgres", {"Idempotency-Key": key}, 10)
                except requests.RequestException:
                    time.sleep(0.05)
                    continue
                if r.status_code == 202:
                    break
                time.sleep(0.05)
            if delivery(r)["state"] in ("delivered", "passed"):
                told.add(key)
            elif r.json()["delivery"]["state"] != "pending":
                wrong.append(r.text)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    try:
        for victim in (sink.server, sink.target, sink.server, sink.target, sink.server):
            seen = len(told)
            wait_for("deliveries", lambda: len(told) > seen + 15, PATIENCE)
            victim.kill()
            # While nothing can be added, all that was told is there.
            if victim is sink.server:
                assert told <= {m.value.decode() for m in target.read(sink.place)}
            victim.start()
    finally:
        over.set()
        for t in threads:
            t.join(60)
    sink.drained()
    values = sink.values()
    assert told <= set(values) and len(values) == len(set(values)) == sent[0] and not wrong, wrong[:3]


@on_postgres
def test_a_bad_line_makes_nobody_lie(make_sink, target):
    """Connections that are refused, cut, reset, hang: each answer that says delivered is true at that moment."""
    proxy = target.proxy(seed=58)
    try:
        sink = make_sink(port=proxy.port, timeout="1s", rest={"ack.delivered_timeout": "400ms"})
        owner = sender_on(sink, "zoe", "t")
        seen = {"delivered": 0, "pending": 0}
        for i in range(60):
            if i % 3 == 0:
                proxy.faults = 2
                proxy.break_all()
            r = delivery(tell(sink, owner, {"t": i}, "delivered:postgres"))
            seen[r["state"]] += 1
            if r["state"] == "delivered":
                assert str(i) in {m.value.decode() for m in target.read(sink.place)}
        proxy.faults = 0
        proxy.break_all()
        sink.drained()
        assert [int(v) for v in sink.values()] == list(range(60))
        print(seen, proxy.seen)
        assert seen["delivered"] > 0 and seen["pending"] > 0
    finally:
        proxy.close()


@pytest.mark.parametrize("version", [4, 5])
def test_late_receipts_are_pushed(make_sink, version):
    """Whoever was told "not yet" hears of it on {user}/receipts, by MQTT and over WebSocket, on any worker."""
    sink = make_sink(feeds="a", rest={"ack.delivered_timeout": "50ms", "server.workers": "2"})
    server = sink.server
    ann, bob = sender_on(sink, "ann", "a", "b"), sender_on(sink, "bob", "a")
    server.cli("role", "add", "mute", "data_write,feed_write")
    mute = server.cli("key", "add", "ann", "mute", "--role", "mute")["key"]
    server.cli("sink", "pause", "webhook")
    unheard = tell(sink, ann, {"a": 0}, "delivered:webhook")
    with Mqtt(server.mqtt_port, version) as c, Mqtt(server.mqtt_port, version) as d, Mqtt(server.mqtt_port) as e:
        c.login("ann", ann.key)
        d.login("ann", ann.key)
        e.login("bob", bob.key)
        for client, name in ((c, "ann"), (d, "ann"), (e, "bob")):
            assert client.subscribe((f"{name}/receipts", 0)) == [0]
        assert e.subscribe(("ann/receipts", 0))[0] >= 128
        with Mqtt(server.mqtt_port, version) as f:
            f.login("ann", mute)
            assert f.subscribe(("ann/receipts", 0))[0] >= 128
        late = [tell(sink, ann, body, "delivered:webhook") for body in ({"a": 1, "b": 2}, {"a": "poison"}, {"a": 3})]
        assert [delivery(r)["state"] for r in (unheard, *late)] == ["pending"] * 4
        assert delivery(tell(sink, bob, {"a": 4}, "delivered:webhook"))["state"] == "pending"
        tell(sink, ann, {"a": 5})  # nobody asked
        assert c.silent(0.2) and d.silent(0.05) and e.silent(0.05)
        server.cli("sink", "resume", "webhook")
        told = lambda client, name, n: {json.loads(text)["receipt"]: json.loads(text) for topic, text in
                                        (client.message() for _ in range(n)) if topic == f"{name}/receipts"}
        got = told(c, "ann", 3)
        assert got == told(d, "ann", 3) and set(got) == {r.headers["Location"] for r in late}
        assert [{**got[r.headers["Location"]], "receipt": ""} for r in late] == [
            {"receipt": "", "accepted": n, "sink": "webhook", "state": state, "delivered": done}
            for n, state, done in ((2, "not_selected", 1), (1, "failed", 0), (1, "delivered", 1))]
        (one,) = told(e, "bob", 1).values()
        assert one["state"] == "delivered"
        assert c.silent(0.2) and e.silent(0.05)
        # What is delivered in time is not told twice.
        server.settings["ack.delivered_timeout"] = "10s"
    server.stop()
    server.start()
    with Mqtt(server.mqtt_port, version) as c:
        c.login("ann", ann.key)
        c.subscribe(("ann/#", 0))
        assert delivery(tell(sink, ann, {"b": 6}, "delivered:webhook"))["state"] == "not_selected"
        assert c.message()[0] != "ann/receipts" and server.metric("receipts_pushed_total") == 0


@pytest.mark.parametrize("ack", ["request", "account"])
def test_late_receipts_are_posted(make_sink, target, ack):
    """Whoever was told "not yet", and named a webhook of the account, is told there: signed, tried again, and from when
    the sink is past the message on over kill -9; subscribers of {user}/receipts see it too."""
    rest = {"ack.delivered_timeout": "50ms", "server.workers": "2", "webhooks.allow": "127.0.0.0/8", "webhooks.retry_max": "300ms"}
    sink = make_sink(feeds="a", rest=rest)
    server = sink.server
    ann, bob = sender_on(sink, "ann", "a", "b"), sender_on(sink, "bob", "a")
    place = f"{sink.place}-receipts"
    hook, other = hook_on(server, target, "ann", place, "--feeds", "none"), hook_on(server, target, "bob", place)
    level = "delivered:webhook" if ack == "request" else None
    if not level:
        server.cli("account", "change", "ann", "--ack", "delivered:webhook")
    ask = lambda body, receipt=hook: requests.post(
        f"{server.url}/v1/telemetry", params={"receipt": receipt, **({"ack": level} if level else {})}, json=body,
        headers=ann.auth, timeout=30)
    for wrong in ("", "0", "x", "-1", "99", other, "1" * 30):
        r = ask({"a": 0}, wrong)
        assert r.status_code == 400 and "no such webhook" in r.text, (wrong, r.text)
    r = requests.post(f"{server.url}/v1/telemetry?ack=durable&receipt={hook}", json={"a": 0}, headers=ann.auth, timeout=30)
    assert r.status_code == 400 and "delivered:SINK" in r.text
    # What is delivered in time is told by the answer alone.
    assert delivery(ask({"b": 0}))["state"] in ("not_selected", "pending")
    server.cli("sink", "pause", "webhook")
    target.rule(place, status=500)
    with Mqtt(server.mqtt_port) as c:
        c.login("ann", ann.key)
        c.subscribe(("ann/receipts", 0))
        late = [ask(body) for body in ({"a": 1, "b": 2}, {"a": "poison"}, {"a": 3})]
        late.append(requests.post(f"{ann.url}/feeds/a/data", params={"receipt": hook, **({"ack": level} if level else {})},
                                  json={"value": "4"}, headers=ann.key_auth, timeout=30))
        assert [r.status_code for r in late] == [202] * 4
        assert [delivery(r)["state"] for r in late[:3]] == ["pending"] * 3
        sink.server.cli("sink", "resume", "webhook")
        paths = [r.headers["Location"] for r in late]
        pushed = {json.loads(text)["receipt"]: json.loads(text) for topic, text in (c.message() for _ in range(4))
                  if topic == "ann/receipts"}
        assert sorted(pushed) == sorted(paths)
    wait_for("the endpoint to be tried", lambda: server.cli("webhook", "show", hook)["failures"] > 0)
    server.kill()
    server.start()
    target.rule(place)
    server.cli("webhook", "resume", hook)
    got = lambda: {json.loads(e["data"]["value"])["receipt"]: (e["type"], e["data"]["topic"], json.loads(e["data"]["value"]))
                   for _, e in target.events(place)}
    wait_for("the receipts", lambda: len(got()) == 4, PATIENCE)
    for path, n, state, done in zip(paths, (2, 1, 1, 1), ("not_selected", "failed", "delivered", "delivered"), (1, 0, 1, 1)):
        assert got()[path] == ("message.published", "ann/receipts", pushed[path])
        assert pushed[path] == {"receipt": path, "accepted": n, "sink": "webhook", "state": state, "delivered": done}
    assert server.cli("webhook", "log", hook)["attempts"] and not any("unsigned" in t for t in target.tried(place))
    # A second time it is not: each is stored once.
    assert len({id for id, _ in target.events(place)}) == 4


def test_receipts_wait_for_the_accounts_window(make_sink, target):
    """They count as the account's messages do; what does not fit is published when there is room."""
    sink = make_sink(rest={"ack.delivered_timeout": "50ms", "webhooks.allow": "127.0.0.0/8"})
    server = sink.server
    ann = sender_on(sink, "ann", "a")
    place = f"{sink.place}-receipts"
    hook = hook_on(server, target, "ann", place, "--feeds", "none")
    server.cli("sink", "pause", "webhook")
    server.cli("account", "change", "ann", "--limits", "6/3s")
    for i in range(6):
        r = requests.post(f"{server.url}/v1/telemetry?ack=delivered:webhook&receipt={hook}", json={"a": i}, headers=ann.auth, timeout=30)
        assert delivery(r)["state"] == "pending"
    begun = time.monotonic()
    server.cli("sink", "resume", "webhook")
    wait_for("the receipts", lambda: len({id for id, _ in target.events(place)}) == 6, PATIENCE)
    assert time.monotonic() - begun > 1 and server.metric("receipts_stored_total") == 6


def test_the_server_stops_though_somebody_waits(make_sink):
    sink = make_sink(rest={"ack.delivered_timeout": "60s"})
    owner = sender_on(sink, "ann", "t")
    sink.server.cli("account", "change", "ann", "--ack", "delivered:webhook")
    sink.server.cli("sink", "pause", "webhook")
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(tell(sink, owner, {"t": 1})))
    with Mqtt(sink.server.mqtt_port, 5) as c:
        c.login("ann", owner.key)
        c.publish("ann/feeds/t", "2", 1, 1)
        waiter.start()
        wait_for("both", lambda: json.loads(sink.server.operator("/v1/status"))["sinks"]["webhook"]["lag"] >= 2)
        time.sleep(0.2)
        begun = time.monotonic()
        sink.server.process.send_signal(signal.SIGTERM)
        assert reason_string(c.expect(PUBACK)) == (0, f"webhook: {PENDING}")
        sink.server.process.wait(20)
    waiter.join(10)
    assert time.monotonic() - begun < 5 and delivery(answers[0])["state"] == "pending"
    sink.server.start()
    sink.server.cli("sink", "resume", "webhook")
    sink.drained()
    assert sorted(sink.values()) == ["1", "2"]


@pytest.mark.alone
def test_many_who_wait_slow_nobody_down(make_sink):
    """The 99th percentile of others' latency while 200 wait for a sink that is paused, and while none does, by
    turns. What else the machine does spoils some of these periods, waiters that slow us down would spoil each."""
    sink = make_sink(rest={"ack.delivered_timeout": "60s"})
    owner, other = sender_on(sink, "ann", "t"), sender_on(sink, "bob", "t")
    session, best = requests.Session(), {False: 1e9, True: 1e9}
    for many in (False, True) * 3:
        waiting = []
        if many:
            sink.server.cli("sink", "pause", "webhook")
            for i in range(100):  # half by HTTP, half by MQTT: two at a time
                c = Mqtt(sink.server.mqtt_port, 4)
                c.login("ann", owner.key)
                c.publish("ann/feeds/t", str(i), 1, 1)
                waiting.append(c)
            sink.server.cli("account", "change", "ann", "--ack", "delivered:webhook")
            for c in waiting:
                c.expect(PUBACK)
                c.publish("ann/feeds/t", "x", 1, 2).publish("ann/feeds/t", "y", 1, 3)
        latencies = []
        for i in range(200):
            begun = time.monotonic()
            r = session.post(f"{sink.server.url}/v1/telemetry", json={"t": i}, headers=other.auth, timeout=20)
            latencies.append(time.monotonic() - begun)
            assert r.status_code == 202, r.text
        best[many] = min(best[many], sorted(latencies)[197])
        if many:
            assert all(c.silent(0.001) for c in waiting)
            sink.server.cli("sink", "resume", "webhook")
            for c in waiting:
                assert [c.expect(PUBACK).body[1] for _ in range(2)] == [2, 3]
                c.close()
            sink.server.cli("account", "change", "ann", "--ack", "durable")
    print(f"p99 {best[False] * 1e3:.1f} ms, while 200 wait {best[True] * 1e3:.1f} ms")
    assert best[True] <= 1.2 * best[False] + 0.005
