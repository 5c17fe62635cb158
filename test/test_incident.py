# SPDX-License-Identifier: Apache-2.0
"""`make incident`: that its report is made of what was measured, and that a gateway which fails shows as failed."""
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness

BENCH = harness.ROOT / "bench"
sys.path.insert(0, str(BENCH))

import incident  # noqa: E402
import incident_gateways as gateways  # noqa: E402
import incident_report as report  # noqa: E402
from svg import log_bars, log_lines  # noqa: E402


def measured(per_second, cpu_ms, hashes=0, **more):
    """A measurement as incident.py notes it."""
    return {"per_second": per_second, "accepted": per_second * 5, "refused": {}, "errors": {}, "unanswered": 0,
            "unsent": 0, "seconds": 5, "p50_ms": 1.25, "p99_ms": 3.5, "busy": {"gateway": 0.75, "redis": 0.25},
            "cpu_ms": {"gateway": cpu_ms * 0.75, "redis": cpu_ms * 0.25}, "hashes": hashes, "rate": per_second / 2,
            "series": [{"s": s, "answers": per_second, "refused": 0} for s in range(1, 6)], **more}


def made_up():
    """The numbers of a run that never was."""
    cases = {}
    for case, per_second, cpu_ms in (("was", 19, 50), ("rbac", 20, 49), ("held", 10000, 0.1), ("final", 18, 55),
                                     ("sluice", 40000, 0.02)):
        rounds = [measured(per_second * share, cpu_ms / share) for share in (0.9, 1, 1.2)]
        cases[case] = {"full": rounds, "half": rounds, "course": rounds[0],
                       "attack": measured(per_second / 4, cpu_ms, p99_ms=77.5, rate=per_second / 2, guesses=9,
                                          guesses_per_second=1.5, guesses_status={"401": 9}),
                       "restart": {"rate": per_second / 2, "first_s": 0.25, "watched_s": 12, "slow_s": 0,
                                   "never": False, "hashes": 4}}
    cases["held"]["restart_lost"] = {**cases["held"]["restart"], "never": True, "slow_s": 12}
    cases["few"] = {"few": measured(7777, 0.13, hashes=110)}
    cases["was"]["headless"] = cases["rbac"]["headless"] = measured(640, 1.5)
    cases["sluice"]["logins"] = {"devices": 200, "seconds": 10, "hashes": 200, "fleet_per_second": 20000,
                                 "fleet_p99_ms": 4}
    cases["sluice"]["start"] = {"login_seconds": 31, "settings": {"server.workers": "1"}}
    return {"cases": cases, "failed": {}, "hash_ms": 50, "warm_hash_ms": 0.8, "document_bytes": 65000,
            "machine": {"cpu": "a machine", "cores": 2, "kernel": "6.1", "load_before": 0.1},
            "versions": {"Sluice": "sluice 0.1.0", "Go": None}, "begun": 0, "took_s": 590,
            "measured_s": 400, "others_s": 8,
            "arguments": vars(incident.parse_args([]))}


