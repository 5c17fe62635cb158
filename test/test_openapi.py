# SPDX-License-Identifier: Apache-2.0
"""GET /openapi.json: valid, and true of the running server: every operation is called, and every answer,
refusals too, is what the document promises.

A new operation needs a line in CALLS: its operationId and what to send. Lines run in order and may use
what earlier ones answered: a function in place of a value gets {operationId: newest answer}.
"""
import re

import pytest
import requests

import openapi
from harness import WIDE, device_auth

HASH = "$2b$04$abcdefghijklmnopqrstuuPzB0vGnGPHDvl3b1qDCvJlm6pf5D5Vy"


def of(operation, *names):
    """The value under these names in what the operation answered."""
    def take(answers):
        value = answers[operation]
        for name in names:
            value = value[name]
        return value
    return take


def tokens(number, *more):
    """The token of that message of the last fetch, in a list."""
    return lambda answers: [answers["consume_fetch"]["messages"][number]["token"], *more]


FEED = {"username": "ann", "feed_key": "temperature"}

ANN = {"username": "ann"}
HOUSE = {**ANN, "group_path": "green-house"}
GROUP = {"consumer_group": "workers"}
AIR = {**HOUSE, "feed_key": "air"}

def webhooks(who, account):
    """The calls of an operator, or of an account's own key."""
    return [
        (f"{who}_webhook_add", {"json": {**account, "url": "http://127.0.0.1:1/x", "events_max": 5}}),
        (f"{who}_webhook_add", {"json": {**account, "url": "gopher://example.org/"}, "status": 400}),
        (f"{who}_webhook_list", {"query": account}),
        (f"{who}_webhook_show", {"query": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_show", {"query": {"webhook": 77}, "status": 404}),
        (f"{who}_webhook_change", {"json": {"webhook": of(f"{who}_webhook_add", "webhook"), "feeds": ["a", "b*"]}}),
        (f"{who}_webhook_pause", {"json": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_resume", {"json": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_rotate", {"json": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_replay", {"json": {"webhook": of(f"{who}_webhook_add", "webhook"), "from": "1h"}}),
        (f"{who}_webhook_retry", {"json": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_test", {"json": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_log", {"query": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
        (f"{who}_webhook_remove", {"json": {"webhook": of(f"{who}_webhook_add", "webhook")}}),
    ]


def rules(who, account):
    """The calls of an operator, or of an account's own key."""
    return [
        (f"{who}_rule_add", {"json": {**account, "feed": "temperature", "when": "above 30 clear 28", "every": "10s"}}),
        (f"{who}_rule_add", {"json": {**account, "feed": "temperature", "when": "hot"}, "status": 400}),
        (f"{who}_rule_list", {"query": account}),
        (f"{who}_rule_test", {"json": {"rule": of(f"{who}_rule_add", "rule"), "value": "31"}}),
        (f"{who}_rule_test", {"json": {"rule": 77}, "status": 404}),
        (f"{who}_rule_remove", {"json": {"rule": of(f"{who}_rule_add", "rule")}}),
    ]


CALLS = [
    # operationId, what is sent: path, query, json or data (with type), status (the success's is default)
    ("health_get", {}),
    ("ready_get", {}),
    ("openapi_get", {}),
    ("metrics_get", {}),
    ("status_get", {}),
    ("pprof_index", {}),
    ("pprof_profile", {"query": {"seconds": 1}}),
    ("pprof_profile", {"query": {"seconds": 301}, "status": 400}),
    ("pprof_flame", {"query": {"seconds": 1}}),
    ("pprof_heap", {"query": {"debug": 1}}),
    ("pprof_heap", {"status": 501}),
    ("pprof_symbols", {}),
    ("pprof_symbol", {"data": "0x1+0x2", "type": "text/plain"}),
    ("pprof_symbol", {"data": "one", "type": "text/plain", "status": 400}),
    ("pprof_cmdline", {}),

    ("telemetry_send", {"json": {"temperature": 21.5, "place": {"value": 1, "lat": 1, "lon": 2, "ele": 3}}}),
    ("telemetry_send", {"data": '{"temperature":22}\n{"temperature":23}\n', "type": "application/x-ndjson",
                        "query": {"ack": "applied"}}),
    ("receipt_get", {"path": {"offset": of("telemetry_send", "position", "offset")}}),
    *rules("admin", {"account": "ann"}),
    *rules("own", {}),
    ("receipt_get", {"path": {"offset": 10**12}, "status": 404}),
    ("telemetry_send", {"json": [{"a": "text"}], "query": {"ack": "received"}}),
    ("telemetry_send", {"data": '{"temperature":', "type": "application/json", "status": 422}),
    ("consume_fetch", {"path": GROUP, "query": {"from": "oldest", "max": 10, "wait": 1, "lease": 60, "feeds": "temp*,a"}}),
    ("consume_fetch", {"path": GROUP, "query": {"max": "many"}, "status": 400}),
    ("consume_list", {}),
    ("consume_extend", {"path": GROUP, "json": {"tokens": tokens(0), "lease": 50}}),
    ("consume_ack", {"path": GROUP, "json": {"tokens": tokens(0, "1-1")}}),
    ("consume_ack", {"path": GROUP, "json": {"tokens": []}, "status": 422}),
    ("consume_nack", {"path": GROUP, "json": {"tokens": tokens(1), "delay": 0.5}}),
    ("consume_remove", {"path": GROUP}),
    ("consume_remove", {"path": GROUP, "status": 404}),
    ("telemetry_latest", {}),
    ("feed_create", {"path": {"username": "ann"}, "json": {"name": "Humid"}, "query": {"group_key": "attic"}}),
    ("feed_create", {"path": {"username": "ann"}, "json": {"feed": {"name": "Humidity", "license": "CC0"}}}),
    ("feed_create", {"path": {"username": "ann"}, "data": "name=Pressure", "type": "application/x-www-form-urlencoded"}),
    ("feed_create", {"path": {"username": "ann"}, "json": {}, "status": 422}),
    ("feed_list", {"path": {"username": "ann"}}),
    ("feed_list", {"path": {"username": "bob"}, "status": 404}),
    ("feed_get", {"path": FEED}),
    ("feed_get", {"path": {**FEED, "feed_key": "nowhere"}, "status": 404}),
    ("data_create", {"path": FEED, "json": {"value": "1.50"}}),
    ("data_create", {"path": FEED, "json": {"datum": {"value": 2, "lat": 1.5, "lon": -2, "ele": 3}}}),
    ("data_create", {"path": FEED, "data": "value=3", "type": "application/x-www-form-urlencoded"}),
    ("data_create", {"path": FEED, "json": {}, "status": 422}),
    ("data_create_many", {"path": FEED, "json": [{"value": "4"}, {"value": 5, "created_at": "2026-01-01T00:00:00Z"}]}),
    ("data_create_many", {"path": FEED, "json": {"data": [{"value": True}]}, "query": {"ack": "applied"}}),
    ("data_create_many", {"path": FEED, "json": {"data": 1}, "status": 422}),
    ("data_last", {"path": FEED}),
    ("data_list", {"path": FEED}),
    ("data_list", {"path": FEED, "query": {"limit": 2, "include": "value,created_at", "start_time": "2026-01-01T00:00:00Z"}}),
    ("data_list", {"path": FEED, "query": {"limit": "many"}, "status": 400}),
    ("data_chart", {"path": FEED}),
    ("data_chart", {"path": FEED, "query": {"resolution": 60, "field": "max", "hours": 24}}),
    ("data_chart", {"path": FEED, "query": {"hours": "many"}, "status": 400}),
    ("data_get", {"path": {**FEED, "datum_id": of("data_create", "id")}}),
    ("data_get", {"path": {**FEED, "datum_id": "0E"}, "status": 404}),
    ("data_get", {"path": {**FEED, "datum_id": of("data_create", "id")}, "query": {"include": "value"}}),
    ("data_first", {"path": FEED}),
    ("data_next", {"path": FEED}),
    ("data_previous", {"path": FEED}),
    ("data_prev", {"path": FEED}),
    ("data_retain", {"path": FEED}),
    ("data_replace", {"path": {**FEED, "datum_id": of("data_create", "id")}, "json": {"value": 9}}),
    ("data_change", {"path": {**FEED, "datum_id": of("data_create", "id")}, "data": "value=10",
                     "type": "application/x-www-form-urlencoded"}),
    ("data_change", {"path": {**FEED, "datum_id": of("data_create", "id")}, "json": {"lat": 100, "lon": 1}, "status": 422}),
    ("data_delete", {"path": {**FEED, "datum_id": of("data_create", "id")}}),
    ("feed_details", {"path": FEED}),
    ("feed_replace", {"path": FEED, "json": {"description": "d"}}),
    ("feed_change", {"path": FEED, "json": {"feed": {"history": "ON"}}}),
    ("feed_change", {"path": FEED, "json": {"history": "perhaps"}, "status": 422}),
    ("feed_delete", {"path": FEED}),
    ("group_create", {"path": ANN, "json": {"name": "Green House"}}),
    ("group_create", {"path": ANN, "json": {"name": "Green House"}, "status": 400}),
    ("group_list", {"path": ANN}),
    ("group_feed_create", {"path": HOUSE, "json": {"name": "air"}}),
    ("group_feed_list", {"path": HOUSE}),
    ("group_send", {"path": HOUSE, "json": {"feeds": [{"key": "air", "value": 1}, {"key": "soil", "value": 2}]}}),
    ("group_send", {"path": HOUSE, "json": {"feeds": [{"key": "air"}]}, "status": 422}),
    ("group_feed_send", {"path": {**HOUSE, "feed_key": "air"}, "json": {"value": 3}}),
    ("group_feed_send_many", {"path": {**HOUSE, "feed_key": "air"}, "json": [{"value": 4}, {"value": 5}]}),
    ("group_send", {"path": HOUSE, "data": "feeds[air]=6&feeds[soil]=7", "type": "application/x-www-form-urlencoded"}),
    ("group_send", {"path": HOUSE, "data": "feeds[air]=6&lat=x&lon=1", "type": "application/x-www-form-urlencoded", "status": 422}),
    ("group_feed_data", {"path": AIR}),
    ("group_feed_chart", {"path": AIR, "query": {"field": "sum"}}),
    ("group_feed_last", {"path": AIR}),
    ("group_feed_first", {"path": AIR}),
    ("group_feed_next", {"path": AIR}),
    ("group_feed_previous", {"path": AIR}),
    ("group_feed_retain", {"path": AIR}),
    ("group_feed_get", {"path": {**AIR, "datum_id": of("group_feed_send", "id")}}),
    ("group_feed_get", {"path": {**AIR, "datum_id": "0E"}, "status": 404}),
    ("group_feed_replace", {"path": {**AIR, "datum_id": of("group_feed_send", "id")}, "json": {"value": 9}}),
    ("group_feed_change", {"path": {**AIR, "datum_id": of("group_feed_send", "id")}, "json": {"lat": 1, "lon": 2}}),
    ("group_feed_delete", {"path": {**AIR, "datum_id": of("group_feed_send", "id")}}),
    ("group_add_feed", {"path": HOUSE, "json": {"feed_key": "humidity"}}),
    ("group_remove_feed", {"path": HOUSE, "json": {"feed_key": "humidity"}}),
    ("group_remove_feed", {"path": HOUSE, "json": {"feed_key": "humidity"}, "status": 404}),
    ("group_get", {"path": HOUSE}),
    ("group_replace", {"path": HOUSE, "json": {"name": "House"}}),
    ("group_change", {"path": HOUSE, "json": {"group": {"description": "d"}}}),
    ("group_delete", {"path": HOUSE}),
    ("user_get", {}),
    ("throttle_get", {"path": {"username": "ann"}}),

    ("key_regenerate", {"path": ANN, "json": {}}),
    ("key_regenerate", {"path": ANN, "json": {"key": "weak"}, "status": 422}),

    ("time_seconds", {}),
    ("time_millis", {}),
    ("time_iso", {}),
    ("time_hours", {}),
    ("local_time_seconds", {"path": ANN}),
    ("local_time_millis", {"path": ANN}),
    ("local_time_iso", {"path": ANN, "query": {"tz": "Europe/Berlin"}}),
    ("local_time_hours", {"path": ANN, "query": {"tz": "Asia/Tokyo"}}),
    ("local_time_struct", {"path": ANN, "query": {"tz": "America/New_York"}}),
    ("local_time_struct", {"path": ANN, "query": {"tz": "Mars/Olympus"}, "status": 404}),
    ("local_time_struct", {"path": ANN, "query": {"tz": "../shadow"}, "status": 400}),
    ("local_time_strftime", {"path": ANN, "query": {"tz": "UTC", "fmt": "%F %T"}}),

    ("admin_account_add", {"json": {"account": "eve", "limits": "60/60s", "plan": "plus"}}),
    ("admin_account_add", {"json": {"account": "eve"}, "status": 400}),
    ("admin_account_add", {"json": {"account": "zoe", "limits": "many"}, "status": 400}),
    ("admin_account_change", {"json": {"account": "eve", "limits": "", "device_limits": "9/1s"}}),
    ("admin_account_change", {"json": {"account": "eve", "plan": "gold"}, "status": 400}),
    ("admin_account_change", {"json": {"account": "eve", "topics": "any"}}),
    ("admin_account_change", {"json": {"account": "eve", "topics": "all"}, "status": 400}),
    ("admin_account_disable", {"json": {"account": "eve"}}),
    ("admin_account_enable", {"json": {"account": "eve"}}),
    ("admin_account_list", {}),
    ("admin_account_list", {"query": {"skip": 1, "limit": 1}}),
    ("admin_account_list", {"query": {"skip": "some"}, "status": 400}),
    ("admin_account_show", {"query": {"account": "eve"}}),
    ("admin_account_show", {"query": {"account": "nobody"}, "status": 404}),
    ("admin_account_show", {"status": 400}),
    ("admin_key_add", {"json": {"account": "eve", "name": "main", "role": "reader"}}),
    ("admin_key_list", {"query": {"account": "eve"}}),
    ("admin_key_show", {"query": {"account": "eve", "name": "main"}}),
    ("admin_key_change", {"json": {"account": "eve", "name": "main", "role": "writer", "feeds": ["a"]}}),
    ("admin_key_change", {"json": {"account": "eve", "name": "none"}, "status": 404}),
    ("admin_key_regenerate", {"json": {"account": "eve", "name": "main"}}),
    ("admin_key_regenerate", {"json": {"account": "eve", "name": "main", "key": "weak"}, "status": 400}),
    ("admin_key_remove", {"json": {"account": "eve", "name": "main"}}),
    ("admin_device_add", {"json": {"account": "eve", "device": "d1", "feeds": ["a", "b.*"], "role": "writer"}}),
    ("admin_device_add", {"json": {"account": "eve", "device": "d2", "hash": HASH}}),
    ("admin_device_add", {"json": {"account": "eve", "device": "d3", "hash": "none"}, "status": 400}),
    ("admin_device_import", {"query": {"account": "eve", "role": "writer"}, "type": "text/csv",
                             "data": f"device,hash,feeds\nd7,{HASH},\"a,b*\"\nd8,x,\nd9,{HASH}\n"}),
    ("admin_device_import", {"query": {"account": "eve"}, "type": "text/csv", "data": "name\nx\n", "status": 400}),
    ("admin_device_import", {"query": {"account": "eve"}, "type": "application/json", "data": "{}", "status": 415}),
    ("admin_device_list", {"query": {"account": "eve"}}),
    ("admin_device_show", {"query": {"device": "d2"}}),
    ("admin_device_change", {"json": {"device": "d1", "feeds": [], "role": "device"}}),
    ("admin_device_change", {"json": {"device": "d1", "role": "king"}, "status": 400}),
    ("admin_device_secret", {"json": {"device": "d1"}}),
    ("admin_device_secret", {"json": {"device": "d1", "secret": "of a person", "bcrypt": True}}),
    ("admin_device_psk", {"json": {"device": "d1"}}),
    ("admin_device_psk", {"json": {"device": "nobody"}, "status": 404}),
    ("admin_device_disable", {"json": {"device": "d1"}}),
    ("admin_device_enable", {"json": {"device": "d1"}}),
    ("admin_audit_list", {}),
    ("admin_audit_list", {"query": {"account": "eve", "actor": "key:*", "since": "1h", "limit": 2}}),
    ("admin_audit_list", {"query": {"since": "long ago"}, "status": 400}),
    ("admin_audit_verify", {}),
    ("admin_quarantine_add", {"json": {"device": "d1", "for": "2h"}}),
    ("admin_quarantine_add", {"json": {"device": "d1", "for": "long"}, "status": 400}),
    ("admin_quarantine_add", {"json": {"device": "none"}, "status": 404}),
    ("admin_quarantine_list", {}),
    ("admin_capture_take", {"json": {"every": 1}}),
    ("admin_capture_take", {"json": {"every": "5000000000"}, "status": 400}),
    ("admin_capture_take", {"json": {}}),
    ("admin_throttle_explain", {"query": {"who": "d1"}}),
    ("admin_throttle_explain", {"query": {"who": "none"}, "status": 404}),
    ("admin_quarantine_remove", {"json": {"device": "d1"}}),
    ("admin_quarantine_remove", {"json": {"device": "d1"}, "status": 404}),
    ("admin_device_add", {"json": {"account": "eve", "device": "d77", "feeds": ["a"]}}),
    ("admin_device_erase", {"json": {"device": "d77", "feeds": True}}),
    ("admin_device_erase", {"json": {"device": "d77"}, "status": 404}),
    ("admin_device_remove", {"json": {"device": "d1"}}),
    ("admin_device_remove", {"json": {"device": "d1"}, "status": 404}),
    ("admin_account_remove", {"json": {"account": "eve"}}),
    ("admin_account_export", {"query": {"account": "eve"}, "status": 404}),
    ("admin_account_export", {"query": {"account": "ops"}}),
    ("admin_account_export", {"query": {"account": "ops", "from": "1:2"}, "status": 400}),
    ("admin_account_erase", {"json": {"account": "eve"}, "status": 404}),
    ("admin_account_add", {"json": {"account": "mallory"}}),
    ("admin_account_erase", {"json": {"account": "mallory"}}),
    ("admin_backup_stage", {"json": {"to": "/backup/monday"}}),
    ("admin_backup_release", {"json": {"token": of("admin_backup_stage", "token")}}),
    ("admin_backup_release", {"json": {"token": of("admin_backup_stage", "token")}, "status": 404}),
    ("admin_config_reload", {"json": {}}),
    ("admin_config_reload", {"json": {"file": "x"}, "status": 400}),
    ("admin_sink_list", {}),
    ("admin_sink_pause", {"json": {"sink": "postgres"}}),
    ("admin_sink_pause", {"json": {"sink": "none"}, "status": 404}),
    ("admin_sink_resume", {"json": {"sink": "postgres"}}),
    ("admin_sink_replay", {"json": {"sink": "postgres", "from": "1h", "to": "12"}}),
    ("admin_sink_replay", {"json": {"sink": "postgres", "from": "never"}, "status": 400}),
    ("admin_sink_test", {"json": {"sink": "webhook"}}),
    ("admin_sink_test", {"json": {"sink": "postgres"}, "status": 400}),
    ("admin_sink_log", {"query": {"sink": "webhook", "limit": 3}}),
    ("admin_sink_log", {"query": {"sink": "webhook", "limit": 1000}, "status": 400}),
    ("admin_dlq_list", {"query": {"sink": "postgres"}}),
    ("admin_dlq_list", {"query": {"sink": "none"}, "status": 404}),
    ("admin_dlq_retry", {"json": {"sink": "postgres"}}),
    *webhooks("admin", {"account": "ann"}),
    *webhooks("own", {}),
    ("admin_rollup_show", {}),
    ("admin_rollup_rebuild", {"json": {}}),
    ("admin_role_list", {}),
    ("admin_role_add", {"json": {"role": "viewer", "permissions": ["data_read", "feed_read"]}}),
    ("admin_role_add", {"json": {"role": "viewer", "permissions": ["fly"]}, "status": 400}),
    ("admin_role_add", {"json": {"role": "bad", "permissions": ["data_read"], "publish": ["a#"]}, "status": 400}),
    ("admin_role_show", {"query": {"role": "viewer"}}),
    ("admin_role_change", {"json": {"role": "viewer", "permissions": "data_read"}}),
    ("admin_role_remove", {"json": {"role": "owner"}, "status": 400}),
    ("admin_role_remove", {"json": {"role": "viewer"}}),
    ("admin_plan_list", {}),
    ("admin_plan_add", {"json": {"plan": "class", "limits": "300/60s", "feeds_max": 100}}),
    ("admin_plan_add", {"json": {"plan": "class", "feeds_max": -1}, "status": 400}),
    ("admin_plan_show", {"query": {"plan": "class"}}),
    ("admin_plan_change", {"json": {"plan": "class", "device_limits": "5/1s"}}),
    ("admin_plan_remove", {"json": {"plan": "class"}}),
    ("admin_plan_remove", {"json": {"plan": "class"}, "status": 404}),
    ("admin_permission_list", {}),
]


class Api:
    """The running server as its document describes it."""

    def __init__(self, server):
        self.server = server
        self.document = requests.get(server.url + "/openapi.json", timeout=10).json()
        self.operations = {op["operationId"]: (path, method, op)
                           for path, method, op in openapi.operations(self.document)}

    def call(self, name, auth, path=None, query=None, json=None, data=None, type=None, **_):
        """Sends it and checks the answer; (status, body)."""
        template, method, operation = self.operations[name]
        url = re.sub(r"\{(\w+)\}", lambda m: str(path[m[1]]), template)
        base = self.server.operator_url if "listen.operator only" in operation.get("description", "") \
            else self.server.url
        headers = {**auth, **({"Content-Type": type} if type else {})}
        r = requests.request(method, base + url, params=query, json=json, data=data, headers=headers, timeout=20)
        content_type = r.headers.get("Content-Type", "")
        body = r.json() if content_type.startswith("application/json") else r.text
        openapi.check_answer(self.document, operation, r.status_code, content_type, body)
        return r.status_code, body


@pytest.fixture
def api(make_server, tmp_path):
    config = tmp_path / "sluice.yaml"
    config.write_text("ack:\n  timeout: 4s\n")
    (tmp_path / "psk.key").write_bytes(b"k" * 32)
    (tmp_path / "webhook.secret").write_text(f"whsec_{'a' * 32}\n")
    server = make_server({"debug.pprof": "key", "auth.failures_address": WIDE, "auth.failures_credential": WIDE,
                          "tls.psk_key_file": str(tmp_path / "psk.key"),
                          "webhook.url": "http://127.0.0.1:1/",
                          "webhook.secret_file": str(tmp_path / "webhook.secret"),
                          "postgres.url": "host=127.0.0.1 port=1"}, config=config)
    server.add_account("ann")
    server.add_account("ops")
    api = Api(server)
    api.key = {"X-AIO-Key": server.add_key("ann")}
    api.admin = {"X-AIO-Key": server.cli("key", "add", "ops", "admin", "--role", "admin")["key"]}
    return api


def test_the_document_is_valid(make_server):
    server = make_server()
    answers = [requests.get(url + "/openapi.json", timeout=10) for url in (server.url, server.operator_url)]
    assert answers[0].status_code == 200 and answers[0].headers["Content-Type"].startswith("application/json")
    assert answers[0].content == answers[1].content
    openapi.check_document(answers[0].json())


def test_every_operation_does_what_it_says(api):
    answers, good = {}, set()
    for name, call in CALLS:
        assert name in api.operations, f"{name} is called, but not in the document"
        _, _, operation = api.operations[name]
        call = {part: {k: v(answers) if callable(v) else v for k, v in value.items()}
                if isinstance(value, dict) else value for part, value in call.items()}
        status, body = api.call(name, api.admin if name.startswith(("admin_", "pprof_")) else api.key, **call)
        wanted = call.get("status") or int(min(operation["responses"]))
        assert status == wanted, (name, call, status, body)
        if status < 300:
            answers[name] = body
            good.add(name)
        if name == "key_regenerate" and status == 200:
            api.key = {"X-AIO-Key": body["key"]}
    assert good == set(api.operations), f"never called with success: {set(api.operations) - good}"


def test_without_a_credential_nothing_is_told(api):
    """401 wherever one is wanted, in the promised form; no difference for what is not there."""
    for name, (path, _, operation) in api.operations.items():
        if operation.get("security") == []:
            continue
        parts = {part: "x" for part in re.findall(r"\{(\w+)\}", path)}
        for auth in ({}, {"X-AIO-Key": "aio_" + "x" * 28}, device_auth("nobody", "wrong")):
            status, body = api.call(name, auth, parts)
            assert status == 401, (name, auth, status, body)


def test_what_the_document_does_not_know_is_not_served(api):
    """Paths and methods beyond it. 404: DELETE .../data/last is one of a datum called "last"."""
    served = {}
    for path, method, _ in openapi.operations(api.document):
        served.setdefault(path, set()).add(method)
    for path, methods in served.items():
        url = re.sub(r"\{username\}", "ann", path)
        url = re.sub(r"\{feed_key\}", "temperature", url)
        url = re.sub(r"\{\w+\}", "x", url)
        operator = all("listen.operator" in op.get("description", "") for op in api.document["paths"][path].values())
        base = api.server.operator_url if operator else api.server.url
        for method in {"get", "post", "put", "patch", "delete"} - methods:
            for auth in (api.key, api.admin):
                r = requests.request(method, base + url, headers=auth, timeout=10)
                assert r.status_code in (403, 404, 405), (method, path, r.status_code)
        assert requests.get(base + url + "/x/y/z", headers=api.admin, timeout=10).status_code in (403, 404), path


