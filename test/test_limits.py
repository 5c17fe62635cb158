# SPDX-License-Identifier: Apache-2.0
"""Limits of every kind, from a plan through HTTP: buckets, bytes, shadows."""
import time

import pytest
import requests

TARGET = "/v1/telemetry"


def post(server, auth, body=None):
    return requests.post(server.url + TARGET, json=body or {"t": 1}, headers=auth, timeout=30)


def planned(s, limits, name="a", device_limits=""):
    """An account of its own on a plan of its own; its key."""
    args = ["--device-limits", device_limits] if device_limits else []
    s.cli("plan", "add", f"plan-{name}", "--limits", limits, *args)
    s.cli("account", "add", name, "--plan", f"plan-{name}")
    return {"X-AIO-Key": s.add_key(name)}


@pytest.mark.parametrize("limits", [
    "rolling 6/3s", "6/3s, accepted", "token_bucket 6/3s", "leaky_bucket 6/3s", "token_bucket 6B/3s, 1000/1s",
    "leaky_bucket 6B/3s", "6B/3s"])
def test_who_comes_back_as_told_is_let_in(server, limits):
    name = "r" + str(abs(hash(limits)) % 10**9)
    auth = planned(server, limits, name)
    refusals = 0
    for _ in range(10):
        r = post(server, auth)
        if r.status_code == 429:
            refusals += 1
            assert f"{name} data rate limit reached, " in r.json()["error"]
            wait = int(r.headers["retry-after"])
            assert 1 <= wait <= 4
            time.sleep(wait)
            r = post(server, auth)
        assert r.status_code == 202
    assert refusals >= 1


def test_a_token_bucket_bursts_and_a_leaky_one_paces(server):
    token = planned(server, "token_bucket 5/3600s", "bursts")
    assert [post(server, token).status_code for _ in range(7)] == [202] * 5 + [429] * 2
    leaky = planned(server, "leaky_bucket 5/3600s", "paces")
    assert post(server, leaky).status_code == 202
    r = post(server, leaky)
    assert r.status_code == 429 and 700 <= int(r.headers["retry-after"]) <= 720
    batch = planned(server, "leaky_bucket 5/3600s", "batch")
    assert post(server, batch, [{"t": i} for i in range(4)]).status_code == 202
    r = post(server, batch)
    assert r.status_code == 429 and 2800 <= int(r.headers["retry-after"]) <= 2880


def test_bytes_are_those_of_the_values(server):
    auth = planned(server, "100/3600s, 100B/3600s", "bytes", "1000/60s")
    body = {"long-name-of-a-feed": "x" * 40}
    assert [post(server, auth, body).status_code for _ in range(2)] == [202] * 2
    r = post(server, auth, body)
    assert r.status_code == 429
    policy = r.headers["ratelimit-policy"]
    assert '"account";q=100;w=3600' in policy and '"account";q=100;qu="content-bytes";w=3600' in policy
    assert '"account";r=0;t=' in r.headers["ratelimit"] or '"account";r=20;t=' in r.headers["ratelimit"]
    # More than the limit ever lets through: told by name, and without a time to come back.
    r = post(server, planned(server, "100/3600s, 100B/3600s", "larger"), {"t": "x" * 101})
    assert r.status_code == 413 and "retry-after" not in r.headers
    assert "the account's limit is 100B/1h" in r.json()["error"]


def test_changes_weigh_what_they_store(server):
    """16 bytes for which datum it is, and those of the value that they bring."""
    key = planned(server, "1000/3600s, 1000B/3600s", "changes", "1000/60s")
    url = f"{server.url}/api/v2/changes/feeds/f/data"

    def used():
        return {one["limit"]: one for one in server.cli("throttle", "explain", "changes")["limits"]}["1KB/1h"]["used"]

    assert requests.post(server.url + "/api/v2/changes/feeds", json={"name": "f"}, headers=key, timeout=20).status_code == 201
    ids = [requests.post(url, json={"value": "x" * 10}, headers=key, timeout=20).json()["id"] for _ in range(3)]
    assert used() == 30
    weighs = 30
    for kwargs, weight in (({"json": {"value": "y" * 100}}, 116), ({"json": {"lat": 1, "lon": 2}}, 16),
                           ({"data": {"datum[value]": "z" * 50}}, 66), ({"data": "a,1,2\r\n", "type": "text/csv"}, 17)):
        headers = {**key, "Content-Type": kwargs.pop("type")} if "type" in kwargs else key
        r = requests.patch(f"{url}/{ids[0]}", headers=headers, timeout=20, **kwargs)
        assert r.status_code == 200, r.text
        weighs += weight
        assert used() == weighs, kwargs
    assert requests.delete(f"{url}/{ids[1]}", headers=key, timeout=20).status_code == 200
    assert used() == weighs + 16
    # What is not understood weighs as one that brings nothing, and so does one that is not there.
    assert requests.put(f"{url}/{ids[0]}", data="{", headers=key, timeout=20).status_code == 422
    assert requests.delete(f"{url}/{'0' * 26}", headers=key, timeout=20).status_code == 404
    assert used() == weighs + 48
    # Beyond the limit nothing changes.
    r = requests.put(f"{url}/{ids[0]}", json={"value": "v" * 900}, headers=key, timeout=20)
    assert r.status_code == 429 and int(r.headers["retry-after"]) > 3000
    assert requests.get(f"{url}/{ids[0]}", headers=key, timeout=20).json()["value"] == "a"
    assert requests.put(f"{url}/{ids[0]}", json={"value": "v" * 985}, headers=key, timeout=20).status_code == 413
    assert requests.delete(f"{url}/{ids[2]}", headers=key, timeout=20).status_code == 429
    assert requests.get(f"{url}/{ids[2]}", headers=key, timeout=20).status_code == 200


