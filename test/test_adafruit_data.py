# SPDX-License-Identifier: Apache-2.0
"""Single data: readers that walk along a feed, changes, chosen members, CSV; and entity tags of all reads."""
import csv
import io
import re
import threading

import pytest
import requests

from conftest import owner_on
from test_adafruit_groups import Api, ok, values

ETAG = re.compile(r'"[0-9a-f]{16}"')


@pytest.fixture(scope="module")
def api(owner):
    return Api(owner)


@pytest.fixture
def made(api, feed):
    ok(api("POST", "/feeds", {"name": feed}), 201)
    return f"/feeds/{feed}"


def send(api, path, *wanted):
    return [ok(api("POST", path + "/data", {"value": v})) for v in wanted]


def next_of(api, path, which="next"):
    r = api("GET", f"{path}/data/{which}")
    return r.json()["value"] if r.status_code == 200 else r.status_code


# ---- readers ----

def test_a_reader_gets_each_datum_once(api, made):
    assert next_of(api, made) == 404 and next_of(api, made, "previous") == 404 and next_of(api, made, "first") == 404
    send(api, made, "1")
    assert next_of(api, made) == "1"
    assert next_of(api, made, "previous") == "1" and next_of(api, made, "prev") == "1"  # does not move
    assert next_of(api, made) == 404
    send(api, made, "2", "3")
    assert [next_of(api, made) for _ in range(3)] == ["2", "3", 404]
    assert next_of(api, made, "first") == "1"  # back to the beginning
    assert next_of(api, made) == "2"
    assert next_of(api, made, "last") == "3"  # and to the end, since this feed has a reader
    assert next_of(api, made) == 404 and next_of(api, made, "previous") == "3"


def test_last_moves_no_reader_where_there_is_none(api, made):
    send(api, made, "1", "2")
    assert next_of(api, made, "last") == "2"
    assert next_of(api, made) == "1"


def test_head_moves_nothing(api, made):
    send(api, made, "1")
    for _ in range(2):
        assert api("HEAD", made + "/data/next").status_code == 200
    assert next_of(api, made) == "1"


def test_a_reader_passes_over_what_is_deleted(api, made):
    sent = send(api, made, "1", "2", "3")
    assert next_of(api, made) == "1"
    for d in sent[:2]:
        ok(api("DELETE", f"{made}/data/{d['id']}"))
    assert next_of(api, made, "previous") == 404
    assert next_of(api, made) == "3"


