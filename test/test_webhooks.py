# SPDX-License-Identifier: Apache-2.0
"""Webhooks of accounts, made by command or over HTTP: each at its own pace, and nothing lost."""
import json
import os
import threading
import time

import pytest
import requests

from conftest import owner_on
from harness import CliError, wait_for
from sink_conformance import Sender, send
from webhook_receiver import values_of

PATIENCE = 60


@pytest.fixture
def make(make_server):
    """make(setting=...): a server whose webhooks may post to this machine."""
    return lambda **own: make_server({"webhooks.allow": "127.0.0.0/8", "webhooks.retry_max": "300ms",
                                      **{f"webhooks.{name}": value for name, value in own.items()}})


def hook_on(server, receiver, account, place, *args):
    """A webhook of that account; the receiver verifies with its secret, too."""
    made = server.cli("webhook", "add", account, f"http://127.0.0.1:{receiver.port}/{place}", *args)
    receiver.accept_secrets(*json.loads((receiver.home / "secrets").read_text()), made["signing_secret"])
    return str(made["webhook"])


def values(receiver, place):
    """Values by offset; one that came twice is there once."""
    found = {}
    for id, e in receiver.events(place):
        if e["type"] != "webhook.test":
            found[int(id.rsplit("_", 1)[1])] = next(values_of(e))[1].decode()
    return [found[k] for k in sorted(found)]


def drained(server, hook):
    return wait_for("it to deliver all", lambda: (k := server.cli("webhook", "show", hook))["lag"] == 0 and k, PATIENCE, 0.1)


def feed_of(owner, feed):
    r = requests.post(f"{owner.url}/feeds", json={"name": feed}, headers=owner.key_auth, timeout=20)
    assert r.status_code in (200, 201), r.text


def test_each_account_has_its_own(make, receiver):
    server = make()
    ann, bob = owner_on(server, "ann"), owner_on(server, "bob")
    for owner in (ann, bob):
        feed_of(owner, "air")
        feed_of(owner, "water")
    send(ann, "air", {"value": "before"})
    every, air, bobs = (hook_on(server, receiver, name, place, *more) for name, place, more in (
        ("ann", "a-all", ()), ("ann", "a-air", ("--feeds", "air,x*")), ("bob", "b-all", ("--order", "feed"))))
    for i in range(10):
        send(ann, "air" if i % 2 else "water", {"value": f"a{i}"})
        send(bob, "air", {"value": f"b{i}"})
    for hook in (every, air, bobs):
        drained(server, hook)
    assert values(receiver, "a-all") == [f"a{i}" for i in range(10)]
    assert values(receiver, "a-air") == [f"a{i}" for i in range(1, 10, 2)]
    assert values(receiver, "b-all") == [f"b{i}" for i in range(10)]
    listed = server.cli("webhook", "list", "--account", "ann")["webhooks"]
    assert [k["webhook"] for k in listed] == [int(every), int(air)]
    assert all(k["state"] == "running" and k["failures"] == 0 and "signing_secret" not in k for k in listed)
    m = server.metrics()
    assert (m["sluice_webhooks_defined"], m["sluice_webhooks_delivered_total"], m["sluice_webhooks_failing"]) == (3, 25, 0)
    assert json.loads(server.operator("/v1/status"))["webhooks"]["count"] == 3
    assert not any("unsigned" in t for place in ("a-all", "a-air", "b-all") for t in receiver.tried(place))
    server.cli("account", "erase", "ann")
    wait_for("hers to go", lambda: len(server.cli("webhook", "list")["webhooks"]) == 1, PATIENCE)
    assert "a-all" not in (server.data / "sinks" / "webhooks.json").read_text()


def test_none_is_lost_whatever_is_killed(make, receiver):
    """Three endpoints of one account: one well, one that often fails, one that is away for a while."""
    server = make()
    owner = owner_on(server, "joe")
    feed_of(owner, "n")
    hooks = [hook_on(server, receiver, "joe", f"k{i}", "--events-max", str(1 + 9 * i)) for i in range(3)]
    with Sender(owner) as sender:
        for round in range(4):
            seen = len(values(receiver, "k0"))
            receiver.rule("k1", status=500 + round)
            wait_for("messages to come", lambda: len(values(receiver, "k0")) > seen + 60, PATIENCE)
            server.kill()
            if round == 1:
                receiver.kill()
            server.start()
            receiver.start()
    receiver.rule("k1")
    for i, hook in enumerate(hooks):
        server.cli("webhook", "resume", hook)
        k = drained(server, hook)
        numbers = [int(v) for v in values(receiver, f"k{i}")]
        assert sender.accepted <= set(numbers) <= set(range(sender.sent)), f"webhook {i}: some are missing"
        assert k["gaps"] == 0
        tried = [t["id"] for t in receiver.tried(f"k{i}")]
        print(f"k{i}: {len(numbers)} messages, {len(tried)} requests, {len(tried) - len(set(tried))} repeated")


