# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server under test: its own data folder and port, ended by process id.

The programs are Debian's, unpacked by tools/install_packages.sh or installed. The server refuses to run as
root, so then it runs as the user postgres, or nobody.
"""
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg2

from harness import ROOT, free_port, wait_for
from sink_conformance import Message, Target

PROGRAMS = Path("usr/lib/postgresql/15/bin")
PARTS = ("usr/lib/postgresql/15", "usr/share/postgresql/15")
QUICK = ["-c", "fsync=off", "-c", "jit=off", "-c", "shared_buffers=16MB", "-c", "max_connections=20",
         "-c", "unix_socket_directories=", "-c", "autovacuum=off", "-c", "log_min_messages=fatal"]


class Postgres(Target):
    """A place is a schema."""
    kind, exactly_once, replay_replaces = "postgres", True, True
    # PostgreSQL has no text with a zero byte, nor any that is not UTF-8.
    poison, poison_why = (("raw/x", b"zero \0 byte"), ("raw/x", b"\xff\xfe")), "UTF8"
    flags = QUICK
    extension = None  # a folder with what belongs to one, as it lies below /

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="sluice-postgres-"))
        self.home.chmod(0o755)
        self.programs, self.user = self.find_programs(), self.find_user()
        self.data, self.port, self.process = self.home / "data", free_port(), None
        self.data.mkdir()
        if self.user:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        self.data.chmod(0o700)
        self.password = self.home / "password"  # Sluice's, of the role sluice
        self.password.write_text("first secret\n")
        self.run("initdb", "-D", self.data, "-U", "postgres", "--auth=scram-sha-256", "--encoding=UTF8",
                 "--locale=C", "--no-sync", "--no-instructions", "--pwfile", self.file_for_user("admin secret"))
        self.start()
        self.execute("CREATE ROLE sluice LOGIN PASSWORD 'first secret'", admin=True)
        self.execute("CREATE DATABASE telemetry OWNER sluice", admin=True)

    def find_programs(self):
        """What was unpacked may lie where another user cannot look: a copy is used. So it is for an extension."""
        unpacked = ROOT / "build-tools" / "postgresql"
        there = unpacked if (unpacked / PROGRAMS / "postgres").exists() else Path("/")
        if there == Path("/") and not self.extension:
            return there / PROGRAMS
        for folder in filter(None, (there, self.extension)):
            for part in PARTS:
                shutil.copytree(folder / part, self.home / "programs" / part, symlinks=True, dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns("bitcode", "doc", "locale", "man"))
        return self.home / "programs" / PROGRAMS

    @staticmethod
    def find_user():
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise AssertionError("there is no user to run PostgreSQL as")

    def file_for_user(self, text):
        path = self.home / "pwfile"
        path.write_text(text + "\n")
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def as_user(self):
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}

    def run(self, program, *args):
        run = subprocess.run([str(self.programs / program), *map(str, args)], capture_output=True, text=True,
                             cwd=self.home, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, timeout=120,
                             **self.as_user())
        assert run.returncode == 0, run.stdout + run.stderr

    # ---- process ----

    def spawn(self):
        log = open(self.home / "server.log", "ab")
        self.process = subprocess.Popen([str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port),
                                         "-c", "listen_addresses=127.0.0.1", *self.flags], stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log, cwd=self.data, env={"LC_ALL": "C"}, **self.as_user())
        log.close()

    def start(self):
        """After a kill the old one's children may still hold its memory for a moment."""
        def up():
            if self.process is None or self.process.poll() is not None:
                self.spawn()
            try:
                self.connect(admin=True).close()
                return True
            except psycopg2.OperationalError:
                return False
        wait_for("PostgreSQL", up, 60, step=0.05)
        return self

    def kill(self):
        """kill -9 of the server and of its children."""
        children = [int(pid) for pid in
                    Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]
        for pid in (self.process.pid, *children):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(30)

    def stop(self):
        self.process.send_signal(signal.SIGINT)  # fast: ends connections
        self.process.wait(30)

    def close(self):
        if self.process and self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    # ---- SQL ----

    def settings(self, place, port=None):
        return {"postgres.url": f"postgresql://sluice@127.0.0.1:{port or self.port}/telemetry",
                "postgres.password_file": str(self.password), "postgres.schema": place}

    def read(self, place):
        """While the tables are not made yet there is nothing."""
        try:
            rows = self.execute(f"SELECT position, value, account, feed, device, topic FROM {place}.message")
        except psycopg2.errors.UndefinedTable:
            return []
        return [Message(offset, v.encode() if isinstance(v, str) else bytes(v), *names) for offset, v, *names in rows]

    def accept_poison(self, place):
        """Whoever reads bytes there may have the text made of them."""
        self.execute(f"ALTER TABLE {place}.message ALTER value DROP NOT NULL, "
                     "ALTER value TYPE bytea USING convert_to(value, 'UTF8')")

    def connect(self, admin=False):
        user, password, database = (("postgres", "admin secret", "postgres") if admin else
                                    ("sluice", self.password.read_text().strip(), "telemetry"))
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=user, password=password,
                                      dbname=database, connect_timeout=5)
        connection.autocommit = True
        return connection

    def execute(self, sql, *args, admin=False):
        """The rows, if there are any."""
        connection = self.connect(admin)
        try:
            cursor = connection.cursor()
            cursor.execute(sql, args or None)
            return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()
