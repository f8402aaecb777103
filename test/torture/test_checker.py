#!/usr/bin/python3
"""Tests of the checker itself: it takes histories that are right, and refuses wrong ones.

Each invariant has a history that breaks it and nothing else.  The random ones come from a
simulated server, whose answers are right by construction; a mutation changes one answer in
a way that cannot be explained.  Times are seconds; a call at t takes from t to t + 0.1.
"""

import json
import os
import random
import tempfile
import unittest
from unittest import mock

import churn
import common
import history as histories
import linear
import models
import objects
from clocks import SteppedClock
from linear import INFINITY, Call

TOOK = 0.1


def call(op, start, *, optional=False, took=TOOK, **args):
    defaults = {"agent": "a", "lease": None, "token": None, "claim": False, "answered": start + took, "kept": 0,
                "busy": False, "hidden": 0, "given_back": False, "max_attempts": 3, "at": start + took / 2,
                "said_state": None}
    return Call(op, start, INFINITY if optional else start + took, optional, {**defaults, **args})


def lasting(at, ttl):
    return {"since": at, "over": at + ttl, "until": at + ttl, "longest": at + ttl, "agent_until": INFINITY}


def grant(start, agent, token, ttl=1.0, **args):
    return call("granted", start, **{"agent": agent, "lease": f"lease {token}", "token": token,
                                     **lasting(start + TOOK / 2, ttl), **args})


def of(op, at, agent, token, **args):
    return call(op, at, agent=agent, lease=f"lease {token}", token=token, **args)


def renewal(at, agent, token, ttl=1.0, **args):
    return of("renewed", at, agent, token, **{**lasting(at + TOOK / 2, ttl), **args})


def claim(at, agent, token, attempts=1, ttl=1.0, **args):
    return call("claimed", at, agent=agent, token=token, attempts=attempts, **{**lasting(at + TOOK / 2, ttl), **args})


def created(at):
    return call("created", at)


def is_now(at, state, token=None):
    return call("is", at, state=state, token=token)


class Base(unittest.TestCase):
    def lease(self, *calls):
        return linear.check(models.lease_step, models.FREE, calls).right

    def task(self, *calls):
        return linear.check(models.task_step, models.NEW, [created(-1), *calls]).right


