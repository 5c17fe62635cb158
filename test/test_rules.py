# SPDX-License-Identifier: Apache-2.0
"""Rules: what a feed does makes the server publish, once for each time, whatever is killed."""
import json
import os
import random
import threading
import time
import urllib.parse

import pytest
import requests

import test_backup
import test_sealing
from conftest import owner_on
from harness import CliError, wait_for
from mqtt_wire import PUBACK, Mqtt, subscribe
from test_webhooks import drained, hook_on

PATIENCE = 30
KILLS = int(os.environ.get("RULE_KILLS", 6))


def make_feed(owner, *names):
    for name in names:
        r = requests.post(f"{owner.url}/feeds", json={"name": name}, headers=owner.key_auth, timeout=20)
        assert r.status_code in (200, 201), r.text


def post(owner, feed, value):
    r = requests.post(f"{owner.url}/feeds/{feed}/data", json={"value": value}, headers=owner.key_auth, timeout=20)
    assert r.status_code == 200, r.text
    return r.json()


def values(owner, feed):
    """The oldest first."""
    r = requests.get(f"{owner.url}/feeds/{feed}/data", headers=owner.key_auth, timeout=20)
    assert r.status_code == 200, r.text
    return [d["value"] for d in reversed(r.json())]


def rule(server, number):
    return next(k for k in server.cli("rule", "list")["rules"] if k["rule"] == number)


def add(server, *args):
    return server.cli("rule", "add", *args)["rule"]


def fired(server, number, count):
    return wait_for(f"rule {number} to fire {count} times",
                    lambda: (k := rule(server, number))["fired"] >= count and k["owed"] == 0 and k, PATIENCE, 0.05)


def records(server):
    """What is in the journal, of a server that runs or not."""
    run = server.cli_run("journal", "tail", "--json")
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def refused(server, *args):
    with pytest.raises(CliError) as e:
        server.cli("rule", *args)
    return e.value.stderr


@pytest.fixture(scope="module")
def ann(server):
    return owner_on(server, "ann")


def test_a_threshold_by_http_and_mqtt(server, ann):
    make_feed(ann, "oven", "alarm")
    number = add(server, "ann", "oven", "above 200 clear 180", "--to", "alarm")
    with Mqtt(server.mqtt_port, 5) as seen, Mqtt(server.mqtt_port, 5) as device:
        seen.login("ann", ann.key, "seen")
        assert subscribe(seen, ("ann/feeds/alarm", 1)) == [1]
        device.login("ann", ann.key, "oven")
        for value in (100, 200, 201.5, 250, 190, 230):
            post(ann, "oven", value)
        assert seen.message() == ("ann/feeds/alarm", "201.5")
        for mid, value in enumerate(("180", "199", "222"), 1):
            device.publish("ann/feeds/oven", value, qos=1, mid=mid)
            assert device.code(PUBACK, mid) == 0
        assert seen.message() == ("ann/feeds/alarm", "222")
        assert seen.silent()
    assert values(ann, "alarm") == ["201.5", "222"]
    k = rule(server, number)
    assert (k["fired"], k["state"], k["feed"], k["to"], k["when"]) == (2, "tripped", "oven", "alarm", "above 200 clear 180")
    assert k["last_fired"] and k["suppressed"] == k["dropped"] == 0 and "error" not in k
    found = [r for r in records(server) if r.get("idempotency_key", "").startswith(f"rule:{number}:")]
    assert len(found) == 2 and all(r["kind"] == "datum" for r in found)
    assert server.metric("rules_fired_total") == 2 and server.metric("rules") >= 1
    status = json.loads(server.operator("/v1/status"))
    assert "rules" in status["views"]
    removed = server.cli("rule", "remove", str(number))
    assert removed["rule"] == number
    post(ann, "oven", 0)
    post(ann, "oven", 999)
    assert len(values(ann, "alarm")) == 2
    entries = server.cli("audit", "list", "--account", "ann")["entries"]
    assert {"rule_add", "rule_remove"} <= {e["op"] for e in entries}


