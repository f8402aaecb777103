#!/usr/bin/python3
"""coord beside the yardsticks that it has to beat, in one run.

    bench/bench.py [--json FILE] [--quick] [--check] [--rounds N] [--seconds N] [part]...

"make bench" starts this on a throw-away cluster with fsync on.  It prints each figure
when it is known.  With --check it ends with status 1 when a goal is missed; with 2,
always, when something of coord's own failed.  FILE may be the number of an open file
descriptor.  The parts, all of them unless some are named:

    queue       claim + complete, one by one, with 200,000 tasks waiting
    batch       claims in batches of 50
    lease       acquire + release on 10,000 keys, and on one hot key
    refused     acquire of a key that another agent holds all the time
    heartbeat   agent_heartbeat, and the limits of the protocol
    create      task_create and a single INSERT of the same row
    bulk        task_create_many of 100,000 tasks and COPY of their rows
    event       event_send, INSERT, and INSERT + NOTIFY, with listeners
    pgq         PgQ: insert_event, and one batch consumer
    node        20,000 jobs in one Node process: coord, graphile-worker, pg-boss
    latency     from the creation of a job to its start: the same three
    etcd        acquire + release in etcd
"""

import argparse
import contextlib
import glob
import io
import json
import os
import subprocess
import sys
import time

import etcd
from lib import (HERE, Listener, Missing, Ratio, Results, Side, completed, connect, fresh, percentile, pgbench, rows, run,
                 unpack, value, wait_for)

QUICK = ("queue", "batch", "lease", "refused", "heartbeat")
NODE_JOBS = 20000
LATENCY_JOBS = 500
BULK = 100000
PGQ_EVENTS = 200000
IDLE_LISTENERS = 50


def bench_queue(results, scope):
    results.compare("claim + complete, 200,000 waiting", "pairs/s", [
        Side("one floor update", "floor"),
        Side("textbook queue", "queue_textbook"),
        Side("coord", "queue_coord", count=completed, queues=1),
    ], [Ratio("coord / two floor updates", "coord", "one floor update", times=2, at_least=0.80),
        Ratio("textbook / two floor updates", "textbook queue", "one floor update", times=2),
        Ratio("coord / textbook", "coord", "textbook queue")], template="stock", **scope)


# A fixed number of claims, since the stock of 200,000 is worked off in a second or two.
def bench_batch(results, scope):
    results.compare("claims in batches of 50, 200,000 waiting", "claims/s", [
        Side("textbook queue", "batch_textbook", times=50),
        Side("coord", "batch_coord", times=50),
    ], [Ratio("coord / textbook", "coord", "textbook queue", at_least=3)],
        template="stock", transactions=2560, **scope)


def bench_lease(results, scope):
    results.compare("lease acquire + release, 10,000 keys", "pairs/s", [
        Side("one floor update", "floor"),
        Side("textbook lease", "lease_textbook", keys=10000),
        Side("coord", "lease_coord", keys=10000),
    ], [Ratio("coord / two floor updates", "coord", "one floor update", times=2, at_least=0.85),
        Ratio("coord / textbook", "coord", "textbook lease")], **scope)
    results.compare("lease acquire + release, one hot key", "attempts/s", [
        Side("textbook lease", "lease_textbook", keys=1,
             also=("textbook, granted", lambda db: value(db, "SELECT token FROM bench.lease WHERE key = 'key 1'"))),
        Side("coord", "lease_coord", keys=1, also=("coord, granted", lambda db: value(db, "SELECT last_value FROM coord.fencing_token"))),
    ], [Ratio("coord / textbook", "coord", "textbook lease", at_least=3),
        Ratio("granted: coord / textbook", "coord, granted", "textbook, granted")], **scope)


HELD = """UPDATE bench.lease SET expires_at = 'infinity' WHERE key = 'key 1';
    SELECT FROM coord.lease_acquire('key 1', (SELECT id FROM bench.agent WHERE n = 63), '1 h');"""


@contextlib.contextmanager
def hot_key_is_held(db, clients):
    run(db, HELD)
    yield


def bench_refused(results, scope):
    results.compare("refused acquire of a held key", "attempts/s", [
        Side("textbook lease", "lease_textbook", around=hot_key_is_held, keys=1),
        Side("coord", "lease_coord", around=hot_key_is_held, keys=1),
    ], [Ratio("coord / textbook", "coord", "textbook lease", at_least=10)], **scope)
    with fresh("base") as db:
        run(db, HELD + "CHECKPOINT")
        before = value(db, "SELECT pg_current_wal_insert_lsn()")
        done = pgbench(db, "lease_coord", 16, 2, keys=1)
        wal = value(db, "SELECT pg_current_wal_insert_lsn() - %s", before)
    results.figure("WAL for each refused acquire", float(wal) / done.transactions, "bytes", below=1)