class Leases(Base):
    def right(self, *calls):
        self.assertTrue(self.lease(*calls))

    def wrong(self, *calls):
        self.assertIs(self.lease(*calls), False)

    def test_one_holder(self):
        self.right(grant(0, "a", 1), grant(2, "b", 2))
        self.wrong(grant(0, "a", 1), grant(0.5, "b", 2))

    def test_two_at_once(self):
        """Calls at the same time have some order, but not both at once."""
        self.right(grant(0, "a", 1, ttl=0.01, took=1, over=0.06, until=0.06), grant(0.5, "b", 2))
        self.wrong(grant(0, "a", 1), grant(0, "b", 2))

    def test_tokens_grow(self):
        self.right(grant(0, "a", 7), grant(2, "b", 8))
        self.wrong(grant(0, "a", 7), grant(2, "b", 6))
        self.wrong(grant(0, "a", 7), grant(2, "b", 7, lease="lease 8"))

    def test_no_end_before_expires_at(self):
        """A grant to another shows that the lease was ended."""
        self.right(grant(0, "a", 1), renewal(0.5, "a", 1), grant(1.6, "b", 2))
        self.wrong(grant(0, "a", 1), renewal(0.5, "a", 1), grant(1.4, "b", 2))

    def test_renewal_may_shorten(self):
        self.right(grant(0, "a", 1), renewal(0.5, "a", 1, ttl=0.1), grant(0.7, "b", 2))

    def test_no_renewal_of_what_another_has(self):
        self.wrong(grant(0, "a", 1), grant(2, "b", 2), renewal(2.5, "a", 1))

    def test_no_renewal_after_the_end(self):
        self.wrong(grant(0, "a", 1), renewal(2, "a", 1))

    def test_renewed_by_acquiring(self):
        self.right(grant(0, "a", 1), grant(0.5, "a", 1), grant(2, "b", 2))
        self.wrong(grant(0, "a", 1), grant(0.5, "a", 2))

    def test_released(self):
        self.right(grant(0, "a", 1), of("released", 0.3, "a", 1), grant(0.5, "b", 2))
        self.wrong(grant(0, "a", 1), of("released", 0.3, "a", 1), renewal(0.5, "a", 1))

    def test_release_is_kept_until_commit(self):
        release = of("released", 0.3, "a", 1, took=0.4, answered=0.4, kept=0.65)
        self.right(grant(0, "a", 1), release, grant(0.65, "b", 2))
        self.wrong(grant(0, "a", 1), release, grant(0.55, "b", 2))

    def test_assertion_keeps_others_away(self):
        """Past the end of the lease, while its transaction is open."""
        assertion = of("asserted", 0.9, "a", 1, took=0.6, answered=1, kept=1.45)
        self.right(grant(0, "a", 1), assertion, grant(1.5, "b", 2))
        self.wrong(grant(0, "a", 1), assertion, grant(1.2, "b", 2))

    def test_no_assertion_by_a_stale_holder(self):
        self.right(grant(0, "a", 1), grant(2, "b", 2), of("asserted", 2.5, "b", 2), of("is not held", 2.5, "a", 1))
        self.wrong(grant(0, "a", 1), grant(2, "b", 2), of("asserted", 2.5, "a", 1))

    def test_no_false_refusal(self):
        self.right(grant(0, "a", 1), of("is not held", 1.2, "a", 1))
        self.wrong(grant(0, "a", 1), of("is not held", 0.5, "a", 1))

    def test_a_free_key_is_granted(self):
        refusal = call("not granted", 5, agent="b")
        self.right(grant(4.5, "a", 1), refusal)
        self.right(call("not granted", 5, agent="b", busy=True))
        self.wrong(grant(0, "a", 1), refusal)

    def test_unknown_grant(self):
        """It may explain that nobody else gets it, and that its agent has it already."""
        unknown = call("perhaps granted", 4, agent="a", optional=True, over=5, agent_until=INFINITY)
        self.right(unknown, call("not granted", 4.5, agent="b"))
        self.right(unknown, grant(4.5, "b", 1))
        self.right(unknown, grant(4.5, "a", 1, since=4.2, at=4.55))
        self.wrong(unknown, grant(4.5, "a", 1), grant(4.8, "b", 2))

    def test_unknown_grant_that_serves_claims(self):
        """They tell its id, and tokens of their own; its own one is told later."""
        unknown = call("perhaps granted", 1, agent="a", optional=True, over=3, agent_until=INFINITY)
        serving = [grant(start, "a", token, claim=True, lease="lease 2") for start, token in ((1.5, 5), (2, 6))]
        self.right(grant(0, "b", 1, ttl=0.5), unknown, *serving, grant(2.5, "a", 2, since=1.2, at=2.55))
        self.wrong(grant(0, "b", 2, ttl=0.5), unknown, *serving, grant(2.5, "a", 1, lease="lease 2", since=1.2, at=2.55))
        self.wrong(unknown, *serving, grant(2.5, "a", 2, since=1.2, at=2.55), call("asserted", 2.7, token=3))
        self.wrong(unknown, *serving, grant(2.5, "a", 3, since=1.2, at=2.55))

    def test_unknown_release(self):
        unknown = of("released", 0.3, "a", 1, optional=True)
        self.right(grant(0, "a", 1), unknown, grant(0.5, "b", 2))
        self.right(grant(0, "a", 1), unknown, renewal(0.5, "a", 1))
        self.wrong(grant(0, "a", 1), unknown, grant(0.5, "b", 2), renewal(0.7, "a", 1))
        self.wrong(grant(0, "a", 1), grant(0.2, "b", 2), unknown)

    def test_gone_for_good(self):
        """A call that was under way when the server died has no part in what comes later."""
        unknown = Call("released", 0.3, 0.4, True, of("released", 0.3, "a", 1).args)
        self.wrong(grant(0, "a", 1, took=0.3, ttl=1), renewal(0.5, "a", 1), unknown, grant(0.7, "b", 2))

    def test_claims_lease(self):
        ended = call("may have ended", 0.3, leases=("lease 1",))
        self.right(grant(0, "a", 1, claim=True), ended, grant(0.5, "b", 2))
        self.wrong(grant(0, "a", 1, claim=True), call("may have ended", 0.3, leases=("lease 9",)), grant(0.5, "b", 2))


