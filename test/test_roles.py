# SPDX-License-Identifier: Apache-2.0
"""The sinks in a process of their own (--roles sink) beside a gateway (--roles ingest), on one directory."""
import json
import os
import re
import shutil
import signal
import threading
import time

import pytest
import requests

from conftest import owner_on
from harness import AdminConnection, CliError, wait_for
from pair import PATIENCE, Apart, Gateway, Pair, readyz
from webhook_receiver import Webhooks


@pytest.fixture(scope="module")
def receiver():
    receiver = Webhooks()
    yield receiver
    receiver.close()


@pytest.fixture
def make_pair(tmp_path, receiver, request):
    pairs = []

    def make(start=True, **settings):
        place = f"roles-{request.node.name.replace('[', '-').replace(']', '')}"
        pair = Pair(tmp_path, receiver, place, {k.replace("__", "."): v for k, v in settings.items()})
        pairs.append(pair)
        return pair.start() if start else pair

    yield make
    for pair in pairs:
        pair.close()


def post(pair, owner, value, ack=None, feed="t"):
    return requests.post(f"{pair.gateway.url}/v1/telemetry", params={"ack": ack} if ack else None, json={feed: value},
                         headers=owner.auth, timeout=20)


def send(pair, owner, count, first=0):
    for i in range(first, first + count):
        assert post(pair, owner, i).status_code == 202
    return [str(i) for i in range(first, first + count)]


def test_delivered_by_the_other_process(make_pair):
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 200)
    gateway, sinks = pair.drained(), pair.drained(pair.sinks)
    assert pair.values() == sent
    assert {m.account for m in pair.receiver.read(pair.place)} == {"ann"}
    assert {(m.feed, m.device) for m in pair.receiver.read(pair.place)} == {("t", "ann-dev")}
    assert gateway["position"] == sinks["position"] and gateway["delivered"] == sinks["delivered"] == 200
    assert pair.sinks.metrics()['sluice_sink_delivered_total{sink="webhook"}'] == 200
    assert pair.sinks.metric("link_connected") == 1
    assert json.loads(pair.sinks.operator("/v1/status"))["roles"] == "sink"
    # Not what the gateway is for.
    assert requests.get(pair.sinks.operator_url + "/api/v2/time/seconds", timeout=5).status_code == 404


def test_names_follow_the_catalog(make_pair):
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    send(pair, owner, 1)
    pair.drained()
    r = requests.put(f"{owner.url}/feeds/t", json={"feed": {"key": "renamed", "name": "renamed"}},
                     headers=owner.key_auth, timeout=10)
    assert r.status_code == 200, r.text
    assert post(pair, owner, 1, feed="renamed").status_code == 202
    pair.drained()
    assert [m.feed for m in sorted(pair.receiver.read(pair.place))] == ["t", "renamed"]


def test_an_answer_waits_for_the_other_process(make_pair):
    pair = make_pair(webhook__batch_time="20s")
    owner = owner_on(pair.gateway, "ann")
    for i in range(5):
        begun = time.monotonic()
        r = post(pair, owner, i, "delivered:webhook")
        assert r.status_code == 202 and r.json()["delivery"] == {"sink": "webhook", "state": "delivered",
                                                                 "delivered": 1}, r.text
        assert time.monotonic() - begun < 10
        told = requests.get(pair.gateway.url + r.headers["Location"], headers=owner.key_auth, timeout=10)
        assert told.json()["delivered"] == {"webhook": "delivered"}
    assert pair.values() == [str(i) for i in range(5)]
    # While it is away: accepted, and what is true is said.
    pair.sinks.kill()
    wait_for("the gateway to see it", lambda: pair.status()["state"] == "absent")
    r = post(pair, owner, 5, "delivered:webhook")
    assert r.status_code == 202 and r.json()["delivery"]["state"] == "pending"
    pair.sinks.start()
    pair.drained()
    assert pair.values() == [str(i) for i in range(6)]
    told = requests.get(pair.gateway.url + r.headers["Location"], headers=owner.key_auth, timeout=10)
    assert told.json()["delivered"] == {"webhook": "delivered"}


