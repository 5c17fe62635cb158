# SPDX-License-Identifier: Apache-2.0
"""/debug/pprof/: profiles of the running server, in the forms that pprof and a browser read; for who may, and
without anybody else noticing."""
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager

import pytest
import requests

from conftest import owner_on
from harness import BIN, WIDE, wait_for

PPROF = "/debug/pprof"
PAGES = ("", "/profile", "/flame", "/heap", "/symbol", "/cmdline")

# Functions of ours that every message passes through; which of them are inlined is the compiler's to say.
# Some are static.
OURS = {"on_input", "hand_up", "take_head", "http1_parse", "http_request_fill", "lane_handle", "lane_settle",
        "write_run", "job_authenticate", "authorize", "journal_put", "write_turn_end", "on_send",
        "http_reply_format", "shield_check", "throttle_decide", "on_readable", "worker_settle", "worker_run"}


def get(server, page, auth=None, timeout=60, **query):
    return requests.get(server.operator_url + PPROF + page, params=query, headers=auth, timeout=timeout)


@contextmanager
def traffic(server, auth):
    """Devices that post as fast as they are answered; the times of their answers, all 202."""
    times, stop, failed = [], threading.Event(), []

    def post():
        with requests.Session() as session:
            while not stop.is_set():
                r = session.post(server.url + "/v1/telemetry", data='{"t":21.5}', headers=auth, timeout=20)
                times.append(time.monotonic())
                if r.status_code != 202:
                    failed.append((r.status_code, r.text))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        yield times
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failed, failed[:3]


def read_profile(data):
    """gperftools' CPU profile: ([(count, [address, ...])], what is mapped); as its documentation has it."""
    words = struct.unpack_from(f"={len(data) // 8}Q", data)
    assert words[:3] == (0, 3, 0) and words[3] == 10000 and words[4] == 0, words[:5]
    at, samples = 5, []
    while words[at:at + 3] != (0, 1, 0):
        count, depth = words[at:at + 2]
        assert count > 0 and 0 < depth < 255
        samples.append((count, words[at + 2:at + 2 + depth]))
        at += 2 + depth
    return samples, data[(at + 3) * 8:].decode()


def names_of(server, addresses):
    body = "+".join(f"{a:#x}" for a in addresses)
    r = requests.post(server.operator_url + PPROF + "/symbol", data=body, timeout=60)
    assert r.status_code == 200, r.text
    lines = [line.split("\t") for line in r.text.splitlines()]
    assert [int(a, 16) for a, _ in lines] == list(addresses)
    return [name for _, name in lines]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    from harness import Server
    server = Server(tmp_path_factory.mktemp("opened"), {"debug.pprof": "open", "server.workers": "2"})
    server.start()
    server.owner = owner_on(server, "fleet")
    yield server
    server.close()


# ---- who may ----


def test_off_unless_it_is_turned_on(server):
    for page in PAGES:
        r = get(server, page)
        assert r.status_code == 404 and "debug.pprof" in r.json()["error"], (page, r.text)
    r = requests.post(server.operator_url + PPROF + "/symbol", data="0x1", timeout=10)
    assert r.status_code == 404 and "debug.pprof" in r.json()["error"]


def test_never_where_devices_are(opened):
    for page in PAGES:
        r = requests.get(opened.url + PPROF + page, timeout=10)
        assert r.status_code == 404 and "nothing at this path" in r.text, (page, r.text)
    assert requests.post(opened.url + PPROF + "/symbol", data="0x1", timeout=10).status_code == 404


def test_with_a_key_only_for_who_may_look(make_server):
    server = make_server({"debug.pprof": "key", "auth.failures_address": WIDE})
    owner = owner_on(server, "ann")
    server.add_account("ops")
    admin = {"X-AIO-Key": server.cli("key", "add", "ops", "admin", "--role", "admin")["key"]}
    for page in PAGES:
        assert get(server, page).status_code == 401, page
        assert get(server, page, {"X-AIO-Key": "aio_" + "x" * 28}).status_code == 401, page
        assert get(server, page, owner.key_auth).status_code == 403, page
        assert get(server, page, owner.auth).status_code == 403, page
        assert requests.get(server.url + PPROF + page, headers=admin, timeout=10).status_code == 404, page
    assert get(server, "", admin).status_code == 200
    assert get(server, "/profile", admin, seconds=1).status_code == 200
    r = requests.get(server.operator_url + PPROF, auth=("ops", admin["X-AIO-Key"]), timeout=10)  # a browser
    assert r.status_code == 200


