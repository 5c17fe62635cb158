# SPDX-License-Identifier: Apache-2.0
"""The command line: accounts, keys and devices, with a server and without one; settings."""
import json
import re
import subprocess

import pytest
import requests

from harness import BIN, CliError, device_auth


def run(*args, **rest):
    return subprocess.run([BIN, *args], capture_output=True, text=True, timeout=60, **rest)


def post(server, auth):
    return requests.post(server.url + "/v1/telemetry", json={"t": 1}, headers=auth, timeout=10).status_code


def test_usage():
    assert run("--help").returncode == 0 and "serve" in run("--help").stdout
    assert re.search(r"\d+\.\d+\.\d+", run("--version").stdout)
    for args in ([], ["no-such-command"], ["account"], ["account", "add"], ["serve", "--no-such-flag"],
                 ["device", "add", "only-one"]):
        wrong = run(*args)
        assert wrong.returncode not in (0, -6, -11), args
        assert wrong.stderr.strip(), args


@pytest.mark.parametrize("command", ["serve", "account", "key", "device", "config", "load"])
def test_every_command_explains_itself(command):
    r = run(command, "--help")
    assert r.returncode == 0 and command in r.stdout


def life(server):
    """The same commands, whoever executes them: the running server, or the command itself."""
    server.cli("account", "add", "ann")
    assert "ann" in json.dumps(server.cli("account", "list"))
    with pytest.raises(CliError) as e:
        server.cli("account", "add", "ann")
    assert "ann" in e.value.stderr or "exists" in e.value.stderr

    key = server.cli("key", "add", "ann", "phone")["key"]
    assert re.fullmatch(r"aio_[0-9A-Za-z]{28}", key)
    assert "phone" in json.dumps(server.cli("key", "list", "ann"))
    assert key not in json.dumps(server.cli("key", "list", "ann"))

    made = server.cli("device", "add", "ann", "truck-1")
    assert len(made["secret"]) >= 22  # at least 128 bits
    chosen = server.cli("device", "add", "ann", "truck-2", "--secret", "my own words")
    assert chosen.get("secret") in (None, "my own words")
    listed = json.dumps(server.cli("device", "list", "ann"))
    assert "truck-1" in listed and "truck-2" in listed and made["secret"] not in listed

    for args in (["device", "add", "ann", "truck-1"], ["device", "add", "nobody", "x"],
                 ["key", "add", "nobody", "x"], ["key", "add", "ann", "phone"],
                 ["device", "remove", "ghost"], ["account", "remove", "nobody"],
                 ["device", "add", "ann", "x", "--hash", "plain words"],
                 ["device", "add", "ann", "x", "--hash", "$2b$31$" + "a" * 53],
                 ["account", "add", "sla/sh"], ["account", "add", ""],
                 ["account", "add", "x", "--limits", "many"]):
        r = server.cli_run(*args)
        assert r.returncode not in (0, -6, -11), args
        assert r.stderr.strip(), args
    return key, made["secret"]


def test_with_a_server(make_server):
    server = make_server()
    key, secret = life(server)
    assert post(server, device_auth("truck-1", secret)) == 202
    assert post(server, device_auth("truck-2", "my own words")) == 202
    assert post(server, {"X-AIO-Key": key}) == 202
    server.cli("device", "remove", "truck-1")
    assert post(server, device_auth("truck-1", secret)) == 401


def test_without_a_server(make_server):
    server = make_server(start=False)
    key, secret = life(server)
    server.start()
    assert post(server, device_auth("truck-1", secret)) == 202
    assert post(server, device_auth("truck-2", "my own words")) == 202
    assert post(server, {"X-AIO-Key": key}) == 202


def test_names_never_come_back_to_life(make_server):
    """A new device under an old name does not accept the old secret, nor see old data."""
    server = make_server()
    server.cli("account", "add", "ann")
    old = server.add_device("ann", "d")
    assert post(server, device_auth("d", old)) == 202
    server.cli("device", "remove", "d")
    new = server.add_device("ann", "d")
    assert post(server, device_auth("d", old)) == 401
    assert post(server, device_auth("d", new)) == 202
    server.cli("account", "remove", "ann")
    server.cli("account", "add", "ann")
    key = {"X-AIO-Key": server.add_key("ann")}
    r = requests.get(server.url + "/api/v2/ann/feeds", headers=key, timeout=10)
    assert r.json() == []


