# SPDX-License-Identifier: Apache-2.0
"""The PostgreSQL sink against a real server: what was accepted is there exactly once, whatever is killed."""
import datetime
import itertools
import json
import os
import re
import threading

import pytest
import requests

from conftest import owner_on
from fault_proxy import FaultProxy
from harness import Server, wait_for
from mqtt_wire import PUBACK, Mqtt
from postgres import Postgres

PATIENCE = 60
_schemas = itertools.count(1)


@pytest.fixture(scope="module")
def database():
    database = Postgres()
    yield database
    database.close()


@pytest.fixture
def schema():
    return f"s{next(_schemas)}"


def settings_of(database, schema, **rest):
    return {"postgres.url": database.url, "postgres.password_file": str(database.password),
            "postgres.schema": schema, "postgres.retry_max": "300ms", "postgres.batch_time": "5ms",
            "postgres.batch_max": "50", **{f"postgres.{name}": value for name, value in rest.items()}}


@pytest.fixture
def make_sink(make_server, database, schema):
    """make_sink(setting=...): a server with a sink into a schema of its own."""
    return lambda **rest: make_server(settings_of(database, schema, **rest))


def status(server):
    return json.loads(server.operator("/v1/status"))["sinks"]["postgres"]


def drained(server):
    """What the sink says once it has delivered everything."""
    return wait_for("the sink to deliver all", lambda: (s := status(server))["lag"] == 0 and s, PATIENCE, 0.05)


def sender_on(server, name, *feeds):
    """An account with a device and these feeds."""
    owner = owner_on(server, name)
    for feed in feeds:
        r = requests.post(f"{owner.url}/feeds", json={"name": feed}, headers=owner.key_auth, timeout=20)
        assert r.status_code in (200, 201), r.text
    return owner


def send(owner, feed, *data):
    r = requests.post(f"{owner.url}/feeds/{feed}/data/batch", json=list(data), headers=owner.auth, timeout=30)
    assert r.status_code == 200, r.text
    return r.json()


def test_rows_are_what_was_sent(make_sink, database, schema):
    server = make_sink()
    owner = sender_on(server, "ann", "air")
    send(owner, "air", {"value": "21.50"}, {"value": "-0.0e0"}, {"value": "é \"x\",\t\\N\n"}, {"value": ""},
         {"value": "7", "lat": 47.5, "lon": -8.25, "ele": 400.125, "created_at": "2001-02-03T04:05:06.789Z"})
    s = drained(server)
    assert (s["state"], s["breaker"], s["delivered"], s["error"]) == ("running", "closed", 5, "")
    rows = database.execute(
        f"SELECT value, number, lat, lon, ele, account, feed, device, topic FROM {schema}.message ORDER BY position")
    name = ("ann", "air", "ann-dev", None)
    assert rows == [("21.50", 21.5, None, None, None, *name), ("-0.0e0", 0.0, None, None, None, *name),
                    ("é \"x\",\t\\N\n", None, None, None, None, *name), ("", None, None, None, None, *name),
                    ("7", 7.0, 47.5, -8.25, 400.125, *name)]
    assert database.execute(f"SELECT ts FROM {schema}.message WHERE value = '7'")[0][0] == datetime.datetime(
        2001, 2, 3, 4, 5, 6, 789000, tzinfo=datetime.timezone.utc)
    (age,), = database.execute(f"SELECT abs(extract(epoch FROM now() - max(received))) FROM {schema}.message")
    assert age < 60
    m = server.metrics()
    assert m['sluice_sink_delivered_total{sink="postgres"}'] == 5
    r = requests.post(f"{server.url}/v1/telemetry", json={"air": 8}, headers=owner.auth, timeout=20)
    receipt = lambda: requests.get(server.url + r.headers["Location"], headers=owner.key_auth, timeout=20).json()
    wait_for("the receipt to say so", lambda: receipt()["delivered"] == {"postgres": True}, PATIENCE)
    assert database.execute(f"SELECT count(*) FROM {schema}.message WHERE value = '8'") == [(1,)]
    assert m['sluice_sink_up{sink="postgres"}'] == 1 and m['sluice_sink_lag_messages{sink="postgres"}'] == 0


