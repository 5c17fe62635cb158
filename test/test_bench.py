# SPDX-License-Identifier: Apache-2.0
"""`make bench`: that its report is made of what was measured and says what was not, and that a scenario which hangs or dies
is named with its reason."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import harness

BENCH = harness.ROOT / "bench"
sys.path.insert(0, str(BENCH))

import bench  # noqa: E402
import bench_report as report  # noqa: E402
import quick  # noqa: E402
from budget import BUDGET, verdict  # noqa: E402
from peers import Missing, Redis  # noqa: E402
from result import Result, ratios  # noqa: E402
from scenarios import FORMAT, SCENARIOS  # noqa: E402


def made_up():
    """The figures of a run of two scenarios that never was."""
    r = Result()
    group = r.group("64 connections", {"cpu_us": "CPU µs a message", "per_second": "messages/s"}, "cpu_us")
    nginx = [{"cpu_us": us, "per_second": 100000} for us in (10, 10, 20)]
    sluice = [{"cpu_us": us, "per_second": 70000} for us in (12, 14, 30)]
    r.row(group, "nginx return 204", nginx)
    r.row(group, "Sluice", sluice)
    r.claim("http.64", ratios(sluice, nginx, "cpu_us"))
    r.guard("http.64", ratios(sluice, nginx, "cpu_us"))
    r.plot("A spike", "seconds", "p99 ms", {"Sluice": [[1, 2], [2, 40]]})
    r.note("A sentence.")
    r.undecided("mqtt.20", "no FlashMQ")
    with r.perhaps("Caddy"):
        raise AssertionError("there is no caddy")
    whole = {"format": FORMAT, "begun": 0, "took_s": 120, "others": 0.01, "versions": {"nginx": "nginx 1.22.1"},
             "machine": {"cpu": "a machine", "cores": 2, "kernel": "6.1", "load_before": 0.1},
             "arguments": {"rounds": 3, "seconds": 3, "scale": 1, "client_cpu": 1}}
    return {"http": {"scenario": "http", **whole, **json.loads(json.dumps(r.dict))},
            "mqtt": {"scenario": "mqtt", **whole, "failed": "Mosquitto ended: no such | file"}}


def cells(text, first):
    """The row of a table that begins so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_report_has_medians_with_least_and_most():
    text = report.document(made_up())
    assert cells(text, "Sluice")[1:] == ["14.0 (12.0 to 30.0)", "70,000 (70,000 to 70,000)"]
    assert cells(text, BUDGET["http.64"].says)[1:5] == ["1.4 (1.2 to 1.5) x", "1.5 x", "1.35 x", "holds; the aim is not reached"]
    assert f"Of {len(BUDGET)} lines 1 were measured; 1 hold, 0 do not." in text
    assert "nginx: nginx 1.22.1" in text and "- A sentence." in text and "a machine, 2 cores" in text


def test_other_figures_make_another_verdict():
    found = made_up()
    found["http"]["claims"][0]["values"] = [1.6, 1.51, 1.2]
    text = report.document(found)
    assert cells(text, BUDGET["http.64"].says)[4] == "**does not hold**"
    assert "1 were measured; 0 hold, 1 do not." in text


def test_what_was_not_measured_is_named():
    text = report.document(made_up())
    sections = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert sections[SCENARIOS["mqtt"].title].strip() == "**Not run**: Mosquitto ended: no such | file"
    assert "**Not measured, Caddy**: there is no caddy" in sections[SCENARIOS["http"].title]
    for name, scenario in SCENARIOS.items():
        if name not in ("http", "mqtt"):
            assert sections[scenario.title].strip() == "**Not run**: it was not asked for"
    assert cells(text, BUDGET["fanout"].says)[1:5] == ["", "1 x", "", "not measured"]
    assert cells(text, BUDGET["mqtt.20"].says)[1:5] == ["", "2 x", "1.4 x", "not decided: no FlashMQ"]


def test_figures_of_another_version_are_not_shown(tmp_path):
    (tmp_path / "http.json").write_text(json.dumps({**made_up()["http"], "format": FORMAT - 1}))
    assert "**Not run**: its figures are of another version" in report.document(report.read(tmp_path))


def test_a_busy_machine_is_named():
    found = made_up()
    assert "not idle" not in report.document(found)
    found["http"]["others"] = 0.25
    assert "other programs took 25 % of its cores" in report.document(found)


def test_it_writes_its_plots_and_forgets_old_ones(tmp_path):
    out, docs = tmp_path / "out", tmp_path / "docs"
    (docs / "benchmarks").mkdir(parents=True)
    (docs / "benchmarks" / "old.svg").write_text("")
    out.mkdir()
    for name, result in made_up().items():
        (out / f"{name}.json").write_text(json.dumps(result))
    report.write(out, docs)
    text = (docs / "benchmarks.md").read_text()
    named = sorted(re.findall(r"\(benchmarks/([\w-]+\.svg)\)", text))
    assert named == ["http-1.svg", "http-over-time-1.svg"]
    assert sorted(p.name for p in (docs / "benchmarks").iterdir()) == named
    assert all((docs / "benchmarks" / name).read_text().startswith("<svg") for name in named)
    assert text == report.document(made_up())