def test_readers_share(api, made):
    """Many at once: nothing twice, nothing left out."""
    n, got, lock = 40, [], threading.Lock()
    ok(api("POST", made + "/data/batch", [{"value": i} for i in range(n)]))

    def read():
        while True:
            r = api("GET", made + "/data/next")
            if r.status_code == 404:
                return
            if r.status_code == 200:
                with lock:
                    got.append(int(r.json()["value"]))
            else:
                assert r.status_code == 503, r.text
    threads = [threading.Thread(target=read) for _ in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(got) == list(range(n))


def test_a_feed_without_history(api, feed):
    path = f"/feeds/{feed}"
    ok(api("POST", "/feeds", {"name": feed, "history": False}), 201)
    first, second = send(api, path, "1", "2")
    assert values(api, feed) == ["2"] and next_of(api, path, "first") == "2" and next_of(api, path) == 404
    assert ok(api("GET", f"{path}/data/{second['id']}"))["value"] == "2"
    assert api("GET", f"{path}/data/{first['id']}").status_code == 404
    assert ok(api("PUT", f"{path}/data/{second['id']}", {"value": "x"}))["value"] == "x"
    assert ok(api("GET", f"{path}/data/last"))["value"] == "x"
    assert ok(api("GET", f"{path}/details"))["details"]["data"]["count"] == 1
    ok(api("DELETE", f"{path}/data/{second['id']}"))
    assert api("GET", f"{path}/data/last").status_code == 404 and values(api, feed) == []


def test_details(api, made):
    empty = ok(api("GET", made + "/details"))["details"]
    assert empty == {"shared_with": [], "data": {"first": None, "last": None, "count": 0}}
    sent = send(api, made, "1", "2", "3")
    details = ok(api("GET", made + "/details"))
    assert details["details"]["data"] == {"first": sent[0], "last": sent[2], "count": 3}
    assert details["last_value"] == "3"


# ---- changes ----

def test_change(api, made):
    one, two = send(api, made, "1", "2")
    changed = ok(api("PUT", f"{made}/data/{one['id']}", {"datum": {"value": 1.50, "lat": 5, "lon": 6}}))
    assert changed == {**one, "value": "1.5", "lat": 5, "lon": 6, "location": changed["location"]}
    assert ok(api("GET", f"{made}/data/{one['id']}")) == changed
    assert values(api, made[7:]) == ["2", "1.5"]
    assert ok(api("GET", made + "/data/last"))["value"] == "2"
    # What is not sent stays.
    again = ok(api("PATCH", f"{made}/data/{one['id']}", data={"value": "x"}))
    assert again == {**changed, "value": "x"}
    assert ok(api("PATCH", f"{made}/data/{one['id']}", {"created_at": one["created_at"], "id": one["id"]})) == again
    # The newest: latest, feed and list follow at once.
    ok(api("PATCH", f"{made}/data/{two['id']}", data="two", headers={"Content-Type": "text/csv"}))
    assert ok(api("GET", made + "/data/last"))["value"] == "two"
    assert ok(api("GET", made))["last_value"] == "two"
    ok(api("DELETE", f"{made}/data/{two['id']}"))
    assert api("PUT", f"{made}/data/{two['id']}", {"value": 1}).status_code == 404
    assert ok(api("GET", made + "/data/last"))["value"] == "x"


def test_change_reaches_the_chart(api, made):
    at = "2026-01-02T03:00:00Z"
    sent = ok(api("POST", made + "/data", {"value": 10, "created_at": at}))
    ok(api("PUT", f"{made}/data/{sent['id']}", {"value": 30}))
    chart = ok(api("GET", made + "/data/chart", params={"start_time": at, "end_time": "2026-01-02T04:00:00Z", "resolution": 60}))
    assert [float(v) for _, v in chart["data"]] == [30]


@pytest.mark.parametrize("body,sentence", [
    ({"value": "x" * 1025}, "1025 bytes"),
    ({"lat": 200, "lon": 1}, '"lat"'),
    ({"value": 1, "created_at": "2001-01-01T00:00:00Z"}, "created_at of a stored datum cannot be changed"),
    ([1], "missing"),
])
def test_bad_changes(api, made, body, sentence):
    d, = send(api, made, "1")
    r = api("PUT", f"{made}/data/{d['id']}", body)
    assert r.status_code in (413, 422) and sentence in r.json()["error"], r.text
    assert ok(api("GET", f"{made}/data/{d['id']}")) == d


# ---- members and CSV ----

def test_include(api, made):
    d, = send(api, made, "1")
    for path in ("/data/last", "/data/first", "/data/previous", f"/data/{d['id']}"):
        assert ok(api("GET", made + path, params={"include": "value, created_at"})) == {
            "value": "1", "created_at": d["created_at"]}
    assert ok(api("GET", made + "/data?include=id,feed_key,expiration,created_epoch,feed_id")) == [
        {k: d[k] for k in ("id", "feed_key", "expiration", "created_epoch", "feed_id")}]
    for path in ("/data", "/data/last"):
        assert "include" in ok(api("GET", made + path, params={"include": "value,what"}), 400)["error"]


def rows(r):
    assert r.status_code == 200 and r.headers["Content-Type"] == "text/csv; charset=utf-8", r.text
    return list(csv.reader(io.StringIO(r.text, newline="")))


def test_csv_out(api, made):
    odd = ['plain', 'a,b', 'say "x"', 'two\r\nlines', 'ü', '']
    sent = [ok(api("POST", made + "/data", {"value": v, "lat": 1.5, "lon": -2})) for v in odd]
    got = rows(api("GET", made + "/data.csv"))
    assert got[0] == ["id", "value", "feed_id", "feed_key", "created_at", "lat", "lon", "ele"]
    assert [r[1] for r in got[1:]] == odd[::-1]
    assert got[-1] == [sent[0]["id"], "plain", str(sent[0]["feed_id"]), made[7:], sent[0]["created_at"], "1.5", "-2", ""]
    assert rows(api("GET", made + "/data", headers={"Accept": "text/csv"})) == got
    assert rows(api("GET", made + "/data", headers={"Accept": "application/json;q=0.5, text/csv"})) == got
    assert rows(api("GET", made + "/data/last.csv?include=value")) == [["value"], [""]]
    for accept in ("*/*", "application/json, text/csv", "text/csv;q=0, */*", "text/html"):
        assert len(ok(api("GET", made + "/data", headers={"Accept": accept}))) == len(odd)
    assert "Link" in api("GET", made + "/data.csv?limit=2").headers


def test_retain(api, made):
    r = api("GET", made + "/data/retain")
    assert r.status_code == 200 and r.content == b"" and r.headers["Content-Type"].startswith("text/csv")
    send(api, made, 'a,"b')
    assert api("GET", made + "/data/retain").text == '"a,""b",,,'
    ok(api("POST", made + "/data", {"value": 1, "lat": 1.25, "lon": 2, "ele": 0}))
    assert api("GET", made + "/data/retain").text == "1,1.25,2,0"


def test_csv_in(api, made):
    post = lambda path, text: api("POST", made + path, data=text.encode(), headers={"Content-Type": "text/csv"})
    assert ok(post("/data", '"1,5",10,20,30')) | {"id": 0} == ok(api("GET", made + "/data/last")) | {"id": 0}
    assert values(api, made[7:]) == ["1,5"]
    sent = ok(post("/data/batch", "value,created_at\r\n1,2026-01-01T00:00:00Z\r\n2,1767225601\r\n\"\",\r\n"))
    assert [d["value"] for d in sent] == ["1", "2", ""]
    assert [d["created_at"] for d in sent[:2]] == ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]
    assert [d["value"] for d in ok(post("/data/batch", "".join(f"{i}\n" for i in range(50))))] == [str(i) for i in range(50)]
    for text, sentence in (("1\n2,x\n", 'element 2 (line 2), member "lat"'), ('"1', "line 1"), ("", "no data"),
                           ("1,2,3,4,2026-01-01T00:00:00Z,5", "columns"), ('"1"x', "line 1"), ("lat,lon\n1,2", "lat")):
        r = post("/data/batch", text)
        assert r.status_code == 422 and sentence in r.json()["error"], (text, r.text)
    assert "one datum" in ok(post("/data", "1\n2\n"), 422)["error"]