@pytest.mark.alone
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV], ids=["kill", "segv"])
def test_its_death_is_nothing_to_ingest(make_pair, how):
    """It dies again and again while messages come: each is accepted, none much later than without, none is lost."""
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    took, sent, statuses, stop = [], [], [], threading.Event()

    def sender():
        session = requests.Session()
        while not stop.is_set():
            begun = time.monotonic()
            r = session.post(f"{pair.gateway.url}/v1/telemetry", json={"t": len(sent)}, headers=owner.auth, timeout=20)
            took.append(time.monotonic() - begun)
            statuses.append(r.status_code)
            sent.append(str(len(sent)))
            time.sleep(0.002)

    thread = threading.Thread(target=sender)
    thread.start()
    try:
        time.sleep(3)
        quiet = len(took)
        for _ in range(4):
            os.kill(pair.sinks.pid, how)
            pair.sinks.process.wait(60)
            time.sleep(0.5)
            pair.sinks.start()
            time.sleep(0.5)
    finally:
        stop.set()
        thread.join()
    assert set(statuses) == {202}
    before, during = sorted(took[:quiet]), sorted(took[quiet:])
    p99 = before[int(len(before) * 0.99)], during[int(len(during) * 0.99)]
    print(f"p99 {p99[0] * 1000:.2f} ms without, {p99[1] * 1000:.2f} ms while it died; {len(sent)} messages")
    assert p99[1] < 3 * p99[0] + 0.1
    pair.drained()
    assert pair.values() == sent
    assert pair.gateway.process.poll() is None
    pair.sinks.stderr_path.write_text("")  # what SIGSEGV made the sanitizer say


def test_the_gateway_comes_back(make_pair):
    """The process of the sinks lives on over stops and kills of the gateway, and nothing is lost."""
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    pid, sent = pair.sinks.pid, []
    for round in range(4):
        sent += send(pair, owner, 100, len(sent))
        pair.gateway.kill() if round % 2 else pair.gateway.stop()
        wait_for("it to be seen", lambda: pair.sinks.metric("link_connected") == 0)
        pair.gateway.start()
    sent += send(pair, owner, 100, len(sent))
    pair.drained()
    assert pair.values() == sent and pair.sinks.pid == pid and pair.sinks.process.poll() is None


def test_it_delivers_without_the_gateway(make_pair):
    """What was accepted is delivered while the gateway is away, if it had asked for the names before."""
    pair = make_pair(webhook__timeout="2s", webhook__retry_max="1s")
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 10)
    pair.drained()
    pair.receiver.stop()
    try:
        sent += send(pair, owner, 100, 10)
        wait_for("it to read on", lambda: pair.status(pair.sinks)["lag"] >= 100)
        pair.gateway.stop()
    finally:
        pair.receiver.start()
    wait_for("all to be there", lambda: pair.values() == sent, PATIENCE)
    # Stopped and started without a gateway, too.
    pair.sinks.stop()
    pair.sinks.spawn()
    wait_for("it to run", lambda: "server.ready" in pair.sinks.log()[-2000:], 30)
    pair.gateway.start()
    pair.drained()
    assert pair.values() == sent


def test_sealed(make_pair, tmp_path):
    """It opens what is sealed, by keys that are made while it runs, until an account is erased."""
    key = tmp_path / "master.key"
    key.write_bytes(os.urandom(32).hex().encode())
    pair = make_pair(encryption__master_key_file=str(key))
    for name in "ann", "bob":  # the second one's key is made when the process is long there
        owner = owner_on(pair.gateway, name)
        send(pair, owner, 20)
        pair.drained()
    assert pair.values() == [str(i) for i in range(20)] * 2
    pair.sinks.stop()
    send(pair, owner, 5, 20)
    pair.gateway.cli("account", "erase", "bob")
    pair.sinks.start()
    pair.drained()
    # That feeds were deleted is told too, without a value.
    assert [v for v in pair.values() if v] == [str(i) for i in range(20)] * 2
    assert pair.status(pair.sinks)["unreadable"] == 0 and pair.status(pair.sinks)["erased"] == 5