@pytest.mark.parametrize("line, value, words", [
    ("http.64", 1.5, "holds; the aim is not reached"), ("http.64", 1.35, "holds, and so does the aim"),
    ("http.64", 1.501, "**does not hold**"), ("gate.offered", 89.9, "**does not hold**"), ("gate.offered", 90, "holds; the aim is not reached"),
    ("gate.offered", 97, "holds, and so does the aim"), ("fanout", 1, "holds"), ("spike.refused", 0, "holds"),
    ("spike.refused", 1, "**does not hold**")])
def test_verdicts(line, value, words):
    assert verdict(BUDGET[line], value, BUDGET[line].must, BUDGET[line].aim) == words


def test_every_module_of_a_scenario_is_there():
    import importlib
    for name in SCENARIOS:
        module = importlib.import_module(f"scenarios.{name}")
        assert callable(module.measure) and len(report.what(name)) > 100


def test_what_the_sinks_script_measured(monkeypatch):
    from scenarios import sinks
    found = {"sink": [{"rate": 600, "cpu_us": 2, "target_cpu_us": 3}], "copy": [{"rate": 1000, "cpu_us": 0, "target_cpu_us": 4}]}
    monkeypatch.setattr(sinks, "script", lambda *_: {"found": found})
    r = Result()
    sinks.drained(SimpleNamespace(scale=1, rounds=1), r, "PostgreSQL")
    assert [c for c in r.dict["claims"] if c["line"] == "drain.postgresql"][0]["values"] == [60]
    assert [(row["name"], row["rate"]) for row in r.dict["groups"][0]["rows"]] == [
        (sinks.NAMES["sink"], [600]), (sinks.NAMES["copy"], [1000])]


def test_each_line_of_a_sink_has_its_own_peer(monkeypatch):
    from scenarios import sinks
    rates = {"sink": 160, "plain": 200, "sink, no headers": 360, "plain, no headers": 400}
    found = {name: [{"rate": rate, "cpu_us": 2, "target_cpu_us": 3}] for name, rate in rates.items()}
    monkeypatch.setattr(sinks, "script", lambda *_: {"found": found})
    r = Result()
    sinks.drained(SimpleNamespace(scale=1, rounds=1), r, "Kafka")
    assert {c["line"]: c["values"] for c in r.dict["claims"]} == {"drain.kafka": [80], "drain.kafka.bare": [90]}
    assert all(line in BUDGET for _, _, claims in sinks.SINKS.values() for line in claims)
    assert all(who in sinks.NAMES for _, _, claims in sinks.SINKS.values() for pair in claims.values() for who in pair)


def test_a_spike_is_told_second_by_second():
    from scenarios import sinks
    series = [{"s": s, "answers": 2000 if 10 < s <= 20 else 100, "p50": 1, "p99": 5 if s > 10 else 2} for s in range(1, 31)]
    samples = [(s, 9000 - 300 * max(0, s - 20) if s > 10 else 0, 3.5 if s > 10 else 0) for s in range(0, 41)]
    r = Result()
    sinks.put_spike(r, {"series": series, "status": {"202": 20000, "429": 3}, "broken": 1, "timed_out": 2}, samples, 41, (10, 20, 100))
    before, during, after = r.dict["groups"][0]["rows"]
    assert (before["rate"], before["p99"], before["lag"]) == ([100], [2], [0])
    assert (during["rate"], during["p99"], during["refused"], during["lag"], during["age"]) == ([2000], [5], [6], [9000], [3.5])
    assert after["rate"] == [] and after["lag"] == [9000]
    assert "21.0 s after the spike's end" in r.dict["notes"][0]


# ---- the guard ----

def judged(capsys, values=(1.2, 1.4), **more):
    status = quick.judge({"http": {"guards": {"http.64": list(values)}, **more}})
    return status, capsys.readouterr().out


def test_what_has_become_slower_is_missed(capsys):
    limit = quick.GUARDS["http.64"].limit
    assert judged(capsys, (limit * 0.9, limit * 0.95))[0] == 0
    assert judged(capsys, (limit * 0.9, limit * 3))[0] == 0  # once only: noise
    status, said = judged(capsys, (limit * 1.3, limit * 1.35))
    assert status == 1 and "MISSED" in said and BUDGET["http.64"].says in said


def test_nothing_compared_is_no_success(capsys):
    assert quick.judge({}) == 1
    assert quick.judge({"http": {"failed": "nginx ended"}}) == 1
    assert "nginx ended" in capsys.readouterr().out


