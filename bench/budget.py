# SPDX-License-Identifier: Apache-2.0
"""What Sluice may cost: the budget, line by line, as a user would say it, and whether a figure keeps to it.

A line's `must` and `aim` are None where a run finds them itself (of a peer, or of the disk)."""
from collections import namedtuple

# `more`: the figure must be at least so much, not at most.
Line = namedtuple("Line", "says unit must aim more", defaults=(None, None, False))

BUDGET = {
    "http.64": Line("A message by HTTP (who sends it is checked, limits are kept, it is on disk) costs so many times what nginx "
                    "takes to answer nothing; over 64 connections", "x", 1.5, 1.35),
    "http.256": Line("the same over 256 connections", "x", 1.35, 1.15),
    "mqtt.100": Line("A message by MQTT, QoS 1, costs so much processor time while 100 are under way on each of 16 connections",
                     "µs", 1.2),
    "mqtt.20": Line("the same, 20 under way, beside FlashMQ, which neither checks nor stores", "x", 2, 1.4),
    "mqtt.1": Line("the same, one under way", "x", 3, 2),
    "fanout": Line("One message to 1,000 subscribers costs so many times what Mosquitto takes", "x", 1),
    "gate.p99": Line("While somebody guesses secrets and a fleet logs in for the first time, the slowest 1 % of the others' messages "
                     "take so many times as long as without", "x", 2, 1.3),
    "gate.offered": Line("and of what the others send so much is accepted", "%", 90, 97, True),
    "gate.logins": Line("and the fleet is in after so many times the time that its password hashes take", "x", 1.3),
    "gate.full": Line("At the highest rate, an attack and a fleet's login leave so much of it", "%", 80, None, True),
    "throttle.batch": Line("A decision of the throttle, a million accounts, 16 at a time", "ns", 150, 60),
    "throttle.one": Line("a single one", "ns", 600, 300),
    "throttle.bytes": Line("memory of an account beyond the 64 bytes of its head", "B", 64),
    "idle.plain": Line("Memory of an MQTT connection that says nothing", "B", 2048, 1024),
    "idle.tls": Line("the same over TLS", "B", 32768, 16384),
    "recovery": Line("After `kill -9` with 10 million messages in the journal, the first message is on disk again after", "s", 2, 0.3),
    "latency.post.p50": Line("At half load, a message by HTTP is on disk and answered after, p50", "ms", 2),
    "latency.post.p99": Line("the same, p99", "ms", 10),
    "latency.last.p50": Line("the newest value is read in, p50", "ms", 1, 0.3),
    "latency.last.p99": Line("the same, p99", "ms", 5),
    "latency.subscriber.p50": Line("a subscriber has a message after it was sent, p50", "ms", 3),
    "latency.subscriber.p99": Line("the same, p99", "ms", 12),
    "spike.p99": Line("In a spike of 20 times the rate, the slowest 1 % of messages take so many times as long as before", "x", 5, 2),
    "spike.refused": Line("and so many are refused", "", 0),
    "range": Line("To find 1,000 points of a feed in the history's cache costs no more than twice reading its newest value by HTTP, "
                  "and 50 µs", "µs"),
    "range.http": Line("the same of the whole answer by HTTP: found, written as Adafruit's JSON, and sent", "µs"),
    "drain.postgresql": Line("The PostgreSQL sink drains a backlog at so much of the rate of COPY from a file", "%", 70, None, True),
    "drain.kafka": Line("the Kafka sink, of librdkafka's own producer's with the same headers", "%", 70, None, True),
    "drain.kafka.bare": Line("the same, both without headers", "%", 70, None, True),
    "drain.rabbitmq": Line("the RabbitMQ sink, of a plain confirm loop's", "%", 70, None, True),
    "drain.webhooks": Line("the webhook sink with a request for each message, of a plain libcurl loop's", "%", 70, 90, True),
    "drain.webhooks.wrk": Line("the same, of wrk's", "%", 70, None, True),
    "bytes": Line("A stored point of telemetry takes on disk", "B", 6, 3),
}


def number(value):
    """As a person writes it: 0.36, 18.9, 1,060."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def keeps(value, limit, line):
    return value >= limit if line.more else value <= limit


def verdict(line, value, must, aim):
    """In words. `must` or `aim` None: there is none, or nothing to compare with."""
    if must is None:
        return "no limit could be found in this run"
    if not keeps(value, must, line):
        return "**does not hold**"
    if aim is None:
        return "holds"
    return "holds, and so does the aim" if keeps(value, aim, line) else "holds; the aim is not reached"