class Tasks(Base):
    def right(self, *calls):
        self.assertTrue(self.task(*calls))

    def wrong(self, *calls):
        self.assertIs(self.task(*calls), False)

    def test_one_holder(self):
        self.right(claim(0, "a", 1), claim(2, "b", 2, attempts=2))
        self.wrong(claim(0, "a", 1), claim(0.5, "b", 2, attempts=2))

    def test_not_before_it_is_there(self):
        self.wrong(claim(-5, "a", 1))

    def test_tokens_grow(self):
        self.wrong(claim(0, "a", 2), claim(2, "b", 1, attempts=2))

    def test_completed_once(self):
        done = of("completed", 0.5, "a", 1)
        self.right(claim(0, "a", 1), done, of("completed", 0.7, "a", 1), is_now(9, "completed", 1))
        self.wrong(claim(0, "a", 1), done, claim(2, "b", 2, attempts=2))
        self.wrong(claim(0, "a", 1), claim(2, "b", 2, attempts=2), of("completed", 2.5, "a", 1))

    def test_stale_tokens(self):
        for op in ("completed", "failed", "given back", "renewed"):
            args = lasting(2.5, 1)
            self.wrong(claim(0, "a", 1), claim(2, "b", 2, attempts=2), of(op, 2.5, "a", 1, **args))
            self.right(claim(0, "a", 1), claim(2, "b", 2, attempts=2), of(op, 2.5, "b", 2, **args))

    def test_no_false_refusal(self):
        self.right(claim(0, "a", 1), of("does not hold", 1.2, "a", 1))
        self.right(claim(0, "a", 1), call("cancelled", 0.2, agent="b"), of("does not hold", 0.5, "a", 1))
        self.wrong(claim(0, "a", 1), of("does not hold", 0.5, "a", 1))

    def test_attempts(self):
        """A claim counts one, also when it ran out; a release takes it back; a failure does not."""
        self.right(claim(0, "a", 1), of("failed", 0.5, "a", 1), claim(1, "b", 2, attempts=2))
        self.wrong(claim(0, "a", 1), of("failed", 0.5, "a", 1), claim(1, "b", 2, attempts=1))
        self.right(claim(0, "a", 1), of("given back", 0.5, "a", 1), claim(1, "b", 2, attempts=1))
        self.wrong(claim(0, "a", 1), of("given back", 0.5, "a", 1), claim(1, "b", 2, attempts=2))
        self.wrong(claim(0, "a", 1), claim(2, "b", 2, attempts=1))
        self.wrong(claim(0, "a", 1), claim(2, "b", 2, attempts=3))
        self.right(claim(0, "a", 1), claim(2, "b", 2, attempts=3, hidden=1))

    def test_no_more_than_max_attempts(self):
        self.wrong(claim(0, "a", 1, max_attempts=1), claim(2, "b", 2, attempts=2, max_attempts=1))

    def test_dead_when_used_up(self):
        self.right(claim(0, "a", 1), of("failed", 0.5, "a", 1, said_state="dead", max_attempts=1), is_now(9, "dead"))
        self.wrong(claim(0, "a", 1), of("failed", 0.5, "a", 1, said_state="pending", max_attempts=1))
        self.wrong(claim(0, "a", 1), of("failed", 0.5, "a", 1, said_state="dead", max_attempts=2))

    def test_lost(self):
        self.right(is_now(9, "completed", 5))
        self.wrong(is_now(9, "lost"))
        self.wrong(is_now(9, "pending"))

    def test_never_there(self):
        for unsure, ops in ((True, ["created", "claimed"]), (False, ["created", "claimed", "is"])):
            of_objects = objects.Objects.__new__(objects.Objects)
            of_objects.tasks = {"a task": [objects.Call("created", 0, 1, unsure), objects.Call("claimed", 1, 2, True)]}
            of_objects.end({}, 9)
            self.assertEqual([call.op for call in of_objects.tasks["a task"]], ops)

    def test_cancelled_by_a_call_that_began_before_the_claim(self):
        def end_of_claim(began, took, outcome="ok"):
            claim = histories.Call(
                {"at": 1, "op": "task_claim", "connection": "c", "agent": "a", "asked": {}},
                {"outcome": "ok", "done": 1.1, "result": [
                    {"task": "t", "token": 5, "since": 1.05, "until": 2, "agent_until": None, "key": "k", "lease": "l"}]})
            cancel = histories.Call(
                {"at": began, "op": "task_cancel", "connection": "d", "agent": "b", "asked": {"task": "t"}},
                {"outcome": outcome, "done": began + took})
            return histories.History([claim, cancel]).claims["t"][5].end

        self.assertEqual(end_of_claim(1.2, 0.1), 1.2)
        self.assertEqual(end_of_claim(0.9, 0.3), 1.05)
        self.assertEqual(end_of_claim(0.9, 0.1), 2)
        self.assertEqual(end_of_claim(0.9, 0.1, "unknown"), 1.05)

    def test_what_was_said_is_so(self):
        done = claim(0, "a", 1), of("completed", 0.5, "a", 1)
        self.right(*done, is_now(9, "completed", 1))
        self.wrong(*done, is_now(9, "completed", 2))
        self.wrong(*done, is_now(9, "cancelled"))
        self.wrong(call("cancelled", 0.5), is_now(9, "completed", 5))

    def test_unknown_completion(self):
        unknown = of("completed", 0.5, "a", 1, optional=True)
        self.right(claim(0, "a", 1), unknown, claim(2, "b", 2, attempts=2))
        self.right(claim(0, "a", 1), unknown, is_now(9, "completed", 1))
        self.wrong(claim(0, "a", 1), unknown, is_now(9, "completed", 1), claim(9.5, "b", 2, attempts=2))


