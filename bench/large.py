#!/usr/bin/python3
"""Whether it stays quick with millions of stored tasks and events.

    bench/large.py [--json FILE] [--check]

"make bench-large" starts this on a throw-away cluster.  It stores COORD_LARGE tasks that
wait, as many that have finished, a hundredth as many dead letters, and as many events
(10,000,000 unless it says otherwise, for which it takes 20 minutes), and a thousandth of
all that in another database, of which as many finished in the last hour; and times what
people, agents and monitors call, in turns.  Each figure is the median's ratio, of the
large one to the small.
"""

import argparse
import io
import os
import statistics
import time

from lib import Results, connect, fill_tasks, run, value, wait_for

LARGE = int(os.environ.get("COORD_LARGE", 10000000))
SMALL = max(1000, LARGE // 1000)
ROUNDS = 31
CHUNK = 100000

# what is called, with a task that waits, one that has finished, one that is dead, an agent and a position
CALLS = {
    "coord.queue": "SELECT * FROM coord.queue",
    "coord.queue, one": "SELECT * FROM coord.queue WHERE name = 'queue 1'",
    "queue_stats, of a minute": "SELECT * FROM coord.queue_stats(since => clock_timestamp() - interval '1 min')",
    "dashboard": "SELECT coord.dashboard()",
    "blocked_by": "SELECT coord.blocked_by(%(waiting)s)",
    "history": "SELECT * FROM coord.history(%(finished)s)",
    "coord.task, by id": "SELECT * FROM coord.task WHERE id = %(finished)s",
    "coord.dead_letter, by id": "SELECT * FROM coord.dead_letter WHERE id = %(dead)s",
    "task_list, pending": "SELECT * FROM coord.task_list('queue 1', 'pending')",
    "task_list, completed": "SELECT * FROM coord.task_list('queue 1', 'completed')",
    "task_list, of a new queue": "SELECT * FROM coord.task_list('new')",
    "task_list, of what no agent did": "SELECT * FROM coord.task_list(state => 'completed', agent_id => %(waiting)s)",
    "task_list, claimed": "SELECT * FROM coord.task_list(state => 'claimed')",
    "task_list, dead": "SELECT * FROM coord.task_list('queue 1', 'dead')",
    "event_list, from the middle": "SELECT * FROM coord.event_list(channel => 'bench', after => %(middle)s)",
    "event_poll": "SELECT * FROM coord.event_poll(%(agent)s)",
    "claim + complete": """SELECT coord.task_complete(id, fencing_token) FROM coord.task_claim(%(agent)s, 'queue 1')""",
    "task_create": "SELECT coord.task_create('bench', queue => 'queue 1')",
    "event_send": "SELECT coord.event_send('bench', channel => 'bench')",
}


def finish(db, number, lately, relation, state, more):
    """Stores tasks that have finished, in the order of time: some in the last hour, the others evenly over six days before it."""
    for first in range(1, number + 1, CHUNK):
        run(db, f"""INSERT INTO coord.{relation} (id, queue, type, payload, priority, state, run_at, attempts, max_attempts,
                agent_id, fencing_token, created_at, claimed_at, finished_at{', partition' if more else ''})
            SELECT coord.new_id(), 'queue ' || 1 + n %% 10, 'bench', jsonb_build_object('n', n), 0, %s, at - interval '2 s', 1, 5,
                (SELECT id FROM bench.agent LIMIT 1), n, at - interval '2 s', at - interval '1 s', at{more}
            FROM generate_series(%s, %s) n, LATERAL (SELECT %s - n AS later) l, LATERAL (SELECT clock_timestamp() -
                CASE WHEN later < %s THEN later / %s * interval '1 h' ELSE interval '1 h' + later / %s * interval '6 days' END AS at) t""",
            state, first, min(first + CHUNK - 1, number), number, lately, float(lately), float(number))


def send(db, number):
    """By COPY, as a restore does, of which the worker is told."""
    for first in range(1, number + 1, CHUNK):
        events = io.BytesIO()
        with db.cursor() as cursor:
            cursor.copy_expert(f"""COPY (SELECT coord.new_id(), 'bench', 'info', CASE WHEN n % 2 = 0 THEN 'bench' ELSE 'other ' || n % 100 END,
                jsonb_build_object('n', n), clock_timestamp() FROM generate_series({first}, {min(first + CHUNK - 1, number)}) n) TO STDOUT""", events)
            events.seek(0)
            cursor.copy_expert("COPY coord.event_inbox (id, type, severity, channel, payload, created_at) FROM STDIN", events)
        value(db, "SELECT coord.sweep()")  # else the worker rests as long as this session, which restores, is there
        wait_for(lambda: value(db, "SELECT NOT EXISTS (SELECT FROM coord.event_inbox)"), "delivery", 600)


def fill(name, number):
    began = time.monotonic()
    run(connect(), f"CREATE DATABASE {name}")
    db = connect(name)
    with open(os.path.dirname(os.path.abspath(__file__)) + "/sql/schema.sql") as schema:
        run(db, schema.read())
    fill_tasks(db, number, queues=10)
    # the same number in the last hour, which is what the dashboard and queue_stats are about
    finish(db, number, SMALL, "task_finished", "completed", ", 0")
    finish(db, number // 100, SMALL // 100, "task_dead", "dead", "")
    send(db, number)
    run(db, "SELECT coord.task_create('bench', queue => 'new')")
    run(db, "VACUUM ANALYZE")
    wait_for(lambda: value(db, "SELECT coalesce(bool_and(pending <= 10000 OR counted_at IS NOT NULL), true) FROM coord.queue"), "a count", 600)
    print(f"{number:,} tasks that wait, as many that have finished, and events: {time.monotonic() - began:.0f} s, "
          f"{value(db, 'SELECT pg_size_pretty(pg_database_size(current_database()))')}", flush=True)
    return db


def picked(db):
    """What the calls are about."""
    chosen = {key: value(db, sql) for key, sql in {
        "agent": "SELECT id FROM bench.agent LIMIT 1",
        "waiting": "SELECT id FROM coord.task_live ORDER BY id DESC LIMIT 1",
        "finished": "SELECT id FROM coord.task_finished ORDER BY id DESC LIMIT 1",
        "dead": "SELECT id FROM coord.task_dead ORDER BY id DESC LIMIT 1",
        "middle": "SELECT min(position) + count(*) / 2 FROM coord.event_log",
    }.items()}
    return {key: one if isinstance(one, int) else str(one) for key, one in chosen.items()}


def took(db, sql, chosen):
    began = time.perf_counter()
    with db.cursor() as cursor:
        cursor.execute(sql, chosen)
        cursor.fetchall()
    return 1000 * (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--check", action="store_true", help="end with status 1 when a goal is missed")
    options = parser.parse_args()

    results = Results(tasks=LARGE, rounds=ROUNDS)
    sides = [(db, picked(db)) for db in (fill("small", SMALL), fill("large", LARGE))]
    for call, sql in CALLS.items():
        times = [[], []]
        for _ in range(ROUNDS):
            for n, (db, chosen) in enumerate(sides):
                times[n].append(took(db, sql, chosen))
        small, large = (statistics.median(one[1:]) for one in times)    # the first one makes the session's plans
        results.figure(f"{call}: {SMALL:,}", small, "ms")
        results.figure(f"{call}: {LARGE:,}", large, "ms")
        results.figure(f"{call}: large / small", large / small, below=4)
    if options.json:
        results.write(options.json)
    results.end([], options.check)


if __name__ == "__main__":
    main()