def test_a_change_below_and_own_values(server, ann):
    make_feed(ann, "door", "log", "level", "pump")
    change = add(server, "ann", "door", "change", "--to", "log")
    level = add(server, "ann", "level", "below 10 clear 15", "--to", "pump", "--value", "ON")
    by = add(server, "ann", "level", "change 5", "--to", "log", "--value", "moved")
    for value in ("shut", "shut", "open", "open", "shut"):
        post(ann, "door", value)
    for value in (30, 9, 12, 8, 16, 3):
        post(ann, "level", value)
    fired(server, change, 2)
    fired(server, level, 2)
    fired(server, by, 3)
    assert values(ann, "pump") == ["ON", "ON"]
    assert sorted(values(ann, "log")) == ["moved"] * 3 + ["open", "shut"]
    for number in (change, level, by):
        server.cli("rule", "remove", str(number))


def test_its_topic_and_test(server, ann):
    """With no feed and no webhook its message is seen on ACCOUNT/rules/NUMBER."""
    make_feed(ann, "wind")
    number = add(server, "ann", "wind", "above 20", "--value", "storm")
    with Mqtt(server.mqtt_port, 5) as seen:
        seen.login("ann", ann.key, "topic")
        assert subscribe(seen, ("ann/rules/#", 1)) == [1]
        first = post(ann, "wind", 21)
        topic, body = seen.message()
        body = json.loads(body)
        assert topic == f"ann/rules/{number}"
        assert body.pop("at") and body.pop("offset") > 0
        assert body == {"rule": number, "account": "ann", "feed": "wind", "when": "above", "limit": 20,
                        "value": "21", "message": "storm"}, first
        tried = server.cli("rule", "test", str(number), "--value", "33")
        assert tried["fired"] == 2 and tried["owed"] == 0
        body = json.loads(seen.message()[1])
        assert body["test"] is True and body["value"] == "33"
    server.cli("rule", "remove", str(number))
    assert "there is no rule" in refused(server, "test", str(number))


def test_mistakes(server, ann):
    make_feed(ann, "here")
    for args, why in ((("nobody", "here", "change"), "no account"),
                      (("ann", "nowhere", "change"), "no feed"),
                      (("ann", "here", "above"), "a number is wanted"),
                      (("ann", "here", "silence 10"), "how long"),
                      (("ann", "here", "change", "--to", "nowhere"), "no feed"),
                      (("ann", "here", "change", "--webhook", "7"), "no webhook 7"),
                      (("ann", "here", "change", "--every", "often"), "every must be"),
                      (("ann", "here", "change", "--value", "x" * 1025), "at most 1024"),
                      (("ann", "here", "change", "--to", "here", "--webhook", "7"), "two rules")):
        assert why in refused(server, "add", *args), args


def test_every(server, ann):
    make_feed(ann, "busy", "slow")
    number = add(server, "ann", "busy", "change", "--to", "slow", "--every", "1h")
    for i in range(10):
        post(ann, "busy", i)
    k = wait_for("it to have seen all", lambda: (k := rule(server, number))["suppressed"] == 8 and k, PATIENCE, 0.05)
    assert k["fired"] == 1 and values(ann, "slow") == ["1"]
    server.cli("rule", "remove", str(number))


