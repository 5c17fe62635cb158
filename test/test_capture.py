# SPDX-License-Identifier: Apache-2.0
"""`sluice capture`: what is recorded of requests, and what never is; what `sluice load` makes of it."""
import json
import subprocess
import time

import pytest
import requests

from conftest import owner_on
from harness import BIN, wait_for


@pytest.fixture(scope="module")
def owner(server):
    return owner_on(server, "fleet1")


def capture(server, path, send, *args):
    """The lines of a recording while `send` is called again and again."""
    run = subprocess.Popen([BIN, "capture", str(path), "--data", str(server.data), "--seconds", "60", *args],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while run.poll() is None and time.monotonic() < end:
        send()
    out, err = run.communicate(timeout=30)
    assert run.returncode == 0, err
    return [json.loads(line) for line in path.read_text().splitlines()], out


def test_no_secret_and_no_body_is_recorded(server, owner, tmp_path):
    secrets = {"X-Device-Token": owner.secret, "X-AIO-Key": owner.key, "Authorization": "Basic c2VjcmV0",
               "Cookie": "sid=cookiesecret", "X-Api-Token": "apisecret", "X-Forwarded-For": "203.0.113.77",
               "Idempotency-Key": "idemsecret", "X-Session": "sessionsecret"}

    def send():
        requests.post(f"{server.url}/v1/telemetry?ack=received&x-aio-key={owner.key}&q=%22a%5C",
                      headers={"X-Device-Id": owner.device, "X-Firmware": 'v1 "é\\', **secrets}, data=b'{"t":"bodysecret"}',
                      timeout=20)

    lines, out = capture(server, tmp_path / "rec", send, "--max", "5")
    assert len(lines) == 5 and "5 requests recorded" in out
    text = (tmp_path / "rec").read_text()
    for secret in [*secrets.values(), owner.device, "bodysecret", "203.0.113.77"]:
        assert secret not in text
    one = lines[0]
    fields = dict(one["fields"])
    assert one["method"] == "POST" and one["body"] == 18
    assert one["target"] == f"/v1/telemetry?ack=received&x-aio-key={'*' * len(owner.key)}&q=%22a%5C"
    assert fields["X-Firmware"].startswith('v1 "') and fields["X-Firmware"].endswith("\\")
    assert fields["X-Device-Token"] == "*" * len(owner.secret) and fields["Host"]
    times = [line["us"] for line in lines]
    assert times == sorted(times) and times[0] < times[-1]


def test_a_sample(server, owner, tmp_path):
    sent = []

    def send():
        sent.append(requests.get(f"{server.url}/healthz", timeout=20))

    lines, _ = capture(server, tmp_path / "rec", send, "--every", "10", "--max", "3")
    assert len(lines) == 3 and len(sent) >= 20


def test_it_ends_by_itself_and_needs_a_server(server, make_server, tmp_path):
    run = subprocess.run([BIN, "capture", tmp_path / "rec", "--data", server.data, "--seconds", "1"],
                         capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stdout == "0 requests recorded, 0 more had no room\n"
    stopped = make_server(start=False)
    for args, what in ((["--seconds", "1"], "none runs here"), (["--every", "0"], "must be a number from 1")):
        run = subprocess.run([BIN, "capture", tmp_path / "rec", "--data", stopped.data, *args], capture_output=True,
                             text=True, timeout=60)
        assert run.returncode in (1, 2) and what in run.stderr, run.stderr


def load(*args, status=0):
    run = subprocess.run([BIN, "load", *(str(a) for a in args)], capture_output=True, text=True, timeout=120)
    assert run.returncode == status, (run.returncode, run.stdout, run.stderr)
    return run


@pytest.fixture(scope="module")
def recording(server, owner, tmp_path_factory):
    """Half of the requests have a field that tells the firmware, one in ten reads."""
    path = tmp_path_factory.mktemp("recording") / "rec.jsonl"
    run = subprocess.Popen([BIN, "capture", str(path), "--data", str(server.data), "--max", "200", "--seconds", "60"],
                           stdout=subprocess.PIPE, text=True)
    number = 0
    with requests.Session() as s:
        while run.poll() is None:
            number += 1
            extra = {"X-Firmware": "v7", "Idempotency-Key": f"k{number}"} if number % 2 else {}
            if number % 10 == 0:
                s.get(f"{owner.url}/feeds", headers=owner.key_auth, timeout=20)
            else:
                s.post(f"{server.url}/v1/telemetry", headers={**owner.auth, **extra}, timeout=20,
                       data=json.dumps({"temperature": "x" * (number % 100)}))
    assert "200 requests recorded" in run.communicate(timeout=20)[0]
    return path


def test_a_recording_is_played_again(server, owner, recording, tmp_path):
    """When it came, with its fields and sizes, and what is sent is stored once."""
    again = tmp_path / "again.jsonl"
    out = tmp_path / "out.json"
    run = subprocess.Popen([BIN, "capture", str(again), "--data", str(server.data), "--max", "200", "--seconds", "60"],
                           stdout=subprocess.PIPE, text=True)
    wait_for("the recording to begin", lambda: again.exists(), 30)
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    span = (lines[-1]["us"] - lines[0]["us"]) / 1e6
    while run.poll() is None:  # the first may be sent before the recording has begun
        began = time.monotonic()
        load(server.url, "--device", owner.device, "--token", owner.secret, "--replay", recording, "--speed", 2, "--quiet",
             "--json", out, "--verify", owner.key)
        assert time.monotonic() - began >= span / 2
        got = json.loads(out.read_text())
        assert got["sent"] == got["answered"] == 200 and got["verified"]["sound"]
        posts = sum(line["method"] == "POST" for line in lines)
        assert got["status"]["202"] == got["verified"]["stored"] == posts
        assert sum(got["status"].values()) == 200
    same = [json.loads(line) for line in again.read_text().splitlines() if "/v1/telemetry" in line]
    smallest = len('{"temperature":"1000000000000000"}')
    assert {line["body"] for line in same} <= {max(line["body"], smallest) for line in lines}
    firm = [dict(line["fields"]) for line in same if any(n == "X-Firmware" for n, _ in line["fields"])]
    assert firm and all(f["X-Firmware"] == "v7" and len(f["Idempotency-Key"]) == 16 for f in firm)
    assert all("X-Device-Token" in dict(line["fields"]) for line in same)


def test_what_a_scenario_lacks_is_named(server, owner, recording):
    who = ["--device", owner.device, "--token", owner.secret, "--compare", recording]
    out = load(server.url, *who, status=3).stdout
    assert "header fields that the recording has and this scenario lacks" in out
    lacking = {line.split("%")[1].strip(): float(line.split("%")[0]) for line in out.splitlines() if line.startswith("  ")}
    assert 40 < lacking["X-Firmware"] < 60 and "X-Device-Token" not in lacking
    assert lacking["GET /api/v2/*/feeds"] == 10 and "POST /v1/telemetry" not in lacking
    assert "recording: 200 requests" in out
    names = {n for line in recording.read_text().splitlines() for n, _ in json.loads(line)["fields"]}
    all_fields = [a for name in names for a in ("--header", f"{name}: x")]
    out = load(server.url, *who, *all_fields, status=3).stdout
    assert "header fields that" not in out and "GET /api/v2/*/feeds" in out
    replayed = load(server.url, "--compare", recording, "--device", "d", "--token", "t", "--method", "GET",
                    f"--feed=x", *all_fields, status=3).stdout
    assert "POST /v1/telemetry" in replayed


@pytest.mark.parametrize("args,what", [
    (["--replay", "x", "--rate", "5"], "--replay sends what was recorded"),
    (["--replay", "x", "--feed", "%device%"], "no %device%"),
    (["--speed", "2"], "--speed is for --replay"),
])
def test_wrong_usage(args, what):
    assert what in load("http://x", *args, status=2).stderr


def test_a_file_that_is_no_recording(tmp_path):
    path = tmp_path / "x"
    path.write_text("nonsense\n")
    assert f"{path}:1: no request" in load("http://x", "--replay", path, status=1).stderr
    assert f"{path}:1: no request" in load("http://x", "--compare", path, status=1).stderr
