# SPDX-License-Identifier: Apache-2.0
"""The PostgreSQL sink against a real server: what is true of any sink, and what is of a database's only."""
import datetime

import pytest
import requests

from harness import Server, wait_for
from postgres import Postgres
from sink_conformance import PATIENCE, Conformance, make_sink, place, send, sender_on  # noqa: F401


@pytest.fixture(scope="module")
def target():
    target = Postgres()
    yield target
    target.close()


class TestPostgres(Conformance):
    pass


def test_rows_have_all_columns(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "ann", "air")
    send(owner, "air", {"value": "21.50"}, {"value": "-0.0e0"}, {"value": "x"}, {"value": ""},
         {"value": "7", "lat": 47.5, "lon": -8.25, "ele": 400.125, "created_at": "2001-02-03T04:05:06.789Z"})
    sink.drained()
    rows = target.execute(
        f"SELECT value, number, lat, lon, ele, account, feed, device, topic FROM {place}.message ORDER BY position")
    name = ("ann", "air", "ann-dev", None)
    assert rows == [("21.50", 21.5, None, None, None, *name), ("-0.0e0", 0.0, None, None, None, *name),
                    ("x", None, None, None, None, *name), ("", None, None, None, None, *name),
                    ("7", 7.0, 47.5, -8.25, 400.125, *name)]
    assert target.execute(f"SELECT ts FROM {place}.message WHERE value = '7'")[0][0] == datetime.datetime(
        2001, 2, 3, 4, 5, 6, 789000, tzinfo=datetime.timezone.utc)
    (age,), = target.execute(f"SELECT abs(extract(epoch FROM now() - max(received))) FROM {place}.message")
    assert age < 60


def test_corrections_follow(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "bob", "t", "gone")
    made = send(owner, "t", {"value": "1"}, {"value": "2"}, {"value": "3"})
    send(owner, "gone", {"value": "x"})
    for i, change in ((0, {"value": "1.10", "lat": 1, "lon": 2}), (1, None)):
        url = f"{owner.url}/feeds/t/data/{made[i]['id']}"
        r = (requests.put(url, json=change, headers=owner.key_auth, timeout=20) if change else
             requests.delete(url, headers=owner.key_auth, timeout=20))
        assert r.status_code == 200, r.text
    assert requests.delete(f"{owner.url}/feeds/gone", headers=owner.key_auth, timeout=20).status_code == 200
    sink.drained()
    assert target.execute(f"SELECT feed, value, number, lat FROM {place}.message ORDER BY position") == [
        ("t", "1.10", 1.1, 1.0), ("t", "3", 3.0, None)]
    sink.server.cli("account", "erase", "bob")
    sink.drained()
    assert target.execute(f"SELECT count(*) FROM {place}.message") == [(0,)]


def test_partitions(make_sink, target, place):
    """Of today and of days to come; those too old are dropped, others than ours stay."""
    sink = make_sink()
    sink.drained()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    day = lambda n: (today + datetime.timedelta(n)).strftime("message_%Y%m%d")
    partitions = lambda: {name for name, in target.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = "
        "relnamespace WHERE nspname = %s AND relkind = 'r'", place)}
    wait_for("partitions", lambda: {day(0), day(1), day(2)} <= partitions(), PATIENCE)
    sink.server.stop()
    for name, first, last in (("message_20200101", "2020-01-01", "2020-01-02"), ("mine", "2019-01-01", "2020-01-01")):
        target.execute(f"CREATE TABLE {place}.{name} PARTITION OF {place}.message "
                       f"FOR VALUES FROM ('{first}') TO ('{last}')")
    sink.server.settings["postgres.keep"] = "7d"
    sink.server.start()
    wait_for("the old partition to go", lambda: "message_20200101" not in partitions(), PATIENCE)
    assert {"mine", day(0)} <= partitions()


def test_who_reads_for_long_holds_nothing_up(make_sink, target, place):
    """A dump, say: a partition cannot be dropped meanwhile, nor one made; messages go on."""
    sink = make_sink()
    owner = sender_on(sink, "ida", "t")
    send(owner, "t", {"value": "before"})
    sink.drained()
    sink.server.stop()
    target.execute(f"CREATE TABLE {place}.message_20200101 PARTITION OF {place}.message "
                   "FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')")
    there = lambda: target.execute("SELECT to_regclass(%s)::text", f"{place}.message_20200101")[0][0]
    reader = target.connect()
    reader.autocommit = False
    reader.cursor().execute(f"SELECT count(*) FROM {place}.message")
    sink.server.settings["postgres.keep"] = "7d"
    sink.server.settings["postgres.timeout"] = "5s"
    sink.server.start()
    send(owner, "t", {"value": "meanwhile"})
    sink.drained()
    assert sink.values() == ["before", "meanwhile"]
    assert there() and sink.status()["failures"] == 0
    assert "postgres.partitions_wait" in sink.server.log()
    reader.close()
    sink.server.stop()
    sink.server.start()
    wait_for("the old partition to go", lambda: not there(), PATIENCE)


def test_a_replay_restores_what_was_deleted(make_sink, target, place):
    sink = make_sink(batch_max="7")
    owner = sender_on(sink, "max", "t")
    send(owner, "t", *({"value": f"{i}"} for i in range(60)))
    sink.drained()
    target.execute(f"DELETE FROM {place}.message WHERE number BETWEEN 10 AND 39")
    assert len(sink.values()) == 30
    sink.server.cli("sink", "replay", "postgres")
    wait_for("the replay to end", lambda: "replay_to" not in sink.listed(), PATIENCE)
    assert sink.values() == [f"{i}" for i in range(60)]


def test_another_password(make_sink, target):
    """It is read at each connection: no restart."""
    sink = make_sink()
    owner = sender_on(sink, "lea", "t")
    send(owner, "t", {"value": "before"})
    sink.drained()
    target.execute("ALTER ROLE sluice PASSWORD 'second secret'", admin=True)
    target.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sluice'", admin=True)
    try:
        send(owner, "t", {"value": "after"})
        wait_for("it to be refused", lambda: "password" in sink.status()["error"], PATIENCE)
    finally:
        target.password.write_text("second secret\n")
    sink.drained()
    assert sink.values() == ["before", "after"]
    assert "secret" not in sink.server.log()


@pytest.mark.parametrize("name, value, why", [
    ("url", "postgresql://a:b@127.0.0.1/x", "password_file"),
    ("url", "postgresql://[", "connection string"),
    ("schema", "a;b", "postgres.schema")])
def test_wrong_settings_are_refused(tmp_path, name, value, why):
    server = Server(tmp_path, {"postgres.url": "host=127.0.0.1", f"postgres.{name}": value})
    server.spawn()
    assert server.process.wait(30) != 0
    assert why in server.log()
