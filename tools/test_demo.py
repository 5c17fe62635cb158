# SPDX-License-Identifier: Apache-2.0
"""What `make run` promises: tools/demo.py against a pretended server for the ways it can go wrong, and
against the real one (SLUICE_BIN) for the whole of it."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

DEMO = pathlib.Path(__file__).resolve().parent / "demo.py"

# Answers what demo.py asks; says on stderr, and thus in server.log, how it was stopped.
PRETENDED = '''#!/usr/bin/python3
import http.server, json, os, re, signal, sys, time
a = sys.argv[1:]
if a[0] == "serve":
    if "FAKE_DIES" in os.environ:
        sys.exit("error server.open what=locked")
    port = int(re.search(r"listen.operator=127.0.0.1:(\\d+)", " ".join(a))[1])
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            n = int(time.monotonic() * 100)
            names = ("messages_accepted throttle_refused auth_refused hashes_run hashes_decoy shield_hits "
                     "journal_bytes journal_commits journal_records").split()
            self.send_response(200)
            self.end_headers()
            self.wfile.write("".join(f"sluice_{name}_total {n}\\n" for name in names).encode())
        def log_message(self, *_):
            pass
    def stop(number, frame):
        sys.stderr.write(f"stopped by {number}\\n")
        sys.stderr.flush()
        os._exit(int(os.environ.get("FAKE_STATUS", 0)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
elif a[0] == "load":
    time.sleep(float(a[a.index("--seconds") + 1]))
    with open(a[a.index("--json") + 1], "w") as out:
        json.dump({"sent": 7, "latency_ms": {"p50": 1.5, "p99": 2.5}}, out)
else:
    there = [{"name": name} for name in os.environ.get("FAKE_NAMES", "").split()]
    with open(a[a.index("--data") + 1] + "/commands", "a") as out:
        out.write(" ".join(a[:a.index("--data")]) + "\\n")
    print(json.dumps({"accounts": there, "keys": there, "devices": there, "key": "aio_k", "secret": "it's"}))
'''


@pytest.fixture
def pretended(tmp_path):
    path = tmp_path / "sluice"
    path.write_text(PRETENDED)
    path.chmod(0o755)
    return path


def free_ports():
    sockets = [socket.socket() for _ in range(3)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start(binary, data, *more, ports=None, **environment):
    port, operator, mqtt = ports or free_ports()
    return subprocess.Popen([sys.executable, DEMO, "--binary", binary, "--data", data, "--port", str(port),
                             "--operator-port", str(operator), "--mqtt-port", str(mqtt), *more], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})


def run(*arguments, **more):
    process = start(*arguments, **more)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_it_ends_by_itself(pretended, tmp_path):
    began = time.monotonic()
    status, out, err = run(pretended, tmp_path / "data", "--seconds", "4")
    assert (status, err) == (0, "")
    assert 4 <= time.monotonic() - began < 20
    assert "first start" in out and " 21  requests" in out
    assert (tmp_path / "data" / "server.log").read_text() == f"stopped by {signal.SIGTERM.value}\n"


def test_a_failed_stop_is_not_hidden(pretended, tmp_path):
    assert run(pretended, tmp_path / "data", "--seconds", "3", FAKE_STATUS="9")[0] == 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_once_and_in_order(pretended, tmp_path, number):
    process = start(pretended, tmp_path / "data")
    line = ""
    while "accepted" not in line or "1 s" not in line:
        line = process.stdout.readline()
        assert line
    process.send_signal(number)
    assert process.wait(timeout=20) == 0
    assert (tmp_path / "data" / "server.log").read_text() == f"stopped by {signal.SIGTERM.value}\n"


def test_credentials_are_kept_private_and_quoted(pretended, tmp_path):
    run(pretended, tmp_path / "data", "--seconds", "3")
    path = tmp_path / "data" / "demo.env"
    assert path.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(["sh", "-c", f'. {path} && echo "$DEMO_KEY $DEMO_1_SECRET"'],
                           capture_output=True, text=True)
    assert shown.stdout == "aio_k it's\n"


def test_lost_credentials_are_made_anew_and_data_left_alone(pretended, tmp_path):
    assert run(pretended, tmp_path / "data", "--seconds", "3", FAKE_NAMES="demo main demo-1 demo-bcrypt")[0] == 0
    commands = (tmp_path / "data" / "commands").read_text().splitlines()
    for command in ("key remove demo main", "key add demo main", "device secret demo-1",
                    "device secret demo-bcrypt --bcrypt", "device add demo demo-2"):
        assert command in commands
    assert not [c for c in commands if c.startswith(("account add", "account remove", "device remove"))]


def test_a_server_that_dies_is_told_with_its_log(pretended, tmp_path):
    status, _, err = run(pretended, tmp_path / "data", FAKE_DIES="1")
    assert status == 1 and "the server ended with status 1" in err and "what=locked" in err


@pytest.mark.parametrize("busy, variable", [(0, "PORT"), (1, "OPERATOR_PORT"), (2, "MQTT_PORT")])
def test_a_busy_port_is_told(pretended, tmp_path, busy, variable):
    ports = free_ports()
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", ports[busy]))
        s.listen()
        status, out, err = run(pretended, tmp_path / "data", ports=ports)
    assert status == 1 and f"127.0.0.1:{ports[busy]} cannot be used" in err
    assert f" {variable}={ports[busy] + 1}" in err and not (tmp_path / "data").exists()


@pytest.mark.skipif("SLUICE_BIN" not in os.environ, reason="SLUICE_BIN is not set")
def test_the_whole_against_the_real_server(tmp_path):
    binary, data, ports = os.environ["SLUICE_BIN"], tmp_path / "data", free_ports()
    process = start(binary, data, "--seconds", "25", ports=ports)
    examples, mqtt, summary, line = [], [], {}, ""
    while not line.startswith("Serving"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        if line.startswith("    curl"):
            examples.append(line.strip())
        if line.startswith("    mosquitto"):
            mqtt.append(line.split())
        row = re.match(r"  ([a-z][a-z ]*?) {2,}([\d.]+) ", line)
        if row:
            summary[row[1]] = float(row[2])
    # What the server counted is what its clients were told.
    statuses = {name: json.loads((data / f"demo-{name}.json").read_text())["status"]
                for name in ("fleet", "chatty", "stranger")}
    assert summary["accepted"] == statuses["fleet"]["202"] + statuses["chatty"]["202"]
    assert summary["throttled"] == statuses["chatty"]["429"] + statuses["fleet"].get("429", 0)
    assert summary["refused"] == sum(statuses["stranger"].values()) > 10
    # One secret, one hash; where an idle thread starved on it, the trickle computed it as well.
    assert 1 <= summary["hashes run"] <= 2
    assert summary["cache hits"] > 1000 and summary["journal"] > 100000
    assert 0 < summary["latency"]
    # The lines that were printed are pasted as they are.
    answers = [subprocess.run(["sh", "-c", example.replace("curl ", "curl -sS ", 1)], capture_output=True,
                              text=True, timeout=20) for example in examples]
    assert len(answers) >= 6 and all(answer.returncode == 0 for answer in answers)
    stdouts = [answer.stdout for answer in answers]
    assert "HTTP/1.1 202" in stdouts[0] and "HTTP/1.1 202" in stdouts[1]
    assert '"value":"19"' in stdouts[2] and stdouts[3].count('"value"') == 5
    assert re.match(r"HTTP/1.1 4(01|29) ", stdouts[4]) and "data_rate_limit" in stdouts[5]
    heard = subprocess.Popen([*mqtt[0], "-C", "1"], stdout=subprocess.PIPE, text=True)
    while heard.poll() is None:  # again until the subscription is there
        assert process.poll() is None and subprocess.run(mqtt[1], timeout=20).returncode == 0
        time.sleep(0.1)
    assert heard.communicate()[0] == "demo/feeds/temperature 21.5\n"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")

    # A second start knows the same credentials and makes nothing anew.
    status, out, err = run(binary, data, "--seconds", "3", ports=ports)
    assert (status, err) == (0, "") and "first start" not in out and examples[0] in out
