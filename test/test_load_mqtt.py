# SPDX-License-Identifier: Apache-2.0
"""`sluice load` speaking MQTT to the real server."""
import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

from harness import BIN, free_port


@pytest.fixture
def fleet(make_server, tmp_path):
    server = make_server()
    server.add_account("demo")
    csv = tmp_path / "devices.csv"
    csv.write_text("device_id,secret\n" + "".join(
        f"d{i},{server.add_device('demo', f'd{i}')}\n" for i in range(3)))
    return server, csv


def load(port, *args, status=0):
    """The results of a run as JSON, and what it printed."""
    run = subprocess.run([BIN, "load", f"mqtt://127.0.0.1:{port}", "--quiet", "--json", "/dev/fd/2",
                          *(str(a) for a in args)], capture_output=True, text=True, timeout=120)
    assert run.returncode == status, (run.stdout, run.stderr)
    return json.loads(run.stderr) if run.stderr.startswith("{") else run.stderr, run.stdout


@pytest.mark.parametrize("mqtt", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [1, 0])
def test_every_message_is_stored(fleet, mqtt, qos):
    server, csv = fleet
    got, printed = load(server.mqtt_port, "--devices", csv, "--connections", 4, "--topic", "demo/feeds/m%feed%",
                        "--feeds", 20, "--requests", 1000, "--qos", qos, "--mqtt", mqtt, "--window", 30)
    assert got["status"] == {"0": 1000} and got["sent"] == got["answered"] == 1000
    assert not got["broken"] and not got["bad_responses"] and not got["closed"]
    counted = "messages_accepted_total" if qos else "messages_received_unacked_total"
    assert server.metric(counted) == 1000
    assert "0: 1000" in printed
    feeds = json.loads(http_get(server, "/api/v2/demo/feeds", server.add_key("demo")))
    assert sorted(f["key"] for f in feeds) == [f"m{i:06d}" for i in range(20)]


def http_get(server, path, key):
    request = urllib.request.Request(server.url + path, headers={"X-AIO-Key": key})
    with urllib.request.urlopen(request, timeout=20) as r:
        return r.read()


@pytest.mark.parametrize("window", [1000, 3])
def test_what_is_sent_at_the_end_is_known_to_be_read(fleet, window):
    """The larger window takes several writes, of which the last is a small one."""
    server, csv = fleet
    got, _ = load(server.mqtt_port, "--devices", csv, "--connections", 8, "--topic", "demo/feeds/m", "--qos", 0,
                  "--window", window, "--payload-size", 900, "--seconds", 0.5)
    assert got["sent"] == got["answered"] == server.metric("messages_received_unacked_total")
    assert not got["broken"] and not got["timed_out"]


def test_subscribers_measure_how_long_it_takes(fleet):
    server, csv = fleet
    got, printed = load(server.mqtt_port, "--devices", csv, "--connections", 2, "--topic", "demo/feeds/%device%",
                        "--requests", 300, "--rate", 2000, "--subscribe", "demo/feeds/+", "--subscribers", 2,
                        "--payload-size", 60)
    assert got["status"] == {"0": 300} and got["delivered"] == 600
    assert 0 < got["delivery_ms"]["p50"] <= got["delivery_ms"]["max"]
    assert "delivered to subscribers: 600" in printed


def test_refusals_are_counted_by_code(fleet):
    server, csv = fleet
    got, _ = load(server.mqtt_port, "--devices", csv, "--topic", "another/feeds/x", "--requests", 50,
                  "--connections", 3)
    assert list(got["status"].values()) == [50] and int(*got["status"]) >= 0x80
    assert server.metric("messages_accepted_total") == 0


def test_a_login_that_is_refused_ends_the_run(fleet):
    server, _ = fleet
    got, printed = load(server.mqtt_port, "--device", "d0", "--token", "wrong", "--topic", "demo/feeds/x",
                        "--connections", 2, "--seconds", 60, status=1)
    assert got["logins_refused"] == 2 and got["answered"] == 0
    assert "logins refused: 2, the last with code 134" in printed


def test_a_payload_as_it_is(fleet):
    server, csv = fleet
    load(server.mqtt_port, "--devices", csv, "--topic", "demo/feeds/x", "--payload", "21.5", "--requests", 1,
         "--connections", 1)
    last = json.loads(http_get(server, "/api/v2/demo/feeds/x/data/last", server.add_key("demo")))
    assert last["value"] == "21.5"


