# SPDX-License-Identifier: Apache-2.0
"""The Adafruit IO v2 subset, as Adafruit's published clients use it."""
import json
import re
import time

import pytest
import requests

from conftest import owner_on
from wire import Wire, request

NOT_FOUND = "not found - API documentation can be found at https://io.adafruit.com/api/docs"
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Api:
    """Calls below /api/v2/{user} with the account's key."""

    def __init__(self, server, owner):
        self.server, self.owner = server, owner

    def __call__(self, method, path, body=None, headers=None, **rest):
        kwargs = {"json": body} if body is not None else {}
        return requests.request(method, self.owner.url + path, timeout=20,
                                headers={**self.owner.key_auth, **(headers or {})}, **kwargs, **rest)


@pytest.fixture(scope="module")
def api(server, owner):
    return Api(server, owner)


@pytest.fixture
def made(api, feed):
    """A feed that exists and has no data."""
    assert api("POST", "/feeds", {"name": feed}).status_code == 201
    return feed


def error_of(r):
    assert r.headers["content-type"].startswith("application/json")
    return r.json()["error"]


# ---- feeds ----

def test_feed_life(api, feed):
    r = api("POST", "/feeds", {"name": feed, "description": "d", "license": None})
    assert r.status_code == 201
    made = r.json()
    assert made["key"] == made["name"] == feed and made["username"] == api.owner.name
    assert made["owner"]["username"] == api.owner.name and isinstance(made["owner"]["id"], int)
    assert isinstance(made["id"], int) and made["description"] == "d"
    assert made["history"] is True and made["enabled"] is True and made["visibility"] == "private"
    assert made["last_value"] is None and isinstance(made["status_timeout"], int)
    assert SECONDS.fullmatch(made["created_at"]) and SECONDS.fullmatch(made["updated_at"])
    assert made["group"]["key"] == "default" and made["groups"][0]["key"] == "default"

    assert api("GET", f"/feeds/{feed}").json()["id"] == made["id"]
    assert feed in [f["key"] for f in api("GET", "/feeds").json()]
    api("POST", f"/feeds/{feed}/data", {"value": 41})
    assert api("GET", f"/feeds/{feed}").json()["last_value"] == "41"

    gone = api("DELETE", f"/feeds/{feed}")
    assert gone.status_code == 200 and isinstance(gone.json(), dict)  # a JSON body, never empty
    r = api("GET", f"/feeds/{feed}")
    assert r.status_code == 404 and error_of(r)
    assert api("DELETE", f"/feeds/{feed}").status_code == 404
    # What comes after it under the same key is a new feed, without the old data.
    assert api("POST", "/feeds", {"name": feed}).json()["id"] != made["id"]
    assert api("GET", f"/feeds/{feed}/data").json() == []


def test_duplicate_feed(api, made):
    r = api("POST", "/feeds", {"name": made})
    assert r.status_code == 400
    assert error_of(r)


@pytest.mark.parametrize("name,key", [
    ("My Feed", "my-feed"), ("Room_1 temp", "room-1-temp"), ("test.temperature", "test-dot-temperature"),
    ("UPPER", "upper"), ("a-b", "a-b")])
def test_key_made_from_the_name(api, name, key):
    r = api("POST", "/feeds", {"name": name})
    assert r.status_code == 201 and r.json()["key"] == key and r.json()["name"] == name


@pytest.mark.parametrize("name", ["", "   ", "a" * 129, "semi;colon", "sla/sh", "päng"])
def test_names_that_are_no_names(api, name):
    r = api("POST", "/feeds", {"name": name})
    assert r.status_code in (400, 422), r.text
    assert error_of(r)


@pytest.mark.parametrize("key", ["under_score", "par(en", "co:lon"])
def test_keys_with_other_characters_are_invalid_urls(api, key):
    r = api("GET", f"/feeds/{key}")
    assert r.status_code == 404 and error_of(r).startswith("not found - that is an invalid URL")


# The bodies that the published clients send.
PYTHON = {"feed": {"name": "NAME", "key": None, "id": None, "description": None, "unit_type": None,
                   "unit_symbol": None, "history": "ON", "visibility": "Private", "license": None,
                   "status_notify": False, "status_timeout": 4320}}


