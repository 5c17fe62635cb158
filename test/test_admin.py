# SPDX-License-Identifier: Apache-2.0
"""Administration over HTTP: who may, what is refused, that every change is in force at once, and that no
secret comes back."""
import crypt
import json
import os
import re
import sqlite3

import pytest
import requests

import openapi
from harness import WIDE, device_auth


FULL = bool(os.environ.get("SLUICE_FULL"))


class Admin:
    """Calls of one server's admin API with one credential."""

    def __init__(self, server, auth, base=None):
        self.server, self.auth, self.base = server, auth, base or server.url
        self.seen = []

    def send(self, method, path, **rest):
        rest.setdefault("headers", self.auth)
        r = requests.request(method, f"{self.base}/v1/admin/{path}", timeout=20, **rest)
        self.seen.append(r.text + str(r.headers))
        return r

    def do(self, path, status=200, **args):
        """A change."""
        r = self.send("POST", path, json=args)
        assert r.status_code == status, (path, args, r.status_code, r.text)
        return r.json()

    def look(self, path, status=200, **args):
        r = self.send("GET", path, params=args)
        assert r.status_code == status, (path, args, r.status_code, r.text)
        return r.json()


def make_admin(server):
    server.add_account("ops")
    return Admin(server, {"X-AIO-Key": server.cli("key", "add", "ops", "root", "--role", "admin")["key"]})


@pytest.fixture
def server(make_server):
    return make_server({"auth.failures_address": WIDE, "auth.failures_credential": WIDE})


@pytest.fixture
def admin(server):
    return make_admin(server)


def admin_operations(server):
    document = requests.get(server.url + "/openapi.json", timeout=10).json()
    found = [(path, method) for path, method, _ in openapi.operations(document)
             if path.startswith("/v1/admin/")]
    assert len(found) >= 15
    return found


# ---- who may ----

def test_only_admins(server, admin):
    """Every admin operation, with every role and with none, on both listeners: refused, and nothing done."""
    server.add_account("ann")
    credentials = [({}, 401)]
    for role in ("owner", "device", "writer", "reader"):
        credentials.append(({"X-AIO-Key": server.cli("key", "add", "ann", role, "--role", role)["key"]}, 403))
        secret = server.add_device("ann", "d-" + role, "--role", role)
        credentials.append((device_auth("d-" + role, secret), 403))
    locked = server.add_device("ops", "locked", "--role", "admin")
    server.cli("device", "disable", "locked")
    credentials.append((device_auth("locked", locked), 401))
    before = [admin.look("account/list"), admin.look("key/list", account="ann"), admin.look("device/list", account="ann")]
    for path, method in admin_operations(server):
        for base in (server.url, server.operator_url):
            for auth, status in credentials:
                args = {"account": "ann", "device": "d-owner", "name": "owner", "role": "admin"}
                sent = {"json": args} if method == "post" else {"params": args}
                r = requests.request(method, base + path, headers=auth, timeout=10, **sent)
                assert r.status_code == status, (method, path, auth, r.status_code, r.text)
                assert set(r.json()) == {"error"}
    assert before == [admin.look("account/list"), admin.look("key/list", account="ann"),
                      admin.look("device/list", account="ann")]


def test_owner_is_no_admin_however_the_catalog_came_to_be(server):
    """"*" in a role means everything within the account: not what was added for administrators."""
    server.add_account("ann")
    shown = server.cli("key", "add", "ann", "k", "--role", "owner")
    assert "data_delete" in shown["permissions"]
    assert not any(p.startswith("admin") for p in shown["permissions"])


def test_admin_works_on_both_listeners_and_by_every_way_to_log_in(server, admin):
    secret = server.add_device("ops", "desk", "--role", "admin", "--secret", "words of a person")
    assert secret is None
    for base in (server.url, server.operator_url):
        for auth in (admin.auth, device_auth("desk", "words of a person")):
            assert Admin(server, auth, base).look("account/show", account="ops")["name"] == "ops"
        r = requests.get(base + "/v1/admin/account/list", auth=("desk", "words of a person"), timeout=10)
        assert r.status_code == 200
        r = requests.get(base + "/v1/admin/account/list", timeout=10, params={"x-aio-key": admin.auth["X-AIO-Key"]})
        assert r.status_code == 200
        r = requests.get(base + "/v1/admin/account/list", timeout=10)
        assert r.status_code == 401


