#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what CONTRIBUTING.md forbids: unsafe calls, and ways around clock, disk and conn.

Calls through a struct (d->open(...)), names that merely end alike (journal_open) and a static function
of the file's own are no matches.
Unit tests, fuzz targets and benchmarks may open files and sockets and ask for the time.
"""
import fnmatch
import re
import sys
import source

# Unit tests, what they share, and what only runs beside the server.
TESTS = ("src/*_test.c", "src/*_testing.[ch]", "fuzz/*", "bench/*")

# (what it is called, functions, where they are allowed, what to do instead)
RULES = [
    ("unsafe call", "strtok gets atoi atol atoll atof", (), "use strtok_r, getline or strtoull"),
    # A test's texts are its own, and the address sanitizer watches every one of them.
    ("unsafe call", "strcpy stpcpy strcat sprintf vsprintf", TESTS, "use base/buf.h or snprintf"),
    ("time", "time clock clock_gettime gettimeofday nanosleep clock_nanosleep usleep sleep",
     ("src/base/clock.c", *TESTS), "use base/clock.h"),
    ("file access",
     "open openat creat fopen freopen fdopen tmpfile mkstemp opendir pread pread64 pwrite pwritev "
     "preadv fsync fdatasync ftruncate rename unlink mkdir",
     # The command line and its load generator read what a user names and write what they print; the
     # configuration is read before there is a disk; a listener replaces the path of its Unix socket;
     # history looks into the directory that RocksDB owns, and the catalog makes SQLite's file private; libdw
     # is handed the program's own file; the names of threads are in /proc.
     ("src/base/thread.c", "src/journal/disk_*.c", "src/config*.c", "src/main.c", "src/cli/*", "src/load/*",
      "src/conn/listener.c", "src/conn/packet.c", "src/view/history_db.c", "src/catalog/db.c", "src/prof/names.c",
      *TESTS), "use journal/disk.h"),
    ("sockets", "socket socketpair connect accept accept4 bind listen recv recvfrom recvmsg send sendto "
     "sendmsg getaddrinfo",
     # libcurl asks for its sockets where an address is refused: before anything is connected.
     ("src/conn/*", "src/cli/admin_client.c", "src/load/*", "src/sink/posts.c", *TESTS),
     "sockets belong to conn/"),
]

# Spelled apart so that this file passes its own check.
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")


def call_of(names):
    """Matches a call of one of the names that is no member and no part of a longer name."""
    return re.compile(r"(?<![\w.>])(" + "|".join(names.split()) + r")\s*\(")


def check_calls(path, text):
    allowed_here = str(path)
    text = re.sub(r"->\s*", "->", source.strip(text))
    own = set(re.findall(r"^static\b[^;={}]*?(\w+)\s*\([^;{}]*\)\s*\{", text, re.M))
    for what, names, allowed, instead in RULES:
        if any(fnmatch.fnmatch(allowed_here, pattern) for pattern in allowed):
            continue
        for match in call_of(names).finditer(text):
            if match[1] in own:
                continue
            line = text.count("\n", 0, match.start()) + 1
            yield f"{path}:{line}: {what}: {match[1]}: {instead}"


def check(root):
    problems = []
    for path in source.files(root, "*.c", "*.h", "*.def", "*.py", "*.sh"):
        text = (root / path).read_text()
        if path.suffix != ".def" and "SPDX-License-Identifier:" not in "\n".join(text.split("\n", 3)[:3]):
            problems.append(f"{path}:1: no SPDX line")
        for match in UNFINISHED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line}: {match[0]}: finish it, or write it down as an issue")
        if path.suffix in (".c", ".h"):
            problems += check_calls(path, text)
    return problems


if __name__ == "__main__":
    source.report("banned", check(source.root_of(sys.argv)))
