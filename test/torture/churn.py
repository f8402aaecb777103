#!/usr/bin/python3
"""Random work on leases and tasks, random deaths, and a check of what everybody saw.

    test/torture/churn.py [--seconds N] [--seed N] [--clients N] [--keep DIRECTORY]

"make torture" starts this on a throw-away cluster with fsync on.  Clients, a process
with an agent each, take leases and tasks, end them, let them run out, roll back, and
write down what they asked and were told (history.py).  Meanwhile clients are killed,
connections cut, the worker ended, and the server crashed and restarted; a watcher
looks for what should have ended and has not.  In the end somebody drains the queues,
and all that was seen is checked.  The seed decides what is tried, not how it falls
out: processes race.  --keep leaves the histories in DIRECTORY.

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
from common import connect_at_last, rows

KEYS = [f"key {n}" for n in range(20)]
QUEUES = ("churn", "churn", "churn", "narrow")
REFUSALS = ("55000", "55P03")
STUCK_AFTER = "1 s"


class Lost(Exception):
    """The connection is gone."""


class Refused(Exception):
    """The call gave an error that it may give."""


class Client:
    """A process with an agent, which does at random whatever an agent can do."""

    def __init__(self, number, incarnation, kind, directory, seed):
        self.random = random.Random(f"{seed} {number} {incarnation}")
        self.kind = kind
        self.name = f"churn {number}.{incarnation}"
        self.file = open(f"{directory}/client-{number}.{incarnation}.jsonl", "w")
        # half of those that are started anew are the agent that was killed
        self.agent_name = f"client {number}" if self.random.random() < 0.5 and kind != "attached" else self.name
        self.timeout = {"short": random.Random(number).uniform(0.3, 1), "auto": 3}.get(kind, 3600)
        self.calls = self.connections = 0
        self.agent = self.connection = self.pending = None
        self.beat_at = 0
        self.leases, self.claims, self.tasks = {}, {}, []

    # What is written down

    def write(self, **record):
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def settle(self, n, outcome, result=None, learn=None, error=None):
        self.write(n=n, outcome=outcome, done=time.time(), result=result, error=error)
        if outcome == "ok" and learn:
            learn(result)

    def call(self, op, sql, arguments, learn=None, row=lambda found: found[0][0] if found else None, **asked):
        """One call of the server, whose outcome is known at once, or else when the
        transaction ends.  Returns what "row" makes of the rows."""
        self.calls += 1
        n = self.calls
        self.write(n=n, at=time.time(), op=op, agent=self.agent, asked=asked,
                   connection=f"{self.name}/{self.connections}")
        try:
            result = row(rows(self.connection, sql, *arguments))
        except psycopg2.Error as error:
            self.fail(n, error)
        if self.pending is None:
            self.settle(n, "ok", result, learn)
        else:
            self.pending.append((n, result, learn))
        return result

    def fail(self, n, error):
        """The call, and what came before it in its transaction, did not happen;
        outside of a transaction nobody knows, when the connection broke."""
        text = f"{error.pgcode}: {str(error).strip()}"
        if common.was_lost(self.connection, error):
            self.settle(n, "unknown" if self.pending is None else "undone", error=text)
            self.settle_pending("undone")
            raise Lost from error
        self.settle(n, "refused" if error.pgcode in REFUSALS else "unexpected", error=text)
        raise Refused from error

    def settle_pending(self, outcome):
        for n, result, learn in self.pending or []:
            self.settle(n, outcome, result, learn)
        self.pending = None

    def transaction(self):
        """A few calls, which are committed or not."""
        try:
            rows(self.connection, "BEGIN")
        except psycopg2.Error as error:
            raise Lost from error
        self.pending = []
        try:
            for _ in range(self.random.randint(1, 4)):
                self.step()
                time.sleep(self.random.choice((0, 0, 0.01, 0.04)))
            commit = self.random.random() < 0.7
        except Refused:
            commit = False
        try:
            rows(self.connection, "COMMIT" if commit else "ROLLBACK")
        except psycopg2.Error as error:
            # asked to commit, the server may have done it
            self.settle_pending("unknown" if commit else "undone")
            raise Lost from error
        self.settle_pending("ok" if commit else "undone")

    # Its life

    def run(self, until):
        while time.time() < until:
            try:
                self.connection = connect_at_last(self.name)
                self.connections += 1
                self.pending = None
                self.register()
                while time.time() < until:
                    self.live()
            except Lost:
                time.sleep(0.02)
            except Refused:             # its name is just being changed
                time.sleep(0.05)

    def live(self):
        try:
            self.beat()
            self.transaction() if self.random.random() < 0.3 else self.step()
        except Refused:
            pass
        time.sleep(self.random.uniform(0, 0.02))

    def beat(self):
        """Some stop beating for a while, and are inactive."""
        if self.kind == "short" and self.random.random() < 0.02:
            time.sleep(self.timeout * 1.5)
        if time.time() > self.beat_at + self.timeout / 3:
            self.heartbeat()

    def heartbeat(self):
        self.beat_at = time.time()
        self.call("agent_heartbeat", "SELECT id FROM coord.agent_heartbeat(%s)", [self.agent])

    def register(self):
        self.beat_at = time.time()
        self.agent = self.call("agent_register", "SELECT id FROM coord.agent_register(%s, heartbeat_timeout => %s)",
                               [self.agent_name, f"{self.timeout} s"], name=self.agent_name)
        if self.kind == "attached":
            # when it ends, so does the agent: what it knew of is lost
            self.leases, self.claims = {}, {}
            self.call("agent_attach", "SELECT coord.agent_attach(%s)::text", [self.agent])

    def step(self):
        does = self.random.choices(*zip(*(
            (self.acquire, 14), (self.renew_lease, 5), (self.release_lease, 6), (self.assert_lease, 3),
            (self.create, 14), (self.claim, 18), (self.renew_claim, 5), (self.complete, 14), (self.fail_task, 4),
            (self.release_claim, 3), (self.cancel, 1), (self.retire, 0.2))))[0]
        does()

    def some(self, held):
        return self.random.choice(list(held.items())) if held else None

    def ttl(self):
        return self.random.choice((0.1, 0.3, 0.7, 2))

    # Leases

    def acquire(self):
        key, ttl = self.random.choice(KEYS), self.ttl()
        auto = self.kind == "auto" and self.random.random() < 0.5
        wait = self.random.choice((0, 0.05, 0.2))
        mine = next((lease for lease, of in self.leases.items() if of == key), None)

        def learn(lease):
            if lease and not lease["task"]:
                self.leases[lease["lease"]] = key

        self.call("lease_acquire", f"""SELECT id, fencing_token, extract(epoch FROM acquired_at)::float8,
                extract(epoch FROM expires_at)::float8, task_id
            FROM coord.lease_acquire(%s, %s, ttl => %s, auto_renew => %s, max_hold => %s
            {', wait => %s' if wait else ''})""",
                  [key, self.agent, f"{ttl} s", auto, "3 s" if auto else None] + ([f"{wait} s"] if wait else []),
                  learn, lambda found: dict(zip(("lease", "token", "since", "until", "task"), found[0])) if found else None,
                  key=key, ttl=ttl, lease=mine, auto=auto, wait=wait)

    def renew_lease(self):
        if chosen := self.some(self.leases):
            lease, key = chosen
            ttl = self.ttl()
            self.call("lease_renew", "SELECT extract(epoch FROM expires_at)::float8 FROM coord.lease_renew(%s, %s)",
                      [lease, f"{ttl} s"], row=lambda found: {"until": found[0][0]}, key=key, lease=lease, ttl=ttl)

    def release_lease(self):
        if chosen := self.some(self.leases):
            lease, key = chosen
            self.call("lease_release", "SELECT coord.lease_release(%s)", [lease],
                      lambda _: self.leases.pop(lease, None), key=key, lease=lease)

    def assert_lease(self):
        """It holds whether or not the lease is still held: refused, if not."""
        if chosen := self.some(self.leases):
            lease, key = chosen
            self.call("lease_assert", """SELECT coord.lease_assert(%s, fencing_token) FROM coord.lease
                WHERE resource_key = %s AND id = %s""", [key, key, lease], row=len, key=key)

    # Tasks

    def create(self):
        depends_on = self.random.sample(self.tasks[-20:], 1) if self.tasks and self.random.random() < 0.2 else None
        later = self.random.choice((0, 0, 0, 0.2, 1))
        key = self.random.choice(KEYS) if self.random.random() < 0.2 else None
        self.call("task_create", """SELECT id FROM coord.task_create('t', queue => %s, priority => %s,
                run_at => clock_timestamp() + %s, depends_on => %s::uuid[], resource_key => %s)""",
                  [self.random.choice(QUEUES), self.random.randint(0, 2), f"{later} s", depends_on, key],
                  lambda task: self.tasks.append(task), depends_on=depends_on, later=later, key=key)

    def claim(self):
        ttl = self.ttl()

        def learn(claims):
            for claim in claims:
                self.claims[claim["task"]] = claim["token"]

        names = ("task", "token", "since", "until", "lease", "key", "agent_until")
        self.call("task_claim", """SELECT t.id, t.fencing_token, extract(epoch FROM t.claimed_at)::float8,
                extract(epoch FROM t.lease_expires_at)::float8, t.lease_id, t.resource_key,
                extract(epoch FROM a.last_heartbeat_at + a.heartbeat_timeout)::float8
            FROM coord.task_claim(%s, %s, lease_ttl => %s, max_tasks => %s) t JOIN coord.agent a ON a.id = %s""",
                  [self.agent, self.random.choice(QUEUES), f"{ttl} s", self.random.choice((1, 1, 3)), self.agent],
                  # one that has run out by the time that its row is read comes without a token
                  learn, lambda found: [dict(zip(names, row)) for row in found if row[1] is not None], ttl=ttl)

    def end_claim(self, op, sql, *arguments):
        """With a claim that it has, or had."""
        if chosen := self.some(self.claims):
            task, token = chosen
            try:
                self.call(op, sql, [task, token, *arguments], lambda _: self.claims.pop(task, None),
                          task=task, token=token)
            except Refused:
                self.claims.pop(task, None)
                raise

    def renew_claim(self):
        if chosen := self.some(self.claims):
            task, token = chosen
            ttl = self.ttl()
            self.call("task_renew", """SELECT extract(epoch FROM lease_expires_at)::float8
                FROM coord.task_renew(%s, %s, %s)""", [task, token, f"{ttl} s"],
                      row=lambda found: {"until": found[0][0]}, task=task, token=token, ttl=ttl)

    def complete(self):
        self.end_claim("task_complete", "SELECT state FROM coord.task_complete(%s, %s)")

    def fail_task(self):
        self.end_claim("task_fail", "SELECT state FROM coord.task_fail(%s, %s, 'bad luck', %s)",
                       self.random.choice((None, "0 s", "300 ms")))

    def release_claim(self):
        self.end_claim("task_release", "SELECT state FROM coord.task_release(%s, %s)")

    def cancel(self):
        if self.tasks:
            task = self.random.choice(self.tasks[-10:])
            self.call("task_cancel", "SELECT state FROM coord.task_cancel(%s)", [task], task=task)

    def retire(self):
        """Ends the agent, and begins it anew."""
        if self.pending is None and self.kind != "attached":
            self.call("agent_retire", "SELECT status FROM coord.agent_retire(%s)", [self.agent])
            self.register()


class Watcher:
    """Looks for what should have ended: by what a row says, more than a second ago,
    while the worker has been up for more than a second."""

    SQL = f"""
        SELECT 'lease' AS what, id::text, now() - expires_at AS late FROM coord.lease_data
            WHERE ended_at IS NULL AND expires_at < now() - interval '{STUCK_AFTER}'
        UNION ALL SELECT 'claim', id::text, now() - lease_expires_at FROM coord.task_live
            WHERE state = 'claimed' AND lease_expires_at < now() - interval '{STUCK_AFTER}'
        UNION ALL SELECT 'claim of an inactive agent', t.id::text, now() - a.inactive_since
            FROM coord.task_live t JOIN coord.agent_data a ON a.id = t.agent_id
            WHERE t.state = 'claimed' AND a.inactive_since < now() - interval '{STUCK_AFTER}'
        UNION ALL SELECT 'agent', d.id::text, now() - (a.last_heartbeat_at + a.heartbeat_timeout)
            FROM coord.agent_data d JOIN coord.agent a USING (id)
            WHERE d.inactive_since IS NULL AND d.retired_at IS NULL
                AND a.last_heartbeat_at + a.heartbeat_timeout < now() - interval '{STUCK_AFTER}'"""

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
        stuck = rows(connection, self.SQL) if up else []
        # one and the same worker, before and after
        valid = bool(up) and rows(connection, "SELECT started_at FROM coord.worker WHERE pid IS NOT NULL") == up
        self.file.write(json.dumps({"at": began, "valid": valid, "stuck": [
            [what, name, late.total_seconds()] for what, name, late in stuck] if valid else []}) + "\n")
        self.file.flush()


class Killer(common.Killer):
    DECK = {"kill_client": 4, "cut_connection": 4, "end_worker": 2, "crash_worker": 1, "crash_backend": 1,
            "restart_server": 1}

    def __init__(self, crew, rng):
        super().__init__(rng, "churn ")
        self.crew = crew

    def look_after(self):
        self.crew.restart_the_dead()

    def kill_client(self):
        os.kill(self.random.choice(list(self.crew.processes.values())).pid, signal.SIGKILL)
        return True

    def end_worker(self):
        return common.ask("SELECT pg_terminate_backend(pid) FROM coord.worker WHERE pid IS NOT NULL")

    def crash_worker(self):
        return self.crash("SELECT pid FROM coord.worker WHERE pid IS NOT NULL")


class Crew:
    """The client processes."""

    KINDS = ("steady", "short", "auto", "attached")

    def __init__(self, size, directory, seed, until):
        self.arguments = (directory, seed)
        self.until = until
        self.incarnations = Counter()
        self.failed = 0                 # those that ended in a way that nobody intended
        self.processes = {}
        for number in range(size):
            self.start(number)

    def start(self, number):
        self.incarnations[number] += 1
        client = (number, self.incarnations[number], self.KINDS[number % len(self.KINDS)], *self.arguments)
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
    for queue, most in (("churn", 0), ("narrow", 3)):
        rows(db, """SELECT name FROM coord.queue_set(%s, max_attempts => 6, backoff_base => '50 ms',
            backoff_max => '500 ms', max_claimed => %s)""", queue, most)
    db.close()


def drain(seconds=60):
    """Does all that is left to be done.  Returns what then still is not at its end."""
    db = connect_at_last("drain")
    agent = rows(db, "SELECT id FROM coord.agent_register('drain', heartbeat_timeout => '1 h')")[0][0]
    limit = time.time() + seconds
    while (found := rows(db, common.LEFT_OVER)) and time.time() < limit:
        for queue in sorted(set(QUEUES)):
            for claim in rows(db, "SELECT id, fencing_token FROM coord.task_claim(%s, %s, max_tasks => 100)",
                              agent, queue):
                rows(db, "SELECT state FROM coord.task_complete(%s, %s)", *claim)
        time.sleep(0.1)
    db.close()
    return found


def check_watch(directory, violations, deeds):
    """One violation for each thing that was stuck; returns how many looks counted."""
    looks = [look for look in histories.read_lines(f"{directory}/watch.jsonl") if look["valid"]]
    stuck = {}
    for look in looks:
        for what, name, late in look["stuck"]:
            stuck.setdefault((what, name), []).append((look["at"], late))
    for (what, name), seen in stuck.items():
        before = [f"{at:.3f} {deed}" for at, deed in deeds if seen[0][0] - 5 < at < seen[-1][0]]
        violations.add(f"{what} {name} stuck: {seen[0][1]:.3f} s late at {seen[0][0]:.3f}, "
                       f"{seen[-1][1]:.3f} s at {seen[-1][0]:.3f}", *before)
    return len(looks)


def check_database(history, violations, happened):
    db = connect_at_last("check")
    tasks = {}
    for task, *state_and_token in rows(db, "SELECT id, state, fencing_token FROM coord.task"):
        tasks.setdefault(task, []).append(tuple(state_and_token))
    histories.check_tasks(history, tasks, violations)
    announced = dict(rows(db, """SELECT payload->>'lease_id', count(*)::int FROM coord.event
        WHERE type = 'lock.expired' GROUP BY 1"""))
    histories.check_expiries(history, announced, violations)
    for event, n in rows(db, "SELECT id, count(*) FROM coord.event GROUP BY id HAVING count(*) > 1"):
        violations.add(f"event {event} is there {n} times")
    happened.update(dict(rows(db, "SELECT type, count(*)::int FROM coord.event GROUP BY type")))
    happened.update({f"{state} tasks": n for state, n in Counter(
        state for found in tasks.values() for state, _ in found).items()})


def check_all(directory, deeds, left, failed_clients):
    violations = histories.Violations()
    history = histories.History(histories.load(directory))
    for row in left:
        violations.add(f"after the drain there is the {' '.join(row)}")
    if failed_clients:
        violations.add(f"{failed_clients} of our own processes failed")
    for check in (histories.check_errors, histories.check_leases, histories.check_claims, histories.check_tokens,
                  histories.check_completions):
        check(history, violations)
    happened = histories.counts(history)
    happened.update(Counter(deed for _, deed in deeds))
    happened["looks"] = check_watch(directory, violations, deeds)
    check_database(history, violations, happened)
    common.check_log(violations)
    return violations, happened


def least(seconds):
    """How often what makes a run worth something is to happen."""
    often = ["lease_acquire", "lease_renew", "lease_release", "lease_assert", "task_create", "task_claim",
             "task_renew", "task_complete", "task_fail", "task_release", "depends_on", "resource_key", "run_at",
             "refused", "undone", "lock.expired", "task.requeued", "looks", "agent_attach", "waited"]
    seldom = ["task_cancel", "agent_retire", "unknown", "agent.inactive", "dead tasks", "cancelled tasks",
              *Killer.DECK]
    return {**{name: seconds / 3 for name in often}, **{name: 1 for name in seldom}}


def torture(options, directory):
    prepare()
    until = time.time() + options.seconds
    watcher = Process(target=lambda: Watcher(directory).run(until + 3))
    watcher.start()
    crew = Crew(options.clients, directory, options.seed, until)
    killer = Killer(crew, random.Random(options.seed))
    killer.run(until)
    crew.join()
    watcher.join()
    violations, happened = check_all(directory, killer.deeds, drain(), crew.failed + (watcher.exitcode != 0))
    return common.report(options, happened, least(options.seconds), violations)


def main():
    parser = common.parser(__doc__, 10)
    parser.add_argument("--keep", metavar="DIRECTORY", help="leave the histories there")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
        sys.exit(torture(options, options.keep))
    with tempfile.TemporaryDirectory() as directory:
        sys.exit(torture(options, directory))


if __name__ == "__main__":
    main()
