# SPDX-License-Identifier: Apache-2.0
"""The threads of history stand back behind all others while history keeps up (decision 0072)."""
import os
import shutil
import time
from pathlib import Path

import pytest

from harness import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="what is nice can become as before only with privileges")


def nice_of(server):
    """{name: how nice} of the server's threads."""
    found = {}
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        name, rest = task.joinpath("stat").read_text().split("(", 1)[1].rsplit(")", 1)
        found[name] = int(rest.split()[16])
    return found


def test_history_stands_back_and_nobody_else(make_server):
    server, usual = make_server(), os.getpriority(os.PRIO_PROCESS, 0)
    wait_for("history to stand back", lambda: server.metric("view_history_yields") == 1, 30)
    nice = nice_of(server)
    background = {name: n for name, n in nice.items() if name == "history" or name.startswith("rocksdb:")}
    assert "history" in background
    assert set(background.values()) == {usual + 10}
    assert {nice[name] for name in ("worker-0", "journal-writer", "latest", "session", "rules")} == {usual}


@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv")
def test_without_privileges_nothing_stands_back(make_server):
    """It could not be as before when history falls behind."""
    server = make_server(wrapper=["setpriv", "--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice"])
    wait_for("the line that says so", lambda: "yield.off" in server.log(), 30)
    time.sleep(3)  # longer than it takes above
    assert server.metric("view_history_yields") == 0
    assert nice_of(server)["history"] == os.getpriority(os.PRIO_PROCESS, 0)
