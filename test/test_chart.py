# SPDX-License-Identifier: Apache-2.0
"""GET .../data/chart against the same numbers added up here, over merged, late and deleted data and
kill -9. CHART_SEED repeats a run."""
import os
import random
import re
from datetime import datetime, timedelta, timezone
from fractions import Fraction

import pytest
import requests

from conftest import owner_on
from harness import wait_for
from test_adafruit import Api, error_of

SEED = int(os.environ.get("CHART_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)
RESOLUTIONS = [1, 5, 10, 30, 60, 120, 240, 480, 960, 1440]
FIELDS = ["avg", "sum", "val", "min", "max", "val_count"]
BEGIN = datetime(2026, 3, 1, tzinfo=timezone.utc)
SECOND = timedelta(seconds=1)
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.I)

# History is written with every 64 KiB and merged soon, so that a chart comes from every kind of place.
BUSY = {"history.flush_size": "64KiB", "history.merge_points": "32"}


def iso(time):
    return time.isoformat().replace("+00:00", "Z")


def send(api, feed, points):
    """points: [(time, text)]. Their ids."""
    ids = []
    for at in range(0, len(points), 500):
        body = [{"value": v, "created_at": iso(t)} for t, v in points[at:at + 500]]
        r = api("POST", f"/feeds/{feed}/data/batch", body)
        assert r.status_code == 200, r.text
        ids += [d["id"] for d in r.json()]
    return ids


def send_and_flush(api, feed, points, each):
    """In parts, each of which is a row of its own at first. Their ids."""
    ids, ballast = [], [{"value": "x" * 1000}] * 70
    for at in range(0, len(points), each):
        ids += send(api, feed, points[at:at + each])
        assert api("POST", "/feeds/ballast/data/batch", ballast, params={"ack": "applied"}).ok
    return ids


def chart(api, feed, **query):
    r = api("GET", f"/feeds/{feed}/data/chart", params=query)
    assert r.status_code == 200, r.text
    return r.json()


def slices(points, start, end, minutes, field):
    """[[date, number, size]] as a chart should say it; `points` are (time, text) in the order they came."""
    found = {}
    for n, (time, text) in enumerate(points):
        if not start <= time <= end:
            continue
        since = int(time.timestamp()) // (60 * minutes) * 60 * minutes
        found.setdefault(since, []).append((time, n, text))
    wanted = []
    for since, inside in sorted(found.items()):
        numbers = [Fraction(text.strip()) for _, _, text in sorted(inside) if NUMBER.fullmatch(text)]
        size = sum(abs(n) for n in numbers)  # rounding is in proportion to it
        if field == "val_count":
            number = len(inside)
        elif not numbers:
            continue
        else:
            number = {"avg": lambda: sum(numbers) / len(numbers), "sum": lambda: sum(numbers),
                      "val": lambda: numbers[-1], "min": lambda: min(numbers),
                      "max": lambda: max(numbers)}[field]()
        wanted.append([iso(datetime.fromtimestamp(since, timezone.utc)), number,
                       size / len(numbers) if field == "avg" else size if field == "sum" else 0])
    return wanted


def check(api, feed, points, start, end, resolution, field):
    got = chart(api, feed, start_time=iso(start), end_time=iso(end), resolution=resolution, field=field)
    assert got["columns"] == ["date", field]
    wanted = slices(points, start, end, got["parameters"]["resolution"], field)
    assert [d for d, _ in got["data"]] == [d for d, _, _ in wanted], (SEED, resolution, field)
    for (date, text), (_, number, size) in zip(got["data"], wanted):
        assert isinstance(text, str)
        assert float(text) == float(number) or abs(Fraction(text) - number) <= size / 2**51, \
            (SEED, resolution, field, date)


def check_all(api, feed, points):
    rng = random.Random(SEED)
    for resolution in RESOLUTIONS:
        for field in FIELDS:
            start = BEGIN + rng.randrange(0, 4000) * SECOND
            end = start + rng.randrange(0, min(900 * 60 * resolution, 10**6)) * SECOND
            check(api, feed, points, start, end, resolution, field)


@pytest.fixture(scope="module")
def api(server):
    return Api(server, owner_on(server, "charts"))


@pytest.fixture
def made(api, feed):
    assert api("POST", "/feeds", {"name": feed}).status_code == 201
    return feed


def test_the_answers_shape(api, made):
    send(api, made, [(BEGIN, "20.50"), (BEGIN + 30 * SECOND, "21"), (BEGIN + 300 * SECOND, "-0.25")])
    got = chart(api, made, start_time=iso(BEGIN), end_time=iso(BEGIN + timedelta(hours=2)))
    feed = api("GET", f"/feeds/{made}").json()
    assert got == {
        "feed": {"id": feed["id"], "key": made, "name": made},
        "parameters": {"start_time": "2026-03-01T00:00:00Z", "end_time": "2026-03-01T02:00:00Z",
                       "resolution": 1, "hours": 2, "field": "avg"},
        "columns": ["date", "avg"],
        "data": [["2026-03-01T00:00:00Z", "20.75"], ["2026-03-01T00:05:00Z", "-0.25"]],
    }
    documented = requests.get(api.server.url + "/openapi.json", timeout=10).json()
    import openapi
    operation = documented["paths"]["/api/v2/{username}/feeds/{feed_key}/data/chart"]["get"]
    for body in (got, chart(api, made, raw=1), chart(api, made, hours=99999, field="val_count")):
        openapi.check_answer(documented, operation, 200, "application/json", body)


def test_what_was_just_accepted_is_there(api, made):
    for i in range(30):
        api("POST", f"/feeds/{made}/data", {"value": i})
        assert chart(api, made, hours=1, resolution=60, field="max")["data"][-1][1] == str(i)
        assert len(chart(api, made, raw="true")["data"]) == i + 1


def test_raw_gives_values_as_they_were_sent(api, made):
    texts = ["21.50", "on", "  7", "1e3", "007", "{\"a\":1}", "ü"]
    points = [(BEGIN + i * SECOND, v) for i, v in enumerate(texts)]
    send(api, made, list(reversed(points)))
    got = chart(api, made, start_time=iso(BEGIN), hours=1, raw="1")
    assert got["columns"] == ["date", "value"]
    assert got["data"] == [[iso(t), v] for t, v in points]
    assert got["parameters"] == {"start_time": iso(BEGIN), "end_time": iso(BEGIN + timedelta(hours=1)),
                                 "hours": 1, "raw": True}
    send(api, made, [(BEGIN + timedelta(seconds=10 + i), str(i)) for i in range(1200)])
    got = chart(api, made, start_time=iso(BEGIN), hours=1, raw="1")["data"]
    assert [v for _, v in got] == [str(i) for i in range(200, 1200)]  # the newest 1000, oldest first


def test_texts_are_counted_and_nothing_else(api, made):
    send(api, made, [(BEGIN, "NaN"), (BEGIN, "inf"), (BEGIN, "0x10"), (BEGIN, "on"),
                     (BEGIN + 60 * SECOND, "5"), (BEGIN + 60 * SECOND, "off")])
    ask = {"start_time": iso(BEGIN), "hours": 1}
    assert chart(api, made, **ask)["data"] == [["2026-03-01T00:01:00Z", "5"]]
    assert chart(api, made, field="val_count", **ask)["data"] == [
        ["2026-03-01T00:00:00Z", "4"], ["2026-03-01T00:01:00Z", "2"]]


def test_numbers_of_any_size(api, made):
    send(api, made, [(BEGIN, v) for v in ("1.7e308", "1.7e308", "1.7e308")])
    send(api, made, [(BEGIN + 60 * SECOND, v) for v in ("0.1", "0.2", "-0")])
    ask = {"start_time": iso(BEGIN), "hours": 1}
    assert [v for _, v in chart(api, made, **ask)["data"]] == ["1.7e+308", "0.1"]
    sums = [v for _, v in chart(api, made, field="sum", **ask)["data"]]
    assert sums[0].endswith("e+308") and sums[1] == "0.3"


def test_time_and_resolution(api, made):
    def parameters(**query):
        return chart(api, made, **query)["parameters"]

    p = parameters()
    assert p["hours"] == 1 and p["resolution"] == 1 and p["field"] == "avg"
    end = datetime.fromisoformat(p["end_time"].replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - end) < timedelta(seconds=60)
    # The finest with at most 640 slices; one that was asked for stays up to 1000.
    for hours, resolution in [(10, 1), (11, 5), (53, 5), (54, 10), (106, 10), (107, 30), (320, 30),
                              (321, 60), (640, 60), (641, 120), (10240, 960), (10241, 1440),
                              (15361, 2880), (876000, 83520)]:
        assert parameters(hours=hours)["resolution"] == resolution, hours
    assert parameters(hours=1440, resolution=120)["resolution"] == 120  # Adafruit's own example
    assert parameters(hours=1440, resolution=60)["resolution"] == 120
    assert parameters(hours=16, resolution=1)["resolution"] == 1
    assert parameters(hours=17, resolution=1)["resolution"] == 5
    p = parameters(start_time=iso(BEGIN), end_time=iso(BEGIN + timedelta(hours=5)), hours=2)
    assert p["hours"] == 5 and p["start_time"] == iso(BEGIN)
    p = parameters(end_time=iso(BEGIN), hours=3)
    assert p["start_time"] == iso(BEGIN - timedelta(hours=3))
    p = parameters(start_time=iso(BEGIN), hours=3)
    assert p["end_time"] == iso(BEGIN + timedelta(hours=3))
    assert parameters(start_time="0000-01-01T00:00:00Z", end_time="9999-12-31T00:00:00Z")["hours"] > 0


def test_errors_say_what_and_where(api, made):
    for query, said in [({"hours": "0"}, "hours"), ({"hours": "1.5"}, "hours"), ({"hours": "x"}, "hours"),
                        ({"hours": "99999999999999999999"}, "hours"), ({"resolution": "2"}, "resolution"),
                        ({"resolution": "-1"}, "resolution"), ({"field": "median"}, "field"),
                        ({"raw": "maybe"}, "raw"), ({"raw": 1, "field": "avg"}, "raw"),
                        ({"raw": 1, "resolution": 5}, "raw"), ({"start_time": "yesterday"}, "start_time"),
                        ({"end_time": "2026-13-01T00:00:00Z"}, "end_time"),
                        ({"start_time": iso(BEGIN), "end_time": iso(BEGIN - SECOND)}, "start_time")]:
        r = api("GET", f"/feeds/{made}/data/chart", params=query)
        assert r.status_code == 400 and said in error_of(r), query
    assert api("GET", "/feeds/no-such-feed/data/chart").status_code == 404
    assert api("POST", f"/feeds/{made}/data/chart", {}).status_code == 405


def test_feeds_of_a_group_and_without_history(api, feed):
    key = api("POST", "/feeds", {"name": feed}, params={"group_key": "charts"}).json()["key"]
    assert "." in key
    send(api, key, [(BEGIN, "1"), (BEGIN, "2")])
    assert chart(api, key, start_time=iso(BEGIN), hours=1)["data"] == [[iso(BEGIN), "1.5"]]
    key = api("POST", "/feeds", {"name": feed + "-now", "history": False}).json()["key"]
    assert chart(api, key)["data"] == []
    send(api, key, [(BEGIN, "1"), (BEGIN + SECOND, "2")])
    ask = {"start_time": iso(BEGIN), "hours": 1}
    assert chart(api, key, **ask)["data"] == [[iso(BEGIN), "2"]]
    assert chart(api, key, raw=1, **ask)["data"] == [[iso(BEGIN + SECOND), "2"]]
    assert chart(api, key, end_time=iso(BEGIN), hours=1)["data"] == []


def random_points(rng, n, step):
    texts = ["on", "", " 5.25", "1e2", "-0", "12345678.123456789"]
    points = []
    for i in range(n):
        late = rng.randrange(n * step) if rng.random() < 0.05 else 0
        text = rng.choice(texts) if rng.random() < 0.1 else f"{rng.uniform(-50, 50):.{rng.randrange(4)}f}"
        points.append((BEGIN + max(0, i * step - late) * SECOND, text))
    return points


def delete_some(api, feed, points, ids, rng, n):
    for _ in range(n):
        at = rng.randrange(len(points))
        assert api("DELETE", f"/feeds/{feed}/data/{ids[at]}").status_code == 200
        del points[at], ids[at]


def test_all_resolutions_and_fields_over_merged_late_and_deleted_data(make_server, feed):
    server = make_server(BUSY)
    api, rng = Api(server, owner_on(server, "charts")), random.Random(SEED)
    api("POST", "/feeds", {"name": feed})
    api("POST", "/feeds", {"name": "ballast"})
    points = random_points(rng, 3000, 20)
    ids = send_and_flush(api, feed, points, 60)
    wait_for("merging", lambda: server.metric("history_rows_merged_total") > 0)
    check_all(api, feed, points)
    delete_some(api, feed, points, ids, rng, 40)
    check_all(api, feed, points)
    assert api("DELETE", f"/feeds/{feed}").status_code == 200
    api("POST", "/feeds", {"name": feed})
    assert chart(api, feed, start_time=iso(BEGIN), hours=1000)["data"] == []


def test_rollups_are_made_anew_while_the_server_runs(make_server, feed):
    server = make_server(BUSY)
    api, rng = Api(server, owner_on(server, "charts")), random.Random(SEED + 2)
    for name in (feed, "ballast"):
        api("POST", "/feeds", {"name": name})
    points = random_points(rng, 2000, 20)
    send_and_flush(api, feed, points, 50)
    wait_for("merging", lambda: server.metric("history_rows_merged_total") > 0)
    assert server.cli("rollup", "show") == {"complete": True}
    for _ in range(3):
        assert server.cli("rollup", "rebuild") == {"complete": False, "complete_below_feed": 0}
        check_all(api, feed, points)
    wait_for("the rollups", lambda: server.cli("rollup", "show")["complete"])
    check_all(api, feed, points)
    server.stop()
    said = server.cli_run("rollup", "rebuild")
    assert said.returncode != 0 and "server" in said.stderr
    assert server.log().count("history.rollups_complete") > 0


def test_kill_9_counts_nothing_twice(make_server, feed):
    server = make_server(BUSY)
    api, rng = Api(server, owner_on(server, "charts")), random.Random(SEED + 1)
    api("POST", "/feeds", {"name": feed})
    api("POST", "/feeds", {"name": "ballast"})
    points, ids = [], []
    for turn in range(4):
        more = random_points(rng, 900, 20 + turn)
        points += more
        ids += send_and_flush(api, feed, more[:600], 15) + send(api, feed, more[600:])
        delete_some(api, feed, points, ids, rng, 5)
        wait_for("merging", lambda: server.metric("history_rows_merged_total") > 0)
        server.kill()
        server.start()
        end = BEGIN + timedelta(days=2)
        for resolution in (1, 10, 60, 480):
            check(api, feed, points, BEGIN, end, resolution, "val_count")
            check(api, feed, points, BEGIN, end, resolution, "sum")
    check_all(api, feed, points)
