# SPDX-License-Identifier: Apache-2.0
"""What `make bench` measures, in the order of the report. Each is a module here with one function, measure(args)."""
from collections import namedtuple

FORMAT = 1  # of what they give (result.py); figures that were written in another one are not shown

# `quick`: also part of `make bench-quick`.
Scenario = namedtuple("Scenario", "title quick", defaults=(False,))

SCENARIOS = {
    "http": Scenario("Messages by HTTP", True),
    "mqtt": Scenario("Messages by MQTT", True),
    "gate": Scenario("Attacks and reconnect storms"),
    "throttle": Scenario("The throttle", True),
    "journal": Scenario("Waiting for the disk"),
    "recovery": Scenario("After a crash"),
    "latency": Scenario("Latency and spikes"),
    "read": Scenario("Reading back"),
    "scaling": Scenario("More of everything"),
    "idle": Scenario("Idle connections and handshakes"),
    "sinks": Scenario("On to other systems"),
}