def test_rings_end(server, ann):
    make_feed(ann, "ring-a", "ring-b", "self")
    there = add(server, "ann", "ring-a", "change", "--to", "ring-b", "--value", "x")
    back = add(server, "ann", "ring-b", "change", "--to", "ring-a")
    own = add(server, "ann", "self", "change", "--to", "self", "--value", "y")
    for feed in ("ring-a", "ring-b", "self"):
        post(ann, feed, "0")
    post(ann, "ring-a", "1")
    post(ann, "self", "1")
    for number in (there, back, own):
        fired(server, number, 1)
    time.sleep(1)
    # a: 1 -> b: x (1) -> a: x (2) -> b: x, no change. self: 1 -> y (1) -> y (2), no change.
    assert values(ann, "ring-b") == ["0", "x", "x"] and values(ann, "ring-a") == ["0", "1", "x"]
    assert values(ann, "self") == ["0", "1", "y", "y"]
    toggles = [add(server, "ann", "self", f"above {n} clear {n - 1}", "--to", "self", "--value", value)
               for n, value in ((10, "0"), (-1, "-5"))]
    flips = add(server, "ann", "self", "below -4 clear 5", "--to", "self", "--value", "11")
    post(ann, "self", "11")
    ended = wait_for("the ring to end", lambda: sum(rule(server, n)["dropped"] for n in (*toggles, flips, own)) >= 1, PATIENCE)
    assert ended
    time.sleep(0.5)
    depths = [int(r["idempotency_key"].split(":")[3]) for r in records(server)
              if r.get("idempotency_key", "").startswith("rule:")]
    assert max(depths) == 4
    assert any("set off one another" in rule(server, n).get("error", "") for n in (*toggles, flips, own))
    for number in (there, back, own, *toggles, flips):
        server.cli("rule", "remove", str(number))


def test_the_accounts_window(make_server):
    """A rule's message takes its place in it; what finds none waits and is published later, once."""
    server = make_server()
    server.add_account("bob", limits="6/3s")
    key = server.add_key("bob")
    url, auth = f"{server.url}/api/v2/bob", {"X-AIO-Key": key}
    for name in ("in", "out"):
        assert requests.post(f"{url}/feeds", json={"name": name}, headers=auth, timeout=20).status_code < 300
    number = add(server, "bob", "in", "change", "--to", "out")
    time.sleep(3.1)
    batch = {"data": [{"value": str(i)} for i in range(5)]}
    assert requests.post(f"{url}/feeds/in/data/batch", json=batch, headers=auth, timeout=20).status_code == 200
    k = wait_for("a refusal", lambda: (k := rule(server, number)).get("error") and k, PATIENCE, 0.05)
    assert k["owed"] > 0 and k["fired"] < 4
    fired(server, number, 4)
    assert rule(server, number)["dropped"] == 0
    time.sleep(3.1)
    r = requests.get(f"{url}/feeds/out/data", headers=auth, timeout=20)
    assert [d["value"] for d in reversed(r.json())] == ["1", "2", "3", "4"]


def crossings(found, feed, limit):
    """Offsets of the data that are above the limit behind one that is not."""
    above, at = False, []
    for r in found:
        if r.get("feed") == feed and r["kind"] == "datum":
            was, above = above, float(r["value"]) > limit
            if above and not was:
                at.append(r["offset"])
    return at


def test_once_over_kill_9(make_server):
    """Each crossing in the journal is told by one message, and each message tells of one."""
    rng = random.Random(7)
    server = make_server({"journal.segment_size": "1MiB"})
    owner = owner_on(server, "crash")
    make_feed(owner, "in", "out", "note")
    numbers = [add(server, "crash", "in", "above 5", "--to", "out"), add(server, "crash", "in", "above 5", "--value", "!")]
    for cycle in range(KILLS):
        stop = threading.Event()

        def run(seed):
            own, session = random.Random(seed), requests.Session()
            while not stop.is_set():
                try:
                    session.post(f"{owner.url}/feeds/in/data", json={"value": own.randrange(10)}, headers=owner.key_auth, timeout=20)
                except requests.RequestException:
                    return
        threads = [threading.Thread(target=run, args=(rng.random(),)) for _ in range(3)]
        for t in threads:
            t.start()
        time.sleep(rng.uniform(0.1, 0.8))
        if cycle % 3 == 2:
            server.cli("rule", "test", str(numbers[0]))  # it also makes a snapshot
        server.kill()
        stop.set()
        for t in threads:
            t.join(30)
        server.start()
    for number in numbers:
        wait_for("all to be stored", lambda: rule(server, number)["owed"] == 0, PATIENCE, 0.1)
    time.sleep(0.5)
    found = records(server)
    feed = next(r["feed"] for r in found if r["kind"] == "datum" and "idempotency_key" not in r)
    wanted = crossings(found, feed, 5)
    tests = [r["offset"] for r in found if r["kind"] == "rule"]
    assert len(wanted) > 10
    for number in numbers:
        marks = [r["idempotency_key"].split(":") for r in found if r.get("idempotency_key", "").startswith(f"rule:{number}:")]
        offsets = [int(m[2]) for m in marks]
        assert len(set(offsets)) == len(offsets), "one was told twice"
        told = [o for o in offsets if o not in tests]
        dropped = rule(server, number)["dropped"]
        assert set(told) <= set(wanted) and len(told) + dropped == len(wanted), (len(told), dropped, len(wanted))
        assert dropped == 0
        assert rule(server, number)["fired"] == len(offsets)