def test_human_output_is_not_json(make_server):
    server = make_server()
    r = server.cli_run("account", "add", "ann")
    assert r.returncode == 0
    assert not r.stdout.lstrip().startswith("{")


# ---- settings ----

def test_config_check_and_show(tmp_path):
    good = tmp_path / "good.yaml"
    good.write_text("listen:\n  http: 127.0.0.1:8123\nhttp:\n  head_timeout: 5s\n")
    assert run("config", "check", "--config", str(good)).returncode == 0
    shown = run("config", "show", "--config", str(good))
    assert shown.returncode == 0 and "127.0.0.1:8123" in shown.stdout
    again = tmp_path / "again.yaml"
    again.write_text(shown.stdout)
    assert run("config", "show", "--config", str(again)).stdout == shown.stdout
    assert "8124" in run("config", "show", "--config", str(good), "--set",
                         "listen.http=127.0.0.1:8124").stdout


@pytest.mark.parametrize("text,line,word", [
    ("http:\n  nonsense: 1\n", 2, "nonsense"),
    ("nonsense:\n  a: 1\n", 1, "nonsense"),
    ("http:\n  head_max: many\n", 2, "head_max"),
    ("http:\n  fields_max: 1000\n", 2, "fields_max"),
    ("ack:\n  level: sometimes\n", 2, "level"),
    ("auth:\n  failures_address: 10/never\n", 2, "failures_address"),
    ("http: [1\n", None, ""),
    ("http: 5\n", 1, "http"),
])
def test_wrong_settings_are_named_with_their_line(tmp_path, text, line, word):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    for args in (["config", "check"], ["serve", "--data", str(tmp_path / "data")]):
        r = run(*args, "--config", str(path))
        assert r.returncode not in (0, -6, -11)
        assert "bad.yaml" in r.stderr and word in r.stderr, r.stderr
        if line:
            assert f"bad.yaml:{line}:" in r.stderr, r.stderr
    assert not (tmp_path / "data" / "journal").exists(), "something was made before the refusal"


@pytest.mark.parametrize("setting", ["nonsense=1", "http.nonsense=1", "http.fields_max=x", "http.fields_max",
                                     "=", "http.fields_max=1000"])
def test_wrong_set_is_refused(tmp_path, setting):
    r = run("serve", "--data", str(tmp_path / "data"), "--set", setting)
    assert r.returncode not in (0, -6, -11) and r.stderr.strip()


@pytest.mark.parametrize("setting", ["listen.http", "listen.mqtt", "listen.operator"])
def test_port_in_use_is_told(make_server, setting):
    first = make_server()
    second = make_server({setting: first.settings[setting]}, start=False)
    second.spawn()
    assert second.process.wait(20) not in (0, -6, -11)
    assert f"{setting}: cannot listen on {first.settings[setting]}: another program" in second.log()


# ---- load ----

def test_load_against_the_real_server(make_server, tmp_path):
    server = make_server()
    server.add_account("a")
    rows = [("device_id", "secret")] + [(f"d{i}", server.add_device("a", f"d{i}")) for i in range(5)]
    csv = tmp_path / "devices.csv"
    csv.write_text("".join(f"{a},{b}\n" for a, b in rows))
    out, acks = tmp_path / "out.json", tmp_path / "acks"
    r = run("load", server.url, "--devices", str(csv), "--connections", "4", "--requests", "500", "--json",
            str(out), "--ack-log", str(acks), "--feed", "load-%device%")
    assert r.returncode == 0, r.stderr
    result = json.loads(out.read_text())
    assert result["status"] == {"202": 500} and result["acked"] == 500
    assert result["latency_ms"]["p50"] > 0
    lines = [line.split() for line in acks.read_text().splitlines()]
    assert len({line[4] for line in lines}) == 500
    assert {line[2] for line in lines} == {f"load-d{i}" for i in range(5)}
