# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ broker under test: its own data folder, ports and Erlang port mapper, ended by process id.

The programs are Debian's, unpacked by tools/install_packages.sh or installed. They are run without their
scripts, which have their paths written into them.
"""
import logging
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pika
import pika.exceptions

from harness import ROOT, free_port, wait_for
from pki import Authority
from sink_conformance import Message, Target

logging.getLogger("pika").setLevel(logging.CRITICAL)  # each attempt while it starts

SIZE_MAX = 300000
CONFIG = """
listeners.tcp.1 = 127.0.0.1:{port}
listeners.ssl.1 = 127.0.0.1:{tls_port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none
max_message_size = {size}
disk_free_limit.absolute = 1MB
log.console = false
log.file = broker.log
log.file.level = warning
"""


class RabbitMQ(Target):
    """A place is an exchange with a queue that gets what the properties send, but not all there is."""
    kind = "rabbitmq"
    poison = (("raw/x", b"z" * (SIZE_MAX + 1)), ("raw/no/queue", b"nobody wants it"))
    poison_why = "larger than configured max size"
    schedulers = 1

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="sluice-rabbitmq-"))
        root = ROOT / "build-tools" / "rabbitmq"
        root = root if root.exists() else Path("/")
        self.erlang = root / "usr/lib/erlang"
        self.programs, = self.erlang.glob("erts-*/bin")
        self.rabbit, = (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")
        self.port, self.tls_port, self.distribution, self.mapper_port = (free_port() for _ in range(4))
        self.cookie, self.got, self.process = secrets.token_hex(16), {}, None
        self.ca = Authority(self.home)
        self.prepare()
        self.mapper = self.spawn("epmd", "-port", self.mapper_port, "-address", "127.0.0.1")
        self.password = self.home / "password"  # Sluice's, of the user sluice
        try:
            self.start()
            self.password.write_text("first secret\n")
            self.order('rabbit_auth_backend_internal:add_user(<<"sluice">>, <<"first secret">>, <<"test">>), '
                       'rabbit_auth_backend_internal:set_permissions(<<"sluice">>, <<"/">>, <<"^s">>, <<"^s">>, '
                       '<<"^s">>, <<"test">>)')
        except BaseException:
            self.close()
            raise

    def prepare(self):
        certificate, key, _ = self.ca.make("broker", ["localhost"])
        (self.home / "rabbitmq.conf").write_text(CONFIG.format(
            port=self.port, tls_port=self.tls_port, ca=self.ca.path, certificate=certificate, key=key,
            size=SIZE_MAX))
        cookie = self.home / ".erlang.cookie"
        cookie.write_text(self.cookie)
        cookie.chmod(0o400)

    # ---- process ----

    def environment(self):
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(self.home), "EMU": "beam",
                "PROGNAME": "erl", "ROOTDIR": str(self.erlang), "BINDIR": str(self.programs),
                "ERL_LIBS": str(self.rabbit / "plugins"), "ERL_EPMD_PORT": str(self.mapper_port),
                "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_CRASH_DUMP_SECONDS": "0",
                "RABBITMQ_HOME": str(self.rabbit), "RABBITMQ_PLUGINS_DIR": str(self.rabbit / "plugins"),
                "RABBITMQ_NODENAME": "sluice@localhost", "RABBITMQ_DIST_PORT": str(self.distribution),
                "RABBITMQ_MNESIA_BASE": str(self.home / "data"), "RABBITMQ_LOG_BASE": str(self.home / "log"),
                "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins")}

    def spawn(self, program, *args):
        with open(self.home / "stdout.log", "ab") as log:
            return subprocess.Popen([str(self.programs / program), *map(str, args)], stdin=subprocess.DEVNULL,
                                    stdout=log, stderr=log, cwd=self.home, env=self.environment())

    def start(self):
        def up():
            if self.process is None or self.process.poll() is not None:
                self.process = self.spawn(
                    "erlexec", "-noinput", "-s", "rabbit", "boot", "-boot", "start_sasl", "+W", "w",
                    "+S", f"{self.schedulers}:{self.schedulers}", "+sbwt", "none", "-syslog", "logger", "[]",
                    "-syslog", "syslog_error_logger", "false", "-kernel", "inet_dist_use_interface", "{127,0,0,1}")
            try:
                self.connect().close()
                return True
            except (pika.exceptions.AMQPError, OSError):
                return False
        wait_for("RabbitMQ", up, 120, step=0.1)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def close(self):
        if self.process and self.process.poll() is None:
            self.stop()
        self.mapper.kill()
        self.mapper.wait(30)
        shutil.rmtree(self.home, ignore_errors=True)

    def order(self, expression):
        """Has the broker evaluate Erlang, as its command line does."""
        run = subprocess.run([str(self.programs / "erl_call"), "-c", self.cookie, "-n", "sluice@localhost", "-e"],
                             input=expression + ".\n", capture_output=True, text=True, timeout=60, cwd=self.home,
                             env=self.environment())
        assert run.returncode == 0 and run.stdout.startswith("{ok, "), run.stdout + run.stderr
        return run.stdout

    # ---- AMQP ----

    def connect(self):
        return pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", self.port, socket_timeout=10, stack_timeout=10, blocked_connection_timeout=60))

    def url(self, port=None):
        return f"amqp://sluice@127.0.0.1:{port or self.port}"

    def settings(self, place, port=None):
        if place not in self.got:
            self.got[place] = []
            with self.connect() as connection:
                channel = connection.channel()
                channel.exchange_declare(place, "topic", durable=True)
                channel.queue_declare(place, durable=True, arguments={"x-queue-type": "quorum"})
                for key in ("*.*", "*.raw.x.#"):
                    channel.queue_bind(place, place, key)
        return {"rabbitmq.url": self.url(port), "rabbitmq.password_file": str(self.password),
                "rabbitmq.exchange": place}

    def take(self, queue):
        """(routing key, properties, body) of all that was in the queue; it goes on while more of that comes, and no longer
        than to what Sluice has got since."""
        found, begun_ms = [], time.time() * 1000
        with self.connect() as connection:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1000)
            over = False
            while not over:
                last = None
                for method, properties, body in channel.consume(queue, inactivity_timeout=0.2):
                    over = method is not None and properties.headers["received"] > begun_ms
                    if method is None or over:
                        break
                    found.append((method.routing_key, properties, body))
                    last = method.delivery_tag
                    if len(found) % 500 == 0:
                        channel.basic_ack(last, multiple=True)
                        last = None
                if last:
                    channel.basic_ack(last, multiple=True)
                channel.cancel()
                method, properties, body = (None,) * 3 if over else channel.basic_get(queue, auto_ack=True)
                over = over or method is None
                if not over:
                    found.append((method.routing_key, properties, body))
        return found

    def read(self, place):
        for _, properties, body in self.take(place):
            h = properties.headers
            self.got[place].append(Message(h["position"], body, *map(h.get, ("account", "feed", "device", "topic"))))
        return list(self.got[place])

    def accept_poison(self, place):
        with self.connect() as connection:
            connection.channel().queue_bind(place, place, "#")
