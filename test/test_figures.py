# SPDX-License-Identifier: Apache-2.0
"""The server's own figures as feeds of an account that only the server writes to."""
import json
import time

import pytest
import requests

from conftest import owner_on
from harness import wait_for
from mqtt_wire import PUBACK, Mqtt, subscribe
from test_rules import fired, rule
from test_webhooks import hook_on

PATIENCE = 60
OWN = {"commit-p99", "disk-free", "hash-queue", "refusals"}


def feeds(server, key, account="sluice"):
    r = requests.get(f"{server.url}/api/v2/{account}/feeds", headers={"X-AIO-Key": key}, timeout=20)
    assert r.status_code == 200, r.text
    return {f["key"]: f for f in r.json()}


def newest(server, key, feed, account="sluice"):
    r = requests.get(f"{server.url}/api/v2/{account}/feeds/{feed}/data/last", headers={"X-AIO-Key": key}, timeout=20)
    return r.json().get("value") if r.status_code == 200 else None


def test_they_are_written(make_server):
    server = make_server({"system.figures": "true", "system.interval": "1s"})
    key = server.cli("key", "add", "sluice", "dashboard", "--role", "reader")["key"]
    assert set(feeds(server, key)) == OWN  # at once
    with Mqtt(server.mqtt_port, 5) as seen:
        seen.login("sluice", key, "seen")
        assert subscribe(seen, ("sluice/feeds/+", 1)) == [1]
        topics = {seen.message()[0] for _ in range(len(OWN))}
    assert topics == {f"sluice/feeds/{name}" for name in OWN}
    values = {name: float(newest(server, key, name)) for name in OWN}
    assert 0 < values["disk-free"] <= 100 and 0 <= values["commit-p99"] < 60000 and values["hash-queue"] == 0
    for _ in range(10):
        assert requests.get(f"{server.url}/api/v2/user", headers={"X-AIO-Key": "wrong" * 6}, timeout=20).status_code in (401, 429, 503)
    wait_for("the refusals to be told", lambda: max(
        float(d["value"]) for d in requests.get(f"{server.url}/api/v2/sluice/feeds/refusals/data",
                                                headers={"X-AIO-Key": key}, timeout=20).json()) >= 1, PATIENCE)
    before = server.metric("figures_stored_total")
    server.kill()
    server.start()
    wait_for("more", lambda: server.metric("figures_stored_total") >= len(OWN), PATIENCE)
    assert before >= len(OWN) and server.metric("figures_refused_total") == 0
    assert set(feeds(server, key)) == OWN


def test_nobody_else_writes_there(make_server):
    server = make_server({"system.figures": "true", "system.interval": "1h", "system.account": "self"})
    key = server.cli("key", "add", "self", "owner")["key"]  # may do all in its account
    auth = {"X-AIO-Key": key}
    base = f"{server.url}/api/v2/self"
    for method, path, body in (("post", "feeds/disk-free/data", {"value": 1}), ("post", "feeds", {"name": "own"}),
                               ("delete", "feeds/disk-free", None), ("put", "feeds/disk-free", {"name": "x"}),
                               ("post", "groups", {"name": "g"})):
        r = requests.request(method, f"{base}/{path}", json=body, headers=auth, timeout=20)
        assert r.status_code == 403, (path, r.text)
    r = requests.post(f"{server.url}/v1/telemetry", json={"disk-free": 1}, headers=auth, timeout=20)
    assert r.status_code == 403
    with Mqtt(server.mqtt_port, 5) as c:
        c.login("self", key, "c")
        c.publish("self/feeds/disk-free", "1", qos=1, mid=3)
        assert c.code(PUBACK, 3) == 0x87
    assert set(feeds(server, key, "self")) == OWN
    other = owner_on(server, "other")  # of others nothing changes
    r = requests.post(f"{other.url}/feeds/x/data", json={"value": 1}, headers=other.key_auth, timeout=20)
    assert r.status_code in (200, 404)
    assert requests.post(f"{server.url}/v1/telemetry", json={"x": 1}, headers=other.auth, timeout=20).status_code == 202


def test_off_there_is_nothing(make_server):
    server = make_server()
    assert server.cli("account", "list")["accounts"] == []
    with pytest.raises(Exception, match="no account"):
        server.cli("key", "add", "sluice", "x")


def test_a_webhook_when_a_sink_lags(make_server, receiver):
    """docs/rules.md, but for the times."""
    (receiver.home / "away").write_text("whsec_" + "a" * 32)
    server = make_server({"system.figures": "true", "system.interval": "1s", "webhooks.allow": "127.0.0.0/8",
                          "webhook.url": "http://127.0.0.1:1/away", "webhook.allow": "127.0.0.0/8",
                          "webhook.secret_file": str(receiver.home / "away")})
    hook = hook_on(server, receiver, "sluice", "ops", "--feeds", "none")
    number = server.cli("rule", "add", "sluice", "lag-webhook", "above 2 clear 1", "--webhook", hook)["rule"]
    owner = owner_on(server, "devices")
    assert requests.post(f"{server.url}/v1/telemetry", json={"x": 1}, headers=owner.auth, timeout=20).status_code == 202
    fired(server, number, 1)
    event = wait_for("the event", lambda: list(receiver.events("ops")), PATIENCE)[0][1]
    told = json.loads(event["data"]["value"])
    assert told["feed"] == "lag-webhook" and float(told["value"]) > 2 and told["account"] == "sluice"
    time.sleep(3)
    assert rule(server, number)["fired"] == 1 and rule(server, number)["state"] == "tripped"