# ---- entity tags ----

def tag_of(api, path, **rest):
    r = api("GET", path, **rest)
    assert r.status_code == 200, r.text
    assert ETAG.fullmatch(r.headers["ETag"]) and r.headers["Cache-Control"] == "private, no-cache"
    assert {"Authorization", "X-AIO-Key", "X-Device-Id", "X-Device-Token"} <= set(r.headers["Vary"].split(", "))
    return r.headers["ETag"]


def unchanged(api, path, tag, **rest):
    r = api("GET", path, headers={"If-None-Match": tag}, **rest)
    if r.status_code == 304:
        assert r.content == b"" and ETAG.fullmatch(r.headers["ETag"]) and "Content-Length" not in r.headers
    return r.status_code == 304


def test_tags_follow_every_change(server, feed):
    api = Api(owner_on(server, f"tags-{feed}"))
    ok(api("POST", "/groups", {"name": "g"}), 201)
    d = ok(api("POST", "/groups/g/data", {"feeds": [{"key": "f", "value": "1"}]}))[0]
    paths = ["/feeds/g.f/data", "/feeds/g.f/data.csv", "/feeds/g.f/data?limit=1", "/feeds/g.f/data/last",
             "/feeds/g.f", "/feeds/g.f/details", "/feeds", "/groups", "/groups/g", "/groups/g/feeds", "/feeds/g.f/data/retain"]
    late = {"value": "late", "created_at": "2020-01-01T00:00:00Z"}
    old = ok(api("POST", "/feeds/g.f/data", late))
    newest = {"/feeds/g.f/data/last", "/feeds/g.f/data/retain"}  # what shows nothing but the newest
    steps = [
        (lambda: ok(api("POST", "/feeds/g.f/data", {"value": "2"})), set(paths)),
        (lambda: ok(api("POST", "/feeds/g.f/data", {**late, "value": "later"})), {p for p in paths if "data" in p and "last" not in p and "retain" not in p and "limit" not in p} | {"/feeds/g.f/details"}),
        (lambda: ok(api("PUT", f"/feeds/g.f/data/{old['id']}", {"value": "changed"})), {"/feeds/g.f/data", "/feeds/g.f/data.csv", "/feeds/g.f/details"}),
        (lambda: ok(api("DELETE", f"/feeds/g.f/data/{old['id']}")), {"/feeds/g.f/data", "/feeds/g.f/data.csv", "/feeds/g.f/details"}),
        (lambda: ok(api("PUT", "/feeds/g.f", {"description": "new"})), {"/feeds/g.f", "/feeds/g.f/details", "/feeds", "/groups", "/groups/g", "/groups/g/feeds"}),
        (lambda: ok(api("PUT", "/groups/g", {"name": "New"})), {"/feeds/g.f", "/feeds", "/groups", "/groups/g"}),
        (lambda: ok(api("POST", "/feeds", {"name": "h"}), 201), {"/feeds", "/groups"}),
        (lambda: ok(api("DELETE", "/feeds/h")), {"/feeds", "/groups"}),
    ]
    assert newest < set(paths)
    for step, must_change in steps:
        before = {}
        for p in paths:  # a tag of the bytes may give way to one of the version while a view is behind
            before[p] = [tag_of(api, p), tag_of(api, p)][-1]
        bodies = {p: api("GET", p).text for p in paths}
        step()
        for p in paths:
            now = api("GET", p, headers={"If-None-Match": before[p]})
            if now.status_code == 304:
                assert api("GET", p).text == bodies[p], p
            assert now.status_code == 200 or p not in must_change, p
    assert ok(api("GET", f"/feeds/g.f/data/{d['id']}"))["value"] == "1"


