#!/usr/bin/python3
"""Random work on queues in rounds, and after each the proof that no task is stranded.

    test/torture/queues.py [--seconds N] [--seed N] [--clients N] [--no-restart]

"make torture-queue" starts this on a throw-away cluster.  A round has four parts:

    load    creators, claimers, leasers: transactions that commit, abort, roll back to a
            savepoint, or are prepared and decided later by somebody else, at all levels
            of isolation; connections are cut, the server is crashed and restarted
    drain   all is quiet: each next-claim must give the first of what is claimable; then
            several claimers, by next-claims alone, must leave nothing
    race    in the plain queue, sessions create, claim, and undo claims, and write down
            when: no claim may pass over what was there all the while
    order   all is quiet again: what several sessions have created comes in exact order

Every second round is a steady one: nothing is prepared, the server stays up, no table is
rewritten.  Each of these makes the ready rings know nothing, which heals whatever they
have missed, before the drain could find it.

What is said in "torture.created" and "torture.said" is said in the transaction of the
call that it is about, so it is there if and only if the call took effect: prepared,
crashed or not.  audit.py compares it with the tasks.  The seed decides what is tried,
not how it falls out.  A run ends with the round in which something was wrong, and
fails, too, when some kind of thing hardly happened.
"""

import json
import random
import sys
import time
import traceback
from collections import Counter
from datetime import datetime, timezone
from multiprocessing import Pool

import psycopg2

import audit
import common
from common import ask, connect_at_last, rows
from history import Violations

KEYS = [f"key {n}" for n in range(4)]
LIMITS = {"plain": None, "keyed": None, "narrow": 3, "few": 3, "paused": None}     # queue -> max_claimed
# How many of a queue's tasks have a resource.  Who holds one that others have met claims
# by a ring of its own, and finds what the shared one has lost: so there are queues with none.
WITH_KEY = {"keyed": 0.6, "narrow": 0.1, "paused": 0.1}
QUEUES = list(LIMITS)
LEVELS = ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
ENDINGS = {"single": 5, "commit": 2, "rollback": 2, "savepoint": 2, "prepare": 2}
REFUSALS = ("55000", "55P03", "P0002", "40001")
ROUND_LOAD = 3.5        # seconds

SETUP = """
    CREATE EXTENSION IF NOT EXISTS coord;
    CREATE SCHEMA torture;
    CREATE TABLE torture.created (id uuid PRIMARY KEY);
    CREATE TABLE torture.said (op text, task uuid, token bigint, agent uuid, queue text, key text, lease uuid,
        since timestamptz, until timestamptz, said_at timestamptz DEFAULT clock_timestamp())"""

# The first task that a next-claim must find: by the stored rows, since what has run out
# and is not put right yet may just be locked by the worker.
FIRST = """
    SELECT -priority, (extract(epoch FROM run_at) * 1000000)::bigint, t::text FROM coord.task_live t
    WHERE queue = %s AND state = 'pending' AND run_at <= clock_timestamp()
        AND NOT EXISTS (SELECT FROM coord.lease_data l WHERE l.resource_key = t.resource_key AND l.ended_at IS NULL)
        AND (queue NOT IN ('narrow', 'few')
            OR EXISTS (SELECT FROM coord.queue_slot s WHERE s.queue = t.queue AND s.task_id IS NULL))
    ORDER BY priority DESC, run_at LIMIT 1"""


# The calls, and what is said of them in the same statement

def register(db, name):
    return rows(db, "SELECT id FROM coord.agent_register(%s, heartbeat_timeout => '1 h')", name)[0][0]


def create(db, specs, many=True):
    """Creates tasks that are described as task_create_many has it; their ids."""
    if many:
        call, values = "coord.task_create_many(%s)", [json.dumps(specs)]
    else:
        casts = {"run_at": "timestamptz", "depends_on": "uuid[]"}
        call = ", ".join(f"{name} => %s::{casts.get(name, 'int' if isinstance(value, int) else 'text')}"
                         for name, value in specs[0].items())
        call, values = f"coord.task_create({call})", list(specs[0].values())
    return [id for id, in rows(db, f"""
        WITH c AS MATERIALIZED (SELECT {'id' if many else 'c.id'} FROM {call} {'id' if many else 'c'}),
            n AS (INSERT INTO torture.created SELECT id FROM c ON CONFLICT DO NOTHING RETURNING id)
        SELECT id FROM c""", *values)]


