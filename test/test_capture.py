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
