# SPDX-License-Identifier: Apache-2.0
"""Adversaries of `sluice load` beside a fleet: each does what it is named for, and the fleet goes on."""
import http.server
import json
import subprocess
import threading
import time

import pytest

from harness import BIN

KINDS = ["secrets", "devices", "flood", "slow", "oversize", "malformed"]


def load(*args, status=0):
    run = subprocess.run([BIN, "load", *(str(a) for a in args)], capture_output=True, text=True, timeout=120)
    assert run.returncode == status, (run.returncode, run.stdout, run.stderr)
    return run


def test_all_of_them_at_once(make_server, tmp_path):
    """The fleet is of another address than what is refused by address; every acknowledged message is stored."""
    server = make_server({"auth.failures_address": "1000000/1s"})
    server.add_account("demo", device_limits="1000/1s")
    made = server.add_devices("demo", [(f"d{i}", None, None) for i in range(4)])
    csv = tmp_path / "devices.csv"
    csv.write_text("".join(f"{auth['X-Device-Id']},{auth['X-Device-Token']}\n" for auth in made))
    out = tmp_path / "out.json"
    run = load(server.url, "--devices", csv, "--connections", 4, "--rate", 100, "--seconds", 3, "--attack", ",".join(KINDS),
               "--attack-connections", 3, "--attack-rate", 1000, "--verify", server.add_key("demo"), "--json", out)
    got = json.loads(out.read_text())
    assert got["verified"]["sound"] and got["status"]["202"] > 0
    attacks = got["attacks"]
    assert list(attacks) == KINDS and all(f"attack {kind}: sent " in run.stdout for kind in KINDS)
    for kind in ("secrets", "devices"):
        assert attacks[kind]["answered"] > 0 and set(attacks[kind]["status"]) <= {"401", "429", "503"}
    assert attacks["flood"]["status"]["202"] > 0
    assert attacks["slow"]["sent"] >= 3 and not attacks["slow"]["answered"]
    assert set(attacks["oversize"]["status"]) <= {"413", "431"} and attacks["oversize"]["answered"] > 0
    assert set(attacks["malformed"]["status"]) >= {"400", "505"} and "202" not in attacks["malformed"]["status"]


class Deaf(http.server.BaseHTTPRequestHandler):
    """Answers the fleet, and nobody else."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        while self.headers["X-Device-Id"] != "d":
            time.sleep(60)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_adversaries_without_an_answer_hold_nobody_up():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    run = load(f"http://127.0.0.1:{server.server_port}", "--device", "d", "--token", "s", "--connections", 1, "--seconds", 0.5,
               "--attack", "devices", "--attack-connections", 2)
    assert time.monotonic() - began < 10
    assert "attack devices: sent 2" in run.stdout
    server.shutdown()


@pytest.mark.parametrize("args,what", [
    (["--attack", "nonsense"], "--attack"),
    (["--attack", "slow,"], "--attack"),
    (["--attack", "slow,flood"], "need a device"),
])
def test_wrong_usage(args, what):
    assert what in load("http://x", *args, status=2).stderr


def test_not_of_mqtt():
    assert "--attack are for http://" in load("mqtt://x", "--topic", "t", "--attack", "slow", status=2).stderr
