# SPDX-License-Identifier: Apache-2.0
"""The queries of docs/sinks.md over the tables that the sink makes: which indexes they use, which days they read, and
how many rows they read of how many there are.

200,000 rows of 1,000 devices over ten days; SLUICE_FULL=1: 10 million rows of 10,000 devices. Devices send at any
moment; one row in 500 comes up to LATE_HOURS late, and one in 10,000 from a clock that was never set.
"""
import datetime
import json
import os
import time
from types import SimpleNamespace

import pytest

from harness import ROOT, Server, wait_for
from postgres import Postgres

FULL = os.environ.get("SLUICE_FULL") == "1"
ROWS, DEVICES, ACCOUNTS = (10_000_000, 10_000, 100) if FULL else (200_000, 1_000, 20)
DAYS = 10
LATE_HOURS = 6
BRIN_PAGES, PAGE_ROWS = 32, 80  # of a range of a BRIN index; of a page, at most
DAY = datetime.timedelta(days=1)
LOAD = """
INSERT INTO {schema}.message
    (received, ts, position, account, feed, device, value, number, account_no, feed_no, device_no)
SELECT at, CASE WHEN i % 10000 = 0 THEN timestamptz 'epoch' + i * interval '1 us'
                WHEN i % 500 = 0 THEN at - d % {late_minutes} * interval '1 min' ELSE at - d % 2000 * interval '1 ms' END,
       i, 'fleet' || d % {accounts}, 'truck-' || d || '.speed', 'truck-' || d, n::text, n, d % {accounts} + 1, d + 1, d + 1
FROM (SELECT i, timestamptz '{day} 00:00+00' + (i - {first}) * interval '24 hours' / {count} AS at,
             (hashint8(i) & 2147483647) % {devices} AS d, (i * 7 % 1000) / 10.0 AS n
      FROM generate_series({first}, {first} + {count} - 1) AS i) AS made
"""