@pytest.mark.parametrize("path", ["/feeds", "/feeds/", "//feeds", "//feeds//"])
def test_python_client_creates_a_feed(api, feed, path):
    body = json.loads(json.dumps(PYTHON).replace("NAME", feed))
    r = api("POST", path, body)
    assert r.status_code == 201, r.text
    assert r.json()["history"] is True and r.json()["visibility"] == "private"


def test_arduino_client_creates_a_feed(api, feed):
    r = api("POST", "/feeds", data=f"name={feed}",
            headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert r.status_code == 201 and r.json()["key"] == feed


def test_odd_paths(api, made):
    api("POST", f"/feeds/{made}/data", {"value": 1})
    for path in (f"//feeds/{made}/data/last", f"/feeds//{made}//data/last/", f"/feeds/{made}/data/last.json",
                 f"/feeds/{made}/data/last?"):
        r = api("GET", path)
        assert r.status_code == 200 and r.json()["value"] == "1", path
    assert requests.get(f"{api.server.url}//api//v2//{api.owner.name}//feeds", timeout=10,
                        headers=api.owner.key_auth).status_code == 200


# ---- data ----

def test_datum(api, made):
    r = api("POST", f"/feeds/{made}/data", {"value": 42})
    assert r.status_code == 200
    datum = r.json()
    assert ID.fullmatch(datum["id"]) and datum["value"] == "42" and datum["feed_key"] == made
    assert isinstance(datum["feed_id"], int) and SECONDS.fullmatch(datum["created_at"])
    assert isinstance(datum["created_epoch"], (int, float))
    assert abs(datum["created_epoch"] - time.time()) < 60
    assert isinstance(datum["expiration"], str)
    assert not {"lat", "lon", "ele", "location"} & set(datum)
    assert api("GET", f"/feeds/{made}/data/{datum['id']}").json() == datum
    assert api("GET", f"/feeds/{made}/data/last").json() == datum


PY_DATUM = {"created_epoch": None, "created_at": None, "updated_at": None, "value": "V", "completed_at": None,
            "feed_id": None, "expiration": None, "position": None, "id": None, "lat": None, "lon": None,
            "ele": None}


@pytest.mark.parametrize("body,value", [
    ({"value": "text"}, "text"), ({"value": 21.5}, "21.5"), ({"value": True}, "true"),
    ({"datum": {"value": 7}}, "7"), (PY_DATUM, "V"), ({"value": 1, "what": "ever"}, "1"),
    ({"value": {"a": [1, 2]}}, '{"a":[1,2]}'), ({"value": ""}, "")])
def test_data_bodies(api, made, body, value):
    r = api("POST", f"/feeds/{made}/data", body)
    assert r.status_code == 200 and r.json()["value"] == value, r.text


def test_data_forms(api, made):
    r = api("POST", f"/feeds/{made}/data", data="value=a%20b+c&lat=1.5&lon=2&ele=3",
            headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert r.status_code == 200 and r.json()["value"] == "a b c" and r.json()["lat"] == 1.5
    r = api("POST", f"/feeds/{made}/data", files={"value": (None, "42")})
    assert r.status_code == 200 and r.json()["value"] == "42"


def test_place_and_time(api, made):
    r = api("POST", f"/feeds/{made}/data", {"value": 1, "lat": 1, "lon": 2, "ele": 3,
                                            "created_at": "2026-03-04T05:06:07Z"})
    d = r.json()
    assert d["created_at"] == "2026-03-04T05:06:07Z" and d["created_epoch"] == 1772600767
    assert d["location"]["type"] == "Feature" and d["location"]["geometry"]["type"] == "Point"
    assert d["location"]["geometry"]["coordinates"] == [2, 1, 3]  # lon, lat, ele: the GeoJSON order
    assert (d["lat"], d["lon"], d["ele"]) == (1, 2, 3)


@pytest.mark.parametrize("body", [{}, {"value": None}, {"lat": 1}, {"datum": {}}, [], 5,
                                  {"value": 1, "created_at": "soon"}, {"value": "x" * 1025}])
def test_bad_data(api, made, body):
    r = api("POST", f"/feeds/{made}/data", body)
    assert r.status_code in (413, 422), r.text
    assert error_of(r)
    assert api("GET", f"/feeds/{made}/data").json() == []


def test_missing_value_says_so(api, made):
    r = api("POST", f"/feeds/{made}/data", {"lat": 1})
    assert "data missing required value" in str(error_of(r))


def test_no_feed_is_created_by_data(api, feed):
    r = api("POST", f"/feeds/{feed}/data", {"value": 1})
    assert r.status_code == 404 and error_of(r)
    assert api("GET", f"/feeds/{feed}").status_code == 404


def test_last_of_an_empty_feed(api, made):
    r = api("GET", f"/feeds/{made}/data/last")
    assert r.status_code == 404 and error_of(r)
    assert api("GET", f"/feeds/{made}/data").json() == []


@pytest.mark.parametrize("wrap", [True, False])
def test_batch(api, made, wrap):
    items = [{"value": i, "created_at": f"2026-01-01T00:00:{i:02d}Z"} for i in range(20)]
    r = api("POST", f"/feeds/{made}/data/batch", {"data": items} if wrap else items)
    assert r.status_code == 200
    assert [d["value"] for d in r.json()] == [str(i) for i in range(20)]
    assert len({d["id"] for d in r.json()}) == 20
    assert [d["value"] for d in api("GET", f"/feeds/{made}/data").json()] == \
        [str(i) for i in range(19, -1, -1)]


def test_batch_is_all_or_nothing(api, made):
    items = [{"value": i} for i in range(10)]
    items[7] = {"lat": 1}
    assert api("POST", f"/feeds/{made}/data/batch", {"data": items}).status_code == 422
    assert api("GET", f"/feeds/{made}/data").json() == []


def test_delete_datum(api, made):
    ids = [api("POST", f"/feeds/{made}/data", {"value": i}).json()["id"] for i in range(3)]
    r = api("DELETE", f"/feeds/{made}/data/{ids[1]}")
    assert r.status_code == 200 and isinstance(r.json(), dict)
    assert api("GET", f"/feeds/{made}/data/{ids[1]}").status_code == 404
    assert [d["id"] for d in api("GET", f"/feeds/{made}/data").json()] == [ids[2], ids[0]]
    # Deleting the newest makes the one before it the last.
    assert api("DELETE", f"/feeds/{made}/data/{ids[2]}").status_code == 200
    assert api("GET", f"/feeds/{made}/data/last").json()["id"] == ids[0]
    assert api("GET", f"/feeds/{made}").json()["last_value"] == "0"
    assert api("DELETE", f"/feeds/{made}/data/{ids[2]}").status_code == 404
    for strange in ("x", "0" * 26, ids[0][:-1], "Z" * 26):
        r = api("GET", f"/feeds/{made}/data/{strange}")
        assert r.status_code == 404 and error_of(r), strange


def test_data_of_another_feed_has_no_such_id(api, made, feed):
    api("POST", "/feeds", {"name": feed + "-other"})
    one = api("POST", f"/feeds/{made}/data", {"value": 1}).json()
    assert api("GET", f"/feeds/{feed}-other/data/{one['id']}").status_code == 404
    assert api("DELETE", f"/feeds/{feed}-other/data/{one['id']}").status_code == 404
    assert api("GET", f"/feeds/{made}/data/{one['id']}").status_code == 200


# ---- paging ----

@pytest.fixture(scope="module")
def many(api):
    """2,500 data, a second apart, some of them at the same second."""
    name = "many"
    assert api("POST", "/feeds", {"name": name}).status_code == 201
    start = 1767225600  # 2026-01-01T00:00:00Z
    for begin in range(0, 2500, 500):
        items = [{"value": i, "epoch": start + i // 2 * 2} for i in range(begin, begin + 500)]
        assert api("POST", f"/feeds/{name}/data/batch", {"data": items}).status_code == 200
    return name


def next_link(r):
    """As the Python client finds it."""
    found = re.search(r'rel="next", <(.+?)>', r.headers["link"])
    return found[1] if found else None


def test_first_page(api, many):
    r = api("GET", f"/feeds/{many}/data")
    assert len(r.json()) == 1000 and r.json()[0]["value"] == "2499"
    assert r.headers["x-pagination-limit"] == r.headers["x-pagination-count"] == "1000"
    assert r.headers["x-pagination-total"] == "2500"
    assert re.fullmatch(r"<[^<>]+>;rel=\"next\", <[^<>]+>", r.headers["link"]), r.headers["link"]


@pytest.mark.parametrize("limit", [1000, 999, 100])
def test_following_the_pages_gives_everything_once(api, many, limit):
    """The Python client takes the next URL and overwrites its limit."""
    r = api("GET", f"/feeds/{many}/data?limit={limit}")
    got = r.json()
    while url := next_link(r):
        assert len(got) < 5000
        r = requests.get(url.replace("localhost", "127.0.0.1"), headers=api.owner.key_auth, timeout=10)
        assert r.status_code == 200
        got += r.json()
    assert [d["value"] for d in got] == [str(i) for i in range(2499, -1, -1)]


def test_the_link_is_there_without_a_next_page(api, made):
    for _ in range(2):
        r = api("GET", f"/feeds/{made}/data")
        assert re.fullmatch(r"<[^<>]+>", r.headers["link"]) and next_link(r) is None
        api("POST", f"/feeds/{made}/data", {"value": 1})


def test_exactly_full_last_page(api, made):
    api("POST", f"/feeds/{made}/data/batch", [{"value": i} for i in range(10)])
    r = api("GET", f"/feeds/{made}/data?limit=10")
    assert len(r.json()) == 10
    url = next_link(r)
    assert url is None or requests.get(url, headers=api.owner.key_auth, timeout=10).json() == []


def test_before_is_a_token(api, many):
    url = next_link(api("GET", f"/feeds/{many}/data?limit=10"))
    token = re.search(r"[?&]before=([^&>]+)", url)[1]
    r = api("GET", f"/feeds/{many}/data?limit=10&before={token}")
    assert [d["value"] for d in r.json()] == [str(i) for i in range(2489, 2479, -1)]
    for bad in ("x", "e30=", "0" * 25, token[:-1] + "!"):
        r = api("GET", f"/feeds/{many}/data?before={bad}")
        assert r.status_code in (400, 422) and error_of(r), bad


@pytest.mark.parametrize("query,first,count", [
    ("start_time=2026-01-01T00:10:00Z&end_time=2026-01-01T00:20:00Z", "1201", 602),
    ("start_time=2026-01-01T00:41:00Z", "2499", 40),
    ("end_time=2026-01-01T00:00:00Z", "1", 2),
    ("end_time=2025-12-31T23:59:59Z", None, 0),
    ("start_time=2026-01-01T01:10:00%2B01:00&end_time=2026-01-01T00:20:00Z", "1201", 602),
    ("limit=0", None, None), ("limit=-1", None, None), ("limit=x", None, None),
    ("limit=5000", "2499", 1000), ("start_time=yesterday", None, None)])
def test_ranges(api, many, query, first, count):
    r = api("GET", f"/feeds/{many}/data?{query}")
    if count is None:
        # A bad number or time is refused or ignored, never a failure of ours.
        assert r.status_code in (200, 400, 422), r.text
        assert r.status_code == 200 or error_of(r)
        return
    got = [d["value"] for d in r.json()]
    assert len(got) == count and (got[0] if got else None) == first


def test_include(api, made):
    api("POST", f"/feeds/{made}/data", {"value": 1, "lat": 1, "lon": 2})
    r = api("GET", f"/feeds/{made}/data?include=value,created_at")
    assert set(r.json()[0]) == {"value", "created_at"}
    assert "value" in api("GET", f"/feeds/{made}/data/last?include=value").json()


# ---- users ----

def test_user(api):
    r = requests.get(api.server.url + "/api/v2/user", headers=api.owner.key_auth, timeout=10)
    assert r.status_code == 200
    user = r.json()
    user = user.get("user", user)
    assert user["username"] == api.owner.name and isinstance(user["id"], int)
    assert user["default_group_id"] == api("GET", "/groups/default").json()["id"]


def test_throttle(make_server):
    s = make_server()
    s.add_account("slow", limits="30/60s")
    slow = {"X-AIO-Key": s.add_key("slow")}
    url = f"{s.url}/api/v2/slow"
    assert requests.post(url + "/feeds", json={"name": "t"}, headers=slow, timeout=10).status_code == 201
    for _ in range(5):
        assert requests.post(url + "/feeds/t/data", json={"value": 1}, headers=slow,
                             timeout=10).status_code == 200
    r = requests.get(url + "/throttle", headers=slow, timeout=10).json()
    assert r["data_rate_limit"] == 30 and 5 <= r["active_data_rate"] <= 7
    # What the CircuitPython client computes.
    assert r["data_rate_limit"] - r["active_data_rate"] >= 23
    for name in ("authentication_rate", "subscribe_authorization_rate", "publish_authorization_rate",
                 "hourly_ban_rate"):
        assert r[name] == 0
    assert r["mqtt_ban_error_message"] is None


def test_throttled_text(make_server):
    """WipperSnapper splits it at the first comma and reads the number behind it."""
    s = make_server()
    s.add_account("slow", limits="3/60s")
    slow = {"X-AIO-Key": s.add_key("slow")}
    url = f"{s.url}/api/v2/slow/feeds"
    answers = [requests.post(url, json={"name": f"f{i}"}, headers=slow, timeout=10) for i in range(2)]
    answers += [requests.post(url + "/f0/data", json={"value": i}, headers=slow, timeout=10)
                for i in range(5)]
    refused = [r for r in answers if r.status_code == 429]
    assert refused and answers[-1].status_code == 429
    for r in refused:
        found = re.search(r"slow data rate limit reached, (\d+) seconds until throttle released",
                          error_of(r))
        assert found and 1 <= int(found[1]) <= 60
        assert abs(int(found[1]) - int(r.headers["retry-after"])) <= 1


def test_wrong_key_before_everything_else(api):
    for path in ("/feeds/TestStream/data", "/feeds", "/feeds/none/data/batch", "/feeds/par(en/data"):
        r = requests.post(api.owner.url + path, json={"value": 1}, timeout=10,
                          headers={"X-AIO-Key": "aio_" + "x" * 28})
        assert r.status_code == 401
        assert error_of(r) == "request failed - invalid API key provided"


def test_unknown_user_is_said_to_a_valid_key_only(api):
    url = f"{api.server.url}/api/v2/nobody/feeds"
    r = requests.get(url, headers=api.owner.key_auth, timeout=10)
    assert r.status_code == 404 and error_of(r) == "not found - that username does not exist"
    assert requests.get(url, headers={"X-AIO-Key": "x"}, timeout=10).status_code == 401


def test_key_in_the_query(api, made):
    for name in ("x-aio-key", "X-AIO-Key", "x-AIO-KEY"):
        r = requests.get(f"{api.owner.url}/feeds/{made}?{name}={api.owner.key}", timeout=10)
        assert r.status_code == 200, name


def test_unserved_paths(api):
    for path in ("/dashboards", "/integrations/weather", "/nothing/at/all"):
        r = api("GET", path)
        assert r.status_code in (404, 501) and error_of(r)


def test_accounts_do_not_see_each_other(server, owner, api, made):
    other = Api(server, owner_on(server, "stranger"))
    api("POST", f"/feeds/{made}/data", {"value": "private"})
    datum = api("GET", f"/feeds/{made}/data/last").json()["id"]
    for method, path in [("GET", "/feeds"), ("POST", "/feeds"), ("GET", f"/feeds/{made}"),
                         ("DELETE", f"/feeds/{made}"), ("POST", f"/feeds/{made}/data"),
                         ("GET", f"/feeds/{made}/data"), ("GET", f"/feeds/{made}/data/last"),
                         ("GET", f"/feeds/{made}/data/{datum}"), ("GET", "/throttle"),
                         ("DELETE", f"/feeds/{made}/data/{datum}"), ("POST", f"/feeds/{made}/data/batch")]:
        body = {"name": "x", "value": 1} if method == "POST" else None
        r = requests.request(method, owner.url + path, headers=other.owner.key_auth, json=body, timeout=10)
        assert r.status_code in (403, 404), (method, path, r.text)
        assert "private" not in r.text
    assert api("GET", f"/feeds/{made}/data/last").json()["value"] == "private"


def test_link_names_the_host_that_was_asked(server, owner, api, many):
    with Wire(server.http_port) as w:
        r = w.ask(request("GET", f"{owner.api}/feeds/{many}/data?limit=1", owner.key_auth,
                          host="io.example:8443"))
    assert "//io.example:8443/api/v2/" in r["link"]


def test_repeated_group_key_counts_once(server, owner, feed):
    """Each one used to lengthen the key in a storage whose room was taken for one."""
    target = "&".join(["group_key=a"] * 600)
    r = requests.post(f"{owner.url}/feeds?{target}", headers=owner.key_auth, timeout=10,
                      json={"feed": {"name": feed, "description": "d" * 200}})
    assert r.status_code == 201, r.text
    assert r.json()["key"] == f"a.{feed}" and r.json()["description"] == "d" * 200