def test_many_that_hang_hold_up_none_that_do_not(make, receiver):
    """More than there are connections."""
    server = make(connections="8", account_max="40", timeout="2s")
    owner = owner_on(server, "pat")
    feed_of(owner, "t")
    for i in range(30):
        hook_on(server, receiver, "pat", "hangs")
    well = hook_on(server, receiver, "pat", "well")
    receiver.rule("hangs", wait=30)
    try:
        send(owner, "t", {"value": "first"})
        drained(server, well)
        wait_for("them to fail", lambda: json.loads(server.operator("/v1/status"))["webhooks"]["failing"] >= 30, PATIENCE, 0.2)
        begun = time.monotonic()
        for i in range(40):
            send(owner, "t", {"value": f"{i}"})
        drained(server, well)
        took = time.monotonic() - begun
        assert values(receiver, "well") == ["first", *map(str, range(40))]
        assert took < 15, f"{took:.1f} s"
    finally:
        receiver.rule("hangs")


def test_gone_and_back(make, receiver):
    server = make()
    owner = owner_on(server, "eve")
    feed_of(owner, "t")
    hook = hook_on(server, receiver, "eve", "gone")
    receiver.rule("gone", status=410, body="we moved")
    send(owner, "t", {"value": "1"})
    k = wait_for("it to be disabled", lambda: (k := server.cli("webhook", "show", hook))["state"] == "disabled" and k, PATIENCE)
    assert k["error"] == "HTTP 410: we moved"
    receiver.rule("gone")
    server.kill()
    server.start()
    send(owner, "t", {"value": "2"})
    k = server.cli("webhook", "show", hook)
    assert k["state"] == "disabled" and k["lag"] >= 2 and not values(receiver, "gone")
    assert server.cli("webhook", "test", hook)["taken"]
    assert server.cli("webhook", "resume", hook)["state"] == "running"
    drained(server, hook)
    assert values(receiver, "gone") == ["1", "2"]
    log = server.cli("webhook", "log", hook)["attempts"]
    assert log[0]["taken"] and "offset" not in log[-1]  # the test came first
    server.cli("webhook", "replay", hook)  # both may be there again before the command is
    wait_for("both again", lambda: [v for _, e in receiver.events("gone") if e["type"] != "webhook.test"
                                    for _, v, _ in values_of(e)] == [b"1", b"2", b"1", b"2"], PATIENCE)
    drained(server, hook)
    receiver.rule("gone", refuse=["3"])
    send(owner, "t", {"value": "3"}, {"value": "4"})
    assert drained(server, hook)["owed"] == 1
    receiver.rule("gone")
    server.cli("webhook", "retry", hook)
    wait_for("it to go", lambda: server.cli("webhook", "show", hook)["owed"] == 0, PATIENCE)
    assert values(receiver, "gone") == ["1", "2", "3", "4"]
    ops = [e["op"] for e in server.cli("audit", "list")["entries"]]
    assert [op for op in ops if op.startswith("webhook")] == [
        "webhook_retry", "webhook_replay", "webhook_resume", "webhook_test", "webhook_add"]


def test_a_new_secret_has_no_gap(make, receiver):
    server = make()
    owner = owner_on(server, "kim")
    feed_of(owner, "t")
    known = json.loads((receiver.home / "secrets").read_text())
    hook = hook_on(server, receiver, "kim", "rotated")
    old = json.loads((receiver.home / "secrets").read_text())[-1]
    new = server.cli("webhook", "rotate", hook)["signing_secret"]
    assert new != old and new.startswith("whsec_")
    for secret, value in ((old, "1"), (new, "2")):
        receiver.accept_secrets(*known, secret)
        send(owner, "t", {"value": value})
        drained(server, hook)
    server.cli("webhook", "rotate", hook)
    newest = server.cli("webhook", "rotate", hook)["signing_secret"]
    send(owner, "t", {"value": "3"})
    wait_for("it to be told", lambda: "401" in server.cli("webhook", "show", hook).get("error", ""), PATIENCE)
    receiver.accept_secrets(*known, newest)
    drained(server, hook)
    assert values(receiver, "rotated") == ["1", "2", "3"]
    assert not any(secret[6:] in server.log() for secret in (old, new, newest))
    assert new[6:] not in json.dumps(server.cli("audit", "list"))
    assert os.stat(server.data / "sinks" / "webhooks.json").st_mode & 0o007 == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "169.254.169.254"])