def test_a_journal_that_lost_its_end(make_pair, tmp_path):
    """An older copy stands in its place, as a disk that lied would leave it: the gateway sees by the sinks' cursors that records
    are missing and takes none in their place; told to go on, it goes on at numbers that nobody has used."""
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 50)
    pair.drained()
    pair.sinks.stop()
    pair.gateway.stop()
    journal, copy = pair.gateway.data / "journal", tmp_path / "copy"
    shutil.copytree(journal, copy)
    pair.start()
    sent += send(pair, owner, 50, 50)
    pair.drained()
    pair.sinks.stop()
    pair.gateway.stop()
    shutil.rmtree(journal)
    shutil.copytree(copy, journal)
    for roles in ("ingest", "ingest,sink"):
        pair.gateway.roles = roles
        pair.gateway.stderr_path.write_text("")
        pair.gateway.spawn()
        assert pair.gateway.process.wait(30) != 0
        assert re.search(r"record \d+ was expected there and had been durable.*journal\.skip_corrupt", pair.gateway.log())
    pair.gateway.roles = "ingest"
    pair.gateway.settings["journal.skip_corrupt"] = "true"
    pair.start()
    sent += send(pair, owner, 50, 100)
    pair.drained()
    assert pair.values() == sent
    assert pair.status(pair.sinks)["gaps"] == 1 and "sink.gap sink=webhook" in pair.sinks.log()
    assert readyz(pair.sinks)[0] == 200


@pytest.mark.parametrize("how", ["replaced", "told"])
def test_another_master_key(make_pair, tmp_path, how):
    """The keyring is wrapped by another one while the gateway is down. It takes the new one from the file that it knows, or
    from settings that it is told to read again; until it finds it, it says why it stands still, and passes over nothing."""
    first, second, config = tmp_path / "first.key", tmp_path / "second.key", tmp_path / "sinks.yaml"
    first.write_text(os.urandom(32).hex())
    second.write_text(os.urandom(32).hex())
    config.write_text(f"encryption:\n  master_key_file: {first}\n")
    pair = make_pair(start=False, encryption__master_key_file=str(first))
    del pair.sinks.settings["encryption.master_key_file"]
    pair.sinks.config = config
    pair.start()
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 20)
    pair.drained()
    pair.gateway.stop()
    done = pair.gateway.cli_run("keyring", "rotate", str(second), "--set", f"encryption.master_key_file={first}")
    assert done.returncode == 0, done.stderr
    pair.gateway.settings["encryption.master_key_file"] = str(second)
    pair.gateway.start()
    sent += send(pair, owner, 20, 20)
    sent += send(pair, owner_on(pair.gateway, "bob"), 20, 40)
    wait_for("it to say so", lambda: "another master key" in readyz(pair.sinks)[1], PATIENCE)
    assert readyz(pair.sinks)[0] == 503
    time.sleep(2)
    assert pair.sinks.log().count("sinks.keyring_failed") == 1  # not with each try
    assert pair.values() == sent[:20] and pair.status(pair.sinks)["unreadable"] == 0
    if how == "replaced":
        second.replace(first)
    else:
        config.write_text(f"encryption:\n  master_key_file: {second}\n")
        os.kill(pair.sinks.pid, signal.SIGHUP)
    pair.drained()
    assert pair.values() == sent and pair.status(pair.sinks)["unreadable"] == 0
    wait_for("it to be ready", lambda: readyz(pair.sinks)[0] == 200, PATIENCE)
    assert "keyring.master_key_changed" in pair.sinks.log()


