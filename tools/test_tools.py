# SPDX-License-Identifier: Apache-2.0
"""Every checker must be able to fail: each is shown a small tree that is right, then one fault in it."""
import json
import pathlib
import subprocess
import sys

import pytest

TOOLS = pathlib.Path(__file__).resolve().parent
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
TABLE = "| folder | may include |\n|---|---|\n| `base` | none |\n| `conn` | base |\n| `cli` | base conn config.h |\n"
TABLE = TABLE.replace("none", "—")


@pytest.fixture
def tree(tmp_path):
    put(tmp_path, "ARCHITECTURE.md", TABLE)
    put(tmp_path, "src/base/clock.c", SPDX + '#include "base/clock.h"\nint now(void)\n{\n    return time(0);\n}\n')
    put(tmp_path, "src/base/clock.h", SPDX + "int now(void);\n")
    put(tmp_path, "src/conn/tcp.c", SPDX + '#include "base/clock.h"\n#include "conn/tcp.h"\n')
    put(tmp_path, "src/cli/main.c", SPDX + '#include "config.h"\n#include "conn/tcp.h"\n')
    put(tmp_path, "src/server.c", SPDX + '#include "cli/main.h"\n')
    return tmp_path


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def run(checker, tree):
    done = subprocess.run([sys.executable, TOOLS / checker, tree], capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("checker", ["layers.py", "lengths.py", "banned.py"])
def test_a_right_tree_passes(checker, tree):
    code, out = run(checker, tree)
    assert (code, out) == (0, checker.removesuffix(".py") + ": ok\n")


@pytest.mark.parametrize("path, text, said", [
    ("src/base/a.c", '#include "conn/tcp.h"\n', "src/base/a.c:1: base may not include conn"),
    ("src/conn/a.c", '\n #  include "config.h"\n', "src/conn/a.c:2: conn may not include config.h"),
    ("src/conn/a.c", '#include "tcp.h"\n', 'write the folder too: "conn/tcp.h"'),
    ("src/conn/a.c", '#include "../base/clock.h"\n', "going up"),
    ("src/news/a.c", "", "src/news: is not in the table"),
    ("src/conn/deep/a.c", "", "no folders of their own"),
    ("ARCHITECTURE.md", TABLE.replace("| — |", "| conn |"), "base may not be granted conn"),
    ("ARCHITECTURE.md", "nothing here\n", "was not found"),
])
def test_layers_fails(tree, path, text, said):
    put(tree, "src/conn/tcp.h", SPDX)
    put(tree, path, text)
    code, out = run("layers.py", tree)
    assert code == 1 and said in out


def function(lines, name="f"):
    return f"static void {name}(int a, char *(*b)(void))\n{{\n" + "    ;\n" * (lines - 3) + "}\n"


def test_lengths_counts_functions_exactly(tree):
    put(tree, "src/base/a.c", function(70))
    assert run("lengths.py", tree)[0] == 0
    put(tree, "src/base/a.c", "#define X(a) \\\n    {\nstruct s {\n    int a;\n} s = {1};\n" + function(71, "g"))
    code, out = run("lengths.py", tree)
    assert (code, out) == (1, "src/base/a.c:6: g has 71 lines, at most 70\n")


def test_lengths_is_not_fooled_by_braces_in_text(tree):
    put(tree, "src/base/a.c", 'void f(void)\n{\n    /* } */ g("}", \'}\'); // }\n' + "    ;\n" * 70 + "}\n")
    assert "f has 74 lines" in run("lengths.py", tree)[1]


def test_lengths_fails_on_what_it_cannot_count(tree):
    put(tree, "src/base/a.c", "void f(void)\n{\n")
    assert "braces do not match" in run("lengths.py", tree)[1]


def test_lengths_fails_on_a_long_file(tree):
    put(tree, "src/base/a.h", "\n" * 1000)
    assert run("lengths.py", tree)[0] == 0
    put(tree, "src/base/a.h", "\n" * 1001)
    assert "src/base/a.h: 1001 lines" in run("lengths.py", tree)[1]


@pytest.mark.parametrize("path, code, said", [
    ("src/conn/a.c", "strcpy(a, b);", "unsafe call: strcpy"),
    ("src/conn/a_test.c", "n = atoi (b);", "unsafe call: atoi"),
    ("src/conn/a.c", "t = time(NULL);", "time: time"),
    ("src/conn/a.c", "(void)clock_gettime(id, &t);", "time: clock_gettime"),
    ("src/conn/a.c", "fd = open(path, 0);", "file access: open"),
    ("src/base/a.c", "fd = socket(a, b, c);", "sockets: socket"),
    ("src/cli/a.c", "connect(fd, a, n);", "sockets: connect"),
    ("src/base/a.c", "static int bind(int a);\nint f(void)\n{\n    send(a);\n}", "sockets: send"),
    ("src/conn/a.c", "/* TO" "DO */", "finish it"),
    ("tools/a.sh", "# SPDX-License-Identifier: x\n# FIX" "ME", "finish it"),
])
def test_banned_fails(tree, path, code, said):
    put(tree, path, SPDX + code + "\n")
    status, out = run("banned.py", tree)
    assert status == 1 and said in out and f"{path}:" in out


def test_banned_wants_an_spdx_line(tree):
    put(tree, "src/base/a.c", "\n\n\n" + SPDX)
    assert "src/base/a.c:1: no SPDX line" in run("banned.py", tree)[1]


@pytest.mark.parametrize("path, code", [
    ("src/conn/a.c", "d->open(d); d-> open(d); o.close(1); journal_open(x); strtok_r(a, b, c);"),
    ("src/conn/a.c", 'x = "time(0)"; /* open(x) */ // socket(1)'),
    ("src/conn/a.c", "fd = socket(a, b, c);"),
    ("src/base/a.c", "static int bind(int a, int b)\n{\n}\nint f(void)\n{\n    return bind(1, 2);\n}"),
    ("src/cli/admin_client.c", "connect(fd, a, n);"),
    ("src/journal/disk_posix.c", "fd = open(path, 0);"),
    ("src/base/a_test.c", "fd = open(path, 0); t = time(0); strcpy(a, b);"),
])
def test_banned_allows(tree, path, code):
    put(tree, path, SPDX + code + "\n")
    assert run("banned.py", tree) == (0, "banned: ok\n")


def docs_fresh(tmp_path, printed):
    put(tmp_path, "page.md", "# Options\n")
    put(tmp_path, "binary", f"#!/bin/sh\n[ \"$1 $2\" = 'config docs' ] && printf '{printed}'\n")
    (tmp_path / "binary").chmod(0o755)
    done = subprocess.run([TOOLS / "docs_fresh.sh", tmp_path / "binary", tmp_path / "page.md"],
                          capture_output=True, text=True)
    return done.returncode


def test_docs_fresh(tmp_path):
    assert docs_fresh(tmp_path, "# Options\\n") == 0
    assert docs_fresh(tmp_path, "# Options\\nnew\\n") == 1
    assert docs_fresh(tmp_path, "") == 1


def counted(tmp_path, kind, name, text):
    if text is not None:
        put(tmp_path, name, text)
    done = subprocess.run([sys.executable, TOOLS / "results.py", kind, "x", tmp_path / name],
                          capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def meson_line(result, stdout, status=0):
    return json.dumps({"name": "sluice / a/b", "result": result, "stdout": stdout, "returncode": status})


@pytest.mark.parametrize("line, expected", [
    (meson_line("OK", "1..2\nok 1 - c\nok 2 - d\n"), ["pass\tx: a/b: c", "pass\tx: a/b: d"]),
    (meson_line("OK", "1..2\nok 1 # SKIP c\nok 2 - d\n"), ["skip\tx: a/b: c", "pass\tx: a/b: d"]),
    (meson_line("FAIL", "1..2\nok 1 - c\nnot ok 2 - d\n", 1), ["pass\tx: a/b: c", "fail\tx: a/b: d"]),
    (meson_line("FAIL", "1..2\nok 1 - c\n", -6), ["pass\tx: a/b: c", "fail\tx: a/b: fail, status -6"]),
    (meson_line("FAIL", "1..1\nok 1 - c\n", 23), ["pass\tx: a/b: c", "fail\tx: a/b: fail, status 23"]),
    (meson_line("TIMEOUT", "", -15), ["fail\tx: a/b: timeout, status -15"]),
    (meson_line("OK", "1..2\nok 1 - c\n"), ["pass\tx: a/b: c", "fail\tx: a/b: 2 cases planned, 1 ran"]),
    (meson_line("OK", "no TAP"), ["pass\tx: a/b"]),
    (meson_line("SKIP", "", 77), ["skip\tx: a/b"]),
    ("", ["fail\tx: no test ran"]),
])
def test_results_of_meson(tmp_path, line, expected):
    assert counted(tmp_path, "meson", "log.json", line + "\n") == expected


def test_results_of_pytest(tmp_path):
    xml = ('<testsuites><testsuite><testcase classname="m" name="a"/><testcase classname="m" name="b"><failure/>'
           '</testcase><testcase classname="m" name="c"><error/></testcase><testcase classname="m" name="d">'
           '<skipped/></testcase></testsuite></testsuites>')
    assert counted(tmp_path, "pytest", "p.xml", xml) == [
        "pass\tx: m: a", "fail\tx: m: b", "fail\tx: m: c", "skip\tx: m: d"]


@pytest.mark.parametrize("kind", ["meson", "pytest"])
@pytest.mark.parametrize("text", [None, "{broken"])
def test_results_that_are_missing_or_broken_fail(tmp_path, kind, text):
    lines = counted(tmp_path, kind, "r", text)
    assert len(lines) == 1 and lines[0].startswith("fail\tx: no results")