def claim(db, agent, queue, most, ttl, task=None):
    """Claims; rows of task, token and place in the queue's order.  What has run out by
    the time that it is read is not among them."""
    return [(task, token, (urgency, run_at)) for task, token, urgency, run_at in rows(db, """
        WITH c AS MATERIALIZED (
                SELECT * FROM coord.task_claim(%s, %s, max_tasks => %s, lease_ttl => %s, task_id => %s)),
            s AS (INSERT INTO torture.said SELECT 'claim', id, fencing_token, agent_id, queue, resource_key, lease_id,
                claimed_at, lease_expires_at FROM c WHERE state = 'claimed')
        SELECT id, fencing_token, -priority, (extract(epoch FROM run_at) * 1000000)::bigint FROM c
        WHERE state = 'claimed'""", agent, queue, most, f"{ttl} s", task)]


def end(db, op, task, token, retry_in=None):
    """Ends a claim by task_complete, task_fail or task_release."""
    return rows(db, f"""INSERT INTO torture.said (op, task, token, since) SELECT %s, id, %s, to_timestamp(%s)
        FROM coord.task_{op}(%s, %s{', retry_in => %s' if retry_in else ''}) RETURNING task""",
                op, token, time.time(), task, token, *[retry_in] * bool(retry_in))


def cancel(db, task):
    return rows(db, """INSERT INTO torture.said (op, task, since) SELECT 'cancel', id, to_timestamp(%s)
        FROM coord.task_cancel(%s) RETURNING task""", time.time(), task)


def retire(db, agent):
    return rows(db, """INSERT INTO torture.said (op, agent, since) SELECT 'retire', id, to_timestamp(%s)
        FROM coord.agent_retire(%s) RETURNING agent""", time.time(), agent)


def instant(seconds):
    return datetime.fromtimestamp(time.time() + seconds, timezone.utc).isoformat()


def work(spec):
    """What a process of the pool does in a part of a round."""
    part, rng, name, *arguments = spec
    db = connect_at_last(name, lock_timeout=500, statement_timeout=20000)
    try:
        return part(db, random.Random(rng), name, *arguments)
    finally:
        db.close()


# The load

