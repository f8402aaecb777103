#!/usr/bin/python3
"""Random work on leases and tasks, nemeses, and a check of what everybody saw.

    test/torture/churn.py [--nemesis plain|disk|clock|failover] [--seconds N] [--seed N]
                          [--clients N] [--keep DIRECTORY]

torture.py starts this; it makes its own cluster, within the environment of with-cluster.
Clients (client.py), a process with an agent each, take leases and tasks, end them, let them
run out, roll back, write rows that a lease guards, and write down what they asked and were
told (history.py).  Meanwhile the nemesis (nemesis.py) kills and pauses clients, backends, the
worker and the server, cuts and stalls connections (proxy.py), and fills the disk, steps
the clock, or lets a standby take over; a watcher looks for what should have ended and has
not, and for what is shown and is not true.  In the end somebody drains the queues, and all
that was seen is checked: spans of time by history.py, the calls on each lease and each task
by linear.py.  The seed decides what is tried, not how it falls out: processes race.
--keep leaves the histories in DIRECTORY.

Ends with status 1 on any violation, and when some kind of thing hardly happened.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import Process

import psycopg2

import common
import history as histories
import objects
from client import KEYS, QUEUES, Client
from clocks import SteppedClock, TrueClock
from cluster import Cluster, with_small_disk
from common import AGENT_ENDS_AT, connect_at_last, rows
from nemesis import KILLERS
from proxy import Proxy

# of servers that check more, and are slower, the tests ask for more patience
STUCK_AFTER = max(1, int(os.environ.get("PG_TEST_TIMEOUT_DEFAULT", 0)) // 60)     # seconds


class Watcher:
    """Looks for what should have ended: by what a row says, more than a second ago,
    while the worker has been up for more than a second.  And for what is shown and is
    not true at the instant of reading."""

    SQL = f"""
        SELECT 'lease' AS what, id::text, now() - expires_at AS late FROM coord.lease_data
            WHERE ended_at IS NULL AND expires_at < now() - interval '{STUCK_AFTER} s'
        UNION ALL SELECT 'claim', id::text, now() - lease_expires_at FROM coord.task_live
            WHERE state = 'claimed' AND lease_expires_at < now() - interval '{STUCK_AFTER} s'
        UNION ALL SELECT 'claim of an inactive agent', t.id::text, now() - a.inactive_since
            FROM coord.task_live t JOIN coord.agent_data a ON a.id = t.agent_id
            WHERE t.state = 'claimed' AND a.inactive_since < now() - interval '{STUCK_AFTER} s'
        UNION ALL SELECT 'agent', d.id::text, now() - {AGENT_ENDS_AT}
            FROM coord.agent_data d JOIN coord.agent a USING (id)
            WHERE d.inactive_since IS NULL AND d.retired_at IS NULL AND {AGENT_ENDS_AT} < now() - interval '{STUCK_AFTER} s'"""

    # What is locked, by who is paused in a transaction, say, nobody can end; the time that it may
    # take counts from then on.
    ROWS = {"lease": "coord.lease_data", "claim": "coord.task_live", "claim of an inactive agent": "coord.task_live",
            "agent": "coord.agent_data"}

    # what had ended when this was asked, or, the other way about, ends after the answer
    SHOWN = f"""
        SELECT 'lease is ' || state, id::text, extract(epoch FROM expires_at)::float8, state = 'active'
            FROM coord.lease WHERE state IN ('active', 'expired')
        UNION ALL SELECT 'claim is ' || state, id::text, extract(epoch FROM lease_expires_at)::float8, true
            FROM coord.task_unfinished WHERE state = 'claimed'
        UNION ALL SELECT 'agent is ' || status, id::text,
            extract(epoch FROM {AGENT_ENDS_AT})::float8, true
            FROM coord.agent a JOIN coord.agent_data d USING (id) WHERE status = 'active' AND d.attachment IS NULL"""

    def __init__(self, directory):
        self.file = open(f"{directory}/watch.jsonl", "w")

    def run(self, until):
        connection = connect_at_last("watcher")
        while time.time() < until:
            try:
                self.look(connection)
            except psycopg2.Error:
                connection = connect_at_last("watcher")
            time.sleep(0.1)

    def look(self, connection):
        began = time.time()
        up = rows(connection, "SELECT started_at FROM coord.worker WHERE pid IS NOT NULL "
                              "AND started_at < now() - interval '1 s'")
        stuck, locked = [], []
        for what, name, late in rows(connection, self.SQL) if up else []:
            found = stuck if self.is_free(connection, what, name) else locked
            found.append([what, name, late.total_seconds()])
        # one and the same worker, before and after
        valid = bool(up) and rows(connection, "SELECT started_at FROM coord.worker WHERE pid IS NOT NULL") == up
        self.file.write(json.dumps({"at": began, "valid": valid, "stuck": stuck if valid else [],
                                    "locked": locked, "untrue": self.untrue(connection)}) + "\n")
        self.file.flush()

    def is_free(self, connection, what, name):
        return rows(connection, f"SELECT 1 FROM {self.ROWS[what]} WHERE id = %s FOR UPDATE SKIP LOCKED", name)

    def untrue(self, connection):
        began = time.time() - 1e-5
        shown = rows(connection, self.SHOWN)
        ended = time.time() + 1e-5
        return [[what, name, until] for what, name, until, lives in shown
                if (until < began if lives else until > ended)]


class Crew:
    """The client processes."""

    KINDS = ("steady", "short", "auto", "attached")

    def __init__(self, size, directory, seed, until, hosts):
        self.arguments = (directory, seed)
        self.hosts = hosts              # where they connect to, by turns
        self.until = until
        self.incarnations = Counter()
        self.failed = 0                 # those that ended in a way that nobody intended
        self.processes = {}
        for number in range(size):
            self.start(number)

    def start(self, number):
        self.incarnations[number] += 1
        client = (number, self.incarnations[number], self.KINDS[number % len(self.KINDS)], *self.arguments,
                  self.hosts[number // len(self.KINDS) % len(self.hosts)])
        self.processes[number] = Process(target=lambda: Client(*client).run(self.until))
        self.processes[number].start()

    def restart_the_dead(self):
        for number, process in list(self.processes.items()):
            if not process.is_alive() and time.time() < self.until:
                self.bury(process)
                self.start(number)

    def bury(self, process):
        process.join(90)
        self.failed += process.exitcode not in (0, -signal.SIGKILL)

    def join(self):
        for process in self.processes.values():
            self.bury(process)
            process.kill()


def prepare():
    db = connect_at_last("churn")
    rows(db, "CREATE EXTENSION IF NOT EXISTS coord")
    rows(db, """CREATE SCHEMA torture
        CREATE TABLE guarded (key text PRIMARY KEY, token bigint, n bigint)
        CREATE TABLE fenced (key text PRIMARY KEY, token bigint, n bigint)""")
    for table in ("guarded", "fenced"):
        rows(db, f"INSERT INTO torture.{table} SELECT unnest(%s), 0, 0", KEYS)
    rows(db, """CREATE TRIGGER fence BEFORE UPDATE ON torture.fenced FOR EACH ROW
        EXECUTE FUNCTION coord.fence('key', 'token')""")
    for queue, most, attempts in (("churn", 0, 6), ("narrow", 3, 2)):
        rows(db, """SELECT name FROM coord.queue_set(%s, max_claimed => %s, max_attempts => %s,
            backoff_base => '50 ms', backoff_max => '500 ms')""", queue, most, attempts)
    db.close()


def drain(seconds=60):
    """Does all that is left to be done.  Returns what then still is not at its end."""
    db = connect_at_last("drain")
    rows(db, "SELECT pg_reload_conf()")     # wakes a worker that sleeps by a clock which has been set since
    agent = rows(db, "SELECT id FROM coord.agent_register('drain', heartbeat_timeout => '10 days')")[0][0]
    limit = time.time() + seconds
    while (found := rows(db, common.LEFT_OVER)) and time.time() < limit:
        for queue in sorted(set(QUEUES)):
            for claim in rows(db, """SELECT id, fencing_token FROM coord.task_claim(%s, %s, max_tasks => 100,
                    lease_ttl => '60 s')""", agent, queue):
                rows(db, "SELECT state FROM coord.task_complete(%s, %s)", *claim)
        time.sleep(0.1)
    db.close()
    return found


def is_within(at, spans, before=0, after=0):
    return any(since - before <= at <= until + after for since, until in spans)


def check_watch(directory, spans, violations):
    """One violation for each thing that was stuck while nobody was held up, or was shown and
    not true; returns how many looks counted."""
    looks = [look for look in histories.read_lines(f"{directory}/watch.jsonl")]
    # when the machine stood still, the worker did, too
    spans = spans + [(last["at"], next_one["at"]) for last, next_one in zip(looks, looks[1:])
                     if next_one["at"] - last["at"] > 1]
    stuck, locked, counted = {}, {}, 0
    for look in looks:
        locked.update({(what, name): look["at"] for what, name, _ in look["locked"]})
        if look["valid"] and not is_within(look["at"], spans, 0.5, 2):
            counted += 1
            for what, name, late in look["stuck"]:
                if look["at"] - locked.get((what, name), float("-inf")) > STUCK_AFTER:
                    stuck.setdefault((what, name), []).append((look["at"], late))
        for what, name, until in look["untrue"]:
            violations.add(f"{what}, until {until:.6f}, and so it is shown at {look['at']:.6f}: {name}")
    for (what, name), seen in stuck.items():
        violations.add(f"{what} {name} stuck: {seen[0][1]:.3f} s late at {seen[0][0]:.3f}, "
                       f"{seen[-1][1]:.3f} s at {seen[-1][0]:.3f}")
    return counted


def check_database(history, run, violations, happened):
    db = connect_at_last("check")
    tasks = {}
    for task, *state_and_token in rows(db, "SELECT id, state, fencing_token FROM coord.task"):
        tasks.setdefault(task, []).append(tuple(state_and_token))
    histories.check_tasks(history, tasks, violations)
    announced = dict(rows(db, """SELECT payload->>'lease_id', count(*)::int FROM coord.event
        WHERE type = 'lock.expired' GROUP BY 1"""))
    if run.clock_is_true:
        histories.check_expiries(history, announced, violations)
    for event, n in rows(db, "SELECT id, count(*) FROM coord.event GROUP BY id HAVING count(*) > 1"):
        violations.add(f"event {event} is there {n} times")
    for task, attempts in rows(db, "SELECT id, attempts FROM coord.task "
                                   "WHERE attempts NOT BETWEEN 0 AND max_attempts"):
        violations.add(f"task {task} has {attempts} attempts")
    happened.update(dict(rows(db, "SELECT type, count(*)::int FROM coord.event GROUP BY type")))
    happened.update({f"{state} tasks": n for state, n in Counter(
        state for found in tasks.values() for state, _ in found).items()})
    return {task: found[0] for task, found in tasks.items()}


class Run:
    """One run on a cluster of some kind, and what is to be said of it."""

    def __init__(self, options, directory):
        self.options, self.directory = options, directory
        self.kind, self.seed = options.nemesis, options.seed
        self.clock_is_true = self.kind != "clock"

    def run(self):
        with tempfile.TemporaryDirectory(dir=os.environ.get("COORD_WORK")) as place, Cluster(
                place, self.directory, self.kind, fsync=self.options.seconds >= 60) as cluster:
            prepare()
            proxies = [Proxy(f"{place}/p{n}", server.socket, f"{self.seed} {n}")
                       for n, server in enumerate(cluster.servers)]
            for proxy in proxies:
                proxy.start()
            try:
                self.work(cluster, proxies)
            finally:
                for proxy in proxies:
                    proxy.stop()
            left = drain()
            return self.check(left)

    def work(self, cluster, proxies):
        until = time.time() + self.options.seconds
        watcher = Process(target=lambda: Watcher(self.directory).run(until + 3))
        if self.clock_is_true:
            watcher.start()
        # every second lot of clients is behind the proxies
        hosts = [",".join(proxy.directory for proxy in proxies), None]
        crew = Crew(self.options.clients, self.directory, self.seed, until, hosts)
        self.killer = KILLERS[self.kind](crew, cluster, proxies, random.Random(self.seed))
        try:
            self.killer.run(until)
        finally:
            self.killer.end()
            crew.join()
        self.failed = crew.failed
        if self.clock_is_true:
            watcher.join()
            self.failed += watcher.exitcode != 0

    def check(self, left):
        violations = histories.Violations()
        history = histories.History(histories.load(self.directory), self.killer.restarts)
        for row in left:
            violations.add(f"after the drain there is the {' '.join(row)}")
        if self.failed:
            violations.add(f"{self.failed} of our own processes failed")
        checks = [histories.check_errors, histories.check_tokens, histories.check_grants, histories.check_completions,
                  histories.check_writes]
        if self.clock_is_true:
            checks += [histories.check_leases, histories.check_claims]
        for check in checks:
            check(history, violations)
        happened = histories.counts(history)
        happened.update(Counter(deed for _, deed in self.killer.deeds))
        if self.clock_is_true:
            happened["looks"] = check_watch(self.directory, self.killer.spans, violations)
        tasks = check_database(history, self, violations, happened)
        spans = [(since - 1, until + 2) for since, until in self.killer.spans + self.killer.stalls]
        clock = TrueClock() if self.clock_is_true else SteppedClock(self.killer.steps)
        of_objects = objects.Objects(history, spans, clock)
        of_objects.end(tasks, time.time())
        objects.check(of_objects, violations, happened)
        common.check_log(violations, common.of_full_disk() if self.kind == "disk" else lambda line: False)
        return common.report(self.options, happened, self.least(), violations)

    def least(self):
        """How often what makes a run worth something is to happen."""
        long = self.options.seconds >= 60
        often = ["lease_acquire", "lease_renew", "lease_release", "lease_assert", "guarded_write", "fenced_write",
                 "task_create", "task_claim", "task_renew", "task_complete", "task_fail", "task_release",
                 "resource_key", "run_at", "refused", "undone", "task.requeued"]
        seldom = ["depends_on", "lock.expired", "agent_attach", "waited", "unknown", "lease histories",
                  "task histories"]
        deeds = list(KILLERS[self.kind].DECK)
        seldom += ["task_cancel", "agent_retire", "agent.inactive", "dead tasks", "cancelled tasks",
                   *(deeds if self.kind == "plain" else deeds[:1])]
        if self.clock_is_true:
            seldom += ["looks"]
        if not long:
            often = ["lease_acquire", "task_create", "task_claim", "task_complete", "refused"]
            seldom = ["lease histories"]
        return {**{name: self.options.seconds / 10 for name in often}, **{name: 1 for name in seldom}}


def main():
    parser = common.parser(__doc__, 10)
    parser.add_argument("--nemesis", choices=KILLERS, default="plain")
    parser.add_argument("--keep", metavar="DIRECTORY", help="leave the histories there")
    options = parser.parse_args()
    if options.nemesis == "disk" and "TORTURE_DISK" not in os.environ:
        os.environ["TORTURE_DISK"] = disk = tempfile.mkdtemp()
        command = with_small_disk(disk, sys.executable, *sys.argv, "--seed", str(options.seed))
        os.execvp(command[0], command)
    print(f"seed {options.seed}", flush=True)
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
        sys.exit(Run(options, options.keep).run())
    with tempfile.TemporaryDirectory() as directory:
        sys.exit(Run(options, directory).run())


if __name__ == "__main__":
    main()