def test_private_addresses_must_be_allowed(make_server, receiver, host):
    server = make_server({"webhooks.retry_max": "300ms"})
    owner = owner_on(server, "ann")
    feed_of(owner, "t")
    made = server.cli("webhook", "add", "ann", f"http://{host}:{receiver.port}/private")
    tested = server.cli("webhook", "test", str(made["webhook"]))
    assert not tested["taken"] and "its address is not on the internet" in tested["said"]
    send(owner, "t", {"value": "1"})
    wait_for("it to be told", lambda: "not on the internet" in server.cli(
        "webhook", "show", str(made["webhook"])).get("error", ""), PATIENCE)
    assert not receiver.tried("private")


def test_what_cannot_be_is_refused(make):
    server = make(account_max="2", enabled="true")
    server.add_account("ann")
    good = "https://hooks.example.org/x"
    for args, why in ((("add", "ann", "ftp://example.org/"), "url: it must begin with https://"),
                      (("add", "ann", "https://u:hidden@example.org/"), "no user and no password"),
                      (("add", "nobody", good), "no account"),
                      (("add", "ann", good, "--order", "any"), "order must be none or feed"),
                      (("add", "ann", good, "--events-max", "1001"), "events_max"),
                      (("show", "77"), "no webhook 77"), (("remove", "x"), "webhook")):
        with pytest.raises(CliError) as e:
            server.cli("webhook", *args)
        assert why in str(e.value), args
    for _ in range(2):
        server.cli("webhook", "add", "ann", good)
    with pytest.raises(CliError) as e:
        server.cli("webhook", "add", "ann", good)
    assert "2 of this account" in str(e.value)
    hook = str(server.cli("webhook", "list")["webhooks"][0]["webhook"])
    changed = server.cli("webhook", "change", hook, "--feeds", "a,b*", "--order", "feed", "--events-max", "7")
    assert (changed["url"], changed["feeds"], changed["order"], changed["events_max"]) == (good, "a,b*", "feed", 7)
    assert server.cli("webhook", "change", hook, "--url", good + "y")["feeds"] == "a,b*"
    assert server.cli("webhook", "pause", hook)["state"] == "paused"
    server.kill()
    server.start()
    shown = server.cli("webhook", "show", hook)
    assert (shown["state"], shown["url"], shown["events_max"]) == ("paused", good + "y", 7)
    assert server.cli("webhook", "remove", hook)["webhook"] == int(hook)
    assert len(server.cli("webhook", "list")["webhooks"]) == 1
    assert "hidden" not in server.log()