class Client:
    """A process with an agent, which does at random what its role does."""

    ROLES = {
        "creator": {"create": 10, "cancel": 1, "pause": 1.5, "claim": 1},
        "claimer": {"claim": 8, "claim_named": 2, "complete": 9, "fail": 3, "release": 3, "cancel": 0.5,
                    "acquire": 1, "unlease": 1, "retire": 0.2},
        "leaser": {"acquire": 6, "unlease": 4, "claim": 2, "create": 1, "complete": 2, "retire": 1}}

    def __init__(self, db, rng, name, role, steady):
        self.db, self.random, self.name, self.steady = db, rng, name, steady
        self.role = self.ROLES[role]
        self.endings = {ending: n for ending, n in ENDINGS.items() if not (steady and ending == "prepare")}
        self.happened, self.failures = Counter(), []
        self.claims, self.leases, self.tasks = {}, [], []
        self.prepared = self.connections = 0

    def run(self, until):
        self.agent = None
        while time.time() < until:
            try:
                self.agent = self.agent or register(self.db, f"{self.name} {random.random()}")
                self.decide() if not self.steady and self.random.random() < 0.2 else self.transaction()
                time.sleep(self.random.uniform(0, 0.01))
            except psycopg2.Error as error:
                if common.was_lost(self.db, error):
                    self.reconnect()
        self.db.close()
        return self.happened, self.failures

    def reconnect(self):
        self.happened["connection lost"] += 1
        self.db.close()
        self.db = connect_at_last(self.name, lock_timeout=500, statement_timeout=20000)

    def decide(self):
        """Commits or rolls back what somebody has prepared."""
        for gid, in rows(self.db, "SELECT gid FROM pg_prepared_xacts ORDER BY random() LIMIT 1"):
            self.happened[decide(self.db, self.random, gid)] += 1

    def transaction(self):
        """A few deeds and their end.  What is known of claims is as that has it."""
        ending = self.random.choices(*zip(*self.endings.items()))[0]
        level = self.random.choice(LEVELS)
        before = self.known()
        self.did, self.alone = Counter(), ending == "single"
        try:
            if self.alone:
                self.deeds(1, ending)
            else:
                self.deeds_until(ending, level)
        except psycopg2.Error as error:
            self.claims, self.leases, self.tasks = before
            self.refuse(error)
            return
        if ending == "rollback":
            self.claims, self.leases, self.tasks = before
        elif not self.alone:
            self.did.update({f"{deed}, {level}": n for deed, n in self.did.items() if deed.startswith("claim, ")})
        self.happened.update(self.did)

    def known(self):
        return dict(self.claims), list(self.leases), list(self.tasks)

    def deeds_until(self, ending, level):
        rows(self.db, f"BEGIN ISOLATION LEVEL {level}")
        self.deeds(3, "commit" if ending == "savepoint" else ending)
        if ending == "savepoint":
            before = self.known()
            rows(self.db, "SAVEPOINT torture")
            self.deeds(2, ending)
            rows(self.db, "ROLLBACK TO torture")
            self.claims, self.leases, self.tasks = before
            if self.random.random() < 0.5:
                self.deeds(1, "commit")
        time.sleep(self.random.choice((0, 0, 0.02, 0.1)))
        self.prepared += 1
        rows(self.db, {"rollback": "ROLLBACK", "prepare": f"PREPARE TRANSACTION '{self.name} {self.prepared}'"}
             .get(ending, "COMMIT"))

    def deeds(self, most, ending):
        for _ in range(self.random.randint(1, most)):
            deed = self.random.choices(*zip(*self.role.items()))[0]
            if n := getattr(self, deed)():
                self.did[f"{deed}, {ending}" if deed in ("create", "claim", "complete") else deed] += n

    def refuse(self, error):
        if common.was_lost(self.db, error):
            raise error
        self.happened[error.pgcode] += 1
        if error.pgcode not in REFUSALS:
            self.failures.append(f"{error.pgcode}: {str(error).strip()}")
        if error.pgcode == "55000" and "agent" in str(error):
            self.agent = None           # somebody has retired it
        rows(self.db, "ROLLBACK")

    # Its deeds, each of which says how much of it has happened

    def create(self):
        n = self.random.choice((1, 1, 1, 1, 5, 20, 200))
        ids = create(self.db, [self.describe() for _ in range(n)], n > 1)
        self.tasks = (self.tasks + ids)[-300:]
        return len(ids)

    def describe(self):
        one_of = self.random.choice
        spec = {"type": "t", "queue": one_of(QUEUES), "priority": one_of((0, 1, 1, 2, self.random.randint(0, 20))),
                "max_attempts": one_of((2, 30))}
        if self.random.random() < 0.4:
            spec["run_at"] = instant(one_of((-10, self.random.uniform(0.05, 1.5))))
        if self.random.random() < 0.1:
            spec["unique_key"] = f"unique {self.random.randrange(10)}"
        if self.random.random() < WITH_KEY.get(spec["queue"], 0):
            spec["resource_key"] = one_of(KEYS)
        if self.tasks and self.random.random() < 0.1:
            spec["depends_on"] = [one_of(self.tasks)]
        return spec

    def claim(self, task=None):
        got = claim(self.db, self.agent, self.random.choice(QUEUES), self.random.choice((1, 1, 7, 50)),
                    self.random.choice((0.2, 0.7, 2)), task)
        self.claims.update({task: token for task, token, _ in got})
        return len(got)

    def claim_named(self):
        return self.claim(self.random.choice(self.tasks or list(self.claims))) if self.tasks or self.claims else 0

    def end(self, op, retry_in=None):
        """Some of its claims, mostly new ones, which have not run out."""
        for n in range(self.random.randint(1, 8)):
            if not self.claims:
                return n
            task = self.random.choice(list(self.claims)[-10:])
            self.tasks.append(task)
            end(self.db, op, task, self.claims.pop(task), retry_in)
        return n + 1

    def complete(self):
        return self.end("complete")

    def fail(self):
        return self.end("fail", self.random.choice((None, "0 s", "200 ms")))

    def release(self):
        return self.end("release")

    def cancel(self):
        return len(cancel(self.db, self.random.choice(self.tasks))) if self.tasks else 0

    def acquire(self):
        got = rows(self.db, """INSERT INTO torture.said (op, token, agent, key, lease, since, until)
            SELECT 'lease', fencing_token, agent_id, resource_key, id, acquired_at, expires_at
            FROM coord.lease_acquire(%s, %s, %s) RETURNING lease""",
                   self.random.choice(KEYS), self.agent, self.random.choice(("150 ms", "600 ms")))
        self.leases += [lease for lease, in got]
        return len(got)

    def unlease(self):
        if not self.leases:
            return 0
        lease = self.leases.pop(self.random.randrange(len(self.leases)))
        return len(rows(self.db, """INSERT INTO torture.said (op, lease, since)
            SELECT 'unlease', %s, to_timestamp(%s) WHERE coord.lease_release(%s) RETURNING op""",
                        lease, time.time(), lease))

    def retire(self):
        """Somebody's agent, whatever it is doing."""
        for agent, in rows(self.db, "SELECT id FROM coord.agent WHERE status = 'active' AND name LIKE 'torture %' "
                                    "ORDER BY random() LIMIT 1"):
            return len(retire(self.db, agent))

    def pause(self):
        rows(self.db, f"SELECT name FROM coord.queue_{self.random.choice(('pause', 'resume'))}('paused')")
        return 1


