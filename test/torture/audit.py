"""Whether what queues.py did and was told can be true.

Everything is drawn with care: a claim or lease was held from the instant that the
server named until the earliest end that it may have had by what was committed.  Client
and server share the clock.
"""

from collections import defaultdict

from common import ask, rows
from history import INFINITY, Holding, check_one_after_another


# Every task is accounted for once

TASKS = """
    WITH task AS (SELECT id, count(*) AS n, min(state) AS state, min(fencing_token) AS token, min(error) AS error,
            min(t::text) AS row FROM coord.task t GROUP BY id),
        completed AS (SELECT task AS id, array_agg(DISTINCT token) AS tokens FROM torture.said
            WHERE op = 'complete' GROUP BY 1),
        cancelled AS (SELECT DISTINCT task AS id FROM torture.said WHERE op = 'cancel'),
        claimed AS (SELECT DISTINCT task AS id, token FROM torture.said WHERE op = 'claim')
    SELECT CASE
        WHEN t.id IS NULL THEN 'was created, and is lost'
        WHEN c.id IS NULL THEN 'was rolled back, and is there'
        WHEN t.n > 1 THEN 'is there twice'
        WHEN cardinality(d.tokens) > 1 THEN 'was completed with two tokens'
        WHEN (t.state = 'completed') <> (d.id IS NOT NULL) THEN 'was completed, or is, but not both'
        WHEN d.tokens <> ARRAY[t.token] THEN 'is completed with another token'
        WHEN d.id IS NOT NULL AND NOT EXISTS (SELECT FROM claimed k WHERE k.id = t.id AND k.token = t.token)
            THEN 'was completed, and never claimed'
        WHEN x.id IS NOT NULL AND t.state <> 'cancelled' THEN 'was cancelled, and is not'
        WHEN x.id IS NULL AND t.state = 'cancelled' AND t.error NOT LIKE 'dependency %' THEN 'nobody has cancelled'
        WHEN t.state NOT IN ('completed', 'dead', 'cancelled') THEN 'is not at its end'
        END AS wrong, coalesce(c.id, t.id)::text, t.row
    FROM task t FULL JOIN torture.created c USING (id)
        LEFT JOIN completed d USING (id) LEFT JOIN cancelled x USING (id)"""


def check_tasks(db, violations, happened):
    rows(db, "ANALYZE torture.said, torture.created")
    for wrong, id, row in rows(db, f"SELECT * FROM ({TASKS}) t WHERE wrong IS NOT NULL"):
        violations.add(f"task {id} {wrong}", row)
    happened.update({f"{state} tasks": n - happened[f"{state} tasks"] for state, n in rows(
        db, "SELECT state, count(*)::int FROM coord.task GROUP BY state")})


# Who held what, and when

TASK, TOKEN, AGENT, QUEUE, KEY, LEASE, SINCE = range(7)


class Said:
    """The rows of torture.said, as what was held."""

    def __init__(self):
        self.by_op = defaultdict(list)
        for op, *row in ask("""
                SELECT op, task, token, agent, queue, key, lease, extract(epoch FROM since)::float8,
                    extract(epoch FROM until)::float8,
                    extract(epoch FROM said_at)::float8 FROM torture.said"""):
            self.by_op[op].append(tuple(row))
        self.retired = self.earliest(AGENT, "retire")
        self.cancelled = self.earliest(TASK, "cancel")
        self.unleased = self.earliest(LEASE, "unlease")
        self.ended = self.earliest(slice(TASK, TOKEN + 1), "complete", "fail", "release")
        self.claims = [self.claim(*row) for row in self.by_op["claim"]]
        self.leases = {}
        for _, token, agent, _, key, lease, since, until, _ in self.by_op["lease"]:
            self.lease(lease, key, agent, token, since, min(until, self.unleased.get(lease, INFINITY)))
        for held in self.claims:
            if held.lease is not None:
                self.lease(held.lease, held.key, held.holder, held.token, held.start, held.end)

    def earliest(self, whose, *ops):
        instants = {}
        for row in (row for op in ops for row in self.by_op[op]):
            instants[row[whose]] = min(row[SINCE], instants.get(row[whose], INFINITY))
        return instants

    def cut(self, held, *ends):
        """An end from before the start is that of a call that was still under way."""
        held.end = max(held.start, min(held.end, *ends, self.retired.get(held.holder, INFINITY)))

    def claim(self, task, token, agent, queue, key, lease, since, until, answered):
        held = Holding(agent, token, since)
        held.task, held.queue, held.key, held.lease, held.end, held.answered = task, queue, key, lease, until, answered
        self.cut(held, self.ended.get((task, token), INFINITY), self.cancelled.get(task, INFINITY))
        held.calls = [f"claim of {task} in {queue} by {agent}, {key}, lease {lease}, "
                      f"since {since:.6f}, answered {answered:.6f}, until {until:.6f}, ended {held.end:.6f}"]
        held.ran_out = (task, token) not in self.ended and held.end == until
        return held

    def lease(self, lease, key, agent, token, since, until):
        """A lease is taken by lease_acquire or by a claim, and each may renew the other's:
        it was there at least until the earliest of all ends."""
        held = self.leases.get(lease)
        if held is None:
            held = self.leases[lease] = Holding(agent, token, since)
            held.key, held.end = key, until
        held.start, held.end, held.token = min(held.start, since), min(held.end, until), min(held.token, token)
        held.calls.append(f"lease {lease} on {key} of {agent} until {until:.6f}")
        self.cut(held)


