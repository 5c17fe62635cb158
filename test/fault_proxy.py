# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that spoils connections by a seeded schedule: each new one gets a fault, or none."""
import collections
import random
import socket
import struct
import threading

FAULTS = ("refuse", "cut", "cut_answer", "reset", "half_close", "slow", "hang")


class FaultProxy:
    """Listens on .port, leads to `target` (a port of this machine). .faults: how many of the connections to
    come are spoiled, by one of .kinds each; after them all are good ones again. .struck: how often each kind had
    its effect: a connection may end before as many bytes passed as its fault waits for."""

    def __init__(self, target, seed, port=0):
        self.target, self.random, self.faults, self.seen = target, random.Random(seed), 0, []
        self.kinds, self.struck = FAULTS, collections.Counter()
        self.connections = self.breaks = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.open = set()
        self.threads = [self.run(self.accept)]

    @staticmethod
    def run(target, *args):
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        return thread

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                fault, after, breaks = None, 0, self.breaks
                self.connections += 1
                if self.faults:
                    self.faults -= 1
                    fault = self.random.choice(self.kinds)
                    # Most of a connection's beginning is the login: look at what comes behind it, too.
                    after = self.random.choice((0, 50, 400, 1000, 3000, 6000, 12000)) + self.random.randrange(300)
                    self.seen.append(fault)
            if fault == "refuse":
                self.struck[fault] += 1
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self.lock:
                self.open |= {client, server}
                broken = self.breaks != breaks
            if broken:
                self.stop(client, server)
            self.run(self.pump, client, server, fault if fault != "cut_answer" else None, after)
            self.run(self.pump, server, client, fault if fault in ("cut_answer", "slow") else None, after)

    def pump(self, source, to, fault, after):
        passed, pause = 0, threading.Event()
        try:
            while data := source.recv(4096):
                if fault in ("cut", "cut_answer", "reset", "half_close", "hang") and passed + len(data) > after:
                    self.struck[fault] += 1
                    to.sendall(data[:after - passed])
                    if fault == "hang":
                        return  # both stay open, and nothing goes this way any more
                    if fault == "half_close":
                        to.shutdown(socket.SHUT_WR)
                        return
                    if fault == "reset":
                        for s in (source, to):
                            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                if fault == "slow":
                    self.struck[fault] += not passed
                    pause.wait(0.005)
                to.sendall(data)
                passed += len(data)
        except OSError:
            pass
        self.end(source, to)

    def strikes(self):
        """How many connections were spoiled for good. What is slow gets there."""
        return self.struck.total() - self.struck["slow"]

    @staticmethod
    def stop(*sockets):
        """Wakes the threads up that read from them."""
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self, *sockets):
        """The last one to come closes."""
        self.stop(*sockets)
        with self.lock:
            for s in sockets:
                if s in self.open:
                    self.open.discard(s)
                else:
                    s.close()

    def break_all(self):
        """Ends every connection there is."""
        with self.lock:
            self.breaks += 1
            there = list(self.open)
        self.stop(*there)

    def close(self):
        """The port is free then: a thread that waits in accept() would keep it."""
        self.stop(self.listener)
        self.threads[0].join()
        self.listener.close()
        self.break_all()