def test_a_reload_turns_it_on_and_off(make_server, tmp_path):
    config = tmp_path / "sluice.yaml"
    config.write_text("debug:\n  pprof: off\n")
    server = make_server(config=config)
    assert get(server, "").status_code == 404
    config.write_text("debug:\n  pprof: open\n")
    server.cli("config", "reload")
    assert get(server, "/profile", seconds=1).status_code == 200
    config.write_text("debug:\n  pprof: key\n")
    server.cli("config", "reload")
    assert get(server, "/profile", seconds=1).status_code == 401


# ---- what it gives ----


def test_a_profile_names_our_functions_and_nobody_waits(opened):
    before = opened.metric("profiles_total")
    with traffic(opened, opened.owner.auth) as times:
        begin = time.monotonic()
        r = get(opened, "/profile", seconds=3)
        end = time.monotonic()
    assert r.status_code == 200 and r.headers["Content-Type"] == "application/octet-stream"
    assert r.headers["Cache-Control"] == "no-store"
    assert 3 <= end - begin < 20
    samples, mapped = read_profile(r.content)
    assert sum(count for count, _ in samples) > 5
    assert os.path.realpath(BIN) in mapped
    names = set(names_of(opened, sorted({a for _, stack in samples for a in stack})))
    names = {re.sub(r"\..*", "", name) for name in names}
    assert names & OURS, sorted(names)
    times = [t for t in sorted(times) if begin <= t <= begin + 3]
    gaps = [b - a for a, b in zip([begin, *times], [*times, begin + 3])]
    assert max(gaps) < 2, f"ingest stood still for {max(gaps)} s"
    assert opened.metric("profiles_total") == before + 1


def test_pprof_itself_can_read_it(opened, tmp_path):
    tool = shutil.which("google-pprof")
    assert tool, "google-pprof is missing: tools/install_packages.sh test"
    with traffic(opened, opened.owner.auth):
        run = subprocess.run([tool, "--text", "--seconds=2", f"{opened.operator_url}{PPROF}/profile"],
                             capture_output=True, text=True, timeout=120,
                             env={**os.environ, "PPROF_TMPDIR": str(tmp_path), "HOME": str(tmp_path)})
    assert run.returncode == 0, run.stderr
    assert re.search(r"^Total: \d+ samples", run.stdout, re.M), run.stdout + run.stderr
    found = {re.sub(r"\..*", "", line.split()[-1]) for line in run.stdout.splitlines() if line.count("%") == 3}
    assert found & OURS, run.stdout


def test_a_flame_graph_stands_alone(opened):
    with traffic(opened, opened.owner.auth):
        r = get(opened, "/flame", seconds=2)
    assert r.status_code == 200 and r.headers["Content-Type"] == "image/svg+xml"
    assert "default-src 'none'" in r.headers["Content-Security-Policy"]
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(r.content)
    frames = [f for f in root.iter(svg + "svg") if f.get("class") == "f"]
    titles = [f.find(svg + "title").text.split("\n")[0] for f in frames]
    assert set(titles) & OURS, sorted(set(titles))
    assert titles[0] == "all" and frames[0].get("width") == "100.0000%"
    by_row = {}
    for f in frames:
        by_row.setdefault(int(f.get("y")), []).append((float(f.get("x")[:-1]), float(f.get("width")[:-1])))
    assert len(by_row) > 5
    for row in by_row.values():  # side by side, none above another
        row.sort()
        assert all(a + w <= b + 0.001 for (a, w), (b, _) in zip(row, row[1:]))
        assert row[0][0] >= 0 and sum(row[-1]) <= 100.001
    links = re.findall(r"https?://[^\"' <]*|(?:href|src)=\"?[^\" ]*", r.text)
    assert set(links) == {"http://www.w3.org/2000/svg"}, links


def test_the_index_leads_to_what_there_is(opened):
    for path in ("/debug/pprof/", "/debug/pprof"):
        r = requests.get(opened.operator_url + path, timeout=10)
        assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/html")
        assert "default-src 'none'" in r.headers["Content-Security-Policy"]
    links = re.findall(r'href="([^"]*)"', r.text)
    assert {link.split("?")[0] for link in links} == {f"{PPROF}/{p}" for p in ("flame", "profile", "heap")}
    assert not re.search(r"src=|@import|https?://(?!HOST:PORT/)", r.text)


def test_what_pprof_asks_for_beside(opened):
    assert get(opened, "/symbol").text == "num_symbols: 1\n"
    assert requests.head(opened.operator_url + PPROF + "/symbol", timeout=10).status_code == 200
    r = get(opened, "/cmdline")
    assert r.text == os.path.realpath(BIN)
    for bad in ("main", "0x12+zz", "0x11112222333344445"):
        r = requests.post(opened.operator_url + PPROF + "/symbol", data=bad, timeout=10)
        assert r.status_code == 400 and "hexadecimal" in r.json()["error"], r.text
    assert requests.head(opened.operator_url + PPROF + "/profile", timeout=10).status_code == 405


