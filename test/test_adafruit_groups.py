# SPDX-License-Identifier: Apache-2.0
"""Groups, feeds that change, and what is kept of it over a kill -9."""
import pytest
import requests

from conftest import owner_on
from harness import device_auth


class Api:
    def __init__(self, owner):
        self.owner = owner

    def __call__(self, method, path, body=None, headers=None, **rest):
        kwargs = {"json": body} if body is not None else {}
        return requests.request(method, self.owner.url + path, timeout=20,
                                headers={**self.owner.key_auth, **(headers or {})}, **kwargs, **rest)


@pytest.fixture
def api(server, feed):
    """An account of its own."""
    return Api(owner_on(server, f"user-{feed}"))


def ok(r, status=200):
    assert r.status_code == status, (r.status_code, r.text)
    return r.json()


def keys(feeds):
    return [f["key"] for f in feeds]


def values(api, key):
    return [d["value"] for d in ok(api("GET", f"/feeds/{key}/data"))]


def test_life_of_a_group(api):
    assert keys(ok(api("GET", "/groups"))) == ["default"]  # it is always there
    made = ok(api("POST", "/groups", {"name": "Green House", "description": "d", "feeds": None, "id": None}), 201)
    assert (made["key"], made["name"], made["description"], made["feeds"]) == ("green-house", "Green House", "d", [])
    assert made["visibility"] == "private" and made["owner"]["username"] == api.owner.name
    feed = ok(api("POST", "/groups/green-house/feeds", {"feed": {"name": "Air Temp"}}), 201)
    assert feed["key"] == "green-house.air-temp" and feed["group"]["key"] == "green-house"
    assert feed["group"]["name"] == "Green House"
    assert keys(ok(api("GET", "/groups/green-house/feeds"))) == ["green-house.air-temp"]
    assert keys(ok(api("GET", "/groups/green-house"))["feeds"]) == ["green-house.air-temp"]
    assert keys(ok(api("GET", "/groups/"))) == ["default", "green-house"]

    ok(api("POST", "/groups/green-house/feeds/air-temp/data", {"value": 20}))
    ok(api("POST", "/groups/green-house/feeds/air-temp/data/batch", {"data": [{"value": 21}, {"value": 22}]}))
    assert [d["value"] for d in ok(api("GET", "/groups/green-house/feeds/air-temp/data"))] == ["22", "21", "20"]

    # Renamed: the number stays, and with it the data.
    changed = ok(api("PUT", "/groups/green-house", {"group": {"key": "gh", "name": "House", "description": None}}))
    assert (changed["key"], changed["name"], changed["description"]) == ("gh", "House", "d")
    assert keys(changed["feeds"]) == ["gh.air-temp"] and changed["feeds"][0]["id"] == feed["id"]
    assert changed["feeds"][0]["group"]["name"] == "House"
    assert api("GET", "/groups/green-house").status_code == 404
    assert api("GET", "/feeds/green-house.air-temp").status_code == 404
    assert values(api, "gh.air-temp") == ["22", "21", "20"]

    gone = ok(api("DELETE", "/groups/gh"))
    assert keys(gone["feeds"]) == ["gh.air-temp"] and gone["feeds"][0]["last_value"] == "22"
    assert api("GET", "/groups/gh").status_code == 404 and api("GET", "/feeds/gh.air-temp").status_code == 404
    assert api("DELETE", "/groups/gh").status_code == 404
    again = ok(api("POST", "/feeds", {"key": "gh.air-temp"}), 201)
    assert again["id"] != feed["id"] and values(api, "gh.air-temp") == []


def test_groups_stay_when_they_were_made(api):
    ok(api("POST", "/groups", {"name": "kept"}), 201)
    for group in ("kept", "made"):
        ok(api("POST", "/feeds", {"name": "f"}, params={"group_key": group}), 201)
        ok(api("DELETE", f"/feeds/{group}.f"))
    assert keys(ok(api("GET", "/groups"))) == ["default", "kept"]


@pytest.mark.parametrize("body,status,sentence", [
    ({}, 422, "Name can't be blank"),
    ({"name": 5}, 422, '"name" must be a string'),
    ({"name": "--"}, 400, "name:"),
    ({"name": "g", "key": "Not A Key"}, 400, "key:"),
    ({"name": "Default"}, 400, "exists already"),
    ({"name": "g", "visibility": "some"}, 422, '"visibility" must be "public" or "private"'),
    ([], 422, "must be a JSON object"),
])
def test_bad_groups(api, body, status, sentence):
    r = api("POST", "/groups", body)
    assert r.status_code == status and sentence in r.json()["error"], r.text
    assert len(ok(api("GET", "/groups"))) == 1