class Liar(threading.Thread):
    """A server that answers CONNECT rightly, and then with bytes of the test's."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.answer, self.port = answer, free_port()
        self.sock = socket.create_server(("127.0.0.1", self.port))
        self.start()

    def run(self):
        peer, _ = self.sock.accept()
        peer.recv(65536)
        peer.sendall(b"\x20\x02\x00\x00")
        peer.recv(65536)
        peer.sendall(self.answer)
        while peer.recv(65536):
            pass


@pytest.mark.parametrize("answer", [b"\x40\x02\x00\x63", b"\x40\x02\x00\x00", b"\x90\x03\x00\x01\x00", b"\xf7\x00",
                                    b"\x40\x02\x00\x01" * 2, b"\xd0\x00"],
                         ids=["unknown id", "id 0", "suback", "no packet", "twice", "pong"])
def test_a_server_that_answers_wrongly(answer):
    got, printed = load(Liar(answer).port, "--topic", "t", "--mqtt", "3.1.1", "--connections", 1, "--window", 1,
                        "--requests", 2 if answer[:4] == b"\x40\x02\x00\x01" else 1, "--seconds", 30,
                        status=0 if answer[:4] == b"\x40\x02\x00\x01" else 1)
    assert got["bad_responses"] == 1


class Tardy(threading.Thread):
    """A server that lets a subscriber and a publisher in, and has `course` say what becomes of the first message."""

    def __init__(self, course):
        super().__init__(daemon=True)
        self.course, self.sock = course, socket.create_server(("127.0.0.1", 0))
        self.port, self.subscriber, self.asked = self.sock.getsockname()[1], None, threading.Event()
        self.start()

    def run(self):
        while True:
            peer, _ = self.sock.accept()
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        peer.recv(65536)
        peer.sendall(b"\x20\x02\x00\x00")
        got = peer.recv(65536)
        if got and got[0] == 0x82:
            self.subscriber = peer
            peer.sendall(b"\x90\x03\x00\x01\x00")
        elif got:
            self.asked.set()
            try:
                self.course(self, peer, got)
            except OSError:
                pass
        while peer.recv(65536):
            pass


def never(server, peer, message):
    pass


def prattle(server, peer, message):
    """Never an answer, but something else all the time."""
    while True:
        time.sleep(0.1)
        peer.sendall(b"\x30\x03\x00\x01t")


def late(server, peer, message):
    """An answer long after the end, and the copy a while after that."""
    time.sleep(2)
    peer.sendall(b"\x40\x02\x00\x01")
    time.sleep(0.5)
    at = 4 + message[3]  # type, length below 128, topic
    body = message[2:at] + message[at + 2:]
    server.subscriber.sendall(bytes([0x30, len(body)]) + body)


ONE = ["--topic", "t", "--mqtt", "3.1.1", "--connections", 1, "--window", 1, "--seconds", 0.5]


@pytest.mark.parametrize("course", [never, prattle])
def test_what_is_never_answered_times_out(course):
    """It does not count as broken too."""
    got, _ = load(Tardy(course).port, *ONE, "--timeout", 1, status=1)
    assert (got["sent"], got["answered"], got["timed_out"], got["broken"]) == (1, 0, 1, 0)


def test_copies_of_a_late_answer_are_awaited():
    got, _ = load(Tardy(late).port, *ONE, "--payload-size", 60, "--subscribe", "t")
    assert (got["answered"], got["delivered"], got["broken"], got["timed_out"]) == (1, 1, 0, 0)


def test_the_second_interrupt_ends_at_once(tmp_path):
    server, out = Tardy(never), tmp_path / "out.json"
    args = [*ONE, "--seconds", 60, "--timeout", 60, "--json", out]
    run = subprocess.Popen([BIN, "load", f"mqtt://127.0.0.1:{server.port}", "--quiet", *(str(a) for a in args)])
    try:
        assert server.asked.wait(20)
        run.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            run.wait(1.5)
        run.send_signal(signal.SIGINT)
        assert run.wait(5) == 1  # nothing was answered
    finally:
        run.kill()
        run.wait()
    got = json.loads(out.read_text())
    assert (got["sent"], got["timed_out"], got["broken"]) == (1, 0, 1)


@pytest.mark.parametrize("args,what", [
    (["mqtt://x"], "needs a --topic"),
    (["mqtt://x", "--topic", "a/#"], "--topic"),
    (["mqtt://x", "--topic", "a", "--key", "k"], "are for http://"),
    (["mqtt://x/path", "--topic", "a"], "the URL must be"),
    (["mqtt://x", "--topic", "a", "--qos", "2"], "--qos"),
    (["mqtt://x", "--topic", "a", "--window", "70000"], "--window"),
    (["mqtt://x", "--topic", "a", "--payload-size", "19"], "--payload-size"),
    (["mqtt://x", "--topic", "a", "--subscribers", "2"], "needs a filter"),
    (["mqtt://x", "--topic", "a", "--subscribe", "a", "--payload", "1"], "measures by the payload"),
    (["http://x", "--topic", "a"], "are for mqtt://"),
])
def test_wrong_usage(args, what):
    run = subprocess.run([BIN, "load", *args], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and what in run.stderr, run.stderr