def bench_heartbeat(results, scope):
    results.compare("heartbeat", "/s", [
        Side("one floor update", "floor"),
        Side("SELECT 1", "select_1"),
        Side("coord", "heartbeat_coord"),
    ], [Ratio("coord / floor update", "coord", "one floor update", at_least=5),
        Ratio("coord / SELECT 1", "coord", "SELECT 1")], **scope)


def insert_like_task(db):
    """An INSERT of what task_create stores, into a copy of coord.task_live with its
    indexes.  What a unique index is on is new in each row, as it is in coord's."""
    run(db, """CREATE TABLE bench.task_copy (LIKE coord.task_live INCLUDING ALL); CREATE SEQUENCE bench.task_number;
        SELECT FROM coord.task_create('bench', '{"n": 1}', queue => 'created')""")
    names, expressions = rows(db, """
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum), string_agg(CASE
            WHEN attname = 'id' AND to_regprocedure('coord.new_id()') IS NOT NULL THEN 'coord.new_id()'
            WHEN attname = 'id' THEN 'gen_random_uuid()'
            WHEN attname = 'seq' THEN $$nextval('bench.task_number')$$
            ELSE quote_nullable(to_jsonb(t)->>attname) || '::' || format_type(atttypid, atttypmod) END, ', ' ORDER BY attnum)
        FROM coord.task_live t, pg_attribute
        WHERE t.queue = 'created' AND attrelid = 'coord.task_live'::regclass AND attnum > 0 AND NOT attisdropped
            AND attgenerated = ''""")[0]
    return f"INSERT INTO bench.task_copy ({names}) VALUES ({expressions});\n"


def bench_create(results, scope):
    results.compare("creating a task", "/s", [
        Side("INSERT of the same row", text=insert_like_task),
        Side("coord.task_create", "task_create"),
    ], [Ratio("coord / INSERT", "coord.task_create", "INSERT of the same row")], **scope)


BULK_TASKS = json.dumps([{"type": "bench", "queue": "bulk", "payload": {"n": n}} for n in range(BULK)])


def create_many(db, *_):
    start = time.time()
    value(db, "SELECT count(*) FROM coord.task_create_many(%s)", BULK_TASKS)
    return BULK / (time.time() - start)


def bench_bulk(results, scope):
    saved = io.StringIO()
    with fresh("base") as db:
        create_many(db)
        db.cursor().copy_expert("COPY (SELECT * FROM coord.task_live WHERE queue = 'bulk') TO STDOUT", saved)

    def copy(db, *_):
        saved.seek(0)
        start = time.time()
        db.cursor().copy_expert("COPY coord.task_live FROM STDIN", saved)
        return BULK / (time.time() - start)

    results.compare("creating 100,000 tasks at once", "tasks/s", [
        Side("COPY of their rows", measure=copy),
        Side("coord.task_create_many", measure=create_many),
    ], [Ratio("coord / COPY", "coord.task_create_many", "COPY of their rows")], **{**scope, "clients": (1,)})