def test_each_guard_belongs_to_a_line_of_the_budget():
    assert quick.GUARDS and all(g.line in BUDGET and g.limit > 0 for g in quick.GUARDS.values())


# ---- the run ----

def options(tmp_path, *words):
    return bench.parse_args(["--out", str(tmp_path), "--docs", str(tmp_path / "docs"), *words])


def test_a_scenario_that_hangs_is_ended_with_what_it_started(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "END_S", 1)
    args, child = options(tmp_path, "--limit", "1"), tmp_path / "child"
    begun = time.monotonic()
    found = bench.run(args, "http", ["sh", "-c", f"trap '' TERM; sleep 1000 & echo $! >{child}; wait; wait; sleep 1000"])
    assert time.monotonic() - begun < 20
    assert found["failed"] == "it was not over after 1 s"
    pid = int(child.read_text())
    harness.wait_for("the child's end", lambda: not os.path.exists(f"/proc/{pid}") or " Z " in open(f"/proc/{pid}/stat").read())


def test_a_scenario_that_dies_is_named(tmp_path):
    (tmp_path / "http.json").write_text('{"old": "figures"}')
    assert bench.run(options(tmp_path), "http", ["sh", "-c", "exit 3"])["failed"] == "it ended with status 3"
    assert "**Not run**: it ended with status 3" in report.document(report.read(tmp_path))


def test_who_ends_the_run_ends_the_scenario(tmp_path):
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n")
    slow.chmod(0o755)
    run = subprocess.Popen([sys.executable, str(BENCH / "bench.py"), "--bin", str(slow), "--only", "scaling", "--out", str(tmp_path / "out"),
                            "--docs", str(tmp_path / "docs"), "--dir", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harness.wait_for("the server", (tmp_path / "pid").exists)
    run.terminate()
    assert run.wait(20) == 143
    pid = int((tmp_path / "pid").read_text())
    harness.wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}") or " Z " in open(f"/proc/{pid}/stat").read())


def test_wrong_scenarios_are_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        options(tmp_path, "--only", "http,htpt")
    assert "there is no scenario htpt" in capsys.readouterr().err
    assert options(tmp_path, "--only", "http,mqtt").only == ["http", "mqtt"]
    assert options(tmp_path).only == list(SCENARIOS)
    assert set(options(tmp_path, "--quick").only) == {name for name, s in SCENARIOS.items() if s.quick}


def test_figures_stay_with_their_report(tmp_path):
    """A checkout has those of scenarios that are not measured again."""
    assert bench.parse_args(["--docs", str(tmp_path)]).out == tmp_path / "benchmarks"
    assert bench.parse_args(["--quick"]).out == harness.ROOT / "build" / "bench" / "quick"


@pytest.fixture
def short_path():
    """A folder for servers: the name of a socket has 107 bytes, of which pytest's folders may take too many."""
    with tempfile.TemporaryDirectory(prefix="b-", dir="/tmp") as path:
        yield Path(path)


def run_bench(tmp_path, binary, scenario):
    return subprocess.run(
        [sys.executable, str(BENCH / "bench.py"), "--bin", binary, "--only", scenario, "--rounds", "1", "--seconds", "0.2", "--scale",
         "0.001", "--out", str(tmp_path / "out"), "--docs", str(tmp_path / "docs"), "--dir", str(tmp_path)],
        text=True, capture_output=True, timeout=300)


def test_a_small_run(short_path):
    """The scenario that needs nothing but Sluice."""
    ended = run_bench(short_path, harness.BIN, "scaling")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    scaling = json.loads((short_path / "out" / "scaling.json").read_text())
    assert len(scaling["groups"]) == 4 and 0 <= scaling["others"] <= 1
    for group in scaling["groups"]:
        assert group["rows"] and all(row["per_second"][0] > 0 for row in group["rows"])
    assert any(row["cpu_us"][0] > 0 for group in scaling["groups"] for row in group["rows"])  # a tick is 10 ms
    assert str(short_path) not in json.dumps(scaling)
    text = (short_path / "docs" / "benchmarks.md").read_text()
    assert text == report.document(report.read(short_path / "out"))
    assert "**Scaled**: 0.001" in text and not list(short_path.glob("sluice-bench-*"))


def test_a_scenario_that_fails_says_why(tmp_path):
    ended = run_bench(tmp_path, "/bin/false", "scaling")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "**Not run**: the server ended with 1" in (tmp_path / "docs" / "benchmarks.md").read_text()


def test_a_peer_runs_again_in_each_round(tmp_path):
    try:
        for _ in range(2):
            target = Redis("Redis 1", tmp_path, os.sched_getaffinity(0))
            assert target.do([["PING"]]) == [b"+PONG\r\n"]
            target.stop()
    except Missing as e:
        pytest.skip(str(e))