def test_told_to_read_its_settings_while_it_waits(make_pair, tmp_path):
    """Started before the first gateway, with a master key that is not the one; it is told while there is nothing to run yet."""
    wrong, right, config = tmp_path / "wrong.key", tmp_path / "right.key", tmp_path / "sinks.yaml"
    for key in (wrong, right):
        key.write_text(os.urandom(32).hex())
    config.write_text(f"encryption:\n  master_key_file: {wrong}\n")
    pair = make_pair(start=False, encryption__master_key_file=str(right))
    del pair.sinks.settings["encryption.master_key_file"]
    pair.sinks.config = config
    pair.sinks.spawn()
    wait_for("it to wait", lambda: "sinks.wait" in pair.sinks.log())
    config.write_text(f"encryption:\n  master_key_file: {right}\n")
    os.kill(pair.sinks.pid, signal.SIGHUP)
    wait_for("it to read them", lambda: "config.reloaded" in pair.sinks.log(), 5)
    pair.gateway.start()
    sent = send(pair, owner_on(pair.gateway, "ann"), 20)
    pair.drained()
    assert pair.values() == sent and pair.status(pair.sinks)["unreadable"] == 0


def test_sealed_from_now_on(make_pair, tmp_path):
    """The gateway begins to seal: the process of the sinks, which has no key, passes over nothing and says what it wants."""
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 10)
    pair.drained()
    pair.gateway.stop()
    key = tmp_path / "master.key"
    key.write_text(os.urandom(32).hex())
    for server in (pair.gateway, pair.sinks):
        server.settings["encryption.master_key_file"] = str(key)
    pair.gateway.start()
    sent += send(pair, owner, 10, 10)
    wait_for("it to say so", lambda: "no master key is given" in readyz(pair.sinks)[1], PATIENCE)
    assert pair.status(pair.sinks)["unreadable"] == 0 and pair.values() == sent[:10]
    pair.sinks.stop()
    pair.sinks.start()
    pair.drained()
    assert pair.values() == sent


def test_retention_waits_for_it_up_to_a_limit(make_pair):
    """While its process is away, a sink holds so much of the journal, and no more; what it misses, it says."""
    pair = make_pair(journal__segment_size="1MiB", journal__retain_size="1MiB", journal__ring_size="1MiB",
                     webhook__hold_size="8MiB", webhook__feeds="t")
    owner = owner_on(pair.gateway, "ann")
    oldest = lambda: json.loads(pair.gateway.operator("/v1/status"))["journal"]["oldest"]

    def fill(mebibytes):
        for _ in range(mebibytes):
            r = requests.post(f"{pair.gateway.url}/v1/telemetry", json=[{"fill": "x" * 1000}] * 1000,
                              headers=owner.auth, timeout=20)
            assert r.status_code == 202, r.text

    def fill_and_start_anew(mebibytes):
        """The views need nothing of the journal then."""
        fill(mebibytes)
        pair.gateway.stop()
        pair.gateway.start()
        fill(2)  # the keeper looks

    sent = send(pair, owner, 1)
    pair.drained()
    time.sleep(1.5)  # its cursor is told
    pair.sinks.stop()
    fill_and_start_anew(4)
    time.sleep(1.5)
    assert oldest() == 0
    lost = send(pair, owner, 1, 1)
    fill_and_start_anew(16)
    wait_for("the rest to go", lambda: oldest() > 6000, 20)
    assert "link.gave_up" in pair.gateway.log()
    pair.sinks.start()
    status = pair.drained(pair.sinks)
    assert status["gaps"] == 1 and re.search(r"sink\.(gap|gave_up) sink=webhook", pair.sinks.log())
    wait_for("the gateway to hear of it", lambda: pair.status()["gaps"] == 1)
    sent += send(pair, owner, 1, 2)
    pair.drained()
    assert pair.values() == sent and lost == ["1"]


