# SPDX-License-Identifier: Apache-2.0
"""One Sluice server under test: its process, its ports, its data directory, its command line.

The binary is named by SLUICE_BIN (default build/src/sluice). Every server runs in a directory of its
own on ports of its own, and is only ever ended by its process id.
"""
import http.client
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = os.environ.get("SLUICE_BIN", str(ROOT / "build" / "src" / "sluice"))

# What a sanitizer or a failed CHECK leaves on stderr.
REPORTS = re.compile(
    r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:|"
    r"CHECK|: Assertion ", re.M)

# No limit that a test could hit by accident; the gate's own tests set theirs.
WIDE = "1000000000/1s"


def port_numbers():
    """Below what the kernel gives to clients (32768 on), which would take a restarted server's port; each of
    the processes that run tests side by side has numbers of its own, and none comes twice soon."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    size = (32000 - 10000) // count
    first, at = 10000 + number * size, random.SystemRandom().randrange(size)
    for i in itertools.count(at):
        yield first + i % size


PORTS = port_numbers()


def free_port():
    for port in PORTS:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_for(what, check, timeout=10.0, step=0.02):
    """Polls until check() is true; says what was waited for when it never is."""
    end = time.monotonic() + timeout
    while True:
        got = check()
        if got:
            return got
        assert time.monotonic() < end, f"waited {timeout} s in vain for {what}"
        time.sleep(step)


class CliError(Exception):
    def __init__(self, run):
        super().__init__(f"{run.args}: exit {run.returncode}\n{run.stdout}{run.stderr}")
        self.status, self.stdout, self.stderr = run.returncode, run.stdout, run.stderr


class Server:
    def __init__(self, home, settings=None, wrapper=(), env=None, cpus=None, config=None):
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.data = self.home / "data"
        self.stderr_path = self.home / "stderr.log"
        self.wrapper = list(wrapper)
        self.cpus = cpus
        self.config = config  # a settings file
        self.env = {**os.environ, **(env or {})}
        self.http_port, self.operator_port, self.mqtt_port = free_port(), free_port(), free_port()
        self.settings = {
            "listen.http": f"127.0.0.1:{self.http_port}",
            "listen.operator": f"127.0.0.1:{self.operator_port}",
            "listen.mqtt": f"127.0.0.1:{self.mqtt_port}",
            # Small and cheap: dozens of servers start in one run of the tests.
            "auth.bcrypt_cost": "4",
            "journal.segment_size": "4MiB",
            **(settings or {}),
        }
        self.process = None
        self.spawn_options = {}
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.operator_url = f"http://127.0.0.1:{self.operator_port}"

    # ---- process ----

    def command(self):
        args = [*self.wrapper, BIN, "serve", "--data", str(self.data)]
        if self.config:
            args += ["--config", str(self.config)]
        for name, value in self.settings.items():
            args += ["--set", f"{name}={value}"]
        return args

    def spawn(self):
        with open(self.stderr_path, "ab") as log:
            pin = (lambda: os.sched_setaffinity(0, self.cpus)) if self.cpus else None
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.env, cwd=self.home, preexec_fn=pin,
                                            **self.spawn_options)
        return self

    def start(self, timeout=30):
        self.spawn()
        wait_for("/readyz", self.ready, timeout)
        return self

    def ready(self):
        status = self.process.poll()
        assert status is None, f"the server ended with {status}:\n{self.log()[-4000:]}"
        try:
            with urllib.request.urlopen(self.operator_url + "/readyz", timeout=5) as r:
                return r.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    @property
    def pid(self):
        """The server's own process id, also when it runs under a wrapper (or the wrapper became it)."""
        if not self.wrapper:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def stop(self, timeout=20):
        """SIGTERM; returns the exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self):
        """kill -9, as the machine would do it: nothing is flushed."""
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(20)

    def close(self):
        """Ends the server in good order, if it runs, and looks at what it left on stderr."""
        if self.process and self.process.poll() is None:
            status = self.stop()
            assert status == 0, f"SIGTERM ended the server with {status}:\n{self.log()[-4000:]}"
        self.check_log()

    def log(self):
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def check_log(self):
        found = REPORTS.search(self.log())
        assert not found, f"a report on stderr:\n{self.log()[max(0, found.start() - 200):][:6000]}"

    # ---- operator ----

    def operator(self, path):
        with urllib.request.urlopen(self.operator_url + path, timeout=10) as r:
            return r.read().decode()

    def metrics(self):
        """{name: value}; a sample with labels is under name{labels}."""
        found = {}
        for line in self.operator("/metrics").splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def metric(self, name):
        return self.metrics()[f"sluice_{name}"]

    # ---- command line ----

    def cli_run(self, *args, stdin=None):
        """Any command; the finished process."""
        return subprocess.run([BIN, *args, "--data", str(self.data)], input=stdin, text=True,
                              capture_output=True, timeout=60, env=self.env, cwd=self.home)

    def cli(self, *args, stdin=None):
        """A command that must succeed; what it printed with --json."""
        run = self.cli_run(*args, "--json", stdin=stdin)
        if run.returncode != 0:
            raise CliError(run)
        return json.loads(run.stdout) if run.stdout.strip() else None

    def add_account(self, name, limits=WIDE, device_limits=WIDE):
        self.cli("account", "add", name, "--limits", limits, "--device-limits", device_limits)
        return name

    def add_key(self, account, name="main"):
        return self.cli("key", "add", account, name)["key"]

    def add_devices(self, account, devices):
        """Many at once: [(id, secret, hash), ...]; without a secret one is generated, a hash is stored
        as the secret's. Their headers."""
        admin = AdminConnection(self.data / "admin.sock")
        made = []
        for device, secret, stored in devices:
            args = {"hash": stored} if stored else {"secret": secret} if secret else {}
            answer = admin.call("device", "add", account=account, device=device, **args)
            made.append(device_auth(device, secret or answer["secret"]))
        admin.close()
        return made

    def add_device(self, account, device, *args):
        """Its secret, when it was generated."""
        return self.cli("device", "add", account, device, *args).get("secret")


class AdminConnection(http.client.HTTPConnection):
    """HTTP over data/admin.sock: what the command line uses, without a process for each call."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)

    def call(self, noun, verb, **args):
        self.request("POST", f"/v1/admin/{noun}/{verb}", json.dumps(args),
                     {"Content-Type": "application/json"})
        r = self.getresponse()
        body = r.read()
        assert r.status == 200, (r.status, body)
        return json.loads(body)


def device_auth(device, secret):
    return {"X-Device-Id": device, "X-Device-Token": secret}