# ---- its bounds ----


def test_seconds_have_bounds(opened):
    for page in ("/profile", "/flame"):
        for bad in ("0", "301", "-1", "1.5", "x", "", "99999999999999999999"):
            r = get(opened, page, seconds=bad)
            assert r.status_code == 400 and "from 1 to 300" in r.json()["error"], (page, bad, r.text)
    for bad in ("2", "x"):
        r = get(opened, "/heap", debug=bad)
        assert r.status_code == 400 and "from 0 to 1" in r.json()["error"], (bad, r.text)


def test_one_at_a_time(opened):
    first = {}

    def take():
        first["answer"] = get(opened, "/profile", seconds=4)

    thread = threading.Thread(target=take)
    thread.start()
    begun = opened.log().count("prof.begin")
    wait_for("the first to begin", lambda: opened.log().count("prof.begin") > begun or not thread.is_alive())
    for page in ("/profile", "/flame"):
        begin = time.monotonic()
        r = get(opened, page, seconds=5)
        assert time.monotonic() - begin < 2
        assert r.status_code == 409 and r.reason == "Conflict", r.text
        assert "already" in r.json()["error"] and 1 <= int(r.headers["Retry-After"]) <= 4
    assert names_of(opened, [1]) == ["??"], "the rest is answered meanwhile"
    assert get(opened, "/heap", debug=1).status_code == 200
    thread.join()
    assert first["answer"].status_code == 200
    read_profile(first["answer"].content)
    assert get(opened, "/profile", seconds=1).status_code == 200


@pytest.mark.parametrize("how", ["closes", "resets", "ends its side"])
def test_a_client_that_goes_away_ends_it(opened, how):
    ended = opened.log().count("prof.end")
    with socket.create_connection(("127.0.0.1", opened.operator_port)) as s:
        s.sendall(b"GET /debug/pprof/flame?seconds=300 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for("it to run", lambda: get(opened, "/profile", seconds=300).status_code == 409)
        if how == "resets":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "ends its side":
            s.shutdown(socket.SHUT_WR)
        if how != "ends its side":
            s.close()
        wait_for("its end", lambda: opened.log().count("prof.end") > ended, timeout=5)
    assert get(opened, "/profile", seconds=1).status_code == 200


def test_a_stop_ends_it_with_what_there_is(make_server):
    server = make_server({"debug.pprof": "open"})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(get(server, "/profile", seconds=300)))
    thread.start()
    wait_for("it to run", lambda: "prof.begin" in server.log())
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 5
    thread.join()
    assert answers[0].status_code == 200
    read_profile(answers[0].content)


# ---- memory ----


def test_the_allocator_in_use_says_what_it_can(opened):
    r = get(opened, "/heap")
    assert r.status_code == 501 and "libjemalloc" in r.json()["error"], r.text
    r = get(opened, "/heap", debug=1)
    assert r.status_code == 200 and r.headers["Content-Type"].startswith("text/plain")
    assert re.search(r"^ *\d+  taken from the kernel in all$", r.text, re.M), r.text


def sanitized():
    return b"libasan" in subprocess.run(["ldd", BIN], capture_output=True).stdout


@pytest.mark.skipif(sanitized(), reason="the address sanitizer brings an allocator of its own")
def test_a_preloaded_jemalloc_tells_who_holds_memory(make_server, tmp_path):
    server = make_server({"debug.pprof": "open"}, env={"LD_PRELOAD": "libjemalloc.so.2",
                                                      "MALLOC_CONF": "prof:true,lg_prof_sample:14"})
    r = get(server, "/heap")
    assert r.status_code == 200 and r.content.startswith(b"heap_v2/16384"), r.text
    stacks = [[int(a, 16) for a in line.split()[1:]] for line in r.text.splitlines() if line.startswith("@")]
    assert {"worker_new", "catalog_open", "journal_open", "pipeline_new"} & \
        set(names_of(server, sorted({a for s in stacks for a in s})))
    assert "jemalloc" in get(server, "/heap", debug=1).text
    run = subprocess.run(["jeprof", "--text", f"{server.operator_url}{PPROF}/heap"], capture_output=True,
                         text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path), "JEPROF_TMPDIR": str(tmp_path)})
    assert re.search(r"^Total: [\d.]+ MB", run.stdout, re.M), run.stdout + run.stderr
    assert re.search(r" (journal|catalog)_open\S*$", run.stdout, re.M), run.stdout
