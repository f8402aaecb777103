#!/usr/bin/python3
"""Whether claim + complete costs the same whatever the circumstances.

    bench/flat.py [--json FILE] [--check] [--rounds N] [--seconds N] [--clients 4,16] [part]...

"make bench-flat" starts this on a throw-away cluster with fsync on.  Each figure is a
ratio to a baseline of its own, measured in turns with it.  The parts:

    depth       1,000, 200,000 and 2,000,000 tasks waiting
    queues      one queue, and 10,000 of which each claim takes one at random
    priority    1,000 tasks of higher priority arrive meanwhile
    resources   half the tasks need a resource that another agent holds
    snapshot    another transaction holds a snapshot for 60 s; the textbook queue, too
    heartbeat   growth by heartbeats while a snapshot is held
    million     a million tasks pass through a queue in which 1,000 wait, and are dropped

COORD_SNAPSHOT_SECONDS and COORD_MILLION change the size of the last ones, for a
trial.  The stocks are made with task_create_many, 10,000 tasks a call.
"""

import argparse
import contextlib
import os
import statistics
import threading
import time

from lib import (Ratio, Results, Side, completed, connect, fill_jobs, fill_tasks, fresh, pgbench, rows, run, template, value)

SNAPSHOT_SECONDS = int(os.environ.get("COORD_SNAPSHOT_SECONDS", 60))
MILLION = int(os.environ.get("COORD_MILLION", 1000000))
HELD_FROM = 10                  # seconds before the snapshot is taken, for the baseline
STEP = 5                        # seconds: one point of a line
KEEP = 20                       # seconds


@template("deep")
def fill_deep(db):
    fill_tasks(db, 2000000)


@template("many_queues")
def fill_many_queues(db):
    fill_tasks(db, 200000, queues=10000)


@template("with_resources")
def fill_with_resources(db):
    fill_tasks(db, 100000, resource=True)


@template("long")
def fill_long(db):
    fill_jobs(db, 600000)
    fill_tasks(db, 600000)


def claims(name, template, around=None, queues=1):
    return Side(name, "queue_coord", count=completed, around=around, template=template, queues=queues)


# With 1,000 waiting, each claim must be made up for; so each depth is measured so.
# The deep ones are worked off as well, which is what the goal speaks of.
def bench_depth(results, scope):
    depths = (("1,000", "base"), ("200,000", "stock"), ("2,000,000", "deep"))
    results.compare("depth: create + claim + complete", "rounds/s", [
        Side(f"{depth} waiting", "cycle_coord", count=completed, template=name) for depth, name in depths
    ], [Ratio(f"{depth} / 1,000", f"{depth} waiting", "1,000 waiting", at_least=0.9) for depth, _ in depths[1:]], **scope)
    results.compare("depth: claim + complete", "pairs/s", [
        claims(f"{depth} waiting", name) for depth, name in depths[1:]
    ], [Ratio("2,000,000 / 200,000", "2,000,000 waiting", "200,000 waiting", at_least=0.95)], **scope)


def bench_queues(results, scope):
    results.compare("queues: claim + complete, 200,000 waiting", "pairs/s", [
        claims("1 queue", "stock"), claims("10,000 queues", "many_queues", queues=10000),
    ], [Ratio("10,000 queues / 1", "10,000 queues", "1 queue", at_least=0.9)], **scope)


