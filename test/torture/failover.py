#!/usr/bin/python3
"""Clients that work on through failovers, and a check of what they were told.

    failover.py work DIRECTORY [--clients 16] [--heartbeat-timeout '1 min']     until SIGTERM
    failover.py check DIRECTORY [--lossy]

Each client is a process of its own, with an agent of its own: it creates tasks, claims and
completes them, holds leases and writes under them, and sends events; one more reads all
events.  Where
the servers are is in libpq's environment: PGHOST=a,b PGPORT=…
PGTARGETSESSIONATTRS=read-write.  A client that has lost its connection makes another one
and goes on.  What it was told is a line of its history; what it was not told is none.

The check asks the server that is left.  Whatever happened in between:

- a token is higher than every one that was told before it was asked for, and never told
  twice; so are the positions of events, and no position is that of two events;
- who writes under a lease wrote before the lease's next holder did.

Without --lossy, as with a synchronous standby, nothing that was told is gone, and nobody
was granted a lease that another still held.  With it, something must have been lost:
otherwise nothing was tried.
"""

import argparse
import glob
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import psycopg2

from common import connect_at_last, rows, was_lost

PREPARE = """
    CREATE EXTENSION IF NOT EXISTS coord;
    CREATE TABLE IF NOT EXISTS written (id bigserial PRIMARY KEY, resource_key text, token bigint);
    SELECT coord.queue_set('default', backoff_base => '100 ms', max_attempts => 1000)"""
KEYS = 6
LEASE_TTL = 3                       # seconds
PAUSE = 0.03                        # likewise, so that others have their turn
REFUSED = ("55000", "55P03")        # the claim or lease is not the caller's any more, or another's


class Client:
    def __init__(self, directory, number, heartbeat_timeout, stop):
        self.name, self.heartbeat_timeout, self.stop = f"client {number}", heartbeat_timeout, stop
        self.random = random.Random(number)
        self.history = open(os.path.join(directory, f"{number}.{time.time()}.json"), "w", buffering=1)
        self.connection = self.agent = None
        self.position = 0

    def log(self, op, asked_at, **facts):
        self.history.write(json.dumps({"op": op, "asked_at": asked_at, "told_at": time.time(), **facts}) + "\n")

    def ask(self, sql, *arguments):
        return rows(self.connection, sql, *arguments)

    def connect(self):
        self.connection = connect_at_last(self.name, seconds=120)
        self.agent = self.ask("SELECT id FROM coord.agent_register(%s, heartbeat_timeout => %s)",
                              self.name, self.heartbeat_timeout)[0][0]

    def create(self):
        at = time.time()
        for task, in self.ask("SELECT id FROM coord.task_create('t', to_jsonb(%s))", at):
            self.log("create", at, task=task)

    def work(self):
        at = time.time()
        claimed = self.ask("SELECT id, fencing_token FROM coord.task_claim(%s, lease_ttl => '10 s', max_tasks => %s)",
                           self.agent, self.random.choice([1, 1, 3]))
        for task, token in claimed:
            self.log("claim", at, task=task, token=token)
        for task, token in claimed:
            at = time.time()
            self.ask("SELECT coord.task_complete(%s, %s, to_jsonb(%s::text))", task, token, self.name)
            self.log("complete", at, task=task, token=token)

    def hold(self):
        at = time.time()
        key = f"key {self.random.randrange(KEYS)}"
        granted = self.ask("SELECT id, fencing_token, extract(epoch FROM expires_at)::float8, renewed_at > acquired_at "
                           "FROM coord.lease_acquire(%s, %s, make_interval(secs => %s))", key, self.agent, LEASE_TTL)
        for lease, token, expires_at, renewed in granted:
            self.log("grant", at, key=key, lease=lease, token=token, expires_at=expires_at, renewed=renewed)
            self.ask("WITH held AS MATERIALIZED (SELECT coord.lease_assert(%s, %s)) "
                     "INSERT INTO written (resource_key, token) SELECT %s, %s FROM held", key, token, key, token)
            if self.random.random() < 0.9:
                at = time.time()
                self.log("releasing", at, lease=lease)
                self.ask("SELECT coord.lease_release(%s)", lease)

    def send(self):
        at = time.time()
        for event, in self.ask("SELECT id FROM coord.event_send('told', channel => 'failover')"):
            self.log("send", at, event=event)

    def read(self):
        at = time.time()
        for position, event in self.ask("SELECT position, id FROM coord.event_list(after => %s)", self.position):
            self.log("event", at, position=position, event=event)
            self.position = position

    def run(self, *deeds):
        while not self.stop.is_set():
            try:
                if self.connection is None:
                    self.connect()
                self.random.choice(deeds)()
                time.sleep(PAUSE)
            except psycopg2.Error as error:
                if error.pgcode in REFUSED:
                    continue
                if not was_lost(self.connection, error):
                    self.log("error", time.time(), sqlstate=error.pgcode, message=str(error))
                    break
                self.connection = None
        self.history.close()


