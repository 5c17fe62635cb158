# SPDX-License-Identifier: Apache-2.0
"""A client that publishes at QoS 2 and nothing else, for measuring what that costs a server: on each connection a window
of PUBLISH, all their PUBRECs, all PUBRELs, all PUBCOMPs. Every answer is compared byte by byte."""
import random
import select
import struct
import time

import mqtt_wire as wire

BATCHES = 8  # made before anything is measured, and sent in turn


def answers(first_byte, window):
    return b"".join(bytes([first_byte, 2]) + struct.pack(">H", i + 1) for i in range(window))


class Publisher:
    def __init__(self, target, user, window, feeds, payload, seed):
        self.client = wire.Mqtt(target.port, timeout=60)
        self.client.login(*user)
        r = random.Random(seed)
        self.batches = [b"".join(wire.publish(f"{target.topic_root}/feeds/f{r.randrange(feeds):06d}", "x" * payload, 2, i + 1)
                                 for i in range(window)) for _ in range(BATCHES)]
        self.steps = ((answers(0x50, window), answers(0x62, window)), (answers(0x70, window), b""))
        self.sent, self.step, self.got, self.going = 0, 0, b"", False
        self.sock = self.client.sock

    def begin(self):
        self.sock.sendall(self.batches[self.sent % BATCHES])
        self.sent, self.step, self.got, self.going = self.sent + 1, 0, b"", True

    def readable(self):
        """Whether a window is through."""
        some = self.sock.recv(1 << 16)
        assert some, "the server closed a connection"
        self.got += some
        due, reply = self.steps[self.step]
        if len(self.got) < len(due):
            return False
        assert self.got == due, "a server answered something else than what QoS 2 wants"
        self.got = b""
        if self.step == 1:
            self.going = False
            return True
        self.step = 1
        self.sock.sendall(reply)
        return False


def measure(target, users, window, feeds, payload, seconds):
    """{"cpu_us", "per_second"} of a message."""
    publishers = [Publisher(target, user, window, feeds, payload, i) for i, user in enumerate(users)]
    poll, of = select.epoll(), {}
    for p in publishers:
        poll.register(p.sock.fileno(), select.EPOLLIN)
        of[p.sock.fileno()] = p
        p.begin()
    cpu, begun, through = target.cpu(), time.monotonic(), 0
    while any(p.going for p in publishers):
        found = poll.poll(30)
        assert found, f"{target.name}: no answer for 30 s"
        for fd, _ in found:
            if of[fd].readable():
                through += window
                if time.monotonic() < begun + seconds:
                    of[fd].begin()
    took, cpu = time.monotonic() - begun, target.cpu() - cpu
    for p in publishers:
        p.sock.close()
    return {"cpu_us": cpu * 1e6 / through, "per_second": through / took}