def test_silence(make_server):
    server = make_server()
    owner = owner_on(server, "quiet")
    make_feed(owner, "beat", "watch")
    number = add(server, "quiet", "beat", "silence 2s", "--to", "watch")
    other = add(server, "quiet", "beat", "silence 1h")
    for i in range(6):  # never so long
        post(owner, "beat", i)
        time.sleep(0.5)
    assert rule(server, number)["fired"] == 0
    fired(server, number, 1)
    time.sleep(2.5)
    assert rule(server, number)["fired"] == 1 and rule(server, number)["state"] == "tripped"
    assert values(owner, "watch") == ["2"]
    server.kill()  # what was told is told no more
    server.start()
    time.sleep(3)
    assert rule(server, number)["fired"] == 1
    post(owner, "beat", "back")
    assert wait_for("it to be over", lambda: rule(server, number)["state"] == "waiting", PATIENCE)
    # While there is no server nobody can be heard, so silence begins anew; a message at the start ends it.
    server.kill()
    time.sleep(2.5)
    server.start()
    began = time.monotonic()
    post(owner, "beat", "again")
    time.sleep(1)
    assert rule(server, number)["fired"] == 1
    fired(server, number, 2)
    assert time.monotonic() - began > 1.9
    server.kill()
    server.start()
    time.sleep(2.5)
    assert rule(server, number)["fired"] == 2
    assert rule(server, other)["fired"] == 0


def test_a_webhook(make_server, receiver):
    server = make_server({"webhooks.allow": "127.0.0.0/8", "webhooks.retry_max": "300ms"})
    owner = owner_on(server, "hooked")
    make_feed(owner, "load", "nothing")
    # One that selects another feed gets the rule's messages all the same, and nothing else of that feed.
    hook = hook_on(server, receiver, "hooked", "by-rule", "--feeds", "nothing")
    number = add(server, "hooked", "load", "above 90 clear 80", "--webhook", hook)
    for value in (10, 95, 99, 70, 91):
        post(owner, "load", value)
    fired(server, number, 2)
    drained(server, hook)
    got = [e["data"] for _, e in receiver.events("by-rule")]
    assert [d["topic"] for d in got] == [f"hooked/rules/{number}"] * 2
    told = [json.loads(d["value"]) for d in got]
    assert [(t["value"], t["when"], t["feed"], t["limit"]) for t in told] == [("95", "above", "load", 90), ("91", "above", "load", 90)]
    # By its topic, as any other.
    chosen = hook_on(server, receiver, "hooked", "by-topic", "--feeds", "hooked/rules/*")
    server.cli("rule", "test", str(number))
    drained(server, chosen)
    wait_for("the test", lambda: len(list(receiver.events("by-topic"))) == 1, PATIENCE)
    assert rule(server, number)["webhook"] == int(hook)