def run_client(options, number, stop):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    client = Client(options.directory, number, options.heartbeat_timeout, stop)
    if number == 0:
        client.run(client.read)
    else:
        client.run(client.create, client.work, client.work, client.hold, client.hold, client.send)


def work(options):
    connection = connect_at_last("prepare")
    rows(connection, PREPARE)
    connection.close()
    stop = multiprocessing.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    clients = [multiprocessing.Process(target=run_client, args=(options, number, stop))
               for number in range(options.clients + 1)]
    for client in clients:
        client.start()
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    stop.set()
    for client in clients:
        client.join()
    return 0


class Check:
    def __init__(self, directory):
        self.told, self.violations = [], []
        for name in glob.glob(os.path.join(directory, "*.json")):
            with open(name) as history:
                self.told += [json.loads(line) for line in history]
        self.told.sort(key=lambda line: line["asked_at"])
        self.connection = connect_at_last("check")

    def of(self, *ops):
        return [line for line in self.told if line["op"] in ops]

    def ask(self, sql):
        return rows(self.connection, sql)

    def is_in_order(self, number, lines):
        """Each is higher than all that were told before it was asked for."""
        told = sorted(lines, key=lambda line: line["told_at"])
        highest, next_told = 0, 0
        for line in lines:
            while told[next_told]["told_at"] < line["asked_at"]:
                highest = max(highest, told[next_told][number])
                next_told += 1
            if line[number] <= highest:
                self.violations.append(f"{number} {line[number]} was told after {highest}: {line}")

    def tokens(self):
        # an acquire by who holds the lease, perhaps since a grant whose answer was lost, renews it, with its token
        lines = [line for line in self.of("claim", "grant") if not line.get("renewed")]
        self.is_in_order("token", lines)
        if len({line["token"] for line in lines}) < len(lines):
            self.violations.append("a token was told twice")

    def positions(self):
        lines = self.of("event")
        self.is_in_order("position", lines)
        events = {}
        for position, event in [(line["position"], line["event"]) for line in lines] + self.ask(
                "SELECT position, id FROM coord.event_list(max_events => 10000)"):
            if events.setdefault(position, event) != event:
                self.violations.append(f"position {position} is that of events {event} and {events[position]}")

    def writes(self):
        self.violations += [f"wrote under a lost lease: {row}" for row in self.ask(
            "SELECT * FROM (SELECT *, max(token) OVER (PARTITION BY resource_key ORDER BY id) AS last FROM written) w "
            "WHERE token < last")]

    def lost(self):
        """What was told and is not so: a task, its completion, a claim, a grant or an event."""
        tasks = {task: (state, token or 0) for task, state, token in self.ask("SELECT id, state, fencing_token FROM coord.task")}
        events = {event for event, in self.ask("SELECT id FROM coord.event")}
        leases = dict(self.ask("SELECT resource_key, fencing_token FROM coord.lease"))
        for line in self.of("create", "claim", "complete", "grant", "send"):
            state, token = tasks.get(line.get("task"), ("", 0))
            if line["op"] == "create" and state == "":
                yield line
            elif line["op"] == "complete" and (state, token) != ("completed", line["token"]):
                yield line
            elif line["op"] == "claim" and (state == "" or (token < line["token"] and state == "completed")):
                yield line
            elif line["op"] == "send" and line["event"] not in events:
                yield line
            elif line["op"] == "grant" and leases.get(line["key"], 0) < line["token"]:
                yield line

    def two_holders(self):
        """A grant of a lease that its last holder still counted on."""
        releasing = {line["lease"]: line["asked_at"] for line in self.of("releasing")}
        held = {}
        for line in sorted(self.of("grant"), key=lambda line: line["token"]):
            last = held.get(line["key"])
            if last is not None and last["lease"] != line["lease"]:
                end = min(last["expires_at"], releasing.get(last["lease"], last["expires_at"]))
                if line["told_at"] < end:
                    yield line
            held[line["key"]] = line


def check(options):
    it = Check(options.directory)
    it.violations += [f"an error that is none of a failover: {line}" for line in it.of("error")]
    it.tokens()
    it.positions()
    it.writes()
    lost = list(it.lost())
    holders = list(it.two_holders())
    if not options.lossy:
        it.violations += [f"lost: {line}" for line in lost]
        it.violations += [f"granted while another held it: {line}" for line in holders]
    elif not lost:
        it.violations.append("nothing was lost")
    counts = {op: len(it.of(op)) for op in ("create", "claim", "complete", "grant", "send", "event")}
    it.violations += [f"hardly any {op}" for op, n in counts.items() if n < 20]
    print(json.dumps(counts | {"lost": len(lost)}))
    for violation in it.violations[:20]:
        print(violation)
    print(f"{len(it.violations)} violations")
    return 1 if it.violations else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("command", choices=["work", "check"])
    arguments.add_argument("directory")
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--heartbeat-timeout", default="1 min")
    arguments.add_argument("--lossy", action="store_true")
    options = arguments.parse_args()
    return work(options) if options.command == "work" else check(options)


if __name__ == "__main__":
    sys.exit(main())