def test_an_admin_has_no_other_rights(server, admin):
    assert requests.post(server.url + "/v1/telemetry", json={"a": 1}, headers=admin.auth, timeout=10).status_code == 403
    assert requests.get(server.url + "/api/v2/ops/feeds", headers=admin.auth, timeout=10).status_code == 403


def test_admins_pass_the_throttle_too(server, admin):
    server.cli("account", "add", "slow", "--limits", "3/60s", "--device-limits", WIDE)
    slow = Admin(server, {"X-AIO-Key": server.cli("key", "add", "slow", "k", "--role", "admin")["key"]})
    for _ in range(3):
        slow.look("account/list")
    refused = slow.send("GET", "account/list")
    assert refused.status_code == 429 and int(refused.headers["Retry-After"]) > 0


# ---- what is refused ----

@pytest.mark.parametrize("args,word", [
    ({"account": "x", "number": 1}, "number"),
    ({"account": "x", "permissions": ["admin_write"]}, "permissions"),
    ({"account": "x", "disabled": True}, "disabled"),
    ({"account": ["x"]}, "account"),
    ({"account": {"name": "x"}}, "account"),
    ({"account": 5}, "account"),
    ({"account": None}, "account"),
    ({"account": "x" * 5000}, "account"),
    ({"account": "a\u0000b"}, "u0000"),
    ({"limits": "1/1s"}, "account"),
    ({}, "account"),
])
def test_unknown_and_wrong_members_are_named(admin, args, word):
    answer = admin.do("account/add", 400, **args)
    assert word in answer["error"] and answer["reason"] == "bad_request"
    assert admin.look("account/list")["total"] == 1


@pytest.mark.parametrize("body", [
    "", "[]", "1", '"x"', "null", "{", '{"account":"x","account":"y"}', '{"account":"x"} x', "{'account':'x'}",
    '{"account":"x","limits":' + "[" * 5000 + "]" * 5000 + "}", '{"account":"' + "x" * 100000 + '"}',
    b'{"account":"\xff"}', '{"account":"x","feeds":["a"]}'])
def test_bad_bodies(server, admin, body):
    r = admin.send("POST", "account/add", data=body)
    assert r.status_code == 400 and r.json()["error"], (body[:50], r.status_code, r.text)
    assert admin.look("account/list")["total"] == 1


@pytest.mark.parametrize("query", ["account=ops&account=ops", "nothing=1", "account=%ff", "%00=1",
                                   "account=ops&sk%69p=1", "account=a%00b"])
def test_bad_queries(admin, query):
    r = admin.send("GET", "account/show?" + query)
    assert r.status_code == 400 and r.json()["error"], (query, r.status_code, r.text)


def test_methods(admin):
    """What changes something is never done by GET; what only looks is not there for POST."""
    r = admin.send("GET", "account/remove?account=ops")
    assert r.status_code == 405 and r.headers["Allow"] == "POST"
    assert admin.send("HEAD", "account/remove?account=ops").status_code == 405
    r = admin.send("POST", "account/list", json={})
    assert r.status_code == 405 and r.headers["Allow"] == "GET"
    assert admin.send("DELETE", "account/remove").status_code == 405
    for path in ("account", "account/", "account/list/x", "nothing/list", "account/nothing", "", "account/lis%74/"):
        r = admin.send("GET", path)
        assert r.status_code == (200 if path.startswith("account/lis%") else 404), (path, r.text)
    r = admin.send("HEAD", "account/list")
    assert r.status_code == 200 and r.text == ""


# ---- in force at once ----

def status(server, auth, method="POST", path="/v1/telemetry"):
    return requests.request(method, server.url + path, json={"t": 1} if method == "POST" else None, headers=auth,
                            timeout=10).status_code


