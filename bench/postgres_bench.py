#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the PostgreSQL sink drains a backlog, beside COPY from a file of the same rows into the same table with the
same indexes and partitions, emptied before: by the server itself (copy), and sent by psql (\\copy).

    bench/postgres_bench.py --bin build/src/sluice [--also OTHER] [--json results.json]
"""
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import drain

import common
import postgres


class Server(postgres.Postgres):
    """As one would run it on a machine of 8 GB, and not as for tests."""
    flags = ["-c", "shared_buffers=1GB", "-c", "max_wal_size=4GB", "-c", "checkpoint_timeout=30min", "-c",
             "unix_socket_directories=", "-c", "log_min_messages=fatal"]

    def psql(self, sql):
        subprocess.run(["psql", "--quiet", "--no-psqlrc", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-c",
                        sql, "telemetry"], check=True, env={"PATH": "/usr/bin:/bin", "PGPASSWORD": "admin secret"})

    def rows(self, place):
        return self.execute(f"SELECT count(*) FROM {place}.message")[0][0]


def settle(server):
    server.psql("CHECKPOINT")


def sink(server, binary, args, place, home):
    def check():
        assert server.rows(place) == args.count, server.rows(place)
    settle(server)
    return drain.drain(binary, home, "postgres", server.settings(place), args, server.process.pid, check)


def copy(server, place, args, command):
    """The rows of a file that the sink had put there."""
    server.psql(f"TRUNCATE {place}.message")
    settle(server)
    with drain.Cost(args.count, target=server.process.pid) as cost:
        server.psql(command)
    assert server.rows(place) == args.count
    return {"rate": cost.found["rate"], "cpu_us": 0, "target_cpu_us": cost.found["target_cpu_us"]}


def main():
    args = common.parse(drain.parser(__doc__, 1000000))
    args.count = args.count // drain.REQUEST * drain.REQUEST
    server, found = Server(), {}
    files = server.home / "files"
    files.mkdir()
    if server.user:
        shutil.chown(files, server.user.pw_uid, server.user.pw_gid)
    try:
        with tempfile.TemporaryDirectory(dir=args.dir, prefix="postgres-bench-") as home:
            for i in range(args.rounds):
                for k, (name, binary) in enumerate(drain.binaries(args).items()):
                    place = f"r{i}_{k}"
                    found.setdefault(name, []).append(sink(server, binary, args, place, Path(home) / place))
                    if k:
                        server.psql(f"DROP SCHEMA {place} CASCADE")
                place, file = f"r{i}_0", files / "rows"
                server.psql(f"COPY (SELECT * FROM {place}.message ORDER BY position) TO '{file}' (FORMAT binary)")
                for name, command in (("copy", "COPY"), ("psql", "\\copy")):
                    found.setdefault(name, []).append(copy(
                        server, place, args, f"{command} {place}.message FROM '{file}' (FORMAT binary)"))
                server.psql(f"DROP SCHEMA {place} CASCADE")
                print(f"round {i + 1}")
                drain.tell(found)
    finally:
        server.close()
    drain.summarize(args, found, "copy", "psql")
    return 0


if __name__ == "__main__":
    sys.exit(main())