class Told:
    """Idle listeners on other channels, and one that receives; keeps how late each
    notification was, by the number of clients."""

    def __init__(self, listen, sent_at, idle):
        self.listen, self.sent_at, self.idle, self.delays = listen, sent_at, idle, {}

    @contextlib.contextmanager
    def __call__(self, db, clients):
        others = [connect(db.info.dbname) for _ in range(self.idle)]
        for n, other in enumerate(others):
            run(other, self.listen.replace("bench", f"other_{n}"))
        try:
            with Listener(db.info.dbname, self.listen) as listener:
                yield
                listener.wait_until_quiet()
        finally:
            for other in others:
                other.close()
        step = max(1, len(listener.came) // 2000)
        self.delays.setdefault(clients, []).extend(self.sent_at(db, listener.came[::step]))


def notify_delays(db, came):
    return [at - json.loads(payload)["sent_at"] for payload, at in came]


# From the call of event_send, hence the commit's flush is in it.
def event_delays(db, came):
    arrived = {json.loads(payload)["id"]: at for payload, at in came}
    return [arrived[id] - float(sent) for id, sent in rows(db, """SELECT id::text, extract(epoch FROM created_at)
        FROM coord.event WHERE id = ANY(%s::uuid[])""", list(arrived))]


def bench_event(results, scope):
    for idle in (0, IDLE_LISTENERS):
        told = Told("SELECT coord.event_listen(channel => 'bench')", event_delays, idle)
        notified = Told("LISTEN bench", notify_delays, idle)
        results.compare(f"sending an event, {1 + idle} listener{'s' if idle else ''}", "/s", [
            Side("INSERT", "event_insert", around=Told("LISTEN bench", lambda *_: [], idle)),
            Side("INSERT + NOTIFY", "event_notify", around=notified),
            Side("coord.event_send", "event_send", around=told),
        ], [Ratio("coord / INSERT", "coord.event_send", "INSERT", at=32, at_least=0.8 if idle else None),
            Ratio("INSERT + NOTIFY / INSERT", "INSERT + NOTIFY", "INSERT")], **scope)
        for name, source in (("INSERT + NOTIFY", notified), ("coord", told)):
            for clients, delays in source.delays.items():
                ms = [1000 * delay for delay in delays]
                goal = {1: 5, 32: 50}.get(clients) if source is told else None
                label = f"event to the first of {1 + idle} listeners, {clients} senders, {name}"
                results.figure(f"{label}: p50", percentile(ms, 50), "ms")
                results.figure(f"{label}: p99", percentile(ms, 99), "ms", below=goal)


# PgQ

def install_pgq():
    """Puts PgQ where this cluster looks for extensions: into coord's stage.  Its script
    names its library by $libdir, which is elsewhere."""
    stage = os.environ["COORD_STAGE"]
    unpack("postgresql-15-pgq3", stage)
    for path in glob.glob(f"{stage}/usr/share/postgresql/15/extension/pgq--*.sql"):
        with open(path) as file:
            script = file.read()
        with open(path, "w") as file:
            file.write(script.replace("$libdir", f"{stage}/usr/lib/postgresql/15/lib"))


@contextlib.contextmanager
def pgq_queue(db, clients=None):
    run(db, "CREATE EXTENSION IF NOT EXISTS pgq; SELECT pgq.create_queue('bench')")
    yield


def pgq_consumes(db, clients, seconds):
    with pgq_queue(db):
        run(db, "SELECT pgq.register_consumer('bench', 'reader'); SELECT pgq.ticker('bench')")
        run(db, "SELECT pgq.insert_event('bench', 'bench', '{\"n\": 1}') FROM generate_series(1, %s)", PGQ_EVENTS)
        run(db, "SELECT pgq.force_tick('bench'); SELECT pgq.ticker('bench')")
        start, read = time.time(), 0
        while read < PGQ_EVENTS and (batch := value(db, "SELECT pgq.next_batch('bench', 'reader')")):
            read += len(rows(db, "SELECT ev_id, ev_type, ev_data FROM pgq.get_batch_events(%s)", batch))
            run(db, "SELECT pgq.finish_batch(%s)", batch)
        if read != PGQ_EVENTS:
            raise RuntimeError(f"PgQ's consumer got {read} events of {PGQ_EVENTS}")
        return read / (time.time() - start)


def coord_consumes(db, clients, seconds):
    run(db, "SELECT coord.event_send('bench', '{\"n\": 1}', channel => 'bench') FROM generate_series(1, %s)", PGQ_EVENTS)
    wait_for(lambda: value(db, "SELECT count(*) = 0 FROM coord.event WHERE position IS NULL"), "the delivery of the events", 120)
    start, read, last = time.time(), 0, 0
    while events := rows(db, """SELECT position, type, payload::text
            FROM coord.event_list(channel => 'bench', after => %s, max_events => 10000)""", last):
        read, last = read + len(events), events[-1][0]
    if read != PGQ_EVENTS:
        raise RuntimeError(f"event_list gave {read} events of {PGQ_EVENTS}")
    return read / (time.time() - start)


def bench_pgq(results, scope):
    install_pgq()
    results.compare("events to be read later", "/s", [
        Side("INSERT", "event_insert"),
        Side("pgq.insert_event", "pgq_insert", around=pgq_queue),
        Side("coord.event_send", "event_send"),
    ], [Ratio("coord / PgQ", "coord.event_send", "pgq.insert_event")], **scope)
    results.compare("200,000 events read by one consumer", "events/s", [
        Side("PgQ, one batch", measure=pgq_consumes),
        Side("coord.event_list, 10,000 each", measure=coord_consumes),
    ], [Ratio("coord / PgQ", "coord.event_list, 10,000 each", "PgQ, one batch")], **{**scope, "clients": (1,)})


# Node

def node(db, script, system, number):
    if not os.path.isdir(f"{HERE}/node/node_modules/pg"):
        raise Missing("the packages for Node could not be fetched")
    done = subprocess.run(["node", "--no-warnings", f"{HERE}/node/{script}.mjs", system, str(number)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=180, env={**os.environ, "PGDATABASE": db.info.dbname})
    if done.returncode != 0:
        raise RuntimeError(f"{script} {system}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


SYSTEMS = {"coord": "coord, batches of 100", "graphile": "graphile-worker, default",
           "graphile-local-queue": "graphile-worker, local queue of 500", "pg-boss": "pg-boss, batches of 100"}


def available(results, script):
    """Those of the systems that run here at all."""
    found = []
    for system in SYSTEMS:
        try:
            with fresh("base") as db:
                node(db, script, system, 100)
            found.append(system)
        except (Missing, OSError, RuntimeError, subprocess.TimeoutExpired) as reason:
            if system == "coord" and not isinstance(reason, (Missing, OSError)):
                raise
            results.lacks(f"{SYSTEMS[system]} ({script})", reason)
    return found


def bench_node(results, scope):
    def jobs_per_second(system):
        def measure(db, clients, seconds):
            answer = node(db, "throughput", system, NODE_JOBS)
            return answer["jobs"] / answer["seconds"]
        return measure

    systems = available(results, "throughput")
    others = [s for s in systems if s != "coord" and "coord" in systems]
    results.compare("20,000 jobs in one Node process, 16 connections", "jobs/s",
                    [Side(SYSTEMS[s], measure=jobs_per_second(s)) for s in systems],
                    [Ratio(f"coord / {SYSTEMS[s]}", SYSTEMS["coord"], SYSTEMS[s],
                           at_least=2 if s == "graphile-local-queue" else None) for s in others],
                    **{**scope, "clients": (16,)})


def bench_latency(results, scope):
    print("from the creation of a job to its start in a worker that listens (ms)", flush=True)
    from_call, from_commit = {}, {}
    systems = available(results, "latency")
    for _ in range(scope["rounds"]):
        for system in systems:
            with fresh("base") as db:
                answer = node(db, "latency", system, LATENCY_JOBS)
            from_call.setdefault(system, []).extend(answer["fromCall"])
            from_commit.setdefault(system, []).extend(answer["fromCommit"])
    for system in systems:
        ours = system == "coord"
        name = SYSTEMS[system].split(", b")[0]
        for since, delays in (("call", from_call), ("commit", from_commit)):
            for percent, goal in ((50, 1), (99, 4)):
                results.figure(f"job's start after the {since} that creates it, {name}: p{percent}",
                               percentile(delays[system], percent), "ms",
                               below=goal if ours and since == "commit" else None)


def bench_etcd(results, scope):
    with etcd.server():
        results.compare("lease acquire + release, 10,000 keys: etcd", "pairs/s", [
            Side("etcd, HTTP gateway", measure=lambda db, clients, seconds: etcd.rate(clients, seconds)),
            Side("half the gateway's reads", measure=lambda db, clients, seconds: etcd.rate(clients, seconds, True) / 2),
            Side("coord", "lease_coord", keys=10000),
        ], [Ratio("coord / etcd", "coord", "etcd, HTTP gateway")],
            **{**scope, "clients": [c for c in scope["clients"] if c <= 16]})


PARTS = {name.removeprefix("bench_"): function for name, function in list(globals().items()) if name.startswith("bench_")}


def versions():
    found = {}
    for package in ("pg", "graphile-worker", "pg-boss"):
        path = f"{HERE}/node/node_modules/{package}/package.json"
        if os.path.exists(path):
            with open(path) as file:
                found[package] = json.load(file)["version"]
    with contextlib.suppress(OSError):
        found["node"] = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    for path in glob.glob(f"{HERE}/cache/*.deb"):
        package, version, _ = os.path.basename(path).split("_")
        found[package] = version.replace("%2b", "+")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--quick", action="store_true", help="the core, at 16 clients, in a few minutes")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a goal is missed")
    parser.add_argument("--rounds", type=int, help="3; quick: 2")
    parser.add_argument("--seconds", type=int, help="for each cell (4; quick: 2)")
    parser.add_argument("--clients", help="their numbers (1,4,16,32; quick: 16)")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")

    scope = {"rounds": options.rounds or (2 if options.quick else 3), "seconds": options.seconds or (2 if options.quick else 4),
             "clients": [int(c) for c in (options.clients or ("16" if options.quick else "1,4,16,32")).split(",")]}
    results = Results(versions=versions(), rounds=scope["rounds"], seconds=scope["seconds"])
    failed = []
    for part in options.parts or (QUICK if options.quick else PARTS):
        try:
            PARTS[part](results, scope)
        except Missing as reason:
            results.lacks(part, reason)
        except Exception as error:
            results.lacks(f"{part} (failed)", error)
            failed.append(part)
    if options.json:
        results.write(options.json)
    results.end(failed, options.check)


if __name__ == "__main__":
    main()
