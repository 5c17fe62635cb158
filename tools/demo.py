#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Shows what Sluice does: starts it, makes a demo account, sends as a small fleet, sums up, serves on.

The data directory is kept between runs, and so are the credentials, in demo.env beside the data
(mode 0600). Ends with Ctrl-C, or by itself after --seconds, and then with the server's own status.
"""
import argparse
import json
import os
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "demo"
PLAN = "demo"
# Each may send 600 messages in 60 s (plan `demo`): the fleet stays below it, the chatty one does not.
FLEET = ["demo-1", "demo-2", "demo-3", "demo-4", "demo-5", "demo-6"]
BCRYPT = "demo-bcrypt"  # a secret that somebody chose: stored as a password hash
CHATTY = "demo-chatty"
FLEET_RATE = 350  # messages a second of the whole fleet
CHATTY_RATE = 100
FLEET_SECONDS = 10
READY_SECONDS = 60
STOP_SECONDS = 30


def fail(text):
    sys.exit(f"run: {text}")


class Interrupted(Exception):
    """Ctrl-C, or a polite kill."""


def on_signal(number, frame):
    raise Interrupted


def check_port(port, variable):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as problem:
            fail(f"127.0.0.1:{port} cannot be used: {problem.strerror}.\n"
                 f"     `ss -ltnp` shows who listens there. Stop it, or choose another port: "
                 f"make run {variable}={port + 1}")


class Server:
    """The running gateway."""

    def __init__(self, options):
        self.binary = str(pathlib.Path(options.binary).resolve())
        self.data = pathlib.Path(options.data)
        self.operator = f"http://127.0.0.1:{options.operator_port}"
        self.http = f"http://127.0.0.1:{options.port}"
        self.mqtt_port = options.mqtt_port
        self.log = self.data / "server.log"
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A session of its own: Ctrl-C reaches this script alone, which then stops the server once.
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--data", str(self.data),
                 "--set", f"listen.http=127.0.0.1:{options.port}",
                 "--set", f"listen.mqtt=127.0.0.1:{options.mqtt_port}",
                 "--set", f"listen.operator=127.0.0.1:{options.operator_port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def check_alive(self):
        status = self.process.poll()
        if status is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-15:]
            fail("\n     ".join([f"the server ended with status {status}. The end of {self.log}:", *tail]))

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                urllib.request.urlopen(self.operator + "/readyz", timeout=2).close()
                return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        fail(f"the server was not ready within {READY_SECONDS} s; see {self.log}")

    def metrics(self):
        """{name: value} of all plain samples, without the `sluice_` and `_total` around the name."""
        with urllib.request.urlopen(self.operator + "/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        samples = (line.split() for line in lines if line.startswith("sluice_") and "{" not in line)
        return {name.removeprefix("sluice_").removesuffix("_total"): float(value)
                for name, value, *_ in samples}

    def stop(self):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"run: the server did not stop within {STOP_SECONDS} s and is killed", file=sys.stderr)
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def command(self, *words):
        """Runs `sluice WORDS --json` and returns what it printed; ends when it fails."""
        done = subprocess.run([self.binary, *words, "--data", str(self.data), "--json"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            fail(f"`sluice {' '.join(words)}` failed: {(done.stderr or done.stdout).strip()}")
        return json.loads(done.stdout)


# ---- the demo account ------------------------------------------------------------------------

def make_account(server):
    """Makes the account with its key and devices; returns {name: secret}.

    What is there already (demo.env was deleted, or a first start cut short) gets new secrets, since the old
    ones are not to be had again; data are left alone.
    """
    if ACCOUNT not in names(server.command("account", "list")["accounts"]):
        server.command("account", "add", ACCOUNT, "--plan", PLAN)
    if "main" in names(server.command("key", "list", ACCOUNT)["keys"]):
        server.command("key", "remove", ACCOUNT, "main")
    secrets = {"key": server.command("key", "add", ACCOUNT, "main")["key"]}
    there = names(server.command("device", "list", ACCOUNT)["devices"])
    for device in [*FLEET, CHATTY, BCRYPT]:
        words = ["device", "secret", device] if device in there else ["device", "add", ACCOUNT, device]
        secrets[device] = server.command(*words, *(["--bcrypt"] if device == BCRYPT else []))["secret"]
    return secrets


def names(records):
    return {record["name"] for record in records}


def variable(name):
    """demo-1 -> DEMO_1_SECRET: so that a shell can read the file."""
    return "DEMO_KEY" if name == "key" else name.upper().replace("-", "_") + "_SECRET"


def load_credentials(server):
    path = server.data / "demo.env"
    if path.exists():
        known = dict(word.split("=", 1) for word in shlex.split(path.read_text(), comments=True))
        return {name: known[variable(name)] for name in ["key", *FLEET, CHATTY, BCRYPT]}
    print("run: first start: making the account `demo` with a key and a few devices", flush=True)
    secrets = make_account(server)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write("# Credentials of the demo account; made by `make run`.\n")
        out.writelines(f"{variable(name)}={shlex.quote(secret)}\n" for name, secret in secrets.items())
    draft.rename(path)
    return secrets


def print_examples(server, secrets):
    device = f"-H 'X-Device-Id: {FLEET[0]}' -H 'X-Device-Token: {secrets[FLEET[0]]}'"
    old = f"-H 'X-Device-Id: {BCRYPT}' -H 'X-Device-Token: {secrets[BCRYPT]}'"
    key = f"-H 'X-AIO-Key: {secrets['key']}'"
    as_json = "-H 'Content-Type: application/json'"
    feed = f"{server.http}/api/v2/{ACCOUNT}/feeds/temperature"
    mqtt = f"-p {server.mqtt_port} -u {ACCOUNT} -P {secrets['key']} -t {ACCOUNT}/feeds/temperature"
    print(f"""