def check_history(limits, violations, happened):
    said = Said()
    by_task, by_key, leases, tokens = defaultdict(list), defaultdict(list), defaultdict(list), defaultdict(list)
    for held in said.claims:
        by_task[held.task].append(held)
        tokens[held.token].append(held)
        if held.key is not None:
            by_key[held.key].append(held)
    for held in said.leases.values():
        leases[held.key].append(held)
    for what, holdings in (("claim of", by_task), ("claim with", by_key), ("lease on", leases)):
        for name, held in holdings.items():
            check_one_after_another(violations, f"{what} {name}", held)
    for token, held in tokens.items():
        if len(held) > 1:
            violations.add(f"token {token} is of two claims", *held[0].calls, *held[1].calls)
    for queue, most in limits.items():
        if most is not None:
            check_limit(queue, most, said, violations)
    happened["run out"] = sum(held.ran_out for held in said.claims)
    happened["resource"] = sum(held.lease is not None for held in said.claims)


def check_limit(queue, most, said, violations):
    """A claim takes its slot some time before it is answered."""
    claims = [held for held in said.claims if held.queue == queue and held.answered < held.end]
    instants = sorted([(held.answered, 1) for held in claims] + [(held.end, -1) for held in claims])
    n = 0
    for at, change in instants:
        n += change
        if n > most:
            violations.add(f"queue {queue} has {n} claims at {at:.6f}", *[
                held.calls[0] for held in claims if held.answered <= at < held.end])
            break


# Whether a claim has passed over something

def check_race(raced, violations, happened):
    """raced: of each session, what it made claimable (task, when at the earliest and
    at the latest, place in the order), and its claims.  Nothing may be passed over that was there from before a
    claim began until after it was answered."""
    claims = [claim for _, of in raced for claim in of]
    began = defaultdict(list)               # task -> its claims
    for claim in claims:
        for task, _, _ in claim["got"]:
            began[task].append(claim)
    there = []
    for task, earliest, latest, place in (thing for of, _ in raced for thing in of):
        taken = min((claim["began"] for claim in began[task] if claim["answered"] > earliest), default=INFINITY)
        there.append((max(latest, place[1] / 1e6), taken, place, task))
    for claim in claims:
        places = [place for _, _, place in claim["got"]]
        if places != sorted(places):
            violations.add("race: a claim's tasks are not in order", claim)
        passed_by = [thing for thing in there if thing[0] <= claim["began"] and thing[1] >= claim["answered"]]
        happened["race: passed by"] += bool(passed_by)
        worst = places[-1] if len(places) == claim["most"] else (INFINITY, 0)
        since, until, place, task = min(passed_by, key=lambda thing: thing[2], default=(0, 0, worst, None))
        if place < worst:
            violations.add(f"race: {task} {place} was there from {since:.6f} until {until:.6f}, "
                           "and passed over", claim)
    for task, of in began.items():
        of.sort(key=lambda claim: claim["answered"])
        for before, after in zip(of, of[1:]):
            if before["how"] == "complete" or after["answered"] < before["let_go"]:
                violations.add(f"race: {task} was claimed twice", before, after)
