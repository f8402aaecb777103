"""A client of churn.py: a process with an agent, and what it writes down (see history.py)."""

import json
import random
import time

import psycopg2

import common
from common import AGENT_ENDS_AT, connect_at_last, rows

KEYS = [f"key {n}" for n in range(12)]
HOT_KEYS = KEYS[:3]
QUEUES = ("churn", "churn", "churn", "narrow")
REFUSALS = ("55000", "55P03")
DISK_IS_FULL = ("53100", "58030")           # all that was done is undone


class Lost(Exception):
    """The connection is gone."""


class Refused(Exception):
    """The call gave an error that it may give."""


class Client:
    """A process with an agent, which does at random whatever an agent can do."""

    def __init__(self, number, incarnation, kind, directory, seed, host=None):
        self.host = host            # behind a proxy
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

    def settle(self, n, outcome, result=None, learn=None, error=None, **when):
        self.write(n=n, outcome=outcome, done=time.time(), result=result, error=error, **when)
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
            self.pending.append((n, result, learn, time.time()))
        return result

    def fail(self, n, error):
        """The call, and what came before it in its transaction, did not happen;
        outside of a transaction nobody knows, when the connection broke."""
        text = f"{error.pgcode}: {str(error).strip()}"
        if common.was_lost(self.connection, error):
            self.settle(n, "unknown" if self.pending is None else "undone", error=text)
            self.settle_pending("undone")
            raise Lost from error
        self.settle(n, "refused" if error.pgcode in REFUSALS else "undone" if error.pgcode in DISK_IS_FULL
                    else "unexpected", error=text, follows=len(self.pending or []))
        raise Refused from error

    def settle_pending(self, outcome, sent=None):
        """"sent" is when COMMIT was: until then at least everything was kept."""
        for n, result, learn, answered in self.pending or []:
            self.settle(n, outcome, result, learn, answered=answered, kept=sent)
        self.pending = None

    def transaction(self):
        """A few calls, which are committed or not."""
        self.begin()
        try:
            for _ in range(self.random.randint(1, 4)):
                self.step()
                time.sleep(self.random.choice((0, 0, 0.01, 0.04)))
            commit = self.random.random() < 0.7
        except Refused:
            commit = False
        self.end(commit)

    def begin(self):
        try:
            rows(self.connection, "BEGIN")
        except psycopg2.Error as error:
            raise Lost from error
        self.pending = []

    def end(self, commit):
        sent = time.time()
        try:
            rows(self.connection, "COMMIT" if commit else "ROLLBACK")
        except psycopg2.Error as error:
            if commit and error.pgcode in DISK_IS_FULL:
                self.settle_pending("undone")
                return
            # asked to commit, the server may have done it
            self.settle_pending("unknown" if commit else "undone", sent)
            raise Lost from error
        self.settle_pending("ok" if commit else "undone", sent)

    # Its life

    def run(self, until):
        while time.time() < until:
            try:
                self.connection = connect_at_last(self.name, host=self.host)
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
            (self.write_guarded, 7),
            (self.create, 14), (self.claim, 18), (self.renew_claim, 5), (self.complete, 14), (self.fail_task, 4),
            (self.release_claim, 3), (self.cancel, 1), (self.retire, 0.2))))[0]
        does()

    def some(self, held):
        return self.random.choice(list(held.items())) if held else None

    def ttl(self):
        return self.random.choice((0.1, 0.3, 0.7, 2))

    # Leases

    def with_lease(self, does, choose=None):
        """With a lease that it has, or had."""
        if self.leases:
            lease, (key, token) = (choose or self.random.choice)(list(self.leases.items()))
            try:
                does(lease, key, token, {"key": key, "lease": lease, "token": token})
            except Refused:
                self.leases.pop(lease, None)
                raise

    def acquire(self):
        key, ttl = self.random.choice(self.random.choice((KEYS, HOT_KEYS))), self.ttl()
        auto = self.kind == "auto" and self.random.random() < 0.5
        wait = self.random.choice((0, 0.05, 0.2))
        mine = next((lease for lease, (of, _) in self.leases.items() if of == key), None)

        def learn(lease):
            if lease and not lease["task"]:
                self.leases[lease["lease"]] = key, lease["token"]

        names = ("lease", "token", "since", "at", "until", "task")
        self.call("lease_acquire", f"""SELECT id, fencing_token, extract(epoch FROM acquired_at)::float8,
                extract(epoch FROM renewed_at)::float8, extract(epoch FROM expires_at)::float8, task_id
            FROM coord.lease_acquire(%s, %s, ttl => %s, auto_renew => %s, max_hold => %s
            {', wait => %s' if wait else ''})""",
                  [key, self.agent, f"{ttl} s", auto, "3 s" if auto else None] + ([f"{wait} s"] if wait else []),
                  learn, lambda found: dict(zip(names, found[0])) if found else None,
                  key=key, ttl=ttl, lease=mine, auto=auto, wait=wait)

    def renew_lease(self):
        ttl = self.ttl()
        self.with_lease(lambda lease, key, token, asked: self.call(
            "lease_renew", """SELECT extract(epoch FROM expires_at)::float8, extract(epoch FROM renewed_at)::float8
                FROM coord.lease_renew(%s, %s)""", [lease, f"{ttl} s"],
            row=lambda found: {"until": found[0][0], "at": found[0][1]}, ttl=ttl, **asked))

    def release_lease(self):
        forget = self.random.random() < 0.7     # or use it although it is not theirs any more
        self.with_lease(lambda lease, key, token, asked: self.call(
            "lease_release", "SELECT coord.lease_release(%s)", [lease],
            lambda held: self.leases.pop(lease, None) if forget or not held else None, **asked))

    def assert_lease(self):
        self.with_lease(lambda lease, key, token, asked: self.call(
            "lease_assert", "SELECT coord.lease_assert(%s, %s)::text", [key, token], **asked))

    def write_guarded(self):
        """A row that only who holds the lease may write: by lease_assert, or by a trigger.
        Some take longer than their lease lasts.  The result is the token of who wrote it before."""
        if self.pending is None:
            self.acquire()
            self.with_lease(self.write_in, lambda leases: leases[-1])

    def write_in(self, lease, key, token, asked):
        table = self.random.choice(("guarded", "fenced"))
        self.begin()
        try:
            if table == "guarded":
                self.call("lease_assert", "SELECT coord.lease_assert(%s, %s)::text", [key, token], **asked)
                time.sleep(self.random.choice((0, 0.05, 0.3)))
            self.call(f"{table}_write", f"""UPDATE torture.{table} new SET token = %s, n = new.n + 1
                FROM (SELECT key, token FROM torture.{table} WHERE key = %s FOR UPDATE) old
                WHERE new.key = old.key RETURNING old.token""", [token, key], **asked)
            time.sleep(self.random.choice((0, 0.05, 0.3)))
        except Refused:
            self.end(False)
            raise
        self.end(True)

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

        names = ("task", "token", "since", "until", "lease", "key", "agent_until", "attempts",
                 "max_attempts")
        self.call("task_claim", f"""SELECT t.id, t.fencing_token, extract(epoch FROM t.claimed_at)::float8,
                extract(epoch FROM t.lease_expires_at)::float8, t.lease_id, t.resource_key,
                extract(epoch FROM {AGENT_ENDS_AT})::float8, t.attempts, t.max_attempts
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
