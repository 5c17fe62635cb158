# SPDX-License-Identifier: Apache-2.0
"""The servers that Sluice is measured beside: how each is started on its core, and what it used."""
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import harness
from common import ROOT, cpu_seconds, memory_bytes

PROGRAMS = f"{ROOT / 'build-tools' / 'bin'}:{os.environ.get('PATH', '')}:/usr/sbin"


class Missing(Exception):
    """A peer that is not there; the text says what to do about it."""


def find(program):
    found = shutil.which(program, path=PROGRAMS)
    if not found:
        raise Missing(f"there is no {program}: tools/install_packages.sh bench")
    return found


class Peer:
    """A server with a file of settings, in which {home} and {port} are put in. It runs from here on."""
    expected = "204"  # what it answers to a request
    csv, words = None, ()  # devices of its own for `sluice load`, and further options

    def __init__(self, name, home, cpu, command, conf, root="bench"):
        self.name, self.topic_root = name, root
        self.home = home / re.sub(r"\W+", "-", name.lower())
        self.home.mkdir()
        self.port = harness.free_port()
        path = self.home / "conf"
        path.write_text(conf.format(home=self.home, port=self.port))
        self.run([find(command[0]), *command[1:], str(path)], cpu)

    def run(self, command, cpu, **rest):
        self.command, self.url = command, f"http://127.0.0.1:{self.port}/v1/telemetry"
        log = open(self.home / "out", "wb")
        env = {**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home), "XDG_DATA_HOME": str(self.home)}
        self.process = subprocess.Popen(command, cwd=self.home, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        preexec_fn=lambda: os.sched_setaffinity(0, cpu), **rest)
        log.close()
        harness.wait_for(self.name, self.up, 60)

    def up(self):
        assert self.process.poll() is None, f"{self.name} ended: {(self.home / 'out').read_text()[-500:]}"
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def login(self):
        return []

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def memory(self):
        return memory_bytes(self.process.pid)

    def taken(self):
        return None

    def commits(self):
        return 0

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def resp(words):
    """A command in Redis' protocol."""
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Redis(Peer):
    """Debian's redis-check-rdb is the server too, when it is called so; its own package starts a daemon."""

    def __init__(self, name, home, cpu, *settings):
        self.name = name  # the same again in each round, and each has a directory of its own
        self.home = Path(tempfile.mkdtemp(prefix=re.sub(r"\W+", "-", name.lower()) + "-", dir=home))
        self.port = harness.free_port()
        program = shutil.which("redis-server", path=PROGRAMS) or find("redis-check-rdb")
        self.run(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir",
                  str(self.home), *settings], cpu, executable=program)
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.file = self.socket.makefile("rb")

    def do(self, commands):
        """Commands whose answers are one line each; the answers."""
        commands, answers = list(commands), []
        for at in range(0, len(commands), 1000):
            some = commands[at:at + 1000]
            self.socket.sendall(b"".join(map(resp, some)))
            for command in some:
                answer = self.file.readline()
                if not answer or answer.startswith(b"-"):
                    raise OSError(f"{command[0]}: {answer.decode().strip() or 'closed'}")
                answers.append(answer)
        return answers


def first_line(command, executable=None):
    try:
        run = subprocess.run(command, executable=executable, text=True, capture_output=True, timeout=30)
    except OSError:
        return None
    return ((run.stdout + run.stderr).splitlines() or [None])[0]


def version(program, *words):
    """What a program says of itself; None where it is not there."""
    try:
        return first_line([find(program), *words])
    except Missing:
        return None


def versions():
    """Of all that may be measured, by name; who is not there is not in it."""
    found = {"Sluice": first_line([harness.BIN, "version"]), "nginx": version("nginx", "-v"),
             "HAProxy": version("haproxy", "-v"), "Caddy": version("caddy", "version"),
             "Mosquitto": version("mosquitto", "-h"), "NATS": version("nats-server", "-v"),
             "Redis": version("redis-benchmark", "--version"), "PostgreSQL": first_line(
                 ["dpkg-query", "-W", "-f=${Version}\n", "postgresql-15"]),
             "gcc": version("gcc", "--version")}
    rabbit = list(ROOT.glob("build-tools/rabbitmq/usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    rabbit += list(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    if rabbit:
        found["RabbitMQ"] = rabbit[0].name.rpartition("-")[2]
    kafka = list(ROOT.glob("build-tools/kafka/kafka-clients-*.jar"))
    if kafka:
        found["Kafka"] = kafka[0].stem.rpartition("-")[2]
    return {name: re.sub(r"\s+https?://\S+", "", text) for name, text in found.items() if text}