def cells(table, case):
    """The row of a case."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {report.TITLES[case]} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_summary_is_computed_from_what_was_measured():
    figures = report.Figures(made_up())
    table = report.summary(figures)
    assert cells(table, "was")[1:] == ["19.0", "1.25 / 3.5", "1,000", "30,000", "0.25 s", "50 %, 77.5 ms"]
    assert cells(table, "sluice")[1:] == ["40,000", "1.25 / 3.5", "0.4", "30", "0.25 s", "50 %, 77.5 ms"]
    assert cells(table, "held")[5] == "0.25 s; if Redis forgets: not in 12 s"
    # 30,000 devices that send every 1.5 s and are remembered for 30 s: 952 hashes a second of 55 ms, the rest 0.1 ms.
    assert cells(table, "final")[3:5] == ["54.3", "1,650"]


def test_other_measurements_make_another_report():
    numbers = made_up()
    before = report.document(report.Figures(numbers))
    for r in numbers["cases"]["sluice"]["full"]:
        r["per_second"] *= 2
        r["cpu_ms"] = {what: ms * 3 for what, ms in r["cpu_ms"].items()}
    after = report.document(report.Figures(numbers))
    assert "| 80,000 (72,000 to 96,000) |" in after and "| 80,000 (72,000 to 96,000) |" not in before
    assert cells(report.summary(report.Figures(numbers)), "sluice")[3] == "1.2"


@pytest.mark.parametrize("case", ["was", "held", "final", "sluice"])
def test_a_case_that_failed_shows_as_failed(case):
    numbers = made_up()
    numbers["failed"][case] = "full: not all was accepted: 0 were"
    numbers["cases"][case] = {}
    figures = report.Figures(numbers)
    assert cells(report.summary(figures), case)[1:] == ["**failed**: full: not all was accepted: 0 were", *[""] * 5]
    assert report.document(figures).count("**failed**") >= 3
    assert "course" in "".join(report.plots(figures))


def test_the_readme_gets_the_table_between_its_markers():
    figures = report.Figures(made_up())
    text = f"# Name\n\n{report.BEGIN}\nold | table\n{report.END}\n\n## Then\n"
    once = report.put_into_readme(text, report.readme_part(figures))
    assert once.startswith("# Name\n\n") and once.endswith("\n## Then\n") and "old | table" not in once
    assert report.summary(figures) in once
    assert report.put_into_readme(once, report.readme_part(figures)) == once
    with pytest.raises(ValueError):
        report.put_into_readme("# Name\n", report.readme_part(figures))


def test_a_machine_that_was_not_idle_is_told_of():
    numbers = made_up()
    texts = (report.document, report.readme_part)
    assert not any("not idle" in text(report.Figures(numbers)) for text in texts)
    numbers["others_s"] = 140
    assert all("not idle**: other programs took 35 %" in text(report.Figures(numbers)) for text in texts)


def test_the_readme_has_the_markers():
    report.put_into_readme((harness.ROOT / "README.md").read_text(), "")


def test_plots_are_well_formed():
    from xml.etree import ElementTree
    ElementTree.fromstring(log_lines("A & B", "s", "1/s", {"<a>": [(1, 0), (2, 12000)], "none": []}))
    ElementTree.fromstring(log_bars("nothing", []))
    bars = ElementTree.fromstring(log_bars("ms", [("a", 10, 0), ("b", 1000, 1), ("c", 0, 2)]))
    lengths = [float(r.get("width")) for r in bars.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert lengths[1] > lengths[0] > lengths[2]


def a_run(tmp_path, *words):
    run = incident.Run(incident.parse_args(["--only", "sluice", *words]), tmp_path)
    run.gateways["sluice"] = SimpleNamespace(accepted="202", is_running=lambda: True, cpu=lambda: {"gateway": 1.0},
                                             hashes=lambda: 0)
    return run


RESULT = {"status": {"202": 500}, "seconds": 5, "connect_errors": 0, "timed_out": 0, "closed": 0, "bad_responses": 0,
          "broken": 0, "unsent": 0, "latency_ms": {"p50": 1, "p99": 2}, "series": []}


@pytest.mark.parametrize("wrong", [{"status": {"202": 499, "401": 1}}, {"status": {}}, {"connect_errors": 1},
                                   {"broken": 65}, {"bad_responses": 1}])
def test_who_does_not_accept_every_message_fails(tmp_path, wrong):
    run = a_run(tmp_path)
    good = run.strictly(run.gateways["sluice"], lambda: RESULT)
    assert good["per_second"] == 100 and good["p99_ms"] == 2
    run.attempt("sluice", "full", lambda case, gateway: run.strictly(gateway, lambda: {**RESULT, **wrong}))
    assert run.report["failed"]["sluice"].startswith("full: not all was accepted")
    run.attempt("sluice", "half", lambda case, gateway: pytest.fail("it was measured all the same"))


def test_a_quick_run(tmp_path):
    """Sluice itself, and in place of the incident's gateway a program that ends at once."""
    documents = [harness.ROOT / "README.md", harness.ROOT / "docs"]
    before = [d.stat().st_mtime_ns for d in documents]
    ended = subprocess.run(
        [sys.executable, str(BENCH / "incident.py"), "--bin", harness.BIN, "--quick", "--only", "was", "sluice",
         "--gateway", "/bin/false", "--out", str(tmp_path), "--dir", str(tmp_path), "--devices", "100", "--cost", "6",
         "--set", "auth.snapshot_interval=1s"], text=True, capture_output=True, timeout=120)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    numbers = json.loads((tmp_path / "incident.json").read_text())
    assert list(numbers["failed"]) == ["was"], numbers["failed"]
    full = numbers["cases"]["sluice"]["full"][0]
    assert full["accepted"] > 0 and full["hashes"] == 0 and full["cpu_ms"]["gateway"] > 0
    assert numbers["cases"]["sluice"]["restart"]["hashes"] == 0
    assert numbers["cases"]["sluice"]["logins"]["hashes"] >= incident.QUICK["cold"]
    text = (tmp_path / "incident.md").read_text()
    assert text == report.document(report.Figures(numbers))
    assert cells(text, "was")[1].startswith("**failed**: start: ")
    assert cells(text, "sluice")[1] == report.number(full["per_second"])
    assert "This was a quick run" in text and numbers["measured_s"] > 0
    for plot in re.findall(r"\((incident/\w+\.svg)\)", text):
        assert (tmp_path / plot).read_text().startswith("<svg")
    assert [d.stat().st_mtime_ns for d in documents] == before


