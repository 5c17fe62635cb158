# SPDX-License-Identifier: Apache-2.0
"""Webhooks of accounts, made by command or over HTTP: each at its own pace, and nothing lost."""
import json
import os
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
    assert server.cli("webhook", "replay", hook)["lag"] > 0
    drained(server, hook)
    assert [v for _, e in receiver.events("gone") if e["type"] != "webhook.test" for _, v, _ in values_of(e)] == [
        b"1", b"2", b"1", b"2"]
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
