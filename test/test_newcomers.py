# SPDX-License-Identifier: Apache-2.0
"""Who has proved who it is goes before who has not yet: in one turn of a worker's loop, and for good."""
import os
import signal
from pathlib import Path

import pytest
import requests

import mqtt_wire
from conftest import owner_on
from harness import device_auth, wait_for
from wire import Wire, request

MANY = 300  # far more than a turn has time for


def post(auth, value):
    return request("POST", "/v1/telemetry", auth, {"f": value})


class Crowd:
    def __init__(self, server):
        self.server, self.owner, self.wires = server, owner_on(server, "ann"), []

    def rush(self, then):
        """What MANY newcomers send, and after them `then`, is there at once."""
        self.wires = [Wire(self.server.http_port) for _ in range(MANY)]
        for w in self.wires:  # each is let in, which proves nothing of who it is
            assert w.ask(request("GET", "/healthz")).status == 200
        os.kill(self.server.pid, signal.SIGSTOP)
        wait_for("the server to stand still", lambda: all(
            stat.read_text().rsplit(")", 1)[1].split()[0] == "T"
            for stat in Path(f"/proc/{self.server.pid}/task").glob("*/stat")))
        for i, w in enumerate(self.wires):
            w.send(post(self.owner.auth, i))
        then()
        os.kill(self.server.pid, signal.SIGCONT)

    def place(self):
        """How many of them came before the message "last"."""
        for w in self.wires:  # nobody is forgotten
            assert w.read().status == 202
        r = requests.get(f"{self.owner.url}/feeds/f/data", headers=self.owner.key_auth, timeout=10)
        return [d["value"] for d in r.json() if d["value"] != "first"][::-1].index("last")


@pytest.fixture
def crowd(make_server):
    crowd = Crowd(make_server({"server.workers": "1"}))
    yield crowd
    for w in crowd.wires:
        w.close()


def test_who_was_accepted_before_is_served_first(crowd):
    with Wire(crowd.server.http_port) as known:
        assert known.ask(post(crowd.owner.auth, "first")).status == 202
        crowd.rush(lambda: known.send(post(crowd.owner.auth, "last")))
        assert known.read().status == 202
    assert crowd.place() == 0


def test_a_refusal_that_is_not_for_who_it_is_changes_nothing(crowd):
    with Wire(crowd.server.http_port) as known:
        assert known.ask(post(crowd.owner.auth, "first")).status == 202
        assert known.ask(request("GET", "/api/v2/ann/feeds/none", crowd.owner.key_auth)).status == 404
        crowd.rush(lambda: known.send(post(crowd.owner.auth, "last")))
        assert known.read().status == 202
    assert crowd.place() == 0


@pytest.mark.parametrize("how", ["refused", "not looked at"])
def test_whose_last_credential_was_not_found_good_waits_with_the_newcomers(crowd, how):
    bad = {"refused": (post(device_auth(crowd.owner.device, "guessed"), "x"), 401),
           "not looked at": (request("GET", "/healthz", {"X-AIO-Key": "none"}), 200)}[how]
    with Wire(crowd.server.http_port) as newcomer:
        assert newcomer.ask(post(crowd.owner.auth, "first")).status == 202
        assert newcomer.ask(bad[0]).status == bad[1]
        crowd.rush(lambda: newcomer.send(post(crowd.owner.auth, "last")))
        assert newcomer.read().status == 202
    assert crowd.place() == MANY


def test_a_client_of_mqtt_is_known_once_it_is_connected(crowd):
    assert requests.post(f"{crowd.server.url}/v1/telemetry", headers=crowd.owner.auth, json={"f": "first"},
                         timeout=10).status_code == 202
    with mqtt_wire.Mqtt(crowd.server.mqtt_port) as known:
        known.login(crowd.owner.name, crowd.owner.key)
        crowd.rush(lambda: known.publish("ann/feeds/f", "last", qos=1))
        known.expect(mqtt_wire.PUBACK)
    assert crowd.place() == 0


def test_an_operator_does_not_wait_for_newcomers(crowd):
    with Wire(crowd.server.operator_port) as operator:
        assert operator.ask(request("GET", "/healthz")).status == 200
        crowd.rush(lambda: operator.send(request("GET", "/metrics")))
        text = operator.read().body.decode()
    accepted = next(line for line in text.splitlines() if line.startswith("sluice_messages_accepted_total "))
    assert int(accepted.split()[1]) < MANY // 2
    assert all(w.read().status == 202 for w in crowd.wires)