def test_default_group_stays(api):
    assert "stays" in ok(api("DELETE", "/groups/default"), 400)["error"]
    assert "stays" in ok(api("PUT", "/groups/default", {"key": "other"}), 400)["error"]
    assert ok(api("PATCH", "/groups/default", {"name": "Main"}))["name"] == "Main"
    assert ok(api("POST", "/feeds", {"name": "x"}), 201)["group"]["name"] == "Main"


def test_forms(api):
    assert ok(api("POST", "/groups", data={"name": "by form"}), 201)["key"] == "by-form"
    assert ok(api("POST", "/groups", data={"group[name]": "wrapped"}), 201)["key"] == "wrapped"
    assert ok(api("POST", "/groups", files={"name": (None, "by parts")}), 201)["key"] == "by-parts"
    assert ok(api("POST", "/feeds", files={"feed[name]": (None, "F"), "history": (None, "off")}), 201)["history"] is False
    assert ok(api("PUT", "/feeds/f", data={"description": "d", "history": "ON"}))["history"] is True


def test_add_and_remove(api):
    number = ok(api("POST", "/feeds", {"name": "temp"}), 201)["id"]
    ok(api("POST", "/feeds/temp/data", {"value": 1}))
    ok(api("POST", "/groups", {"name": "g"}), 201)
    group = ok(api("POST", "/groups/g/add", {"feed_key": "temp"}))
    assert keys(group["feeds"]) == ["temp"] and group["feeds"][0]["last_value"] == "1"
    ok(api("POST", "/groups/g/add", params={"feed_key": "temp"}))  # again: nothing changes
    assert keys(ok(api("GET", "/groups/g"))["feeds"]) == ["temp"]
    # It keeps its key, and devices that send to it notice nothing.
    feed = ok(api("GET", "/feeds/temp"))
    assert feed["group"]["key"] == "default" and keys(feed["groups"]) == ["default", "g"]
    ok(api("POST", "/feeds/temp/data", {"value": 2}))
    sent = ok(api("POST", "/groups/g/data", {"feeds": [{"key": "temp", "value": 3}, {"key": "new", "value": 4}]}))
    assert [d["feed_key"] for d in sent] == ["temp", "g.new"] and sent[0]["feed_id"] == number
    assert values(api, "temp") == ["3", "2", "1"]
    ok(api("PUT", "/groups/g", {"key": "h"}))
    assert keys(ok(api("GET", "/feeds/temp"))["groups"]) == ["default", "h"]

    assert keys(ok(api("POST", "/groups/h/remove", data={"feed_key": "temp"}))["feeds"]) == ["h.new"]
    assert keys(ok(api("GET", "/feeds/temp"))["groups"]) == ["default"]
    assert ok(api("POST", "/groups/h/remove", {"feed_key": "temp"}), 404)["error"]
    # Out of its own group it moves to default, as the same feed.
    before = ok(api("GET", "/feeds/h.new"))["id"]
    assert ok(api("POST", "/groups/h/remove", {"feed_key": "h.new"}))["feeds"] == []
    assert ok(api("GET", "/feeds/new"))["id"] == before and values(api, "new") == ["4"]
    assert "default" in ok(api("POST", "/groups/default/remove", {"feed_key": "new"}), 400)["error"]

    ok(api("POST", "/groups/h/add", {"feed_key": "temp"}))
    ok(api("DELETE", "/groups/h"))  # what was only added to it stays
    assert values(api, "temp") == ["3", "2", "1"]
    assert "feed_key" in ok(api("POST", "/groups/default/add", {}), 422)["error"]
    assert "no feed" in ok(api("POST", "/groups/default/add", {"feed_key": "none"}), 404)["error"]


