"""A proxy before a server's socket, which cuts connections, stalls them, and loses answers.

A process of its own; orders come over a pipe, as a name and seconds, and fall on one
connection that is drawn at random.

    cut             both sides are closed at once
    lose_answer     what the client has asked goes through, and it never hears of it
    stall           nothing goes through for a while, then all of it
    late            the client's side is closed, and what it had asked for last gets
                    to the server only some time afterwards
"""

import asyncio
import os
import random
from multiprocessing import Pipe, Process


class Link:
    """One client's connection."""

    def __init__(self, proxy, reader, writer):
        self.proxy, self.client = proxy, (reader, writer)
        self.open = asyncio.Event()
        self.open.set()
        self.deaf = False               # the server's answers are lost

    async def run(self):
        try:
            self.server = await asyncio.open_unix_connection(self.proxy.server)
        except OSError:
            self.client[1].close()
            return
        self.proxy.links.append(self)
        upwards = asyncio.ensure_future(self.pump(self.client[0], self.server[1], False))
        downwards = asyncio.ensure_future(self.pump(self.server[0], self.client[1], True))
        await asyncio.wait((upwards, downwards), return_when=asyncio.FIRST_COMPLETED)
        await self.open.wait()
        for task in (upwards, downwards):
            task.cancel()
        self.proxy.links.remove(self)
        self.close()

    async def pump(self, reader, writer, down):
        try:
            while data := await reader.read(1 << 16):
                await self.open.wait()
                if not (down and self.deaf):
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass

    def close(self):
        for _, writer in (self.client, self.server):
            writer.transport.abort()

    # What is done to it

    async def cut(self, _):
        self.close()

    async def lose_answer(self, seconds):
        self.deaf = True
        await asyncio.sleep(seconds)
        self.close()

    async def stall(self, seconds):
        self.open.clear()
        await asyncio.sleep(seconds)
        self.open.set()

    async def late(self, seconds):
        self.open.clear()
        # with a request that is under way, if there is one soon
        await asyncio.sleep(0.05)
        self.client[1].transport.abort()
        await asyncio.sleep(seconds)
        self.open.set()


class Proxy:
    """A socket in a directory, for libpq to find, before that of a server."""

    def __init__(self, directory, server, seed):
        self.socket, self.server = f"{directory}/.s.PGSQL.5432", f"{server}/.s.PGSQL.5432"
        self.directory = directory
        self.random = random.Random(f"{seed} proxy")
        self.links = []
        self.orders, self.pipe = Pipe()
        os.makedirs(directory, 0o700, exist_ok=True)
        self.process = Process(target=lambda: asyncio.run(self.serve()), daemon=True)

    def start(self):
        self.process.start()
        self.orders.recv()              # it listens

    def do(self, what, seconds):
        """True when there was a connection to do it to."""
        self.orders.send((what, seconds))
        return self.orders.recv()

    def stop(self):
        self.process.kill()
        self.process.join()

    async def serve(self):
        over = asyncio.Event()
        server = await asyncio.start_unix_server(lambda *streams: Link(self, *streams).run(), self.socket)
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self.order, over)
        self.pipe.send(True)
        async with server:
            await over.wait()

    def order(self, over):
        try:
            what, seconds = self.pipe.recv()
        except EOFError:
            over.set()
            return
        links = [link for link in self.links if link.open.is_set() and not link.deaf]
        if links:
            link = self.random.choice(links)
            self.task = asyncio.ensure_future(getattr(link, what)(seconds))
        self.pipe.send(bool(links))