Sluice serves on {server.http}, MQTT on 127.0.0.1:{server.mqtt_port}, metrics on {server.operator}/metrics, data in {server.data}/

  a device sends (accepted = on disk):
    curl -i {device} {as_json} -d '{{"temperature": 21.5}}' {server.http}/v1/telemetry
  the same from a device whose secret is stored as a bcrypt hash:
    curl -i {old} {as_json} -d '{{"temperature": 19}}' {server.http}/v1/telemetry
  the newest value, and the last five, by the account's key (Adafruit IO's API):
    curl {key} {feed}/data/last
    curl {key} '{feed}/data?limit=5'
  the same feed by MQTT, all that arrives by whatever way, and a value sent (from Debian's mosquitto-clients):
    mosquitto_sub -v {mqtt}
    mosquitto_pub -q 1 -m 21.5 {mqtt}
  a wrong secret is refused:
    curl -i -H 'X-Device-Id: {FLEET[0]}' -H 'X-Device-Token: wrong' {as_json} -d '{{"temperature": 1}}' \
{server.http}/v1/telemetry
  how much may I send, how much did I:
    curl {key} {server.http}/api/v2/{ACCOUNT}/throttle
""", flush=True)


# ---- the fleet -------------------------------------------------------------------------------

def start_load(server, name, seconds, *words):
    report = server.data / f"demo-{name}.json"
    report.unlink(missing_ok=True)
    command = [server.binary, "load", "--quiet", "--seconds", str(seconds), "--json", str(report), *words,
               server.http + "/v1/telemetry"]
    log = open(server.data / f"demo-{name}.log", "wb")
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                            start_new_session=True), report


def changes(before, after):
    grown = {name: after[name] - before.get(name, 0) for name in after}
    grown["refused"] = sum(grown.get(name, 0) for name in ("auth_refused", "permission_refused", "shape_refused"))
    return {name: int(value) for name, value in grown.items()}


def drive_fleet(server, secrets, seconds):
    """Sends for so long, showing progress each second; returns the growth of the metrics, and reports."""
    fleet_file = server.data / "demo-fleet.csv"
    fleet_file.touch(mode=0o600)
    fleet_file.write_text("".join(f"{name},{secrets[name]}\n" for name in FLEET + [BCRYPT]))
    print(f"A fleet of {len(FLEET) + 1} devices sends {FLEET_RATE} messages a second for {seconds} s; one more "
          f"device sends\nmore than its limit allows, and a stranger guesses at a secret.")
    before = server.metrics()
    loads = [
        start_load(server, "fleet", seconds, "--devices", str(fleet_file), "--rate", str(FLEET_RATE),
                   "--connections", "8"),
        start_load(server, "chatty", seconds, "--device", CHATTY, "--token", secrets[CHATTY],
                   "--rate", str(CHATTY_RATE), "--connections", "2"),
        start_load(server, "stranger", seconds, "--device", FLEET[0], "--token", "slu_wrong", "--rate", "3",
                   "--connections", "1"),
    ]
    try:
        began = time.monotonic()
        while any(process.poll() is None for process, _ in loads):
            time.sleep(1 - (time.monotonic() - began) % 1)
            server.check_alive()
            now = changes(before, server.metrics())
            print(f"  {time.monotonic() - began:3.0f} s  {now['messages_accepted']:7} accepted "
                  f"{now['throttle_refused']:6} throttled {now['refused']:4} refused", flush=True)
            if time.monotonic() - began > seconds + 60:
                fail("the fleet did not come to its end")
    finally:
        for process, _ in loads:
            if process.poll() is None:
                process.terminate()
            process.wait()
    reports = []
    for process, report in loads:
        if process.returncode != 0:
            log = report.with_suffix(".log")
            fail(f"`sluice load` ended with status {process.returncode}: {log.read_text().strip()}")
        reports.append(json.loads(report.read_text()))
    return changes(before, server.metrics()), reports


def print_summary(grown, reports):
    latency = reports[0]["latency_ms"]
    sent = sum(report["sent"] for report in reports)
    commits = max(grown["journal_commits"], 1)
    print(f"""
Summary
  sent          {sent:8}  requests
  accepted      {grown['messages_accepted']:8}  messages, each on disk before it was answered
  throttled     {grown['throttle_refused']:8}  over a rolling window
  refused       {grown['refused']:8}  wrong secret or not allowed
  hashes run    {grown['hashes_run']:8}  bcrypt computations, and {grown['hashes_decoy']} for wrong \
secrets, so that timing tells nothing
  cache hits    {grown['shield_hits']:8}  secrets recognised without one
  latency       {latency['p50']:8.2f}  ms p50, {latency['p99']:.2f} ms p99, from the fleet's side
  journal       {grown['journal_bytes']:8}  bytes in {grown['journal_commits']} commits, \
{grown['journal_records'] / commits:.1f} records each
""", flush=True)


# ---- the whole -------------------------------------------------------------------------------

def show_and_serve(server, seconds):
    server.wait_ready()
    deadline = time.monotonic() + seconds if seconds else None
    secrets = load_credentials(server)
    print_examples(server, secrets)
    # A short run still leaves a moment to start and to stop.
    fleet_seconds = FLEET_SECONDS if not seconds else max(1, min(FLEET_SECONDS, int(seconds) - 2))
    print_summary(*drive_fleet(server, secrets, fleet_seconds))
    until = "Ctrl-C stops" if deadline is None else f"for {max(0, deadline - time.monotonic()):.0f} s more"
    print(f"Serving on {server.http} ({until}; log in {server.log})", flush=True)
    while deadline is None or time.monotonic() < deadline:
        server.check_alive()
        time.sleep(0.5 if deadline is None else max(0, min(0.5, deadline - time.monotonic())))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--data", default="data")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--mqtt-port", type=int, default=1883)
    parser.add_argument("--operator-port", type=int, default=9080)
    parser.add_argument("--seconds", type=float, help="end by itself after so long")
    options = parser.parse_args()

    check_port(options.port, "PORT")
    check_port(options.mqtt_port, "MQTT_PORT")
    check_port(options.operator_port, "OPERATOR_PORT")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    server = None
    try:
        server = Server(options)
        show_and_serve(server, options.seconds)
    except Interrupted:
        print()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        status = server.stop() if server else 1
    print(f"run: the server stopped, status {status}", flush=True)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