def test_a_role_changes_for_all_at_once(server, admin):
    """Devices on warm connections, with bcrypt and without: the very next request has the new rights."""
    server.add_account("ann")
    assert status(server, {"X-AIO-Key": server.add_key("ann")}) == 202, "the feed is there from now on"
    admin.do("role/add", role="crew", permissions=["data_write"])
    fleet = []
    for i in range(4):
        args = {"secret": f"of person {i}"} if i % 2 else {}
        made = admin.do("device/add", account="ann", device=f"d{i}", role="crew", **args)
        session = requests.Session()
        session.headers.update(device_auth(f"d{i}", args.get("secret") or made["secret"]))
        fleet.append(session)
    fleet[0].headers.pop("X-Device-Id"), fleet[0].headers.pop("X-Device-Token")
    fleet[0].headers["X-AIO-Key"] = admin.do("key/add", account="ann", name="k", role="crew")["key"]
    hashes = server.metric("hashes_run_total")
    for round in range(20):
        may = round % 2 == 0
        answer = admin.do("role/change", role="crew", permissions="data_write" if may else "data_read")
        assert answer["workers_confirmed"] is True and answer["credentials"] == 5
        for session in fleet:
            r = session.post(server.url + "/v1/telemetry", json={"t": round}, timeout=10)
            assert r.status_code == (202 if may else 403), (round, r.text)
    assert server.metric("hashes_run_total") <= hashes + 2, "a change of rights costs no password hash"


def test_a_plan_changes_for_all_at_once(server, admin):
    admin.do("plan/add", plan="tight", limits="2/3600s")
    admin.do("account/add", account="ann", plan="tight")
    key = {"X-AIO-Key": admin.do("key/add", account="ann", name="k")["key"]}
    assert [status(server, key) for _ in range(3)] == [202, 202, 429]
    admin.do("plan/change", plan="tight", limits="1000/3600s")
    assert status(server, key) == 202
    admin.do("plan/change", plan="tight", limits="1/3600s")
    assert [status(server, key) for _ in range(2)][1] == 429
    admin.do("account/change", account="ann", limits="500/3600s")
    assert [status(server, key) for _ in range(3)] == [202] * 3
    admin.do("account/change", account="ann", limits="")
    assert [status(server, key) for _ in range(2)][1] == 429
    assert admin.do("account/change", account="ann", plan="fleet")["plan"] == "fleet"
    assert status(server, key) == 202


def test_accounts_keys_and_devices_change_at_once(server, admin):
    admin.do("account/add", account="ann")
    first = admin.do("key/add", account="ann", name="k")["key"]
    device = device_auth("d", admin.do("device/add", account="ann", device="d")["secret"])
    second = admin.do("key/regenerate", account="ann", name="k")["key"]
    assert status(server, {"X-AIO-Key": first}) == 401 and status(server, {"X-AIO-Key": second}) == 202
    for disabled in (True, False, True, False):
        admin.do("account/disable" if disabled else "account/enable", account="ann")
        wanted = 401 if disabled else 202
        assert status(server, {"X-AIO-Key": second}) == wanted and status(server, device) == wanted
    admin.do("key/change", account="ann", name="k", role="reader")
    assert status(server, {"X-AIO-Key": second}) == 403
    admin.do("device/change", device="d", feeds=["t*"])
    assert status(server, device) == 202
    admin.do("device/change", device="d", feeds="u*")
    assert status(server, device) in (403, 404)
    shown = admin.do("device/change", device="d", feeds=[])
    assert shown["feeds"] == ["*"] and status(server, device) == 202
    admin.do("device/change", device="d", role="admin")
    assert status(server, device) == 403 and status(server, device, "GET", "/v1/admin/role/list") == 200


def test_roles_and_plans_survive_a_kill(server, admin):
    admin.do("role/add", role="crew", permissions=["data_write", "admin_read"])
    admin.do("plan/add", plan="gold", limits="7/1s")
    admin.do("role/change", role="writer", permissions="data_write,data_read")
    server.kill()
    server.start()
    assert admin.look("role/show", role="crew")["permissions"] == ["data_write", "admin_read"]
    assert admin.look("role/show", role="writer")["permissions"] == ["data_write", "data_read"]
    assert admin.look("plan/show", plan="gold")["limits"] == "7/1s"


def test_an_admin_can_lock_itself_out_but_not_the_socket(server, admin):
    admin.do("role/change", role="admin", permissions="data_read")
    admin.look("role/list", 403)
    server.cli("role", "change", "admin", "admin_read,admin_write")
    assert admin.look("role/list")["total"] == 5


# ---- no secret comes back ----