def test_a_shadow_refuses_nothing_and_is_counted(server):
    auth = planned(server, "1000/60s, shadow 3/60s, shadow token_bucket 5B/60s", "shadow")
    before = server.metric("throttle_shadow_refused_total")
    answers = [post(server, auth) for _ in range(8)]
    assert {r.status_code for r in answers} == {202}
    assert server.metric("throttle_shadow_refused_total") - before == 5
    hard = planned(server, "2/60s, shadow 1/60s", "hard")
    r = [post(server, hard) for _ in range(3)][-1]
    assert r.status_code == 429 and r.headers["ratelimit-policy"] == '"account";q=2;w=60'


def test_limits_are_shown_as_they_are(server):
    limits = "shadow token_bucket 1MB/1m, leaky_bucket 10/1s"
    server.cli("plan", "add", "shown", "--limits", limits)
    server.cli("account", "add", "shown", "--plan", "shown")
    assert server.cli("account", "show", "shown")["limits"] == limits
    said = server.cli_run("plan", "add", "wrong", "--limits", "60/60s, bucket 5/1s")
    assert said.returncode != 0 and "limits:" in said.stderr and "bucket 5/1s" in said.stderr


def test_explain_tells_what_refused_whom(server):
    planned(server, "1000/60s, 100KB/60s, shadow leaky_bucket 4/3600s", "told", "3/60s")
    auths = server.add_devices("told", [("told-1", None, None), ("told-2", None, None)])
    began = time.time() * 1000
    assert [post(server, auths[0]).status_code for _ in range(5)] == [202] * 3 + [429] * 2
    assert post(server, auths[1]).status_code == 202
    told = server.cli("throttle", "explain", "told")
    assert told["account"] == "told" and "device" not in told
    limits = {one["limit"]: one for one in told["limits"]}
    assert limits["1000/1m"]["used"] == 6 and limits["1000/1m"]["frees_in_ms"] == 0  # refused tries count
    assert limits["100KB/1m"]["used"] == 6 and not limits["100KB/1m"]["shadow"]
    shadow = limits["shadow leaky_bucket 4/1h"]
    assert shadow["shadow"] and 0 < shadow["frees_in_ms"] <= 900000
    refused = {(r["credential"], r["by"], r["limit"], r["shadow"]): r for r in told["refused"]}
    assert refused[("told-1", "device", "3/1m", False)]["count"] == 2
    assert refused[("told-1", "account", "shadow leaky_bucket 4/1h", True)]["count"] == 4
    assert refused[("told-2", "account", "shadow leaky_bucket 4/1h", True)]["count"] == 1
    assert all(began - 2000 <= r["first_ms"] <= r["last_ms"] <= time.time() * 1000 + 2000 for r in told["refused"])
    one = server.cli("throttle", "explain", "told-1")
    assert one["device"] == "told-1" and {r["credential"] for r in one["refused"]} == {"told-1"}
    own = [limit for limit in one["limits"] if limit["of"] == "device"]
    assert own[0]["used"] == 3 and 0 < own[0]["frees_in_ms"] <= 60000
    assert server.cli_run("throttle", "explain", "nobody").returncode != 0


def test_explain_tells_who_uses_a_busy_account(server):
    planned(server, "40/60s", "busy", "1000/60s")
    auths = server.add_devices("busy", [(f"busy-{i}", None, None) for i in range(25)])
    for i in range(25):
        post(server, auths[i])
    for _ in range(50):
        post(server, auths[7])
    told = server.cli("throttle", "explain", "busy")
    assert told["users"][0]["credential"] == "busy-7" and told["users"][0]["tries"] >= 12
    assert len(told["users"]) <= 20
    refused = {r["by"]: r["count"] for r in told["refused"] if r["credential"] == "busy-7"}
    assert set(refused) == {"share", "quarantine"} and sum(refused.values()) >= 30, refused