def test_no_two_run_the_sinks(make_pair, tmp_path):
    pair = make_pair()
    second = Apart(pair.gateway, tmp_path / "second")
    second.spawn()
    assert second.process.wait(30) != 0 and "are run by another process" in second.log()
    pair.gateway.stop()
    whole = Gateway(tmp_path / "whole", pair.settings)
    whole.roles, whole.data = "ingest,sink", pair.gateway.data
    whole.spawn()
    assert whole.process.wait(30) != 0 and "--roles ingest" in whole.log()
    # And back to one process: it goes on where the other was.
    pair.gateway.start()
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 50)
    pair.drained()
    pair.sinks.stop()
    pair.gateway.stop()
    whole.start()
    pair.gateway, gateway = whole, pair.gateway
    sent += send(pair, owner, 50, 50)
    pair.drained()
    found = [m.value.decode() for m in sorted(pair.receiver.read(pair.place))]  # several are under way at once
    assert found == sent, "it began where the other had ended, and nothing came twice"
    third = Apart(whole, tmp_path / "third")
    third.spawn()
    assert third.process.wait(30) != 0 and "are run by another process" in third.log()
    whole.stop()
    pair.gateway = gateway.start()
    pair.sinks.start()
    sent += send(pair, owner, 50, 100)
    pair.drained()
    assert [m.value.decode() for m in sorted(pair.receiver.read(pair.place))] == sent


def test_orders_go_to_its_process(make_pair):
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    send(pair, owner, 10)
    pair.drained()
    listed, = pair.gateway.cli("sink", "list")["sinks"]
    assert listed["sink"] == "webhook" and listed["delivered"] == 10
    assert pair.gateway.cli("sink", "pause", "webhook")["state"] == "paused"
    send(pair, owner, 5, 10)
    wait_for("the gateway to hear of it", lambda: pair.status()["state"] == "paused" and pair.status()["lag"] >= 5)
    pair.gateway.cli("sink", "resume", "webhook")
    pair.drained()
    assert pair.gateway.cli("sink", "replay", "webhook", "--from", "0")["sink"] == "webhook"
    wait_for("the replay", lambda: len(pair.receiver.read(pair.place)) == 30, PATIENCE)
    assert pair.gateway.cli("dlq", "list", "webhook")["total"] == 0
    done = [e["op"] for e in pair.gateway.cli("audit", "list", "--limit", "20")["entries"]]
    assert {"sink_pause", "sink_resume", "sink_replay"} <= set(done)
    # What is not its business it refuses; and the gateway says who takes such orders, by HTTP.
    for socket, command, status, why in (("sinks/admin.sock", "account/list", 400, b"ask the gateway"),
                                         ("admin.sock", "sink/pause", 400, b"process of their own")):
        admin = AdminConnection(pair.gateway.data / socket)
        admin.request("POST", f"/v1/admin/{command}", json.dumps({"sink": "webhook"} if "sink/" in command else {}))
        answer = admin.getresponse()
        assert answer.status == status and why in answer.read()
    pair.sinks.kill()
    with pytest.raises(CliError) as refused:
        pair.gateway.cli("sink", "pause", "webhook")
    assert "process of their own" in refused.value.stderr
    assert pair.gateway.cli("sink", "list")["sinks"][0]["state"] == "absent"


def test_roles_that_make_no_sense(make_pair, tmp_path):
    gateway = Gateway(tmp_path / "wrong")
    for roles, why in (("view", "there are ingest, sink and ingest,sink"), ("", "there are ingest"),
                       ("sink", "nothing to run")):
        gateway.roles = roles
        gateway.spawn()
        assert gateway.process.wait(30) != 0 and why in gateway.log(), gateway.log()
    gateway.settings["server.roles"] = "sink"
    gateway.roles = "ingest"
    gateway.start()  # the flag wins over a setting
    gateway.close()