class Clocks(unittest.TestCase):
    STEPS = [(10, 10.1, 5), (20, 20.1, -5)]     # begun, done, from the true time

    def reached(self, instant, since, expected):
        self.assertEqual(SteppedClock(self.STEPS).reached(instant, since), expected)

    def test_when_it_comes_to_an_instant(self):
        self.reached(8, 0, 8)
        self.reached(12, 0, 10)         # at once, when it is set forward
        self.reached(17, 0, 12)
        self.reached(17, 13, 13)
        self.reached(27, 0, 32)         # it is set back before
        self.reached(12, 20.05, 20.05)  # while it is being set it may be either
        self.reached(16, 20.2, 21)

    def grants(self, at):
        """A lease for 6 s, and one to another at some time."""
        def acquired(n, agent, at):
            said = {"lease": f"lease {n}", "token": n, "since": at, "at": at, "until": at + 6, "task": None}
            return histories.Call(
                {"at": at, "op": "lease_acquire", "connection": agent, "agent": agent,
                 "asked": {"key": "k", "ttl": 6, "lease": None, "auto": False, "wait": 0}},
                {"outcome": "ok", "done": at + TOOK, "result": said})
        return histories.History([acquired(1, "a", 5), acquired(2, "b", at)])

    def test_a_lease_ends_by_the_clock(self):
        def right(at):
            calls = objects.Objects(self.grants(at), clock=SteppedClock(self.STEPS)).keys["k"]
            return linear.check(models.lease_step, models.FREE, calls).right
        self.assertFalse(right(9.8))
        self.assertTrue(right(10.2))


class LostRelease(unittest.TestCase):
    def violations(self, restarts):
        """A lease, a release whose answer was lost, the same lease again, and one to another within its time."""
        def call(agent, at, op, asked, outcome):
            return histories.Call({"at": at, "op": op, "connection": agent, "agent": agent, "asked": {"key": "k", **asked}},
                                  {"done": at + TOOK, **outcome})

        def acquired(n, agent, at, before=None):
            said = {"lease": f"lease {n}", "token": n, "since": 0 if before else at, "at": at, "until": at + 6, "task": None}
            return call(agent, at, "lease_acquire", {"ttl": 6, "lease": before, "auto": False, "wait": 0}, {"outcome": "ok", "result": said})
        release = call("a", 1, "lease_release", {"lease": "lease 1", "token": 1}, {"outcome": "unknown"})
        found = histories.Violations()
        histories.check_leases(histories.History([acquired(1, "a", 0), release, acquired(1, "a", 2, "lease 1"), acquired(2, "b", 5)],
                                                 restarts), found)
        return len(found)

    def test_it_may_come_late(self):
        self.assertEqual(self.violations([]), 0)
        self.assertEqual(self.violations([4]), 0)

    def test_it_does_not_outlive_the_server(self):
        self.assertEqual(self.violations([1.5]), 1)


