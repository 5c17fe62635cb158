# SPDX-License-Identifier: Apache-2.0
"""The four gateways of bench/incident.py: how each is started, made to know the fleet, asked what it did, and
killed. Three are bench/incident/gateway.go with a Redis, the fourth is Sluice."""
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import harness
import peers
from common import cpu_seconds
from peers import first_line

HERE = Path(__file__).resolve().parent
SECRET = "the secret of a device"
USER_DEVICES = 300  # so many devices has a user, all of them in his document
MAY_SEND = 1


class Failure(Exception):
    """A gateway did not do what it was measured for."""


def pair_key(device, secret):
    """As gateway.go names a verified pair."""
    pair = len(device).to_bytes(4, "big") + device.encode() + secret.encode()
    return "auth:" + hashlib.sha256(pair).hexdigest()


def user_document(number, devices):
    """What the incident's gateway parsed on each request to find one permission of one device."""
    return json.dumps({
        "id": f"user-{number:04d}", "email": f"user-{number:04d}@fleet.example", "plan": "fleet",
        "devices": [{
            "id": device, "name": f"Pump {device} in the north hall", "model": "P-200", "firmware": "3.2.1",
            "groups": ["pumps", "north", "maintained"],
            "permissions": ["telemetry:write", "config:read", "events:read", "firmware:read"],
            "created_at": "2024-03-01T08:00:00Z", "seen_at": "2026-11-01T08:00:00Z"} for device in devices]})


class Redis(peers.Redis):
    def __init__(self, home, cpu):
        try:
            super().__init__("Redis", home, {cpu}, "--appendonly", "no")
        except peers.Missing as e:
            raise Failure(str(e))

    def do(self, commands):
        try:
            super().do(commands)
        except OSError as e:
            raise Failure(f"Redis: {e}")

    def know(self, devices, stored, key):
        """The devices, each user's document, and a key of an application."""
        users = [devices[at:at + USER_DEVICES] for at in range(0, len(devices), USER_DEVICES)]
        for number, owned in enumerate(users):
            document = user_document(number, owned)
            self.do([("SET", f"user:user-{number:04d}", document)])
            self.do(("HSET", f"device:{device}", "secret", stored, "user", f"user-{number:04d}", "mask", MAY_SEND)
                    for device in owned)
            if number == 0:
                self.document_bytes = len(document)
        name = hashlib.sha256(key.encode()).hexdigest()
        self.do([("HSET", f"key:{name}", "user", "user-0000", "mask", MAY_SEND)])

    def remember(self, devices, ttl):
        """As if every device had been verified just now, by other nodes."""
        self.do(("SET", pair_key(device, SECRET), MAY_SEND, "EX", ttl) for device in devices)

    def forget(self, devices):
        self.do(("DEL", pair_key(device, SECRET)) for device in devices)


class GoGateway:
    accepted = "204"

    def __init__(self, variant, program, redis, home, args):
        self.variant, self.redis, self.home, self.args = variant, redis, home, args
        self.port, self.process = harness.free_port(), None
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [str(program), "-variant", variant, "-listen", f"127.0.0.1:{self.port}",
                        "-redis", f"127.0.0.1:{redis.port}", "-ttl", str(args.ttl)]

    def start(self):
        log = open(self.home / f"{self.variant}.log", "ab")
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=lambda: os.sched_setaffinity(0, {self.args.server_cpu}))
        log.close()
        harness.wait_for(f"the gateway ({self.variant})", self.is_up, step=0.005)

    def is_up(self):
        if self.process.poll() is not None:
            raise Failure(f"it ended with {self.process.returncode} before it was ready")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def cpu(self):
        """Of all that takes part in a request."""
        return {"gateway": cpu_seconds(self.process.pid), "redis": cpu_seconds(self.redis.process.pid)}

    def hashes(self):
        with urllib.request.urlopen(self.url + "/counters", timeout=60) as r:
            return json.load(r)["hashes"]

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def stop(self):
        if self.is_running():
            self.kill()


class Sluice:
    """Prepared in memory, where tens of thousands of changes of the catalog wait for no disk; then moved to the disk
    that is measured."""
    accepted = "202"

    def __init__(self, home, args):
        key = home / "snapshot.key"
        key.write_bytes(os.urandom(32))
        self.home = home / "sluice"
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else home
        self.prepared = Path(tempfile.mkdtemp(prefix="sluice-incident-", dir=memory))
        self.server = harness.Server(self.prepared / "sluice", {
            "server.workers": "1", "auth.hash_threads": "1", "journal.segment_size": "64MiB",
            "auth.snapshot_key_file": str(key), "auth.snapshot_interval": "2s",
            **args.settings}, cpus={args.server_cpu})
        self.url = self.server.url
        self.settings = {k: v for k, v in self.server.settings.items() if k not in (
            "listen.http", "listen.mqtt", "listen.operator", "auth.snapshot_key_file", "auth.bcrypt_cost")}

    def start(self):
        self.server.start(60)

    def move_to_disk(self):
        self.server.stop(60)
        shutil.move(self.server.home, self.home)
        self.server.home, self.server.data = self.home, self.home / "data"
        self.server.stderr_path = self.home / "stderr.log"
        self.start()

    def know(self, devices, stored):
        self.server.add_devices("incident", [(device, SECRET, stored) for device in devices])

    def is_running(self):
        return self.server.process is not None and self.server.process.poll() is None

    def cpu(self):
        return {"gateway": cpu_seconds(self.server.pid)}

    def hashes(self):
        return int(self.server.metric("hashes_run_total"))

    def kill(self):
        self.server.kill()

    def stop(self):
        if self.is_running():
            self.server.stop(60)
        shutil.rmtree(self.prepared, ignore_errors=True)


def first_accepted(gateway, device, until_s=60):
    """Waits until the gateway accepts a message of that device."""
    request = urllib.request.Request(gateway.url + "/v1/telemetry", b'{"temperature":1}', {
        "Content-Type": "application/json", **harness.device_auth(device, SECRET)})

    def try_it():
        try:
            with urllib.request.urlopen(request, timeout=until_s) as r:
                return str(r.status) == gateway.accepted
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
    harness.wait_for("a message that is accepted", try_it, until_s, 0.002)


def build_gateway(where):
    """From Debian's packages of the libraries: nothing is downloaded."""
    go, program = shutil.which("go"), where / "gateway"
    if not go:
        raise Failure("there is no Go: tools/install_packages.sh incident")
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "",
           "GOTOOLCHAIN": "local", "GOCACHE": str(where / "go-cache"), "CGO_ENABLED": "0"}
    run = subprocess.run([go, "build", "-o", str(program), str(HERE / "incident" / "gateway.go")], env=env,
                         text=True, capture_output=True)
    if run.returncode != 0:
        raise Failure(f"go build: {run.stderr.strip()}")
    return program


def versions():
    """Of what is measured; None for what is not there."""
    redis = first_line(["redis-server", "--version"], shutil.which("redis-server") or
                       shutil.which("redis-check-rdb") or "redis-server")
    found = {"Sluice": first_line([harness.BIN, "version"]), "Go": first_line(["go", "version"]),
             "Redis": (re.search(r"v=(\S+)", redis or "") or [None, None])[1]}
    for name, package in (("golang.org/x/crypto", "golang-golang-x-crypto-dev"),
                          ("golang.org/x/sync", "golang-golang-x-sync-dev"),
                          ("redigo", "golang-github-gomodule-redigo-dev")):
        found[name] = first_line(["dpkg-query", "-W", "-f=${Version}\n", package])
    return found