def test_corrections_follow(make_sink, database, schema):
    server = make_sink()
    owner = sender_on(server, "bob", "t", "gone")
    made = send(owner, "t", {"value": "1"}, {"value": "2"}, {"value": "3"})
    send(owner, "gone", {"value": "x"})
    for i, change in ((0, {"value": "1.10", "lat": 1, "lon": 2}), (1, None)):
        url = f"{owner.url}/feeds/t/data/{made[i]['id']}"
        r = (requests.put(url, json=change, headers=owner.key_auth, timeout=20) if change else
             requests.delete(url, headers=owner.key_auth, timeout=20))
        assert r.status_code == 200, r.text
    assert requests.delete(f"{owner.url}/feeds/gone", headers=owner.key_auth, timeout=20).status_code == 200
    drained(server)
    assert database.execute(f"SELECT feed, value, number, lat FROM {schema}.message ORDER BY position") == [
        ("t", "1.10", 1.1, 1.0), ("t", "3", 3.0, None)]
    server.cli("account", "erase", "bob")
    drained(server)
    assert database.execute(f"SELECT count(*) FROM {schema}.message") == [(0,)]


def test_partitions(make_sink, database, schema):
    """Of today and of days to come; those too old are dropped, others than ours stay."""
    server = make_sink()
    drained(server)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    day = lambda n: (today + datetime.timedelta(n)).strftime("message_%Y%m%d")
    partitions = lambda: {name for name, in database.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = "
        "relnamespace WHERE nspname = %s AND relkind = 'r'", schema)}
    wait_for("partitions", lambda: {day(0), day(1), day(2)} <= partitions(), PATIENCE)
    server.stop()
    for name, first, last in (("message_20200101", "2020-01-01", "2020-01-02"), ("mine", "2019-01-01", "2020-01-01")):
        database.execute(f"CREATE TABLE {schema}.{name} PARTITION OF {schema}.message "
                         f"FOR VALUES FROM ('{first}') TO ('{last}')")
    server.settings["postgres.keep"] = "7d"
    server.start()
    wait_for("the old partition to go", lambda: "message_20200101" not in partitions(), PATIENCE)
    assert {"mine", day(0)} <= partitions()


def test_poison_becomes_a_dead_letter(make_sink, database, schema):
    """PostgreSQL has no text with a zero byte, nor any that is not UTF-8: these messages alone are left out, and
    kept. They come as they came, so no others are late."""
    server = make_sink(batch_time="500ms", feeds="raw/*")
    owner = sender_on(server, "eve", "t")
    server.cli("account", "change", "eve", "--topics", "any")
    values = [f"v{i}".encode() for i in range(40)]
    values[7], values[23] = b"zero \0 byte", b"\xff\xfe"
    send(owner, "t", {"value": "not selected"})
    with Mqtt(server.mqtt_port) as c:
        c.login("eve", owner.key)
        for i, value in enumerate(values):
            c.publish("raw/x", value, 1, i + 1)
        for i in range(len(values)):
            c.expect(PUBACK)
    wait_for("two dead letters", lambda: status(server)["dead_letters"] == 2, PATIENCE)
    assert drained(server)["state"] == "running"
    rows = database.execute(f"SELECT value, topic, feed FROM {schema}.message ORDER BY position")
    assert rows == [(v.decode(), "raw/x", None) for i, v in enumerate(values) if i not in (7, 23)]
    listed = server.cli("dlq", "list", "postgres")
    assert listed["total"] == 2 and all(d["topic"] == "raw/x" and d["account"] == "eve" for d in listed["letters"])
    assert "UTF8" in listed["letters"][0]["why"] and listed["letters"][0]["offset"] < listed["letters"][1]["offset"]
    assert server.cli("dlq", "retry", "postgres") == {"sent": 0, "kept": 2}
    # Whoever reads bytes there may have the text made of them: then the database takes it.
    database.execute(f"TRUNCATE {schema}.message; ALTER TABLE {schema}.message ALTER value DROP NOT NULL, "
                     "ALTER value TYPE bytea USING convert_to(value, 'UTF8')")
    assert server.cli("dlq", "retry", "postgres", "--offset", str(listed["letters"][1]["offset"])) == {
        "sent": 1, "kept": 0}
    assert server.cli("dlq", "list", "postgres")["total"] == 1
    assert [bytes(v) for v, in database.execute(f"SELECT value FROM {schema}.message")] == [values[23]]


