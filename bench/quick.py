# SPDX-License-Identifier: Apache-2.0
"""`make bench-quick`: whether something has become slower. Each guard is a ratio to something measured in the same
run, so that it says the same on another machine; it is missed when it is over its limit in every round, and the
median by more than the rounds differ among themselves."""
import statistics
from collections import namedtuple

from budget import BUDGET, number
from scenarios import SCENARIOS

# `limit`: what a quiet machine measured and a quarter more; `line`: the line of the budget that stands behind it.
Guard = namedtuple("Guard", "says limit line")

GUARDS = {
    "http.64": Guard("a message by HTTP costs so many times nginx's empty 204, 64 connections", 1.9, "http.64"),
    "http.256": Guard("the same, 256 connections", 2, "http.256"),
    "mqtt.100": Guard("a message by MQTT of what Mosquitto takes, 100 under way", 0.3, "mqtt.100"),
    "mqtt.20": Guard("the same, 20 under way", 0.35, "mqtt.20"),
    "mqtt.1": Guard("the same, one under way", 2.5, "mqtt.1"),
    "fanout": Guard("a delivery to one of 1,000 subscribers of what Mosquitto takes", 0.8, "fanout"),
    "throttle": Guard("a decision of the throttle of what Redis takes for the same", 0.045, "throttle.one"),
}


def missed(values, limit):
    """Over the limit in every round, and by more than noise."""
    return min(values) > limit and statistics.median(values) - limit > (max(values) - min(values)) / 2


def lines(ran):
    """[(guard's name, its figure in words, whether it is missed)] of {scenario: what it gave}."""
    found = []
    for result in ran.values():
        for name, values in result.get("guards", {}).items():
            guard, ratio = GUARDS[name], statistics.median(values)
            text = f"{guard.says}: {number(ratio)} ({number(min(values))} to {number(max(values))}), limit {number(guard.limit)}"
            found.append((name, text, missed(values, guard.limit)))
    return found


def judge(ran):
    """Says how it went; the exit status."""
    status = 0
    for name, text, over in lines(ran):
        print(f"{'MISSED' if over else 'holds ':6} {text}")
        if over:
            print(f"       the line of the budget behind it: {BUDGET[GUARDS[name].line].says}")
            status = 1
    for name, result in ran.items():
        if "failed" in result:
            print(f"FAILED {SCENARIOS[name].title}: {result['failed']}")
            status = 1
        for peer, why in result.get("missing", {}).items():
            print(f"not compared with {peer}: {why}")
    if not any(result.get("guards") for result in ran.values()):
        print("FAILED nothing was compared")
        status = 1
    return status
