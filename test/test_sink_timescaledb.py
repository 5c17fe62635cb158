# SPDX-License-Identifier: Apache-2.0
"""The PostgreSQL sink where the database has TimescaleDB: its table is a hypertable, and all that is true of sinks is true.

Debian has no package of it. What tools/build_timescaledb.sh has built is tested; where it has not, a stand-in has
the two functions that the sink calls, and shows at least that they are called when they are to be, and how.
"""
import datetime

import psycopg2
import pytest
import requests

from harness import ROOT, wait_for
from postgres import PARTS, QUICK, Postgres
from sink_conformance import PATIENCE, Conformance, make_sink, place, send, sender_on  # noqa: F401

BUILT = ROOT / "build-tools" / "timescaledb"
STAND_IN = """
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.dimensions (hypertable_schema name, hypertable_name name, column_name name,
                                                 time_interval interval);
GRANT USAGE ON SCHEMA timescaledb_information TO PUBLIC;
GRANT SELECT ON timescaledb_information.dimensions TO PUBLIC;
CREATE FUNCTION create_hypertable(relation regclass, time_column_name name, chunk_time_interval anyelement = NULL::bigint,
                                  create_default_indexes boolean = true) RETURNS boolean SECURITY DEFINER
LANGUAGE sql AS $$
    INSERT INTO timescaledb_information.dimensions SELECT relnamespace::regnamespace, relname, $2, $3
        FROM pg_class WHERE oid = relation AND relkind = 'r' RETURNING true $$;
CREATE FUNCTION show_chunks(relation regclass) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN
    RETURN QUERY EXECUTE format('SELECT DISTINCT date_trunc(''day'', received, ''UTC'')::text FROM %s', relation);
END $$;
CREATE FUNCTION drop_chunks(relation regclass, older_than timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN
    RETURN QUERY EXECUTE format('WITH gone AS (DELETE FROM %s WHERE received < date_trunc(''day'', $1, ''UTC'') RETURNING
        date_trunc(''day'', received, ''UTC'')) SELECT DISTINCT date_trunc::text FROM gone', relation) USING older_than;
END $$;
"""


class Timescale(Postgres):
    flags = [*QUICK, "-c", "max_locks_per_transaction=256"]

    def __init__(self):
        if BUILT.exists():
            self.extension = BUILT
            self.flags = [*self.flags, "-c", "shared_preload_libraries=timescaledb", "-c", "timescaledb.telemetry_level=off"]
        super().__init__()
        self.add_to("telemetry")

    def find_programs(self):
        self.extension = self.extension or self.make_stand_in()
        return super().find_programs()

    def make_stand_in(self):
        """A control file and what it stands for."""
        folder = self.home / "stand-in"
        for part in PARTS:
            (folder / part / "extension").mkdir(parents=True)
        (folder / PARTS[1] / "extension" / "timescaledb.control").write_text(
            "comment = 'a stand-in of two functions'\ndefault_version = '0'\nrelocatable = false\n")
        (folder / PARTS[1] / "extension" / "timescaledb--0.sql").write_text(STAND_IN)
        return folder

    def add_to(self, database, sql="CREATE EXTENSION timescaledb"):
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", password="admin secret",
                                      dbname=database)
        connection.autocommit = True
        connection.cursor().execute(sql)
        connection.close()


@pytest.fixture(scope="module")
def target():
    target = Timescale()
    yield target
    target.close()


@pytest.mark.skipif(not BUILT.exists(), reason="there is no TimescaleDB: tools/build_timescaledb.sh builds it")
class TestTimescale(Conformance):
    pass


def kind_of(target, place):
    return target.execute("SELECT relkind::text FROM pg_class WHERE oid = %s::regclass", f"{place}.message")[0][0]


def test_the_table_is_a_hypertable_of_days(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "ann", "t", "gone")
    made = send(owner, "t", {"value": "1"}, {"value": "2"}, {"value": "3"})
    send(owner, "gone", {"value": "x"})
    url = f"{owner.url}/feeds/t/data/"
    assert requests.put(url + made[0]["id"], json={"value": "1.10"}, headers=owner.key_auth, timeout=20).status_code == 200
    assert requests.delete(url + made[1]["id"], headers=owner.key_auth, timeout=20).status_code == 200
    assert requests.delete(f"{owner.url}/feeds/gone", headers=owner.key_auth, timeout=20).status_code == 200
    sink.drained()
    assert target.execute(f"SELECT feed, value FROM {place}.message ORDER BY position") == [("t", "1.10"), ("t", "3")]
    assert target.execute("SELECT hypertable_name, column_name, time_interval FROM timescaledb_information.dimensions "
                          "WHERE hypertable_schema = %s", place) == [("message", "received", datetime.timedelta(days=1))]
    assert kind_of(target, place) == "r"
    assert len(target.execute("SELECT show_chunks(%s)", f"{place}.message")) == 1
    indexes = {name for name, in target.execute("SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = "
                                                "'message'", place)}
    assert indexes == {"message_feed_ts", "message_device_ts", "message_received", "message_ts"}


def test_old_days_go(make_sink, target, place):
    sink = make_sink()
    owner = sender_on(sink, "bob", "t")
    send(owner, "t", {"value": "new"})
    sink.drained()
    sink.server.stop()
    now = datetime.datetime.now(datetime.timezone.utc)
    for value, days in (("kept", 6), ("old", 8), ("older", 9)):
        target.execute(f"INSERT INTO {place}.message (received, ts, position, value, account_no) VALUES (%s, now(), %s, %s, 1)",
                       now - datetime.timedelta(days), -days, value)
    sink.server.settings["postgres.keep"] = "7d"
    sink.server.start()
    wait_for("the old days to go", lambda: len(target.read(place)) == 2, PATIENCE)
    assert {m.value for m in target.read(place)} == {b"kept", b"new"}
    assert f"postgres.chunks_dropped schema={place} count=2" in sink.server.log()
    send(owner, "t", {"value": "newer"})
    sink.drained()
    assert len(target.read(place)) == 3


def test_a_table_stays_what_it_is(make_sink, target, place):
    """One that was made before the extension is partitioned for good; a hypertable without it can be written no more."""
    target.execute("CREATE DATABASE bare OWNER sluice", admin=True)
    sink = make_sink(url=f"postgresql://sluice@127.0.0.1:{target.port}/bare")
    owner = sender_on(sink, "lea", "t")
    send(owner, "t", {"value": "1"})
    sink.drained()
    sink.server.stop()
    target.add_to("bare")
    sink.server.start()
    send(owner, "t", {"value": "2"})
    sink.drained()
    sink.server.stop()
    sink.server.settings["postgres.schema"] = f"{place}_new"
    sink.server.start()
    send(owner, "t", {"value": "of another schema"})
    sink.drained()
    sink.server.stop()
    target.add_to("bare", f"""DO $$ BEGIN
        ASSERT (SELECT relkind FROM pg_class WHERE oid = '{place}.message'::regclass) = 'p';
        ASSERT (SELECT count(*) FROM {place}.message) = 2;
        ASSERT (SELECT relkind FROM pg_class WHERE oid = '{place}_new.message'::regclass) = 'r';
    END $$""")
    target.add_to("bare", "DROP EXTENSION timescaledb CASCADE")
    sink.server.start()
    send(owner, "t", {"value": "3"})
    wait_for("it to say so", lambda: "timescaledb is gone" in sink.status()["error"], PATIENCE)