def test_no_secret_is_ever_shown_again(server, admin):
    """Secrets and verifiers in every admin answer and in the log: only the new one, once, at its making."""
    admin.do("account/add", account="ann")
    made = [admin.do("device/add", account="ann", device="d1")["secret"]]
    made.append(admin.do("key/add", account="ann", name="k1")["key"])
    made.append(admin.do("device/secret", device="d1")["secret"])
    told = ["chosen by a person", "aio_" + "A1b2" * 7]
    admin.do("device/add", account="ann", device="d2", secret=told[0])
    admin.do("key/add", account="ann", name="k2", key=told[1])
    stored = "$2b$04$abcdefghijklmnopqrstuuPzB0vGnGPHDvl3b1qDCvJlm6pf5D5Vy"
    admin.do("device/add", account="ann", device="d3", hash=stored)
    admin.do("device/add", 400, account="ann", device="d3", hash=stored)
    admin.do("device/add", 400, account="ann", device="d4", hash=stored[:-1])
    admin.do("key/add", 400, account="ann", name="k3", key=told[1])
    admin.do("key/add", 400, account="ann", name="k3", key="weak-" + told[0])
    for device in ("d1", "d2", "d3"):
        assert requests.post(server.url + "/v1/telemetry", json={"a": 1}, timeout=10,
                             headers=device_auth(device, told[0])).status_code == (202 if device == "d2" else 401)
        admin.look("device/show", device=device)
        admin.do("device/disable", device=device)
    admin.look("device/list", account="ann")
    admin.look("key/list", account="ann")
    admin.look("key/show", account="ann", name="k2")
    server.stop()
    catalog = sqlite3.connect(f"file:{server.data}/catalog.db?mode=ro", uri=True)
    verifiers = [v for (v,) in catalog.execute("SELECT verifier FROM credential WHERE verifier IS NOT NULL")]
    digests = [d.hex() for (d,) in catalog.execute("SELECT digest FROM credential WHERE digest IS NOT NULL")]
    assert len(verifiers) == 2 and len(digests) == 4
    everything = "\n".join(admin.seen) + server.log()
    for secret in made:
        assert everything.count(secret) == 1, "a new secret is shown once"
    for secret in [*told, *verifiers, *digests, stored]:
        assert secret not in everything
    for path in sorted(server.data.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for secret in [*made, *told]:
                assert secret.encode() not in content, path
            if path.name != "catalog.db":
                assert not any(v.encode() in content for v in verifiers), path


def test_answers_are_not_kept_by_caches(admin):
    assert admin.send("GET", "account/list").headers["Cache-Control"] == "no-store"


# ---- who did it ----

def test_the_actor_is_recorded(server, admin):
    admin.do("account/add", account="ann")
    desk = server.add_device("ops", "desk", "--role", "admin")
    Admin(server, device_auth("desk", desk)).do("account/add", account="bob")
    server.cli("account", "add", "eve")
    server.stop()
    printed = server.cli_run("journal", "tail", "--json").stdout
    audit = [json.loads(r["payload"]) for r in map(json.loads, printed.splitlines()) if r["kind"] == "audit"]
    by = {a["account"]: a["actor"] for a in audit if a["op"] == "account_add"}
    assert by["ann"] == "key:ops/root" and by["bob"] == "device:desk" and by["eve"] == "admin"
    where = {a["account"]: a.get("from") for a in audit if a["op"] == "account_add"}
    assert where["ann"] == "127.0.0.1" and where["eve"] is None


# ---- a fleet that has its secrets already ----

def bcrypt(secret):
    return crypt.crypt(secret, "$2b$04$" + "abcdefghijklmnopqrstuu")


def csv_of(n, begin=0):
    """n devices with a made-up hash each, which nobody will log in with."""
    stored = bcrypt("x")
    return "".join(f"truck-{i:06d},{stored[:-6]}{i:06d}\n" for i in range(begin, begin + n))


def test_import_over_http(server, admin):
    admin.do("account/add", account="ann")
    rows = [f"d{i},{bcrypt(f'secret {i}')},{role},{feeds}" for i, role, feeds in
            ((1, "", ""), (2, "writer", ""), (3, "reader", ""), (4, "device", '"a,b.*"'))]
    rows += ["d5,plaintext,,", "d6"]
    file = "device,hash,role,feeds\r\n" + "\r\n".join(rows)
    r = admin.send("POST", "device/import?account=ann", data=file, headers={**admin.auth, "Content-Type": "text/csv"})
    assert r.status_code == 200
    answer = r.json()
    assert (answer["added"], answer["unchanged"], answer["refused"]) == (4, 0, 2)
    assert [(e["line"], e["column"], e["name"]) for e in answer["errors"]] == [(6, 2, "hash"), (7, 2, "hash")]
    assert status(server, device_auth("d1", "secret 1")) == 202
    assert status(server, device_auth("d2", "secret 2")) == 202
    assert status(server, device_auth("d2", "secret 1")) == 401
    assert status(server, device_auth("d3", "secret 3")) == 403
    assert admin.look("device/show", device="d4")["feeds"] == ["a", "b.*"]
    assert status(server, device_auth("d5", "plaintext")) == 401
    r = admin.send("POST", "device/import?account=ann", data=file, headers={**admin.auth, "Content-Type": "text/csv"})
    assert (r.json()["added"], r.json()["unchanged"], r.json()["refused"]) == (0, 4, 2)


@pytest.mark.parametrize("running", [True, False])
def test_import_by_command(make_server, tmp_path, running):
    """A file of several parts: numbers add up, and what is wrong is told with the line of the whole file."""
    server = make_server(start=running)
    server.add_account("ann")
    n = 20000 if FULL else 9000
    lines = ["", "\t", "device,hash", *csv_of(n - 2).splitlines()]
    wrong = {7: "bad id,x", n // 2: "no-hash", n - 3: 'open"quote,x'}
    for number, line in wrong.items():
        lines[number - 1] = line
    path = tmp_path / "fleet.csv"
    path.write_text("\n".join(lines) + "\n")
    r = server.cli_run("device", "import", "ann", str(path))
    assert r.returncode == 1 and str(n - 5) in r.stdout, (r.stdout, r.stderr)
    told = re.findall(rf"^{re.escape(str(path))}:(\d+): column (\d)", r.stderr, re.M)
    assert told == [("7", "1"), (str(n // 2), "2"), (str(n - 3), "1")], r.stderr
    r = server.cli_run("device", "import", "ann", str(path), "--first-line", "1000")
    told = re.findall(rf"^{re.escape(str(path))}:(\d+):", r.stderr, re.M)
    assert told == [str(line + 996) for line in wrong], r.stderr
    assert server.cli_run("device", "import", "ann", str(path), "--first-line", "x").returncode == 1
    # Put right and sent again, from standard input.
    good = ["device,hash", *csv_of(n).splitlines()]
    r = server.cli("device", "import", "ann", "-", stdin="\n".join(good))
    assert r == {"added": 5, "unchanged": n - 5, "refused": 0, "errors": []}
    if not running:
        server.start()
    assert server.cli("account", "show", "ann")["devices"] == n
    server.kill()
    server.start()
    assert server.cli("account", "show", "ann")["devices"] == n


def test_import_has_many_in_one_transaction(server, admin):
    admin.do("account/add", account="ann")
    before = server.metric("catalog_transactions_total")
    r = admin.send("POST", "device/import?account=ann", data="device,hash\n" + csv_of(8000),
                   headers={**admin.auth, "Content-Type": "text/csv"})
    assert r.json()["added"] == 8000
    assert server.metric("catalog_transactions_total") - before <= 20


@pytest.mark.parametrize("file,word", [("", "columns"), ("a,b\n", "line 1, column 1"), ("device,hash", None),
                                       ("device,hash\n\"x", None), ("\x00", "column 1")])
def test_import_of_odd_files(server, admin, tmp_path, file, word):
    admin.do("account/add", account="ann")
    path = tmp_path / "odd.csv"
    path.write_text(file)
    r = server.cli_run("device", "import", "ann", str(path))
    assert r.returncode in (0, 1) and (word is None or word in r.stderr), r.stderr
    assert server.cli("account", "show", "ann")["devices"] == 0
    r = server.cli_run("device", "import", "ann", str(tmp_path / "missing.csv"))
    assert r.returncode == 1 and "missing.csv" in r.stderr
    r = server.cli_run("device", "import", "nobody", str(path))
    assert r.returncode == 1 and "nobody" in r.stderr


@pytest.mark.skipif(not FULL, reason="100,000 devices")
def test_a_list_beyond_an_answer_says_what_to_do(server, admin):
    admin.do("account/add", account="ann")
    for begin in range(0, 100000, 10000):
        r = admin.send("POST", "device/import?account=ann", data="device,hash\n" + csv_of(10000, begin),
                       headers={**admin.auth, "Content-Type": "text/csv"})
        assert r.json()["added"] == 10000
    answer = admin.look("device/list", 400, account="ann", limit=100000)
    assert "limit" in answer["error"] and answer["reason"] == "bad_request"
    assert len(admin.look("device/list", account="ann", limit=10000, skip=85000)["devices"]) == 10000