@pytest.fixture(scope="module")
def peers(tmp_path_factory):
    """The incident's gateways, before a Redis of their own."""
    if not shutil.which("go") or not Path("/usr/share/gocode/src/golang.org/x/crypto").exists():
        pytest.skip("needs Go and its libraries: tools/install_packages.sh incident")
    if not shutil.which("redis-server") and not shutil.which("redis-check-rdb"):
        pytest.skip("needs Redis: tools/install_packages.sh incident")
    home, args = tmp_path_factory.mktemp("incident"), incident.parse_args(["--quick"])
    out = harness.ROOT / "build" / "incident"
    out.mkdir(parents=True, exist_ok=True)
    program = gateways.build_gateway(out)
    _, stored = incident.bcrypt_seconds(4)
    redis = gateways.Redis(home, args.server_cpu)
    made = {}
    try:
        redis.know(["device-1", "device-2"], stored, "app-key")
        for variant in ("was", "rbac", "final"):
            made[variant] = gateways.GoGateway(variant, program, redis, home, args)
            made[variant].start()
        yield SimpleNamespace(redis=redis, **made)
    finally:
        for gateway in made.values():
            gateway.stop()
        redis.stop()


def ask(gateway, **headers):
    request = urllib.request.Request(gateway.url + "/v1/telemetry", b"{}", {
        name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code


@pytest.mark.parametrize("variant", ["was", "rbac", "final"])
def test_the_incidents_gateway(peers, variant):
    gateway, right = getattr(peers, variant), {"X_Device_Id": "device-1", "X_Device_Token": gateways.SECRET}
    assert [ask(gateway, **right) for _ in range(3)] == [204] * 3
    assert gateway.hashes() == (1 if variant == "final" else 3)
    assert ask(gateway, **{**right, "X_Device_Token": "wrong"}) == 401
    assert ask(gateway, **{**right, "X_Device_Id": "nobody"}) == 401
    assert ask(gateway) == 401
    assert ask(gateway, X_AIO_Key="app-key") == 204
    assert ask(gateway, X_AIO_Key="another") == 401


def test_what_is_put_into_redis_is_what_the_gateway_finds(peers):
    peers.redis.remember(["device-2"], 30)
    before = peers.final.hashes()
    right = {"X_Device_Id": "device-2", "X_Device_Token": gateways.SECRET}
    assert ask(peers.final, **right) == 204 and peers.final.hashes() == before
    peers.redis.forget(["device-2"])
    assert ask(peers.final, **right) == 204 and peers.final.hashes() == before + 1


def test_who_may_not_send_is_refused(peers):
    """Each by what it looks at: the user's document, the mask."""
    peers.redis.do([("HSET", "device:device-2", "mask", 0)])
    document = gateways.user_document(0, ["device-1", "device-2"]).replace("telemetry:write", "telemetry:read")
    try:
        peers.redis.do([("SET", "user:user-0000", document)])
        peers.redis.forget(["device-2"])
        right = {"X_Device_Id": "device-2", "X_Device_Token": gateways.SECRET}
        assert [ask(g, **right) for g in (peers.was, peers.rbac, peers.final)] == [403] * 3
    finally:
        peers.redis.do([("HSET", "device:device-2", "mask", 1),
                        ("SET", "user:user-0000", gateways.user_document(0, ["device-1", "device-2"]))])
        peers.redis.forget(["device-2"])