class ServerLog(unittest.TestCase):
    """What must not be in the server's log."""

    PANIC = '1 s [7] coord worker  PANIC:  could not write to file "x": No space left on device\n'
    ABORT = '2 s [1] postmaster  LOG:  background worker "coord worker" (PID {}) was terminated by signal {}: Aborted\n'

    def found(self, *excused, lines):
        violations = set()
        with tempfile.NamedTemporaryFile("w") as log, mock.patch.dict(os.environ, COORD_LOG=log.name):
            log.write("".join(lines))
            log.flush()
            common.check_log(violations, *excused)
        return len(violations)

    def test_only_what_was_killed_dies(self):
        self.assertEqual(self.found(lines=[self.ABORT.format(7, 9)]), 0)
        self.assertEqual(self.found(lines=[self.ABORT.format(7, 6), self.ABORT.format(8, 11)]), 2)

    def test_a_full_disk_ends_what_panics(self):
        lines = [self.PANIC, self.ABORT.format(7, 6)]
        self.assertEqual(self.found(lines=lines), 2)
        self.assertEqual(self.found(common.of_full_disk(), lines=lines), 0)

    def test_a_full_disk_ends_nothing_else(self):
        for lines in ([self.ABORT.format(7, 6), self.PANIC], [self.PANIC, self.ABORT.format(7, 11)],
                      [self.PANIC, self.ABORT.format(70, 6)], [self.PANIC.replace("PANIC", "ERROR"), self.ABORT.format(7, 6)],
                      [self.PANIC.replace("No space left on device", "Input/output error")]):
            self.assertEqual(self.found(common.of_full_disk(), lines=lines), 1, lines)


class Watched(unittest.TestCase):
    """What is late is stuck, unless it was locked until just now."""

    def stuck(self, *looks, spans=()):
        """Of looks a tenth of a second apart, each "stuck", "locked" or nothing."""
        violations = set()
        with tempfile.TemporaryDirectory() as directory:
            with open(f"{directory}/watch.jsonl", "w") as file:
                for n, look in enumerate(looks):
                    file.write(json.dumps({"at": n / 10, "valid": True, "untrue": [], "stuck": [], "locked": [],
                                           **({look: [["lease", "l", 1 + n / 10]]} if look else {})}) + "\n")
            churn.check_watch(directory, list(spans), violations)
        return len(violations)

    def test_what_is_free_and_late(self):
        self.assertEqual(self.stuck(None, "stuck", None), 1)
        self.assertEqual(self.stuck(None, "stuck", None, spans=[(0, 0)]), 0)

    def test_what_was_locked(self):
        self.assertEqual(self.stuck("locked", "locked", "locked", None), 0)
        self.assertEqual(self.stuck("locked", "stuck", "stuck", None), 0)
        self.assertEqual(self.stuck("stuck", "locked", "stuck", None), 1)

    def test_what_was_locked_long_ago(self):
        long = churn.STUCK_AFTER * 10 + 2
        self.assertEqual(self.stuck("locked", *["stuck"] * long), 1)
        self.assertEqual(self.stuck("locked", *[None] * long, "stuck"), 1)