def test_made_by_an_accounts_own_key(make, receiver):
    """Without an operator: its own webhooks and rules, and nobody else's, whatever it asks."""
    server = make()
    ann, bob = owner_on(server, "ann"), owner_on(server, "bob")
    for owner in (ann, bob):
        feed_of(owner, "air")

    def ask(who, path, **args):
        auth = who if isinstance(who, dict) else who.key_auth
        if path.split("/")[1] in ("list", "show", "log"):
            return requests.get(f"{server.url}/v1/{path}", params=args, headers=auth, timeout=20)
        return requests.post(f"{server.url}/v1/{path}", json=args, headers=auth, timeout=20)

    url = f"http://127.0.0.1:{receiver.port}/own"
    made = ask(ann, "webhook/add", url=url, feeds="none")
    assert made.status_code == 200 and made.json()["account"] == "ann", made.text
    receiver.accept_secrets(*json.loads((receiver.home / "secrets").read_text()), made.json()["signing_secret"])
    hook = made.json()["webhook"]
    rule = ask(ann, "rule/add", feed="air", when="above 30", webhook=hook)
    assert rule.status_code == 200, rule.text
    send(ann, "air", {"value": "31"})
    drained(server, str(hook))
    got, = (json.loads(v) for v in values(receiver, "own"))
    assert (got["value"], got["feed"], got["rule"]) == ("31", "air", rule.json()["rule"])
    assert not any("unsigned" in t for t in receiver.tried("own"))
    assert ask(ann, "webhook/test", webhook=hook).json()["status"] == 200 and ask(ann, "webhook/log", webhook=hook).json()["attempts"]
    assert [k["webhook"] for k in ask(ann, "webhook/list").json()["webhooks"]] == [hook]
    # Another account sees and changes nothing of that; nor does it make anything in it.
    theirs = ask(bob, "webhook/add", url=url).json()["webhook"]
    assert [k["webhook"] for k in ask(bob, "webhook/list").json()["webhooks"]] == [theirs]
    for verb in ("show", "change", "remove", "pause", "resume", "rotate", "replay", "retry", "test", "log"):
        r = ask(bob, f"webhook/{verb}", webhook=hook)
        assert r.status_code == 404 and "ann" not in r.text, (verb, r.text)
    assert ask(bob, "rule/list").json()["rules"] == []
    for verb in ("remove", "test"):
        assert ask(bob, f"rule/{verb}", rule=rule.json()["rule"]).status_code == 404
    assert ask(bob, "webhook/list", account="ann").status_code == 403
    assert ask(bob, "webhook/add", account="ann", url=url).status_code == 403
    assert ask(bob, "rule/add", account="ann", feed="air", when="change").status_code == 403
    assert ask(bob, "rule/add", feed="air", when="change", webhook=hook).status_code == 404
    assert ask(bob, "rule/add", account="bob", feed="air", when="change").status_code == 200
    # Not with less than the role of the account's owner, nor bound to feeds or topics.
    roles = (("writer", {}), ("reader", {}), ("owner", {"--feeds": "air"}))
    for role, more in roles:
        key = server.cli("key", "add", "ann", f"k-{role}", "--role", role, *[x for kv in more.items() for x in kv])["key"]
        for path in ("webhook/list", "rule/list", "webhook/add"):
            assert ask({"X-AIO-Key": key}, path, url=url).status_code == 403, role
    server.cli("role", "add", "narrow", "automate,data_read,data_write", "--subscribe", "x/#")
    key = server.cli("key", "add", "ann", "narrow", "--role", "narrow")["key"]
    assert ask({"X-AIO-Key": key}, "webhook/list").status_code == 403
    assert ask({}, "webhook/list").status_code == 401
    for path, status in (("webhook/none", 404), ("webhook/add/more", 404), ("rule/none", 404)):
        assert ask(ann, path).status_code == status
    assert requests.get(f"{server.url}/v1/webhook/add", headers=ann.key_auth, timeout=20).status_code == 405
    assert ask(ann, "webhook/add", url="gopher://x").status_code == 400
    # Who did it is in the audit log.
    lines = server.cli("audit", "list", "--account", "ann")["entries"]
    assert any("webhook_add" in json.dumps(line) and "key:ann/main" in json.dumps(line) for line in lines), lines
    assert ask(ann, "rule/remove", rule=rule.json()["rule"]).status_code == 200
    assert ask(ann, "webhook/remove", webhook=hook).status_code == 200


def test_own_commands_leave_room_for_operators(make, receiver):
    """A test that hangs is cut short, and one at a time: what an operator asks is done meanwhile."""
    server = make(timeout="30s")
    ann = owner_on(server, "ann")
    receiver.rule("hangs-own", wait=60)
    try:
        hook = requests.post(f"{server.url}/v1/webhook/add", json={"url": f"http://127.0.0.1:{receiver.port}/hangs-own"},
                             headers=ann.key_auth, timeout=20).json()["webhook"]
        answers = []
        test = lambda: answers.append(requests.post(f"{server.url}/v1/webhook/test", json={"webhook": hook},
                                                    headers=ann.key_auth, timeout=60).status_code)
        threads = [threading.Thread(target=test) for _ in range(12)]
        for t in threads:
            t.start()
        time.sleep(0.5)
        begun = time.monotonic()
        assert server.cli("account", "show", "ann")["name"] == "ann"
        assert time.monotonic() - begun < 8
        for t in threads:
            t.join(30)
        assert sorted(set(answers)) == [200, 503] and answers.count(503) >= 6, answers
    finally:
        receiver.rule("hangs-own")
