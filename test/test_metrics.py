# SPDX-License-Identifier: Apache-2.0
"""What operators see: metrics, health, status. And what nobody may see: secrets."""
import json
import re
import subprocess
from pathlib import Path

import pytest
import requests

from conftest import owner_on
from harness import ROOT
from wire import Wire, basic, request


def test_promtool_likes_the_metrics(server, owner):
    requests.post(server.url + "/v1/telemetry", json={"t": 1}, headers=owner.auth, timeout=10)
    run = subprocess.run(["promtool", "check", "metrics"], input=server.operator("/metrics"), text=True,
                         capture_output=True, timeout=20)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_metric_of_the_table_is_there(server):
    text = server.operator("/metrics")
    table = (ROOT / "src/base/metrics.def").read_text()
    suffix = {"COUNTER": "_total", "GAUGE": "", "HISTOGRAM": "_seconds"}
    names = re.findall(r"^(COUNTER|GAUGE|HISTOGRAM)\((\w+),", table, re.M)
    assert len(names) > 30
    for kind, name in names:
        assert re.search(rf"^# TYPE sluice_{name}{suffix[kind]} ", text, re.M), name


def test_counters_count(server, owner):
    before = server.metrics()
    for _ in range(5):
        requests.post(server.url + "/v1/telemetry", json=[{"t": 1}, {"t": 2}], headers=owner.auth, timeout=10)
    requests.post(server.url + "/v1/telemetry", json={"t": 1}, timeout=10)
    requests.post(server.url + "/v1/telemetry", data="{", headers=owner.auth, timeout=10)
    after = server.metrics()

    def grown(name):
        return after[f"sluice_{name}"] - before[f"sluice_{name}"]

    assert grown("messages_accepted_total") == 10
    assert grown("auth_refused_total") >= 1
    assert grown("shape_refused_total") == 1
    assert 1 <= grown("journal_commits_total") <= 10
    assert grown("journal_records_total") >= 10
    assert grown("http_requests_total") >= 7
    assert grown("accept_latency_seconds_count") == 5
    for name, value in before.items():
        if name.endswith("_total"):
            assert after[name] >= value, name


def test_refusals_are_counted_by_reason(server, owner):
    requests.post(server.url + "/v1/telemetry", data="{", headers=owner.auth, timeout=10)
    assert server.metrics()['sluice_refusals_total{reason="bad_body"}'] >= 1


def test_health(server):
    for path in ("/healthz", "/readyz"):
        r = requests.get(server.operator_url + path, timeout=10)
        assert r.status_code == 200
    status = json.loads(server.operator("/v1/status"))
    assert status["version"] and "journal" in status
    assert requests.get(server.operator_url + "/nowhere", timeout=10).status_code == 404


def test_the_listeners_serve_different_things(server, owner):
    for path in ("/metrics", "/v1/status"):
        assert requests.get(server.url + path, headers=owner.key_auth, timeout=10).status_code == 404
    r = requests.post(server.operator_url + "/v1/telemetry", json={"t": 1}, headers=owner.auth, timeout=10)
    assert r.status_code in (404, 405)


def test_operator_listener_can_be_turned_off(make_server):
    server = make_server({"listen.operator": ""}, start=False)
    server.spawn()
    from harness import wait_for

    def up():
        try:
            return requests.get(server.url + "/", timeout=2).status_code == 404
        except requests.ConnectionError:
            return False

    wait_for("the listener", up)
    with pytest.raises(requests.ConnectionError):
        requests.get(server.operator_url + "/metrics", timeout=2)


CANARY = "canary7f3a9"


def test_secrets_are_seen_nowhere(make_server):
    """Secrets of every kind, right and wrong, in every place they can be sent; then look everywhere."""
    server = make_server({"server.log_level": "debug"})
    owner = owner_on(server, "a")
    server.add_device("a", "weak", "--secret", CANARY + "-weak", "--bcrypt")
    told = [owner.key, owner.secret]
    for auth in ({"X-Device-Id": "weak", "X-Device-Token": CANARY + "-weak"},
                 {"X-Device-Id": "weak", "X-Device-Token": CANARY + "-wrong"},
                 {"X-Device-Id": CANARY + "-as-id", "X-Device-Token": CANARY},
                 {"X-AIO-Key": CANARY + "-key"}, {"X-AIO-Key": owner.key}, owner.auth,
                 basic("weak", CANARY + "-weak"), basic("a", CANARY), basic("a", owner.key),
                 {"Authorization": "Bearer " + CANARY}, {"Cookie": CANARY}):
        requests.post(server.url + "/v1/telemetry", json={"t": 1}, headers=auth, timeout=10)
        requests.post(server.url + "/v1/telemetry", data=CANARY + "{", headers=auth, timeout=10)
    requests.get(f"{owner.url}/feeds?x-aio-key={CANARY}", timeout=10)
    requests.get(f"{server.url}/{CANARY}?x-aio-key={owner.key}", timeout=10)
    with Wire(server.http_port) as w:
        w.send(b"GET / HTTP/1.1\r\nX-AIO-Key: " + CANARY.encode() + b"\nX\r\n\r\n")
        w.rest()
    with Wire(server.http_port) as w:
        w.ask(request("POST", "/v1/telemetry", {"X-Device-Token": CANARY}, b"x" * 10))

    places = {"stderr": server.log(), "/metrics": server.operator("/metrics"),
              "/v1/status": server.operator("/v1/status"),
              "config show": server.cli_run("config", "show").stdout,
              "device list": server.cli_run("device", "list", "a", "--json").stdout,
              "key list": server.cli_run("key", "list", "a", "--json").stdout,
              "account list": server.cli_run("account", "list", "--json").stdout,
              "command line": Path(f"/proc/{server.pid}/cmdline").read_text()}
    assert all(places.values()), [name for name, text in places.items() if not text]
    server.stop()
    places["stderr"] = server.log()
    for name, text in places.items():
        assert CANARY not in text, name
        assert not any(secret in text for secret in told), name
        assert "$2b$" not in text, name
    # Nor on disk: only verifiers are kept.
    for path in server.data.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert CANARY.encode() + b"-weak" not in data, path
            assert not any(secret.encode() in data for secret in told), path


def test_files_are_not_for_others(server):
    for path in [server.data, *server.data.iterdir()]:
        assert path.stat().st_mode & 0o007 == 0 or not path.is_dir(), path
    assert (server.data / "catalog.db").stat().st_mode & 0o077 == 0
    assert (server.data / "admin.sock").stat().st_mode & 0o007 == 0
