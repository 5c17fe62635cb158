# SPDX-License-Identifier: Apache-2.0
"""Settings read again while the server runs: by SIGHUP, `sluice reload` and the admin API."""
import concurrent.futures
import json
import os
import signal
import threading

import pytest
import requests

from harness import CliError, Server, WIDE, wait_for


@pytest.fixture
def fleet(tmp_path):
    """A server started with a settings file, and a way to rewrite that."""
    path = tmp_path / "sluice.yaml"
    path.write_text("throttle:\n  address: \"\"\n")
    server = Server(tmp_path / "home", config=path)
    server.start()
    server.file = path
    server.add_account("ann")
    server.key = server.add_key("ann")
    made = requests.post(f"{server.url}/api/v2/ann/feeds", json={"name": "a"}, timeout=10,
                         headers={"X-AIO-Key": server.key})
    assert made.status_code < 300
    yield server
    server.close()


def ask(server, **headers):
    """A message: what limits count."""
    return requests.post(f"{server.url}/api/v2/ann/feeds/a/data", json={"value": 1}, timeout=10,
                         headers={"X-AIO-Key": server.key, **headers})


def lines(server, what):
    return [line for line in server.log().splitlines() if what in line]


def test_a_valid_file_takes_effect_before_the_command_returns(fleet):
    fleet.file.write_text("throttle:\n  address: 1/60s\nhttp:\n  cors_origin: https://a.example\n")
    answer = fleet.cli("reload")
    assert answer["at_next_start"] == []
    assert {c["setting"]: (c["before"], c["after"]) for c in answer["changed"]} == {
        "throttle.address": ("", "1/1m"), "http.cors_origin": ("*", "https://a.example")}
    got = ask(fleet, Origin="https://a.example")
    assert got.status_code == 200 and got.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert ask(fleet).status_code == 429
    fleet.file.write_text("throttle:\n  address: \"\"\n")
    fleet.cli("config", "reload")
    assert ask(fleet).status_code == 200
    # Nothing changed is an answer too.
    assert fleet.cli("reload")["changed"] == []


@pytest.mark.parametrize("text, where", [
    ("throttle:\n  address: 1/60s\nhttp:\n  idle_timeout: soon\n", ":4: http.idle_timeout: must be a length"),
    ("throttle:\n  address: 1/60s\n  adress: 2/1s\n", ":3: throttle.adress: there is no such setting"),
    ("throttle:\n  address: 1/60s\nlisten:\n  trusted_proxies: 10.0.0.0/8, ten\n",
     ":4: listen.trusted_proxies: \"ten\" is no network"),
    ("throttle:\n  address: 1/60s\nlisten:\n  http: everywhere\n", ":4: listen.http: \"everywhere\" is no address"),
    ("throttle: {address: 1/60s\n", ": this is not YAML"),
])
def test_a_mistake_changes_nothing(fleet, text, where):
    fleet.file.write_text(text)
    with pytest.raises(CliError) as refused:
        fleet.cli("reload")
    assert where in refused.value.stderr and str(fleet.file) in refused.value.stderr
    found = lines(fleet, "config.reload_failed")
    assert len(found) == 1 and where in found[0]
    for _ in range(3):
        assert ask(fleet).status_code == 200


def test_what_needs_a_start_is_named_each_time_and_waits(fleet):
    fleet.file.write_text("server:\n  workers: 1\nhttp:\n  body_max: 2KiB\nthrottle:\n  address: 1/60s\n")
    for changed in (["throttle.address"], []):
        answer = fleet.cli("reload")
        assert [c["setting"] for c in answer["changed"]] == changed
        assert [c["setting"] for c in answer["at_next_start"]][-1] == "http.body_max"
    assert lines(fleet, "config.at_next_start setting=http.body_max")
    fleet.file.write_text("http:\n  body_max: 2KiB\n")
    fleet.cli("reload")
    big = {"value": "x" * 3000}
    feed = f"{fleet.url}/api/v2/ann/feeds/a/data"
    send = lambda: requests.post(feed, json=big, headers={"X-AIO-Key": fleet.key}, timeout=10).status_code
    assert send() != 413
    fleet.stop()
    fleet.start()
    assert send() == 413


def test_sighup_reads_the_file_too(fleet):
    fleet.file.write_text("throttle:\n  address: 1/60s\n")
    os.kill(fleet.pid, signal.SIGHUP)
    wait_for("the reload", lambda: lines(fleet, "config.reloaded"))
    assert [ask(fleet).status_code for _ in range(2)] == [200, 429]
    fleet.file.write_text("nothing: 1\n")
    os.kill(fleet.pid, signal.SIGHUP)
    wait_for("the refusal", lambda: lines(fleet, "config.reload_failed"))
    assert ask(fleet).status_code == 429


def test_the_audit_log_is_told(fleet):
    fleet.file.write_text("ack:\n  timeout: 9s\n")
    fleet.cli("reload")
    fleet.stop()
    records = map(json.loads, fleet.cli_run("journal", "tail", "--json").stdout.splitlines())
    told = [json.loads(r["payload"]) for r in records if r["kind"] == "audit"]
    told = [r for r in told if r["op"] == "reload"]
    assert len(told) == 1 and told[0]["note"]["changed"] == [
        {"setting": "ack.timeout", "before": "5s", "after": "9s"}]


def test_no_request_fails_while_settings_change(fleet):
    """Four readers on their own connections, two who reload by command and signal, all at once."""
    done = threading.Event()

    def read():
        count = 0
        with requests.Session() as session:
            while not done.is_set():
                got = session.get(f"{fleet.url}/api/v2/user", timeout=10,
                                  headers={"X-AIO-Key": fleet.key, "Origin": "https://b.example"})
                assert got.status_code == 200
                assert got.headers["Access-Control-Allow-Origin"] in ("*", "https://" + "a" * 200)
                count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for i in range(12):
                new = fleet.file.with_suffix(".new")
                new.write_text("http:\n  cors_origin: https://" + "a" * 200 + "\n" if i % 2 else
                               f"throttle:\n  address: {WIDE}\nlisten:\n  trusted_proxies: 10.{i}.0.0/16\n")
                new.rename(fleet.file)
                os.kill(fleet.pid, signal.SIGHUP)
                for command in [pool.submit(fleet.cli, "reload") for _ in range(2)]:
                    command.result()
        finally:
            done.set()
        assert all(r.result() > 0 for r in readers)
    assert not lines(fleet, "config.reload_failed")


def test_without_a_file_or_a_server(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        with pytest.raises(CliError) as refused:
            server.cli("reload")
        assert "without --config" in refused.value.stderr
        server.stop()
        with pytest.raises(CliError) as refused:
            server.cli("reload")
        assert "no server runs" in refused.value.stderr
    finally:
        server.close()


def test_a_sink_connects_as_before_after_a_reload(tmp_path):
    path = tmp_path / "sluice.yaml"
    absent = tmp_path / "absent"
    path.write_text(f'postgres:\n  url: "host=127.0.0.1 port=1"\n  password_file: {absent}\n  retry_max: 200ms\n')
    server = Server(tmp_path / "home", config=path).start()

    def sink():
        return json.loads(server.operator("/v1/status"))["sinks"]["postgres"]

    server.cli("reload")
    before = sink()["failures"]
    wait_for("another attempt", lambda: sink()["failures"] > before + 1)
    assert str(absent) in sink()["error"]
    server.close()
