# SPDX-License-Identifier: Apache-2.0
"""No 202 leaves the process before the fdatasync that covers its message: read from the kernel's own
record of the system calls (strace), not from what the server says about itself."""
import re
import threading
import uuid

import pytest

from conftest import owner_on
from harness import wait_for
from wire import Wire, request

CALL = re.compile(r"^(\d+) +(?:[\d.]+ )?(\w+)\((.*)$")
RESUMED = re.compile(r"^(\d+) +(?:[\d.]+ )?<\.\.\. (\w+) resumed>(.*)$")
WRITES = {"write", "writev", "pwrite64", "pwritev", "pwritev2"}
SENDS = {"write", "writev", "sendto", "sendmsg", "sendmmsg"}
SYNCS = {"fdatasync", "fsync"}


class Call:
    def __init__(self, name, text, begun):
        self.name, self.text, self.begun, self.done, self.failed = name, text, begun, None, False

    def finish(self, tail, line):
        self.done = line
        self.failed = bool(re.search(r"\) += -1 ", tail))


def parse(lines):
    """The calls of `strace -f`, with the numbers of the lines where each began and returned."""
    calls, open_calls = [], {}
    for number, line in enumerate(lines):
        if m := RESUMED.match(line):
            if call := open_calls.pop(m[1], None):
                call.finish(m[3], number)
        elif m := CALL.match(line):
            call = Call(m[2], m[3], number)
            calls.append(call)
            if m[3].endswith("<unfinished ...>"):
                open_calls[m[1]] = call
            else:
                call.finish(m[3], number)
    return calls


def is_journal(call):
    return "/journal/" in call.text.split(">", 1)[0]


def violations(lines, acked):
    """What is wrong, for each acknowledged (offset, value): an empty list when all is well."""
    calls = parse(lines)
    stored = [c for c in calls if c.name in WRITES and is_journal(c)]
    syncs = [c for c in calls if c.name in SYNCS and is_journal(c) and c.done and not c.failed]
    sends = [c for c in calls if c.name in SENDS and not is_journal(c) and "HTTP/1.1 202" in c.text]
    wrong = []
    for offset, value in acked:
        written = [c for c in stored if value in c.text]
        mark = re.compile(r'\\"offset\\": ?%d\b' % offset)
        answers = [c for c in sends if mark.search(c.text)]
        if not written or not answers:
            wrong.append(f"{offset}: written {len(written)} times, answered {len(answers)} times")
            continue
        answer = min(c.begun for c in answers)
        # A sync covers a write only if it began after the write had returned.
        covered = [s for s in syncs for w in written if w.done is not None and s.begun > w.done
                   and s.done < answer]
        if not covered:
            wrong.append(f"{offset}: answered at line {answer}, written at line {written[0].begun}, "
                         f"no fdatasync between them")
    return wrong


TRACE = '''\
10 pwritev(5</d/journal/0.slg>, [{iov_base="..VALUE1..", iov_len=10}], 1, 0) = 10
10 fdatasync(5</d/journal/0.slg>) = 0
11 write(9<TCP:[1]>, "HTTP/1.1 202 Accepted\\r\\n{\\"offset\\":7}", 30) = 30
'''


@pytest.mark.parametrize("change,wrong", [
    (lambda t: t, False),
    (lambda t: t.replace("10 fdatasync(5</d/journal/0.slg>) = 0\n", ""), True),
    (lambda t: t.replace("fdatasync(5</d/journal/0.slg>) = 0",
                         "fdatasync(5</d/journal/0.slg>) = -1 EIO (Input/output error)"), True),
    (lambda t: t.replace("fdatasync(5</d/journal/0.slg>", "fdatasync(6</d/history/1.sst>"), True),
    (lambda t: "\n".join(t.splitlines()[i] for i in (1, 0, 2)), True),   # synced before it was written
    (lambda t: "\n".join(t.splitlines()[i] for i in (0, 2, 1)), True),   # answered before it was synced
    (lambda t: t.replace(") = 0\n", " <unfinished ...>\n") + "10 <... fdatasync resumed>) = 0\n", True),
    (lambda t: t.replace(") = 0\n", " <unfinished ...>\n10 <... fdatasync resumed>) = 0\n"), False),
    (lambda t: t.replace("VALUE1", "other"), True),
])
def test_the_checker_finds_what_is_wrong(change, wrong):
    assert bool(violations(change(TRACE).splitlines(), [(7, "VALUE1")])) == wrong


def test_no_202_before_its_fdatasync(make_server, tmp_path):
    trace = tmp_path / "trace"
    server = make_server(
        wrapper=["strace", "-f", "-qq", "-y", "-s", "4000", "-o", str(trace), "-e", "signal=none", "-e",
                 "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg,fdatasync,fsync"],
        # The leak checker cannot work beside another tracer.
        env={"ASAN_OPTIONS": "detect_leaks=0"})
    owner = owner_on(server, "traced")
    acked = []

    def push(n):
        with Wire(server.http_port, timeout=30) as w:
            for i in range(n):
                value = uuid.uuid4().hex
                level = ("durable", "applied")[i % 2]
                r = w.ask(request("POST", f"/v1/telemetry?ack={level}", owner.auth, {"traced": value}))
                assert r.status == 202
                acked.append((r.json()["position"]["offset"], value))

    threads = [threading.Thread(target=push, args=(50,)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(acked) == 200
    assert server.stop(30) == 0
    wait_for("the trace", lambda: trace.exists() and trace.read_text(errors="replace").strip())
    wrong = violations(trace.read_text(errors="replace").splitlines(), acked)
    assert not wrong, wrong[:5]
