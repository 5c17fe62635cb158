#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns what test runners write for machines into lines `pass|fail|skip TAB name` for tools/test.sh.

results.py meson LABEL FILE    meson-logs/*.json of `meson test`; programs that speak TAP (cmocka with
                               CMOCKA_MESSAGE_OUTPUT=TAP) give a line per case, others one in all
results.py pytest LABEL FILE   `pytest --junitxml`
results.py tests DIRECTORY SUITE [!PATTERN...]
                               names of the suite's tests in a build directory, without those that
                               match a pattern

A file that is missing, empty or broken is a failure, never nothing.
"""
import fnmatch
import json
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

TAP_LINE = re.compile(r"^(not )?ok \d+([^\n]*)$", re.M)
TAP_PLAN = re.compile(r"^1\.\.(\d+)", re.M)


def cases_of(stdout):
    """(verdict, name) of each TAP line."""
    for match in TAP_LINE.finditer(stdout):
        name = match[2].replace("# SKIP", "").strip(" -")
        verdict = "skip" if "# SKIP" in match[2] else "fail" if match[1] else "pass"
        yield verdict, name


def meson_test(test):
    """(verdict, name) of everything one test program says about itself."""
    name = test["name"].split(" / ")[-1]
    if test["result"] == "SKIP":
        return [("skip", name)]
    stdout = test.get("stdout") or ""
    cases = list(cases_of(stdout))
    planned = sum(int(n) for n in TAP_PLAN.findall(stdout))
    lines = [(verdict, f"{name}: {case}") for verdict, case in cases]
    ended_well = test["result"] in ("OK", "EXPECTEDFAIL")
    if not ended_well and not any(verdict == "fail" for verdict, _ in cases):
        # A crash, a sanitizer's report or a timeout: no case says so, the program's end does.
        lines.append(("fail", f"{name}: {test['result'].lower()}, status {test['returncode']}"))
    elif planned > len(cases):
        lines.append(("fail", f"{name}: {planned} cases planned, {len(cases)} ran"))
    elif ended_well and not cases:
        lines.append(("pass", name))
    return lines


def meson(path):
    tests = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [line for test in tests for line in meson_test(test)]


def pytest(path):
    lines = []
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}: {case.get('name')}"
        children = {child.tag for child in case}
        verdict = "fail" if children & {"failure", "error"} else "skip" if "skipped" in children else "pass"
        lines.append((verdict, name))
    return lines


def show(label, read, path):
    try:
        lines = read(pathlib.Path(path)) or [("fail", "no test ran")]
    except (OSError, ValueError, KeyError, xml.etree.ElementTree.ParseError) as problem:
        lines = [("fail", f"no results: {problem}")]
    for verdict, name in lines:
        print(f"{verdict}\t{label}: {name}")


def tests(directory, suite, patterns):
    out = subprocess.run(["meson", "introspect", "--tests", directory], check=True, capture_output=True)
    for test in json.loads(out.stdout):
        suites = [name.split(":")[-1] for name in test["suite"]]
        if suite in suites and not any(fnmatch.fnmatch(test["name"], p.lstrip("!")) for p in patterns):
            print(test["name"])


def main(argv):
    if len(argv) == 4 and argv[1] in ("meson", "pytest"):
        show(argv[2], meson if argv[1] == "meson" else pytest, argv[3])
    elif len(argv) >= 4 and argv[1] == "tests":
        tests(argv[2], argv[3], argv[4:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv)