def test_figures_go_on_without_it(make_pair):
    """A gateway that starts while the sinks are away knows where they were: what was delivered is no lag."""
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    r = post(pair, owner, 0)
    send(pair, owner, 40, 1)
    at = pair.drained()["position"]
    time.sleep(2.5)  # the cursor is told
    pair.sinks.kill()
    pair.gateway.stop()
    pair.gateway.start()
    status = pair.status()
    assert status["state"] == "absent" and status["position"] >= at and status["lag"] < 10
    told = requests.get(pair.gateway.url + r.headers["Location"], headers=owner.key_auth, timeout=10)
    assert told.json()["delivered"] == {"webhook": "passed"}
    send(pair, owner, 10, 41)
    pair.sinks.start()
    pair.drained()
    assert pair.values() == [str(i) for i in range(51)]


def test_a_sink_that_only_the_gateway_has_is_let_go_once(make_pair):
    """Nothing is kept for it, and that is said; not again with each word of the others."""
    pair = make_pair(start=False)
    pair.gateway.settings["rabbitmq.url"] = "amqp://127.0.0.1:1"
    pair.start()
    wait_for("it to be let go", lambda: "link.let_go" in pair.gateway.log())
    time.sleep(3.5)  # the cursors are told each second
    assert pair.gateway.log().count("link.let_go") == 1


def test_a_command_that_comes_while_it_stops(make_pair):
    """It is refused at once, while the one before it is waited for and answered."""
    pair = make_pair(webhook__timeout="30s")
    pair.receiver.rule(pair.place, wait=4)
    path, found = pair.gateway.data / "sinks" / "admin.sock", []
    slow = threading.Thread(target=lambda: found.append(AdminConnection(path).call("sink", "test", sink="webhook")))
    late = AdminConnection(path)
    late.connect()
    late.sock.sendall(b"POST /v1/admin/sink/list HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n")
    slow.start()
    wait_for("the test to be on its way", lambda: pair.receiver.tried(pair.place), PATIENCE)
    begun = time.monotonic()
    os.kill(pair.sinks.pid, signal.SIGTERM)

    def listens():
        try:
            AdminConnection(path).connect()
            return True
        except OSError:
            return False
    wait_for("it to take no connections", lambda: not listens())
    late.sock.sendall(b"\r\n{}")
    late.sock.settimeout(20)
    answer = late.sock.recv(4096)
    assert time.monotonic() - begun < 3, "it waited behind the other one"
    assert answer.startswith(b"HTTP/1.1 503 ") and b"stopping" in answer, answer
    slow.join()
    assert pair.sinks.process.wait(30) == 0
    assert found and found[0]


def test_it_waits_for_a_gateway(make_pair):
    pair = make_pair(start=False)
    pair.sinks.spawn()
    wait_for("it to wait", lambda: "sinks.wait" in pair.sinks.log())
    assert pair.sinks.stop() == 0  # nothing was begun yet
    pair.sinks.spawn()
    pair.gateway.start()
    wait_for("it to be ready", pair.sinks.ready, 30)
    owner = owner_on(pair.gateway, "ann")
    sent = send(pair, owner, 5)
    pair.drained()
    assert pair.values() == sent


def test_it_changes_only_its_own_directory(make_pair):
    """Nothing in the gateway's part of the directory is open for writing in the process of the sinks."""
    pair = make_pair()
    owner = owner_on(pair.gateway, "ann")
    send(pair, owner, 20)
    pair.drained()
    data, seen = pair.gateway.data.resolve(), 0
    for fd in os.scandir(f"/proc/{pair.sinks.pid}/fd"):
        try:
            path = os.readlink(fd.path)
            flags = int(next(line.split()[1] for line in open(f"/proc/{pair.sinks.pid}/fdinfo/{fd.name}")
                             if line.startswith("flags:")), 8)
        except FileNotFoundError:
            continue
        if not path.startswith(f"{data}/") or path.startswith(f"{data}/sinks/"):
            continue
        seen += 1
        assert flags & os.O_ACCMODE == os.O_RDONLY, path
    assert seen > 0  # the segment that it reads