class Server15(Postgres):
    """With the planner's settings as they are by default; with memory as on a small machine when it is much."""
    flags = ["-c", "fsync=off", "-c", "unix_socket_directories=", "-c", "autovacuum=off", "-c", "log_min_messages=fatal",
             *(("-c", "shared_buffers=1GB", "-c", "max_wal_size=8GB", "-c", "maintenance_work_mem=256MB",
                "-c", "checkpoint_timeout=30min") if FULL else ("-c", "shared_buffers=32MB"))]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The table that a server of ours made, filled: `days`, the last one today, each a partition."""
    database = Server15()
    schema = "telemetry"
    server = Server(tmp_path_factory.mktemp("server"), database.settings(schema))
    try:
        server.start()
        wait_for("the tables", lambda: json.loads(server.operator("/v1/status"))["sinks"]["postgres"]["state"] ==
                 "running" and database.execute(f"SELECT to_regclass('{schema}.cursor')")[0][0], 60)
        server.close()
        today = datetime.datetime.now(datetime.timezone.utc).date()
        days = [today - (DAYS - 1 - i) * DAY for i in range(DAYS)]
        begun = time.monotonic()
        for i, day in enumerate(days):
            database.execute(f"CREATE TABLE IF NOT EXISTS {schema}.message_{day:%Y%m%d} PARTITION OF {schema}.message "
                             f"FOR VALUES FROM ('{day} 00:00+00') TO ('{day + DAY} 00:00+00')")
            database.execute(LOAD.format(schema=schema, day=day, first=i * ROWS // DAYS + 1, count=ROWS // DAYS,
                                         devices=DEVICES, accounts=ACCOUNTS, late_minutes=LATE_HOURS * 60))
        database.execute(f"VACUUM ANALYZE {schema}.message")  # as autovacuum would, meanwhile
        size, = database.execute(f"SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits "
                                 f"WHERE inhparent = '{schema}.message'::regclass")[0]
        print(f"\n{ROWS} rows in {time.monotonic() - begun:.0f} s, {int(size) / ROWS:.0f} bytes each with indexes")
        yield SimpleNamespace(database=database, name=f"{schema}.message", days=days,
                              partitions=[f"message_{day:%Y%m%d}" for day in days])
    finally:
        database.close()


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def explain(table, sql):
    """How it runs: {partition: (kinds of scan, indexes)} of those that were read, rows that were looked at, pages, ms."""
    (found,), = table.database.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql.replace("sluice.message", table.name))
    top = found[0]["Plan"]
    read, scans = 0, {}
    for node in nodes(top):
        if "Relation Name" in node and node["Actual Loops"]:
            scans.setdefault(node["Relation Name"], []).append(node)
            read += node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0) +
                                            node.get("Rows Removed by Index Recheck", 0))
    return SimpleNamespace(
        text=json.dumps(found, indent=1), rows=read, pages=top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        ms=found[0]["Execution Time"], planning_ms=found[0]["Planning Time"],
        whole={name for name, those in scans.items() if any(n["Node Type"] == "Seq Scan" for n in those)},
        read=set(scans), indexes={node["Index Name"] for node in nodes(top) if "Index Name" in node})


def documented():
    """{what it asks: the query} of docs/sinks.md."""
    text = (ROOT / "docs" / "sinks.md").read_text().split("### What queries cost")[1].split("```")[1]
    return dict(query.removeprefix("-- ").split("\n", 1) for query in text.removeprefix("sql\n").strip().split("\n\n"))


def check(table, asked, rows, index=None, days=(), whole=(), ago="0"):
    """At most so many rows are looked at, by that index only, and in those partitions only, if they are given; a whole
    one only if all of it is wanted. How the days to come are read, which are empty, does not matter."""
    plan = explain(table, documented()[asked].replace("now()", f"(now() - interval '{ago}')"))
    print(f"{asked}: {plan.ms:.1f} ms and {plan.planning_ms:.1f} ms of planning, {plan.rows} rows and {plan.pages} pages")
    assert 0 < plan.rows <= rows, plan.text
    assert plan.whole & set(table.partitions) == set(whole), plan.text
    assert plan.indexes if index else not plan.indexes, plan.text
    assert all(name.endswith(f"_{index}_idx") for name in plan.indexes), plan.text
    assert not days or plan.read & set(table.partitions) <= set(days), plan.text


PER_DAY = ROWS // DAYS
FEED_DAY = 2 * PER_DAY // DEVICES  # rows of a feed in a day, at most
HOUR = PER_DAY // 24
RANGES = 4 * BRIN_PAGES * PAGE_ROWS  # at both ends of an hour, which may be in two days


def test_the_newest_value_of_a_device(table):
    check(table, "the newest value of a device", DAYS, "device_ts")


def test_the_newest_values_of_devices(table):
    """Of one that has sent nothing for a day, as far as yesterday's rows go, those are looked at until one is not older."""
    check(table, "the newest value of each of some devices", 3 * (1 + FEED_DAY), "device_ts", table.partitions[-2:])


def test_a_range_of_a_feed(table):
    check(table, "a day of a feed", 2 * FEED_DAY, "account_feed_ts")


def test_an_aggregate_of_a_feed(table):
    check(table, "a week of a feed, by the hour", 8 * FEED_DAY, "account_feed_ts")


def test_a_whole_day(table):
    """Reading all of it is the least that can be done, and nothing else."""
    yesterday = table.partitions[-2]
    check(table, "messages of each account, yesterday", PER_DAY, whole=(yesterday,), days=(yesterday,))


def test_an_hour_of_everything(table):
    check(table, "messages of each account in an hour", HOUR + RANGES, "received", table.partitions[-2:])


@pytest.mark.parametrize("ago", ("0", "3 hours", "9 hours", "5 days"))
def test_an_hour_by_the_senders_clocks(table, ago):
    """Those whose clocks were never set do not have all that came since looked through. Each range of the six hours behind
    may hold one that came late; and of each day the last range, which is not full, is in no index."""
    sizes = table.database.execute("SELECT relpages, reltuples FROM pg_class WHERE relname = ANY('{%s}')" %
                                   ",".join(table.partitions))
    pages, rows = (sum(float(size[i]) for size in sizes) for i in (0, 1))
    assert len(sizes) == DAYS and rows == ROWS
    ends = sum(int(size[0]) % BRIN_PAGES for size in sizes)
    check(table, "what happened within an hour, whenever it came",
          (1 + LATE_HOURS) * HOUR + (2 * BRIN_PAGES + ends) * rows / pages, "ts", ago=ago)