class Simulated:
    """A server of one lease and one task, whose calls have an instant each, and begin and
    end around it; some answers are lost."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.now, self.token = 0.0, 0
        self.calls = []

    def around(self):
        self.now += self.random.uniform(0.01, 0.3)
        return self.now - self.random.uniform(0, 0.2), self.now + self.random.uniform(0, 0.2)

    def note(self, op, begin, end, lost=False, **args):
        self.calls.append(call(op, begin, took=end - begin, **args) if not lost else
                          call(op, begin, optional=True, **args))

    def leases(self, n):
        holder, lease, until = None, 0, 0.0
        for _ in range(n):
            begin, end = self.around()
            agent, ttl = self.random.choice("abc"), self.random.choice((0.2, 1.0))
            args = {"agent": agent, "at": self.now, **lasting(self.now, ttl)}
            held = holder is not None and self.now < until
            op = self.random.choice(("acquire", "acquire", "renew", "release", "assert"))
            lost = self.random.random() < 0.1
            name = {"lease": f"lease {lease}", "token": lease}
            if op == "acquire" and not (held and holder != agent):
                if not held:
                    self.token += 1
                    lease = self.token
                holder, until = agent, self.now + ttl
                name = {"lease": f"lease {lease}", "token": lease}
                if lost:
                    self.note("perhaps granted", begin, end, True, agent=agent, over=begin + ttl, agent_until=INFINITY)
                else:
                    self.note("granted", begin, end, **{**args, **name})
            elif op == "acquire" and not lost:
                self.note("not granted", begin, end, agent=agent)
            elif op == "renew" and lease:
                if held and holder == agent:
                    until = self.now + ttl
                    self.note("perhaps renewed" if lost else "renewed", begin, end, lost,
                              **{**args, **name, "over": begin + ttl if lost else until})
                elif not lost and not (held and holder == agent):
                    self.note("is not held", begin, end, agent="nobody", lease="lease 0", token=0)
            elif op == "release" and lease and held and holder == agent:
                holder = None
                self.note("released", begin, end, lost, **{**args, **name})
            elif op == "assert" and held and holder == agent and not lost:
                self.note("asserted", begin, end, **{**args, **name})
        return self.calls

    def task(self, n):
        state, attempts, until, holder, token = "pending", 0, 0.0, None, 0
        for _ in range(n):
            begin, end = self.around()
            args = {"max_attempts": 1000, **lasting(self.now, 1.0)}
            if state == "claimed" and self.now >= until:
                state = "pending"
            lost = self.random.random() < 0.1
            if state == "pending":
                self.token += 1
                token, holder, until, state = self.token, self.random.choice("abc"), self.now + 1.0, "claimed"
                attempts += 1
                self.note("claimed", begin, end, agent=holder, token=token, attempts=attempts, **args)
            else:
                op = self.random.choice(("renewed", "failed", "given back", "completed"))
                if op == "completed" and self.random.random() < 0.8:
                    continue
                if op == "renewed":
                    until = self.now + 1.0
                elif op == "completed":
                    state = "completed"
                else:
                    state = "pending"
                    attempts -= op == "given back"
                name = "perhaps renewed" if lost and op == "renewed" else op
                self.note(name, begin, end, lost, agent=holder, token=token,
                          **{**args, "over": begin + 1.0 if lost else self.now + 1.0})
                if state == "completed":
                    break
        return self.calls


def change(one, **args):
    return Call(one.op, one.start, one.end, one.optional, {**one.args, **args})


class Randomised(Base):
    SEEDS = range(60)

    def test_right_leases(self):
        for seed in self.SEEDS:
            self.assertTrue(self.lease(*Simulated(seed).leases(60)), f"seed {seed}")

    def test_right_tasks(self):
        for seed in self.SEEDS:
            self.assertTrue(self.task(*Simulated(seed).task(60)), f"seed {seed}")

    def mutated(self, calls, op, mutate, rng):
        chosen = [n for n, c in enumerate(calls) if c.op == op and not c.optional]
        if not chosen:
            return None
        n = rng.choice(chosen)
        changed = mutate(calls, n)
        return changed and calls[:n] + changed + calls[n + 1:]

    def refuses_all(self, make, check, op, mutate):
        tried = 0
        for seed in self.SEEDS:
            calls = self.mutated(make(Simulated(seed)), op, mutate, random.Random(seed))
            if calls:
                tried += 1
                self.assertIs(check(*calls), False, f"seed {seed}")
        self.assertGreater(tried, len(self.SEEDS) / 2)

    def test_a_second_holder(self):
        def mutate(calls, n):
            """Somebody gets it in the middle of a grant that nothing may have ended."""
            one = calls[n]
            again = change(one, agent="another", lease="lease x", token=one.token + 0.5, since=one.since + 0.01)
            return [one, again] if one.over - one.since > 0.02 else None
        self.refuses_all(lambda s: [c for c in s.leases(60) if not c.optional and c.op in ("granted", "not granted")],
                         self.lease, "granted", mutate)

    def test_a_token_again(self):
        def mutate(calls, n):
            return [change(calls[n], token=1, lease="lease y")] if calls[n].token > 3 else None
        self.refuses_all(lambda s: s.leases(60), self.lease, "granted", mutate)

    def test_an_attempt_too_few(self):
        def mutate(calls, n):
            return [change(calls[n], attempts=calls[n].attempts - 1)]
        self.refuses_all(lambda s: [c for c in s.task(60) if not c.optional], self.task, "claimed", mutate)

    def test_two_claims_at_once(self):
        def mutate(calls, n):
            one = calls[n]
            return [one, change(one, token=one.token + 0.5, attempts=one.attempts + 1, since=one.since + 0.001)]
        self.refuses_all(lambda s: [c for c in s.task(60) if c.op == "claimed"], self.task, "claimed", mutate)

    def test_a_stale_completion(self):
        def mutate(calls, n):
            return [calls[n], change(call("completed", calls[n].end + 0.001, token=calls[n].token - 1))] \
                if calls[n].token > 1 else None
        self.refuses_all(lambda s: s.task(60), self.task, "claimed", mutate)


if __name__ == "__main__":
    unittest.main()