def test_pause_and_replay(make_sink, database, schema):
    server = make_sink(batch_max="7")
    owner = sender_on(server, "max", "t")
    send(owner, "t", *({"value": f"{i}"} for i in range(60)))
    drained(server)
    values = lambda: [int(v) for v, in database.execute(f"SELECT value FROM {schema}.message ORDER BY position")]
    database.execute(f"DELETE FROM {schema}.message WHERE number BETWEEN 10 AND 39")
    assert server.cli("sink", "replay", "postgres")["sink"] == "postgres"
    wait_for("the replay to end", lambda: "replay_to" not in server.cli("sink", "list")["sinks"][0], PATIENCE)
    assert values() == list(range(60))
    assert server.cli("sink", "pause", "postgres")["state"] == "paused"
    server.kill()
    server.start()
    send(owner, "t", {"value": "60"})
    paused, = server.cli("sink", "list")["sinks"]
    assert paused["state"] == "paused" and paused["lag"] >= 1 and len(values()) == 60
    server.cli("sink", "resume", "postgres")
    drained(server)
    assert values() == list(range(61))
    changes = [e["op"] for e in server.cli("audit", "list")["entries"]]
    assert [op for op in changes if op.startswith("sink")] == ["sink_resume", "sink_pause", "sink_replay"]


def test_queries_use_indexes(make_sink, database, schema):
    server = make_sink(batch_max="10000")
    owner = sender_on(server, "kim", "t")
    send(owner, "t", *({"value": str(i)} for i in range(50)))
    drained(server)
    # Other devices' and feeds', so that reading everything is not cheaper.
    database.execute(f"INSERT INTO {schema}.message (received, ts, position, account, feed, device, value, account_no) "
                     f"SELECT now(), now() - i * interval '1 s', -i, 'kim', 'f' || i % 100, 'd' || i % 100, i, 1 "
                     f"FROM generate_series(1, 20000) i; ANALYZE {schema}.message")
    for name, sql in (
            ("device_ts", f"SELECT value FROM {schema}.message WHERE device = 'kim-dev' ORDER BY ts DESC LIMIT 1"),
            ("feed_ts", f"SELECT ts, value FROM {schema}.message WHERE account = 'kim' AND feed = 't' "
                        "AND ts > now() - interval '1 h' ORDER BY ts"),
            ("feed_ts", f"SELECT avg(number), count(*) FROM {schema}.message WHERE account = 'kim' AND feed = 't' "
                        "AND ts > now() - interval '1 h'")):
        plan = "\n".join(line for line, in database.execute("EXPLAIN " + sql))
        today = [line for line in plan.splitlines() if datetime.datetime.now(datetime.timezone.utc)
                 .strftime("message_%Y%m%d") in line]
        assert today and all("Index" in line and name in line for line in today), plan