@pytest.mark.parametrize("sealed", [False, True])
def test_they_go_with_their_feeds(make_server, tmp_path, sealed):
    """Also from the snapshot, of which nothing can be read that was sealed."""
    server = make_server(test_sealing.keyed(tmp_path) if sealed else {})
    owner, other = owner_on(server, "eve"), owner_on(server, "other")
    make_feed(owner, "a", "b", "c")
    make_feed(other, "a")
    secret = "canary-5b1d0f"
    kept = add(server, "other", "a", "change")
    gone = [add(server, "eve", "a", "change", "--to", "b", "--value", secret), add(server, "eve", "c", "change", "--to", "a"),
            add(server, "eve", "c", "change", "--to", "b")]
    for value in ("1", "2"):
        post(owner, "a", value)
    fired(server, gone[0], 1)
    assert values(owner, "b") == [secret]
    in_files = test_sealing.files_with(server.data, secret)
    assert ("rules.snap" in in_files) != sealed, in_files
    server.kill()
    server.start()
    assert {k["rule"] for k in server.cli("rule", "list")["rules"]} == {kept, *gone}
    r = requests.delete(f"{owner.url}/feeds/a", headers=owner.key_auth, timeout=20)
    assert r.status_code == 200
    left = wait_for("those of the feed to go", lambda: len(k := server.cli("rule", "list")["rules"]) == 2 and k, PATIENCE)
    assert {k["rule"] for k in left} == {kept, gone[2]}
    server.cli("account", "erase", "eve")
    assert [k["rule"] for k in server.cli("rule", "list")["rules"]] == [kept]
    assert "rules.snap" not in test_sealing.files_with(server.data, secret)
    server.kill()
    server.start()
    assert [k["rule"] for k in server.cli("rule", "list")["rules"]] == [kept]
    assert add(server, "other", "a", "change") > max(gone)


def test_in_backups(make_server, tmp_path):
    server = make_server(test_backup.SMALL)
    owner = owner_on(server, "saved")
    make_feed(owner, "in", "out")
    number = add(server, "saved", "in", "above 5", "--to", "out")
    post(owner, "in", 6)
    fired(server, number, 1)
    test_backup.backup(server, tmp_path / "backup")
    server.kill()
    restored = test_backup.restore(make_server, tmp_path / "backup")
    k = rule(restored, number)
    assert (k["fired"], k["state"], k["owed"]) == (1, "tripped", 0)
    owner.url = f"{restored.url}/api/v2/saved"
    post(owner, "in", 7)
    post(owner, "in", 5)
    post(owner, "in", 8)
    fired(restored, number, 2)
    assert values(owner, "out") == ["6", "8"]


def test_maxima(make_server):
    server = make_server({"rules.max": 3, "rules.account_max": 2})
    for name in ("one", "two"):
        make_feed(owner_on(server, name), "a")
    for name in ("one", "one", "two"):
        add(server, name, "a", "change")
    assert "as many as may be" in refused(server, "add", "one", "a", "change")
    assert "there are 3 rules" in refused(server, "add", "two", "a", "change")
    assert server.stop() == 0
    assert "none runs here" in refused(server, "list")


def test_over_http(server, ann):
    """The same commands, by who may."""
    make_feed(ann, "remote")
    server.cli("role", "add", "operators", "admin_read,admin_write")
    secret = server.cli("device", "add", "ann", "console", "--role", "operators")["secret"]
    auth = {"X-Device-Id": "console", "X-Device-Token": secret}

    def call(verb, method="post", **args):
        if method == "get":
            return requests.get(f"{server.url}/v1/admin/rule/{verb}?{urllib.parse.urlencode(args)}", headers=auth, timeout=20)
        return requests.post(f"{server.url}/v1/admin/rule/{verb}", json=args, headers=auth, timeout=20)
    made = call("add", account="ann", feed="remote", when="above 3").json()
    assert made["when"] == "above 3" and made["state"] == "waiting"
    listed = call("list", "get", account="ann").json()["rules"]
    assert made["rule"] in [k["rule"] for k in listed]
    assert call("remove", rule=made["rule"]).status_code == 200
    assert call("remove", rule=made["rule"]).status_code == 404
