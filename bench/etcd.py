"""Leases in etcd: acquire and release by transactions, through its HTTP/JSON gateway.

etcd flushes each commit to disk before it answers, as we do.  Each client is a thread
with one connection that it keeps, and one etcd lease, to which its keys are attached.
Acquire is "if the key does not exist, put it", release "if it is mine, delete it".  A
Python thread costs more than pgbench does, which is why there is a figure for the
gateway's own limit: a read of a key that does not exist, by the same clients.
"""

import base64
import contextlib
import http.client
import json
import os
import random
import subprocess
import tempfile
import threading
import time

from lib import unpack, wait_for

PORT = 23790


def call(connection, path, body):
    connection.request("POST", f"/v3/{path}", json.dumps(body))
    answer = connection.getresponse()
    data = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"etcd: {path}: {data}")
    return data


def connection():
    return http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)


def answers():
    try:
        call(connection(), "kv/range", {"key": base64.b64encode(b"x").decode()})
        return True
    except OSError:
        return False


@contextlib.contextmanager
def server():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as directory:
        unpack("etcd-server", directory)
        client, peer = f"http://127.0.0.1:{PORT}", f"http://127.0.0.1:{PORT + 1}"
        with open(f"{directory}/log", "w") as log:
            process = subprocess.Popen(
                [f"{directory}/usr/bin/etcd", "--data-dir", f"{directory}/data", "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--log-level", "error"], stdout=log, stderr=log)
        try:
            wait_for(answers, "etcd", 20)
            yield
        finally:
            process.terminate()
            process.wait(20)


class Client(threading.Thread):
    def __init__(self, number, seconds, reads):
        super().__init__(daemon=True)
        self.connection, self.seconds, self.reads, self.done, self.error = connection(), seconds, reads, 0, None
        self.owner = base64.b64encode(f"client {number}".encode()).decode()
        self.lease = call(self.connection, "lease/grant", {"TTL": 600})["ID"]

    def run(self):
        try:
            until = time.time() + self.seconds
            while time.time() < until:
                key = base64.b64encode(f"key {random.randint(1, 10000)}".encode()).decode()
                if self.reads:
                    call(self.connection, "kv/range", {"key": key})
                    self.done += 1
                elif self.acquire(key):
                    self.release(key)
                    self.done += 1
        except Exception as error:
            self.error = error

    def acquire(self, key):
        return call(self.connection, "kv/txn", {
            "compare": [{"key": key, "target": "CREATE", "create_revision": "0"}],
            "success": [{"request_put": {"key": key, "value": self.owner, "lease": self.lease}}]}).get("succeeded")

    def release(self, key):
        return call(self.connection, "kv/txn", {
            "compare": [{"key": key, "target": "VALUE", "value": self.owner}],
            "success": [{"request_delete_range": {"key": key}}]}).get("succeeded")


def rate(clients, seconds, reads=False):
    threads = [Client(number, seconds, reads) for number in range(clients)]
    start = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 30)
    if errors := [thread.error for thread in threads if thread.error]:
        raise errors[0]
    return sum(thread.done for thread in threads) / (time.time() - start)
