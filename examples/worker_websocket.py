#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker that is pushed messages of a consumer group: worker_websocket.py ws://HOST:PORT GROUP, with the account's key in
SLUICE_KEY and the package `websockets` (python3-websockets).

Prints each message; put your work in the place of `work`. As many of them as you like may run beside each other, and
beside workers that fetch over HTTP. What fails comes again later. When this one ends, or dies, whatever it had goes to
others at once.
"""
import asyncio
import json
import os
import signal
import sys

import websockets

CREDIT = 20  # messages that wait here, at most
HEADERS = "additional_headers" if int(websockets.version.version.split(".")[0]) >= 14 else "extra_headers"


async def work(message):
    print(message["offset"], message.get("feed") or message["topic"], message.get("value"), flush=True)


async def handle(socket, message):
    """Whether it is done. What follows in the same feed was given back with one that failed."""
    try:
        await work(message)
    except Exception as error:
        print(f"{message['offset']}: {error}", file=sys.stderr)
        delay = min(2 ** message["delivery"], 300)
        await socket.send(json.dumps({"nack": {"tokens": [message["token"]], "delay": delay}}))
        return False
    await socket.send(json.dumps({"ack": {"tokens": [message["token"]]}}))
    return True


async def consume(url, headers):
    fields = {HEADERS: headers}
    async with websockets.connect(url, max_size=32 << 20, **fields) as socket:
        async for text in socket:
            said = json.loads(text)
            if "gap" in said:
                print("messages were gone:", said["gap"], file=sys.stderr)
            failed = set()
            for message in said.get("messages", []):
                place = message.get("feed") or message["topic"]
                if place not in failed and not await handle(socket, message):
                    failed.add(place)


async def main():
    url = f"{sys.argv[1]}/v1/consume/{sys.argv[2]}?credit={CREDIT}&lease=60"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    while True:
        try:
            await consume(url, {"X-AIO-Key": os.environ["SLUICE_KEY"]})
        except (OSError, websockets.WebSocketException) as error:
            print(error, file=sys.stderr)
            if "401" in str(error) or "403" in str(error):
                sys.exit(1)
        await asyncio.sleep(1)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        pass
