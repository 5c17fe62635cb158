# SPDX-License-Identifier: Apache-2.0
"""What comes together, in one turn of a worker's loop or one commit: messages of which only a pledge is left while they wait for the
disk, behind some that were stored before; and messages that are counted together."""
import time

import pytest

from conftest import owner_on
from fleet import read_back
from harness import device_auth, wait_for
from mqtt_wire import DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, Mqtt, packet, publish
from wire import Wire, request

URL = "/v1/telemetry"
THREE = [{"f": "a"}, {"f": "b"}, {"f": "c"}]
FORBIDDEN = 0x87


class Held:
    """A server with one worker, whose disk takes its time when told so: meanwhile all that comes goes into the next commit."""

    def __init__(self, make_server, **settings):
        self.server = make_server({"journal.disk": "slow", "server.workers": 1, **settings})
        self.owner = owner_on(self.server, "ann")
        self.slow = self.server.data / "journal" / "slow_ms"

    def post(self, body, number=None):
        name = {"X-Device-Seq": str(number)} if number else {}
        return request("POST", URL, {**self.owner.auth, **name}, body)

    def hold(self, wire, ms):
        """A commit of one message, in hand for so long."""
        self.slow.write_text(str(ms))
        wire.send(self.post({"f": "filler"}))
        time.sleep(0.3)  # it is in fdatasync
        self.slow.write_text("0")

    def come(self, wire, data):
        """Sends it, and returns when the worker has it."""
        wire.send(data)
        self.server.metrics()


@pytest.fixture
def held(make_server):
    return lambda **settings: Held(make_server, **settings)


def messages(version, *rows):
    """Packets of (topic, value, qos, mid), to be sent as one."""
    return b"".join(publish(f"ann/feeds/{topic}" if "/" not in topic else topic, value, qos, mid, version)
                    for topic, value, qos, mid in rows)


def test_duplicates_in_front_of_pledges(held):
    """They are left out of the commit; what stands behind them has its place, its answer, and no other's."""
    held = held()
    with Wire(held.server.http_port) as http, Wire(held.server.http_port) as filler, \
            Mqtt(held.server.mqtt_port, 5) as mqtt:
        first = http.ask(held.post(THREE, 7))
        assert first.status == 202
        mqtt.login(held.owner.name, held.owner.key)
        commits = held.server.metric("journal_commits_total")
        held.hold(filler, 2000)
        held.come(http, held.post(THREE, 7))
        held.come(mqtt, messages(5, ("f", "1", 1, 1), ("f", "2", 2, 2), ("bob/feeds/f", "3", 1, 3), ("f", "q0", 0, None),
                                 ("f", "4", 1, 4)))
        held.come(http, held.post(THREE, 8) + held.post(THREE, 8) + held.post({"f": "other"}, 8))
        held.come(mqtt, messages(5, ("f", "5", 1, 5), ("f", "6", 1, 6)))
        assert mqtt.silent(0.05)  # nothing is told before it is durable
        codes = [mqtt.code(kind, mid) for kind, mid in
                 ((PUBACK, 1), (PUBREC, 2), (PUBACK, 3), (PUBACK, 4), (PUBACK, 5), (PUBACK, 6))]
        assert codes == [0, 0, FORBIDDEN, 0, 0, 0]
        again, new, twice, other = (http.read() for _ in range(4))
        # A read waits for all that its account was told of: for nothing that is not there.
        stored = read_back(held.server, held.owner, "f")
        assert filler.read().status == 202
        assert held.server.metric("journal_commits_total") - commits == 2
        assert mqtt.send(packet(PUBREL, b"\0\2", 2)).expect(PUBCOMP).body[:2] == b"\0\2"
    assert (again.status, again.json(), again["idempotency-replayed"]) == (202, first.json(), "true")
    assert (new.status, twice.status, twice.json()) == (202, 202, new.json()) and "idempotency-replayed" not in new
    assert other.status == 422
    places = sorted(stored)
    assert [stored[at] for at in places] == ["a", "b", "c", "filler", "1", "2", "q0", "4", "a", "b", "c", "5", "6"]
    assert places[3:] == list(range(places[3], places[3] + 10))
    assert places[0] == first.json()["position"]["offset"] and places[8] == new.json()["position"]["offset"]


def accepted(response):
    return response if response.status == 202 else None


@pytest.mark.parametrize("version", [4, 5])
def test_duplicates_in_front_of_pledges_that_wait_too_long(held, version):
    """Nobody is told that it is stored, and nobody that it is not: a client of MQTT is closed, and sends it again."""
    held = held(**{"ack.timeout": "500ms"})
    with Wire(held.server.http_port) as http, Wire(held.server.http_port) as filler, \
            Mqtt(held.server.mqtt_port, version) as mqtt:
        first = http.ask(held.post(THREE, 7))
        assert first.status == 202
        mqtt.login(held.owner.name, held.owner.key)
        held.hold(filler, 2500)
        held.come(http, held.post(THREE, 7))
        held.come(mqtt, messages(version, ("f", "1", 1, 1), ("f", "2", 1, 2)))
        held.come(http, held.post({"f": "d"}, 8))
        assert [http.read().status for _ in range(2)] == [503, 503]
        if version == 5:
            assert mqtt.expect(DISCONNECT).body[0] == 0x80
        assert mqtt.closed() and filler.read().status == 503
        again, late = (wait_for("the disk", lambda: accepted(http.ask(held.post(*message))))
                       for message in ((THREE, 7), ({"f": "d"}, 8)))
    assert again.json() == first.json() and late["idempotency-replayed"] == "true"
    stored = read_back(held.server, held.owner, "f")
    assert [stored[at] for at in sorted(stored)] == ["a", "b", "c", "filler", "1", "2", "d"]
    assert stored[late.json()["position"]["offset"]] == "d"


def test_who_asks_how_much_is_used_is_told_of_all_that_came_before(make_server):
    """In one turn, in which messages of one sender are counted together; nothing there waits for the disk."""
    server = make_server({"server.workers": 1})
    server.cli("account", "add", "ann", "--limits", "100000/60s", "--device-limits", "50000/60s")
    key = {"X-AIO-Key": server.add_key("ann")}
    auth = device_auth("dev", server.add_device("ann", "dev"))
    post, ask = request("POST", URL + "?ack=received", auth, {"f": 1}), request("GET", "/api/v2/ann/throttle", key)
    with Wire(server.http_port) as w:
        assert w.ask(post).status == 202  # it is known, and the feed is there
        w.send(10 * post + ask + 10 * post + ask)
        answers = [w.read() for _ in range(22)]
    assert [answers[i].json()["active_data_rate"] for i in (10, 21)] == [11, 21]
    assert {a.status for a in answers} == {202, 200}
    limits = {limit["of"]: limit["used"] for limit in server.cli("throttle", "explain", "dev")["limits"]}
    assert limits == {"account": 21, "device": 21}
