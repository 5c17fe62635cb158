# SPDX-License-Identifier: Apache-2.0
"""An Apache Kafka broker under test (KRaft mode, one node): its own data folder and ports, ended by process id.

The jars are what tools/fetch_kafka.sh gets; Java is Debian's.
"""
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from fault_proxy import FaultProxy
from harness import ROOT, free_port, wait_for
from pki import Authority
from sink_conformance import Message, Target

JARS = ROOT / "build-tools" / "kafka"
# The interpreter and a little compiling are the quickest for the few seconds that a test takes.
JAVA_OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
MESSAGE_MAX = 80000
SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAIN://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied},SECURE://localhost:{secure}
listener.security.protocol.map=PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL
inter.broker.listener.name=PLAIN
controller.listener.names=CONTROLLER
log.dirs={data}
num.partitions=3
message.max.bytes={message_max}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_sluice="its-secret";
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={keystore}
"""


class Kafka(Target):
    """A place is a topic."""
    kind, exactly_once, replay_replaces, away, heals = "kafka", True, False, "Connect", True
    batch_max = "500"  # the time of a transaction hardly depends on what is in it
    # More than a topic takes, and nothing that can be compressed.
    poison = tuple(("raw/x", Random(seed).randbytes(MESSAGE_MAX + 10000)) for seed in (1, 2))
    poison_why = "Message size too large"
    java_options = JAVA_OPTIONS

    def __init__(self):
        if not (JARS / "pom.xml").exists():
            pytest.skip("there is no Apache Kafka: tools/fetch_kafka.sh could not get it")
        self.home = Path(tempfile.mkdtemp(prefix="sluice-kafka-"))
        self.port, self.behind, self.proxied, self.secure, controller = (free_port() for _ in range(5))
        self.process = None
        self.authority = Authority(self.home)
        certificate, key, _ = self.authority.make("broker", names=("localhost",))
        keystore = self.home / "keystore.pem"
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        self.config = self.home / "server.properties"
        self.config.write_text(SETTINGS.format(
            port=self.port, behind=self.behind, proxied=self.proxied, secure=self.secure, controller=controller,
            data=self.home / "data", message_max=MESSAGE_MAX, keystore=keystore))
        self.java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c", self.config)
        self.start()

    def java_command(self, *args):
        return ["java", *self.java_options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{JARS}/*",
                *map(str, args)]

    def java(self, *args):
        run = subprocess.run(self.java_command(*args), capture_output=True, text=True, cwd=self.home, timeout=120)
        assert run.returncode == 0, run.stdout + run.stderr

    # ---- process ----

    def spawn(self):
        with open(self.home / "server.log", "ab") as log:
            self.process = subprocess.Popen(self.java_command("kafka.Kafka", self.config), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, cwd=self.home)

    def start(self):
        self.spawn()

        def up():
            assert self.process.poll() is None, (self.home / "server.log").read_text()[-4000:]
            try:
                return self.admin().list_topics(timeout=2)
            except KafkaException:
                return None
        wait_for("Kafka", up, 90, step=0.1)
        return self

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

    def close(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- what is there ----

    def settings(self, place, port=None):
        return {"kafka.brokers": f"127.0.0.1:{port or self.port}", "kafka.topic": place}

    def proxy(self, seed):
        """Clients go to where the broker says it is: by this listener, to the proxy."""
        return FaultProxy(self.behind, seed, port=self.proxied)

    def client(self, **rest):
        return {"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": 0, **rest}

    def admin(self):
        return AdminClient(self.client())

    def consume(self, topic, committed=True):
        """All messages of a topic: those of finished transactions, or whatever is in it."""
        c = Consumer(self.client(**{
            "group.id": "reader", "enable.partition.eof": True, "enable.auto.commit": False,
            "isolation.level": "read_committed" if committed else "read_uncommitted", "fetch.wait.max.ms": 20}))
        try:
            partitions = c.list_topics(topic, timeout=20).topics[topic].partitions
            c.assign([TopicPartition(topic, p, 0) for p in partitions])
            found, open_ones = [], len(partitions)
            while open_ones:
                m = c.poll(30)
                assert m is not None, f"{topic} is not read to its end: a transaction is open"
                if not m.error():
                    found.append(m)
                elif m.error().code() == KafkaError._PARTITION_EOF:
                    open_ones -= 1
                else:
                    raise KafkaException(m.error())
            return found
        finally:
            c.close()

    def read(self, place):
        """With brief headers: the key says whose it is and to what."""
        found = []
        for m in self.consume(place):
            h = {name: value.decode() for name, value in m.headers()}
            account, to = m.key().decode().split("/", 1)
            feed, topic = (None, to) if h.get("kind") == "message" else (to, None)
            found.append(Message(int(h["position"]), m.value(), account, feed, h.get("device"), topic))
        return found

    def alter(self, topic, **settings):
        resource = ConfigResource("topic", topic, set_config={k.replace("_", "."): v for k, v in settings.items()})
        admin = self.admin()  # its futures do not keep it
        for future in admin.alter_configs([resource]).values():
            future.result(20)

    def set_password(self, mechanism, user, password):
        """Where the cluster keeps SCRAM's, as an operator does it."""
        self.java("kafka.admin.ConfigCommand", "--bootstrap-server", f"127.0.0.1:{self.port}", "--alter", "--entity-type",
                  "users", "--entity-name", user, "--add-config", f"{mechanism}=[password={password}]")

    def accept_poison(self, place):
        self.alter(place, max_message_bytes="1000000")