def arrivals_of(priority, seconds):
    """1,000 tasks of that priority, spread over the run."""
    @contextlib.contextmanager
    def around(db, clients):
        ends = threading.Event()

        def create():
            creator = connect(db.info.dbname)
            for _ in range(1000):
                if ends.wait(seconds / 1000):
                    return
                run(creator, "SELECT FROM coord.task_create('urgent', queue => 'queue 1', priority => %s)", priority)

        thread = threading.Thread(target=create, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
    return around


def bench_priority(results, scope):
    results.compare("priority: claim + complete while 1,000 tasks arrive", "pairs/s", [
        claims("of the same priority", "stock", arrivals_of(0, scope["seconds"])),
        claims("of higher priority", "stock", arrivals_of(10, scope["seconds"])),
    ], [Ratio("higher / same", "of higher priority", "of the same priority", at_least=0.9)], **scope)


@contextlib.contextmanager
def half_is_held(db, clients):
    run(db, """SELECT count(*) FROM generate_series(1, 100000, 2) n, LATERAL coord.lease_acquire('resource ' || n,
        (SELECT id FROM bench.agent WHERE n = 63), '1 h')""")
    yield


def bench_resources(results, scope):
    results.compare("resources: claim + complete of tasks with a resource_key", "pairs/s", [
        claims("all free", "with_resources"), claims("half of them held by another", "with_resources", half_is_held),
    ], [Ratio("half held / free", "half of them held by another", "all free", at_least=0.8)], **scope)


# Held snapshots

@contextlib.contextmanager
def snapshot(db, after=0):
    """Held by another session, from some seconds after now until the end of the block."""
    holder = connect(db.info.dbname)

    def hold():
        run(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM bench.counter")

    timer = threading.Timer(after, hold)
    timer.start()
    if not after:
        timer.join()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        holder.close()


def bench_snapshot(results, scope):
    print(f"a snapshot held for {SNAPSHOT_SECONDS} s, 4 clients (pairs/s)", flush=True)
    for name, script in (("textbook queue", "queue_textbook"), ("coord", "queue_coord")):
        with fresh("long") as db, snapshot(db, after=HELD_FROM):
            done = pgbench(db, script, 4, HELD_FROM + SNAPSHOT_SECONDS, progress=STEP, queues=1)
            if name == "coord" and completed(db) < 0.9 * done.transactions:
                raise RuntimeError("coord's stock of tasks ran out")
        points = [(at - HELD_FROM, tps) for at, tps in done.progress]
        held = [tps for at, tps in points if at > 0]
        results.line("held snapshot", name, [(round(at), round(tps, 1)) for at, tps in points])
        print(f"  {name}: " + " ".join(f"{tps:.0f}" for _, tps in points), flush=True)
        results.figure(f"held snapshot, {name}: first {STEP} s", held[0], "pairs/s")
        results.figure(f"held snapshot, {name}: last {STEP} s", held[-1], "pairs/s")
        results.figure(f"held snapshot, {name}: last / first", held[-1] / held[0], at_least=0.9 if name == "coord" else None)


def sizes(db, schema):
    return dict(rows(db, """SELECT c.relname, pg_relation_size(c.oid) FROM pg_class c
        WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'i')""", schema))


# An agent's row may grow by a version now and then, but not with each heartbeat.
def bench_heartbeat(results, scope):
    print("heartbeats under a held snapshot", flush=True)
    with fresh("base") as db, snapshot(db):
        before = sum(sizes(db, "coord").values())
        done = pgbench(db, "heartbeat_coord", 16, max(5, scope["seconds"]))
        grown = sum(sizes(db, "coord").values()) - before
    results.figure("held snapshot, growth by each heartbeat", grown / done.transactions, "bytes", below=1)


def stored(db):
    """The size of what is unfinished, and of what has finished, with their indexes; in MiB."""
    return rows(db, """SELECT sum(size) FILTER (WHERE relid = 'coord.task_live'::regclass) / 2 ^ 20,
            sum(size) FILTER (WHERE relid <> 'coord.task_live'::regclass) / 2 ^ 20
        FROM (SELECT 'coord.task_live'::regclass::oid UNION ALL SELECT relid FROM pg_partition_tree('coord.task_finished') WHERE isleaf) r (relid),
            LATERAL pg_indexes_size(relid) i, LATERAL pg_table_size(relid) t, LATERAL (SELECT i + t) s (size)""")[0]


@contextlib.contextmanager
def sampled(db, measure, points):
    """Adds to the points, every few seconds, how many have passed and what was measured then."""
    ends = threading.Event()
    began = time.monotonic()

    def sample():
        watcher = connect(db.info.dbname)
        while not ends.wait(STEP):
            points.append((round(time.monotonic() - began), measure(watcher)))
        watcher.close()

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def part(points, start, end):
    """Those of a part of the time."""
    return points[int(len(points) * start):max(int(len(points) * end), int(len(points) * start) + 1)]


# What has finished is kept for a moment only, so that many retentions pass.  The first half
# gives the relations their working size: autovacuum comes once a minute.
def bench_million(results, scope):
    print(f"{MILLION:,} tasks through a queue in which 1,000 wait and which keeps what has finished for {KEEP} s, 16 clients", flush=True)
    points = []
    with fresh("base") as db:
        run(db, "SELECT FROM coord.queue_set('queue 1', retention => %s * interval '1 s')", KEEP)
        with sampled(db, stored, points):
            done = pgbench(db, "cycle_coord", 16, transactions=MILLION, progress=1)
    rates = [tps for _, tps in done.progress[1:]]   # the first second makes the sessions' plans
    live, finished = ([(at, float(sizes[n])) for at, sizes in points] for n in (0, 1))
    results.line("million: rounds/s", "create + claim + complete", [
        (round(done.progress[n][0]), round(statistics.median(tps for _, tps in done.progress[n:n + STEP]), 1))
        for n in range(1, len(done.progress), STEP)])
    results.line("million: MiB", "unfinished tasks", live)
    results.line("million: MiB", "finished tasks", finished)
    middle, end = statistics.median(part(rates, 0.5, 0.6)), statistics.median(part(rates, 0.9, 1))
    results.figure("million, the tenth after a half", middle, "rounds/s")
    results.figure("million, last tenth", end, "rounds/s")
    results.figure("million, last tenth / the one after a half", end / middle, at_least=0.9)
    for name, sizes in (("unfinished", live), ("finished", finished)):
        before, after = (max(size for _, size in part(sizes, *quarter)) for quarter in ((0.25, 0.5), (0.75, 1)))
        results.figure(f"million, {name} tasks, the most in the second quarter", before, "MiB")
        results.figure(f"million, {name} tasks, the most in the last quarter", after, "MiB")
        results.figure(f"million, {name} tasks, last quarter / second", after / before, below=1.3)


PARTS = {name.removeprefix("bench_"): function for name, function in list(globals().items()) if name.startswith("bench_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a goal is missed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="for each cell")
    parser.add_argument("--clients", default="4,16", help="their numbers")
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")

    scope = {"rounds": options.rounds, "seconds": options.seconds, "clients": [int(c) for c in options.clients.split(",")]}
    results = Results(rounds=scope["rounds"], seconds=scope["seconds"])
    failed = []
    for part in options.parts or PARTS:
        try:
            PARTS[part](results, scope)
        except Exception as error:
            results.lacks(f"{part} (failed)", error)
            failed.append(part)
    if options.json:
        results.write(options.json)
    results.end(failed, options.check)


if __name__ == "__main__":
    main()