class Sender(threading.Thread):
    """Sends numbered messages all the time; knows which ones were accepted."""

    def __init__(self, owner):
        super().__init__()
        self.owner, self.accepted, self.sent, self.over = owner, set(), 0, threading.Event()

    def run(self):
        while not self.over.is_set():
            numbers = range(self.sent, self.sent + 20)
            self.sent += 20
            try:
                send(self.owner, "n", *({"value": f"{n}"} for n in numbers))
                self.accepted.update(numbers)
            except (requests.RequestException, AssertionError):
                self.over.wait(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


def test_each_message_once_whatever_is_killed(make_sink, database, schema):
    server = make_sink()
    owner = sender_on(server, "joe", "n")
    count = lambda: database.execute(f"SELECT count(*) FROM {schema}.message")[0][0]
    drained(server)
    with Sender(owner) as sender:
        for victim in (server, database, server, database):
            seen = count()
            wait_for("rows to come", lambda: count() > seen + 100, PATIENCE)
            victim.kill()
            victim.start()
    drained(server)
    rows = sorted(int(v) for v, in database.execute(f"SELECT value FROM {schema}.message"))
    assert len(rows) == len(set(rows)), "some are there twice"
    assert sender.accepted <= set(rows), "some are missing"
    assert set(rows) <= set(range(sender.sent))


def test_each_message_once_on_a_bad_line(make_server, database, schema):
    """Connections that are refused, cut after some bytes in either direction, reset, half closed, slow or hang:
    SLUICE_SINK_SCHEDULES of them."""
    schedules = int(os.environ.get("SLUICE_SINK_SCHEDULES", 5))
    proxy = FaultProxy(database.port, seed=44)
    try:
        server = make_server(settings_of(database, schema, batch_max="10", timeout="2s",
                                         url=f"postgresql://sluice@127.0.0.1:{proxy.port}/telemetry"))
        owner = sender_on(server, "zoe", "t")
        numbers = itertools.count()
        for _ in range(schedules):
            proxy.faults = 5
            for _ in range(5):
                seen = proxy.connections
                proxy.break_all()
                send(owner, "t", *({"value": str(next(numbers))} for _ in range(20)))
                wait_for("another connection", lambda: proxy.connections > seen, PATIENCE)
            proxy.faults = 0
            proxy.break_all()
            drained(server)
        rows = [int(v) for v, in database.execute(f"SELECT value FROM {schema}.message ORDER BY position")]
        assert rows == list(range(next(numbers))), proxy.seen
        assert status(server)["failures"] >= schedules and status(server)["dead_letters"] == 0, proxy.seen
    finally:
        proxy.close()


def test_a_long_outage_costs_no_ingest(make_server, database, schema):
    """The journal holds up to hold_size for it; what was before is given up, counted and named, and nobody is
    refused."""
    server = make_server({**settings_of(database, schema, hold_size="1MiB"), "journal.segment_size": "1MiB"})
    owner = sender_on(server, "una", "t")
    send(owner, "t", {"value": "first"})
    drained(server)
    database.stop()
    try:
        sent = 0
        while status(server)["given_up"] == 0:
            send(owner, "t", *({"value": f"{sent + i} {'x' * 900}"} for i in range(200)))
            sent += 200
            assert sent < 40000
        send(owner, "t", {"value": "last"})
    finally:
        database.start()
    drained(server)
    rows = [v.split()[0] for v, in database.execute(f"SELECT value FROM {schema}.message ORDER BY position")]
    numbers = [int(v) for v in rows[1:-1]]
    assert (rows[0], rows[-1]) == ("first", "last") and numbers == list(range(numbers[0], sent))
    gaps = re.findall(r"sink.gave_up sink=postgres from=(\d+) to=(\d+)", server.log())
    assert gaps and sum(int(b) - int(a) for a, b in gaps) == status(server)["given_up"] >= numbers[0] > 0
    assert server.metric('sink_given_up_total{sink="postgres"}') == status(server)["given_up"]


def test_outage_and_another_password(make_sink, database, schema):
    """While the database is away messages are accepted as ever; then it is caught up with, without a restart."""
    server = make_sink()
    owner = sender_on(server, "lea", "t")
    send(owner, "t", {"value": "before"})
    drained(server)
    database.stop()
    try:
        for i in range(30):
            send(owner, "t", {"value": f"{i}"})
        s = wait_for("the sink to see it", lambda: (s := status(server))["breaker"] != "closed" and s, PATIENCE)
        assert s["state"] == "failing" and s["lag"] >= 30 and s["oldest_ms"] > 0 and "connect" in s["error"]
        assert server.metric('sink_up{sink="postgres"}') == 0
    finally:
        database.start()
    drained(server)
    database.execute("ALTER ROLE sluice PASSWORD 'second secret'", admin=True)
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sluice'", admin=True)
    try:
        send(owner, "t", {"value": "after"})
        wait_for("it to be refused", lambda: "password" in status(server)["error"], PATIENCE)
    finally:
        database.password.write_text("second secret\n")
    drained(server)
    rows = database.execute(f"SELECT value FROM {schema}.message ORDER BY position")
    assert [v for v, in rows] == ["before", *map(str, range(30)), "after"]
    assert "secret" not in server.log()


@pytest.mark.parametrize("name, value, why", [
    ("url", "postgresql://a:b@127.0.0.1/x", "password_file"),
    ("url", "postgresql://[", "connection string"),
    ("schema", "a;b", "postgres.schema")])
def test_wrong_settings_are_refused(tmp_path, name, value, why):
    server = Server(tmp_path, {"postgres.url": "host=127.0.0.1", f"postgres.{name}": value})
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log()