def test_group_data(api):
    ok(api("POST", "/groups", {"name": "g"}), 201)
    sent = ok(api("POST", "/groups/g/data", {
        "created_at": "2026-01-02T03:04:05Z", "location": {"lat": 1.5, "lon": 2, "ele": 3},
        "feeds": [{"key": "a", "value": 1}, {"key": "B C", "value": {"x": 1}, "created_at": "2026-01-02T03:04:06Z"}]}))
    assert [(d["feed_key"], d["value"], d["created_at"], d["lat"]) for d in sent] == [
        ("g.a", "1", "2026-01-02T03:04:05Z", 1.5), ("g.b-c", '{"x":1}', "2026-01-02T03:04:06Z", 1.5)]
    assert len({d["id"] for d in sent}) == 2
    for d in sent:
        assert ok(api("GET", f"/feeds/{d['feed_key']}/data/{d['id']}")) == d
    # As CircuitPython sends it, and wrapped, and as CSV.
    ok(api("POST", "/groups/g/data", {"feeds": [{"key": "a", "value": "2"}], "lat": 1, "lon": 2, "ele": None, "created_at": None}))
    ok(api("POST", "/groups/g/data", {"group": {"feeds": [{"key": "g.a", "value": "3"}]}}))
    r = ok(api("POST", "/groups/g/data", data='a,"4,4"\nb-c,5\nlocation,7,8,9\n', headers={"Content-Type": "text/csv"}))
    assert [(d["value"], d["lat"], d["lon"], d["ele"]) for d in r] == [("4,4", 7, 8, 9), ("5", 7, 8, 9)]
    assert values(api, "g.a")[:3] == ["4,4", "3", "2"]


def test_data_of_a_feed_by_its_group(api):
    """Whatever is done with a feed's data under feeds/g.a is the same under groups/g/feeds/a."""
    ok(api("POST", "/groups", {"name": "g"}), 201)
    ok(api("POST", "/groups/g/feeds", {"name": "a"}), 201)
    ok(api("POST", "/feeds", {"name": "a"}), 201)  # of the same name, in no group
    base, at = "/groups/g/feeds/a/data", "2026-01-02T03:04:0"
    sent = ok(api("POST", base + "/batch", [{"value": v, "created_at": f"{at}{v}Z"} for v in (1, 2, 3)]))
    same = ["/last", "/first", "/previous", "/retain", f"/{sent[1]['id']}", "/last.csv",
            "/chart?start_time=2026-01-01T00:00:00Z&end_time=2026-01-03T00:00:00Z&field=sum"]
    assert ok(api("GET", base + "/first"))["value"] == "1"
    assert [ok(api("GET", base + "/next"))["value"] for _ in range(2)] == ["2", "3"]
    assert ok(api("GET", base + "/chart?start_time=2026-01-01T00:00:00Z&end_time=2026-01-03T00:00:00Z&field=sum"))["data"][0][1] == "6"
    for path in same:
        a, b = api("GET", base + path), api("GET", "/feeds/g.a/data" + path)
        assert a.status_code == b.status_code == 200 and a.content == b.content, (path, a.text, b.text)
    assert ok(api("PUT", f"{base}/{sent[1]['id']}", {"value": "two"}))["feed_key"] == "g.a"
    assert ok(api("PATCH", f"{base}/{sent[2]['id']}", {"value": "three"}))["value"] == "three"
    assert ok(api("DELETE", f"{base}/{sent[0]['id']}"))["value"] == "1"
    assert values(api, "g.a") == ["three", "two"] and values(api, "a") == []
    for path in ("/last", "/chart", f"/{sent[1]['id']}"):
        assert api("GET", "/groups/g/feeds/none/data" + path).status_code == 404
        assert api("GET", "/groups/none/feeds/a/data" + path).status_code == 404


def test_group_data_as_forms(api):
    ok(api("POST", "/groups", {"name": "g"}), 201)
    nested = [("feeds[][key]", "a"), ("feeds[][value]", "1"), ("feeds[][key]", "b"), ("feeds[][value]", "ü, \"2\""),
              ("location[lat]", "1"), ("location[lon]", "2"), ("created_at", "2026-01-02T03:04:05Z")]
    want = [("g.a", "1", 1, 2, "2026-01-02T03:04:05Z"), ("g.b", "ü, \"2\"", 1, 2, "2026-01-02T03:04:05Z")]
    numbered = [(n.replace("[]", f"[{int(i > 1)}]"), v) for i, (n, v) in enumerate(nested)]
    for form in (nested, numbered, [("feeds[a]", "1"), ("feeds[b]", "ü, \"2\""), *nested[4:]],
                 [("group[" + n.replace("[", "][", 1) if "[" in n else f"group[{n}]", v) for n, v in nested]):
        for sent in ({"data": form}, {"files": [(n, (None, v)) for n, v in form]}):
            got = ok(api("POST", "/groups/g/data", **sent))
            assert [(d["feed_key"], d["value"], d["lat"], d["lon"], d["created_at"]) for d in got] == want, sent
    # As groups are written in MQTT; and urlencoded is what curl says of everything.
    r = ok(api("POST", "/groups/g/data", data='{"feeds":{"a":5,"c":"6"}}',
               headers={"Content-Type": "application/x-www-form-urlencoded"}))
    assert [(d["feed_key"], d["value"]) for d in r] == [("g.a", "5"), ("g.c", "6")]
    before = values(api, "g.a")
    for bad in ([("feeds[a]", "1"), ("feeds[][key]", "b")], [("feeds[a]", "1"), ("lat", "x"), ("lon", "1")],
                [("feeds[a]", "1"), ("feeds[?]", "2")]):
        for sent in ({"data": bad}, {"files": [(n, (None, v)) for n, v in bad]}):
            assert api("POST", "/groups/g/data", **sent).status_code == 422
    assert values(api, "g.a") == before
    assert len(ok(api("POST", "/groups/g/data", files=[(f"feeds[m{i}]", (None, "1")) for i in range(100)]))) == 100