def load(db, rng, name, role, steady, until):
    return Client(db, rng, name, role, steady).run(until)


def decide(db, rng, gid):
    how = rng.choice(("COMMIT PREPARED", "ROLLBACK PREPARED"))
    try:
        rows(db, f"{how} '{gid}'")
    except psycopg2.errors.UndefinedObject:     # somebody else has
        pass
    return how


class Killer(common.Killer):
    DECK = {"cut_connection": 4, "crash_backend": 1, "vacuum": 1}
    PAUSE = (0.2, 0.8)

    def vacuum(self):
        """What is stored may move to where something else was."""
        ask("VACUUM coord.task_live")
        return True


class SteadyKiller(Killer):
    DECK = {"cut_connection": 4, "vacuum": 1}


class RestartingKiller(Killer):
    DECK = {"cut_connection": 7, "crash_backend": 1, "vacuum": 2, "restart_server": 1}


# The drain

def settle(rng, steady, happened):
    """Ends what the load has left open, of its own accord or not."""
    db = connect_at_last("settle")
    while rows(db, "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'torture %'"):
        time.sleep(0.02)
    for gid, in rows(db, "SELECT gid FROM pg_prepared_xacts ORDER BY random()"):
        happened[decide(db, rng, gid)] += 1
    rows(db, "SELECT coord.queue_resume('paused')")
    if rng.random() < 0.5:
        happened["redriven"] += rows(db, "SELECT coord.task_redrive()")[0][0]
    if rng.random() < 0.5:
        for agent, in rows(db, "SELECT id FROM coord.agent WHERE status = 'active' AND name LIKE 'torture %'"):
            retire(db, agent)
            happened["retired at the end"] += 1
    if not steady and rng.random() < 0.3:
        rows(db, "VACUUM FULL coord.task_live")
        happened["rewritten"] += 1
    return db


def claim_first(db, agent, queue, violations):
    """One next-claim, which must give the first task; 1 if it gave one."""
    must = rows(db, FIRST, queue)
    got = claim(db, agent, queue, 1, 30)
    for urgency, run_at, row in must:
        if not got:
            violations.add(f"stranded: next-claim of {queue} gave nothing", row)
        elif got[0][2] > (urgency, run_at):
            violations.add(f"passed over: next-claim of {queue} gave {got[0]}", row)
    for task, token, _ in got:
        end(db, "complete", task, token)
    return len(got)


def check_waiting(db, agent, number, violations):
    """Who holds a resource gets the first task that waits for it, and others pass over it;
    when it is free, and the next one is cancelled, they get the one after that."""
    holder, key = register(db, f"holder {number}"), f"waited for {number}"
    lease, = rows(db, "SELECT id FROM coord.lease_acquire(%s, %s, '30 s')", key, holder)[0]
    spec = {"type": "t", "queue": "keyed", "priority": 100, "resource_key": key}
    tasks = [id for _ in range(3) for id in create(db, [spec], many=False)]

    def must_get(who, called, must):
        got = claim(db, who, "keyed", 1, 30)
        if [task for task, _, _ in got if task in tasks] != must:
            violations.add(f"waiting: next-claim of {called} gave {got}, not {must} of {tasks}")
        for task, token, _ in got:
            end(db, "complete", task, token)

    must_get(agent, "another", [])
    must_get(holder, "the holder", tasks[:1])
    rows(db, "SELECT coord.lease_release(%s)", lease)
    cancel(db, tasks[1])
    must_get(agent, "another", tasks[2:])


def drain(db, rng, name):
    """Claims and completes until there is nothing."""
    agent, drained = register(db, name), 0
    while got := [task for queue in QUEUES for task in claim(db, agent, queue, rng.choice((1, 7, 50)), 30)]:
        for task, token, _ in got:
            end(db, "complete", task, token)
        drained += len(got)
    return drained