def test_tags_hold_while_nothing_changes(api, made):
    send(api, made, "1", "2")
    other = made + "x"
    ok(api("POST", "/feeds", {"name": other[7:]}), 201)
    for path in (made + "/data", made + "/data/last", made, made + "/data?limit=1&include=value"):
        tag = [tag_of(api, path), tag_of(api, path)][-1]
        send(api, other, "elsewhere")
        assert unchanged(api, path, tag) or unchanged(api, path, tag_of(api, path))
        tag = tag_of(api, path)
        assert unchanged(api, path, f'W/{tag}') and unchanged(api, path, f'"other", {tag}') and unchanged(api, path, "*")
        assert not unchanged(api, path, '"0000000000000000"') and not unchanged(api, path, "nonsense")


def test_tags_over_a_restart(make_server):
    server = make_server()
    api = Api(owner_on(server, "tess"))
    ok(api("POST", "/feeds", {"name": "f"}), 201)
    send(api, "/feeds/f", "1")
    tag = [tag_of(api, "/feeds/f/data"), tag_of(api, "/feeds/f/data")][-1]
    server.kill()
    server.start()
    assert unchanged(api, "/feeds/f/data", tag) or tag_of(api, "/feeds/f/data")
    assert unchanged(api, "/feeds/f/data", tag_of(api, "/feeds/f/data"))


def test_what_may_not_be_kept(api, made, server):
    send(api, made, "1", "2")
    for path in (made + "/data/next", made + "/data/first", "/throttle", made + "/data/nothing", "/feeds/none"):
        r = api("GET", path)
        assert r.headers["Cache-Control"] == "no-store" and "ETag" not in r.headers, path
    for url in (server.url + "/healthz", server.operator_url + "/metrics"):
        r = requests.get(url, timeout=10)
        assert r.headers["Cache-Control"] == "no-store" and "ETag" not in r.headers, url
    r = api("POST", made + "/data", {"value": 1}, headers={"If-None-Match": "*"})
    assert r.status_code == 200 and "ETag" not in r.headers
    r = requests.get(server.url + "/openapi.json", timeout=10)
    assert requests.get(server.url + "/openapi.json", headers={"If-None-Match": r.headers["ETag"]}, timeout=10).status_code == 304