@pytest.mark.parametrize("body,status,sentence", [
    ({"feeds": [{"key": "a", "value": 1}, {"key": "a"}]}, 422, "element 2"),
    ({"feeds": [{"key": "a", "value": 1}, {"value": 2}]}, 422, 'element 2, member "key"'),
    ({"feeds": [{"key": "a", "value": 1}, {"key": "?!", "value": 2}]}, 422, '"?!" is no key'),
    ({"feeds": [{"key": "a", "value": 1}, {"key": "other.b", "value": 2}]}, 422, '"other.b" is no key'),
    ({"feeds": [{"key": "a", "value": 1}, {"key": "b", "value": "x" * 1025}]}, 422, "1025 bytes"),
    ({"feeds": [{"key": "a", "value": 1}], "location": 5}, 422, '"location"'),
    ({"feeds": [{"key": "a", "value": 1}], "created_at": "soon"}, 422, '"created_at"'),
    ({"feeds": []}, 422, "no data point"),
    ({"feeds": 1}, 422, '"feeds"'),
])
def test_group_data_all_or_nothing(api, body, status, sentence):
    ok(api("POST", "/groups", {"name": "g"}), 201)
    ok(api("POST", "/groups/g/feeds", {"name": "a"}), 201)
    r = api("POST", "/groups/g/data", body)
    assert r.status_code == status and sentence in r.json()["error"], r.text
    assert values(api, "g.a") == []
    assert keys(ok(api("GET", "/groups/g/feeds"))) == ["g.a"]


def test_no_such_group(api):
    for method, path in (("GET", "/groups/no"), ("POST", "/groups/no/data"), ("GET", "/groups/no/feeds"),
                         ("PUT", "/groups/no"), ("DELETE", "/groups/no"), ("POST", "/groups/no/add")):
        assert "no group with the key 'no'" in ok(api(method, path, {}), 404)["error"]
    assert "invalid URL" in ok(api("GET", "/groups/a_b"), 404)["error"]


def test_group_data_once(api):
    ok(api("POST", "/groups", {"name": "g"}), 201)
    body = {"feeds": [{"key": "a", "value": 1}, {"key": "b", "value": 2}]}
    first = ok(api("POST", "/groups/g/data", body, headers={"Idempotency-Key": "k1"}))
    again = api("POST", "/groups/g/data", body, headers={"Idempotency-Key": "k1"})
    assert ok(again) == first and again.headers["Idempotency-Replayed"] == "true"
    assert values(api, "g.a") == ["1"]