def drain_all(db, rng, pool, number, violations, happened):
    """Several at once in between; before and after, one by one and with a look at each
    claim, until all that runs out, is retried or unblocked is done, too."""
    agent = register(db, f"first {number}")
    check_waiting(db, agent, number, violations)
    for queue in QUEUES:
        happened[f"first of {queue}"] += sum(claim_first(db, agent, queue, violations) for _ in range(20))
    happened["drained"] += sum(pool.map(work, [(drain, f"{rng.random()}", f"drain {number}.{n}") for n in range(3)]))
    limit = time.time() + 20
    while (left := rows(db, common.LEFT_OVER)) and not violations and time.time() < limit:
        happened["drained"] += sum(claim_first(db, agent, queue, violations) for queue in QUEUES)
        time.sleep(0.02)
    for what, id, state in left:
        row = rows(db, "SELECT t::text FROM coord.task t WHERE id::text = %s", id)
        violations.add(f"after the drain of round {number} there is the {what} {id} {state}", *row)


# The race

def race(db, rng, name, steady, until):
    """Creates, claims, and undoes claims; what it did, for audit.check_race."""
    agent = register(db, name)
    there, claims = [], []

    def place(spec):
        return -spec["priority"], round(datetime.fromisoformat(spec["run_at"]).timestamp() * 1000000)

    def make():
        specs = [{"type": "t", "queue": "plain", "priority": rng.randint(0, 3),
                  "run_at": instant(rng.choice((-5, 0, 0, 0.05)) + rng.uniform(0, 0.1))}
                 for _ in range(rng.randint(1, 4))]
        began = time.time()
        ids = create(db, specs, len(specs) > 1 or rng.random() < 0.5)
        at = time.time()
        there.extend((id, began, at, place(spec)) for id, spec in zip(ids, specs))

    def take(how):
        most = rng.choice((1, 1, 2, 7))
        began = time.time()
        got = claim(db, agent, "plain", most, 60)
        answered = time.time()
        time.sleep(rng.choice((0, 0, 0.005, 0.03)))
        return {"how": how, "began": began, "answered": answered, "most": most, "got": got, "let_go": time.time()}

    while time.time() < until:
        if rng.random() < 0.4:
            make()
            continue
        how = rng.choice(("complete", "complete", "fail", "release", "rollback", "savepoint",
                          "rollback" if steady else "prepare"))
        gid = f"{name} {len(claims)}"
        before, after = {"rollback": (["BEGIN"], ["ROLLBACK"]),
                         "savepoint": (["BEGIN", "SAVEPOINT torture"], ["ROLLBACK TO torture"]),
                         "prepare": (["BEGIN"], [f"PREPARE TRANSACTION '{gid}'", f"ROLLBACK PREPARED '{gid}'"])
                         }.get(how, ([], []))
        for statement in before:
            rows(db, statement)
        claims.append(take(how))
        for statement in after:
            rows(db, statement)
        if not after:
            for task, token, _ in claims[-1]["got"]:
                end(db, how, task, token)
        at = time.time()
        if how not in ("complete", "fail"):         # "fail" moves it in the order
            there.extend((task, claims[-1]["let_go"], at, place) for task, _, place in claims[-1]["got"])
        if how == "savepoint":
            time.sleep(rng.choice((0, 0.02)))
            rows(db, "COMMIT")
    return there, claims


# The order

def fill(db, rng, name):
    """Creates tasks; some tie in what is seen of their order.  Sometimes of more priorities
    than a ring has room for."""
    priorities = rng.choice((3, 20))
    past = [instant(rng.uniform(-5, -4)) for _ in range(3)]
    for _ in range(4):
        if transaction := rng.random() < 0.5:
            rows(db, "BEGIN")
        for _ in range(2):
            create(db, [{"type": "t", "queue": "plain", "priority": rng.randint(0, priorities),
                         "run_at": rng.choice(past)} for _ in range(rng.randint(2, 4))])
        if transaction:
            rows(db, "COMMIT")


