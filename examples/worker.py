#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker of a consumer group: worker.py URL GROUP, with the account's key in SLUICE_KEY.

Prints each message; put your work in the place of `work`. As many of them as you like may run beside each
other. What fails is tried again later, five times; then it is appended to dead.jsonl.
"""
import json
import os
import signal
import sys
import time

import requests

TRIES, LEASE = 5, 60  # seconds for all the messages of one fetch
stopping = busy = False


def work(message):
    print(message["offset"], message.get("feed") or message["topic"], message.get("value"), flush=True)


def bury(message):
    with open("dead.jsonl", "a") as out:
        out.write(json.dumps(message) + "\n")
        out.flush()
        os.fsync(out.fileno())


def handle(message):
    """Whether it is done."""
    try:
        work(message)
    except Exception as error:  # whatever it is: the message comes again
        print(f"{message['offset']}: {error}", file=sys.stderr)
        if message["delivery"] < TRIES:
            return False
        bury(message)
    return True


def turn(session, group):
    global busy
    busy = False
    r = session.get(group, params={"max": 20, "wait": 20, "lease": LEASE}, timeout=60)
    if r.status_code in (429, 503):
        time.sleep(int(r.headers.get("Retry-After", 1)))
        return
    r.raise_for_status()
    if "X-Sluice-Gap" in r.headers:
        print("messages were gone:", r.headers["X-Sluice-Gap"], file=sys.stderr)
    messages = r.json()["messages"]
    busy = True
    failed = set()  # of a feed nothing may overtake what failed
    for message in messages:
        place = message.get("feed") or message["topic"]
        if place in failed:
            continue
        what, rest = ("ack", {}) if handle(message) else ("nack", {"delay": 2 ** message["delivery"]})
        if what == "nack":
            failed.add(place)
        session.post(f"{group}/{what}", json={"tokens": [message["token"]], **rest}, timeout=60).raise_for_status()


def main():
    global stopping
    group = f"{sys.argv[1]}/v1/consume/{sys.argv[2]}"
    session = requests.Session()
    session.headers["X-AIO-Key"] = os.environ["SLUICE_KEY"]

    def stop(*_):
        global stopping
        stopping = True
        if not busy:  # what is on its way then goes to another worker
            sys.exit()

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        try:
            turn(session, group)
        except requests.ConnectionError as error:
            print(error, file=sys.stderr)
            time.sleep(1)


if __name__ == "__main__":
    main()