def test_feed_changes(api):
    made = ok(api("POST", "/feeds", {"name": "One", "unit_type": "t", "status_timeout": 10, "status_notify": True}), 201)
    assert made["status_timeout"] == 10 and made["status_notify"] is True
    ok(api("POST", "/feeds/one/data", {"value": 5}))
    changed = ok(api("PATCH", "/feeds/one", {"name": "Two", "description": "d", "visibility": "Public",
                                             "enabled": False, "history": None, "license": None, "key": None}))
    assert (changed["name"], changed["key"], changed["description"], changed["visibility"], changed["enabled"],
            changed["unit_type"], changed["last_value"], changed["id"], changed["status_timeout"]) == (
                "Two", "one", "d", "public", False, "t", "5", made["id"], 10)
    assert api("POST", "/feeds/one/data", {"value": 6}).status_code == 403  # disabled
    assert ok(api("PUT", "/feeds/one", {"feed": {"enabled": "ON", "unit_type": ""}}))["unit_type"] is None
    renamed = ok(api("PUT", "/feeds/one", {"key": "two"}))
    assert renamed["id"] == made["id"] and renamed["key"] == "two"
    assert api("GET", "/feeds/one").status_code == 404 and values(api, "two") == ["5"]
    assert ok(api("GET", "/feeds/two/data/last"))["feed_key"] == "two"
    ok(api("POST", "/feeds", {"name": "one"}), 201)
    assert "exists already" in ok(api("PUT", "/feeds/two", {"key": "one"}), 400)["error"]
    assert "key" in ok(api("PUT", "/feeds/two", {"key": "g.two"}), 400)["error"]
    assert "history" in ok(api("PUT", "/feeds/two", {"history": "maybe"}), 422)["error"]
    assert "status_timeout" in ok(api("PUT", "/feeds/two", {"status_timeout": 0}), 422)["error"]
    assert ok(api("PUT", "/feeds/two", {}))["key"] == "two"
    assert ok(api("PUT", "/feeds/none", {}), 404)


def test_bound_devices_change_no_groups(server, api):
    ok(api("POST", "/groups", {"name": "g"}), 201)
    for key in ("mine", "other"):
        ok(api("POST", "/groups/g/feeds", {"name": key}), 201)
    device = f"{api.owner.name}-bound"
    auth = device_auth(device, server.add_device(api.owner.name, device, "--feeds", "g.mine"))
    call = lambda method, path, body=None: requests.request(method, api.owner.url + path, json=body, headers=auth, timeout=10)
    assert keys(ok(call("GET", "/groups/g"))["feeds"]) == ["g.mine"]
    assert ok(call("POST", "/groups/g/data", {"feeds": [{"key": "mine", "value": 1}]}))
    assert ok(call("POST", "/groups/g/data", {"feeds": [{"key": "mine", "value": 1}, {"key": "other", "value": 1}]}), 403)
    assert ok(call("PUT", "/groups/g", {"name": "x"}), 403) and ok(call("POST", "/groups", {"name": "x"}), 403)
    assert ok(call("POST", "/groups/g/add", {"feed_key": "g.mine"}), 403)
    assert ok(call("PUT", "/feeds/g.mine", {"key": "yours"}), 403)
    assert ok(call("POST", "/feeds", {"name": "yours"}), 403)
    assert ok(call("PUT", "/feeds/g.other", {"name": "x"}), 404)
    assert values(api, "g.mine") == ["1"]


def test_kept_over_kill(make_server):
    server = make_server()
    api = Api(owner_on(server, "kate"))
    ok(api("POST", "/groups", {"name": "g"}), 201)
    ok(api("POST", "/groups/g/data", {"feeds": [{"key": "a", "value": 1}, {"key": "b", "value": 2}]}))
    ok(api("POST", "/feeds", {"name": "plain"}), 201)
    sent = [ok(api("POST", "/feeds/plain/data", {"value": i})) for i in range(5)]
    ok(api("POST", "/groups/g/add", {"feed_key": "plain"}))
    ok(api("PUT", "/groups/g", {"key": "h", "name": "H"}))
    ok(api("PUT", f"/feeds/plain/data/{sent[1]['id']}", {"value": "changed"}))
    ok(api("PUT", f"/feeds/plain/data/{sent[4]['id']}", {"value": "last", "lat": 1, "lon": 2}))
    ok(api("DELETE", f"/feeds/plain/data/{sent[2]['id']}"))
    ok(api("DELETE", "/feeds/h.b"))
    assert ok(api("GET", "/feeds/plain/data/next"))["value"] == "0"
    server.kill()
    server.start()
    # The reader goes on where it was.
    assert [ok(api("GET", "/feeds/plain/data/next"))["value"] for _ in range(3)] == ["changed", "3", "last"]
    assert api("GET", "/feeds/plain/data/next").status_code == 404
    assert values(api, "plain") == ["last", "3", "changed", "0"]
    assert ok(api("GET", "/feeds/plain/data/last"))["lat"] == 1
    assert ok(api("GET", "/feeds/plain"))["last_value"] == "last"
    group = ok(api("GET", "/groups/h"))
    assert group["name"] == "H" and sorted(keys(group["feeds"])) == ["h.a", "plain"]
    assert values(api, "h.a") == ["1"] and api("GET", "/feeds/h.b").status_code == 404