def claim_in_order(db, rng, pool, number, violations, happened):
    """Alternates between filling and claiming, so that some come before what was claimed."""
    agent = register(db, f"order {number}")
    for part in range(3):
        pool.map(work, [(fill, f"{rng.random()}", f"fill {number}.{part}.{n}") for n in range(3)])
        must = [id for id, in rows(db, """SELECT id FROM coord.task_live WHERE queue = 'plain' AND state = 'pending'
            ORDER BY priority DESC, ready_at, seq""")]
        got = []
        while len(got) < (30 if part < 2 else len(must)):
            claimed = claim(db, agent, "plain", rng.choice((1, 1, 1, 7)), 60)
            for task, token, _ in claimed:
                end(db, "complete", task, token)
            got += [task for task, _, _ in claimed]
            if not claimed:
                break
        happened["in order"] += len(got)
        if got != must[:len(got)] or not got:
            at = next((n for n, pair in enumerate(zip(got, must)) if pair[0] != pair[1]), len(got))
            violations.add(f"order: claim {at + 1} of round {number} gave {got[at:at + 1]}, not {must[at:at + 1]}")


def one_round(options, pool, killers, rng, number, violations, happened):
    steady = number % 2 == 0
    killer = killers[steady]
    roles = ["creator", "creator", "claimer", "claimer", "claimer", "leaser", "claimer", "claimer"]
    until = time.time() + ROUND_LOAD
    clients = pool.map_async(work, [
        (load, f"{rng.random()}", f"torture {number}.{n}", roles[n % len(roles)], steady, until)
        for n in range(options.clients)])
    killer.run(until)
    happened.update(deed for _, deed in killer.deeds)
    killer.deeds.clear()
    for counts, failures in clients.get(60):
        happened.update(counts)
        for failure in failures:
            violations.add(f"unexpected: {failure}")
    db = settle(rng, steady, happened)
    drain_all(db, rng, pool, number, violations, happened)
    if not violations:
        raced = pool.map(work, [(race, f"{rng.random()}", f"race {number}.{n}", steady, time.time() + 1)
                                for n in range(4)])
        audit.check_race(raced, violations, happened)
        time.sleep(0.2)                 # until each run_at has come
        claim_in_order(db, rng, pool, number, violations, happened)
    audit.check_tasks(db, violations, happened)
    db.close()


def prepare():
    ask(SETUP)
    for queue, most in LIMITS.items():
        ask("""SELECT name FROM coord.queue_set(%s, backoff_base => '30 ms', backoff_max => '300 ms',
            max_claimed => %s)""", queue, most)


def least(seconds, killer):
    """How often what makes a run worth something is to happen."""
    often = [f"{deed}, {ending}" for deed in ("create", "claim") for ending in ENDINGS]
    often += [f"first of {queue}" for queue in QUEUES]
    often += ["drained", "in order", "race: passed by", "COMMIT PREPARED", "ROLLBACK PREPARED"]
    at_times = [f"complete, {ending}" for ending in ENDINGS] + [f"claim, commit, {level}" for level in LEVELS]
    at_times += ["fail", "release", "acquire", "pause", "cancel", "retire", "55P03", "55000", "40001"]
    seldom = ["claim_named", "unlease", "connection lost", "dead tasks", "cancelled tasks", *killer.DECK]
    each = {**{name: seconds / 4 for name in often}, **{name: seconds / 10 for name in at_times},
            **{name: 1 for name in seldom}}
    # in a short run chance has it that something does not come up
    return each if seconds >= 60 else {name: 1 for name in (
        "create, commit", "claim, commit", "claim, rollback", "claim, savepoint", "drained", "in order")}


def torture(options):
    """Goes on for longer, up to three times as long, while too little has happened: on a
    busy machine little does."""
    began = time.time()
    violations, happened = Violations(), Counter()
    rng = random.Random(options.seed)
    with Pool(options.clients) as pool:
        prepare()
        killer = (Killer if options.no_restart else RestartingKiller)(rng, "torture ")
        killers = killer, SteadyKiller(rng, "torture ")
        enough = least(options.seconds, killer)
        while not violations and time.time() < began + options.seconds * (
                3 if common.hardly_happened(happened, enough) else 1):
            happened["rounds"] += 1
            try:
                one_round(options, pool, killers, rng, happened["rounds"], violations, happened)
            except psycopg2.Error as error:     # of a call that is not to fail
                violations.add(f"round {happened['rounds']}: {str(error).strip()}", traceback.format_exc())
    audit.check_history(LIMITS, violations, happened)
    common.check_log(violations)
    return common.report(options, happened, {**enough, "run out": 10, "resource": 10}, violations)


def main():
    parser = common.parser(__doc__, 8)
    parser.add_argument("--no-restart", action="store_true", help="the server is crashed, but not restarted by pg_ctl")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    sys.exit(torture(options))


if __name__ == "__main__":
    main()
