"""The calls on each object of a history, as linear.py wants them, and the verdict on each.

What a call says of several objects becomes a call of each: a claim with a resource is one
of a task and of a lease.  A call that may have happened, and whose objects nobody knows (a
next-claim without an answer), may have been one of any.
"""

import bisect
from collections import defaultdict

import linear
import models
from clocks import TrueClock
from history import ENDS_CLAIM, INFINITY
from linear import Call

GONE_AFTER = 10         # seconds after which nothing is left of a call without an answer, but its effect


class Objects:
    """The calls on each lease's key, and on each task.  "disturbed" are spans of time in
    which rows may have been locked by who was held up; "clock" is the server's."""

    def __init__(self, history, disturbed=(), clock=TrueClock()):
        self.history, self.clock = history, clock
        self.disturbed = list(disturbed)
        self.keys, self.tasks = defaultdict(list), defaultdict(list)
        self.busy = defaultdict(list)           # key -> spans in which it may be locked
        self.unknown_claims = [c for c in history.calls if c.op == "task_claim" and c.outcome == "unknown"]
        self.claims = {}                        # (task, token) -> what was said of it
        self.auto = {}                          # lease -> until when the server may renew it
        for call in history.calls:
            if call.op == "task_claim" and call.result:
                self.claims.update({(claim["task"], claim["token"]): claim for claim in call.result})
            if call.op == "lease_acquire" and call.result and call.asked["auto"]:
                self.auto[call.result["lease"]] = INFINITY
        for call in history.calls:
            getattr(self, call.op, self.ignore)(call)
        for calls in self.keys.values():
            calls += [c for call in self.unknown_claims if not call.result for c in [self.perhaps_granted(call, None)]]
        for calls in [*self.keys.values(), *self.tasks.values()]:
            self.keep_at_last(calls)
        self.mark_busy()
        self.count_hidden()

    def ignore(self, call):
        """A call that is none of a lease or a task."""

    def add(self, calls, op, call, **args):
        optional = call.outcome == "unknown"
        end = self.history.gone(call) if optional else call.done
        calls.append(Call(op, call.at, end, optional, {
            "agent": call.agent, "lease": None, "token": None, "claim": False, "said": call,
            "answered": min(call.answered, end), "kept": call.kept, **args}))

    def bounds(self, call, until, agent_until=INFINITY):
        """The earliest and the latest end of what was said to last until then, in true time."""
        if self.clock.is_true:
            return self.history.cut(call.agent, call.at, min(until, agent_until)), until
        if call.outcome == "unknown":
            return -INFINITY, INFINITY
        return self.history.cut(call.agent, call.at, min(self.clock.reached(until, call.at), agent_until)), INFINITY

    def occupy(self, key, call):
        self.busy[key].append((call.at, min(call.done, call.at + GONE_AFTER), call))

    # Leases

    def lease_acquire(self, call):
        key, result = call.asked["key"], call.result
        self.occupy(key, call)
        if result and call.may_have_happened():
            of_claim = result["task"] is not None
            over, until = self.bounds(call, result["until"], call.at if of_claim else INFINITY)
            self.add(self.keys[key], "granted", call, lease=result["lease"], token=result["token"],
                     since=self.reading(result["since"], call.answered), at=self.reading(result["at"], call.at),
                     over=over, until=until, longest=self.auto.get(result["lease"], until), claim=of_claim,
                     agent_until=call.at)
        elif call.outcome == "ok":
            self.add(self.keys[key], "not granted", call, busy=False)
        elif call.outcome == "unknown":
            self.keys[key].append(self.perhaps_granted(call, call.asked["ttl"]))

    def reading(self, clock, otherwise):
        return clock if self.clock.is_true else otherwise

    def perhaps_granted(self, call, ttl):
        over = self.bounds(call, call.at + (ttl or 0))[0]
        return Call("perhaps granted", call.at, self.history.gone(call), True, {
            "agent": call.agent, "over": over, "agent_until": over if ttl is None else INFINITY, "said": call})

    def of_lease(self, call, op, unknown=None, **args):
        """A call that names a lease by its id or its token."""
        key = call.asked["key"]
        self.occupy(key, call)
        names = {"lease": call.asked["lease"], "token": call.asked.get("token")}
        if call.outcome == "refused":
            # by what its own transaction had done before, perhaps
            if "belongs to a claim" not in call.error and not call.follows:
                self.add(self.keys[key], "is not held", call, **names)
        elif call.outcome == "ok" or call.outcome == "unknown" and unknown:
            self.add(self.keys[key], op if call.outcome == "ok" else unknown, call, **names, **args)

    def lease_renew(self, call):
        until = call.result["until"] if call.result else call.at + call.asked["ttl"]
        over, until = self.bounds(call, until)
        self.of_lease(call, "renewed", "perhaps renewed", over=over, until=until,
                      at=self.reading((call.result or {}).get("at", call.at), call.at),
                      longest=self.auto.get(call.asked["lease"], until))

    def lease_release(self, call):
        self.of_lease(call, "is not held" if call.result is False else "released", "released")

    def lease_assert(self, call):
        self.of_lease(call, "asserted")

    def fenced_write(self, call):
        """The trigger asserts; guarded_write has asserted before, and may take place later."""
        self.of_lease(call, "asserted")

    # Claims

    def task_create(self, call):
        if call.outcome == "ok":
            self.add(self.tasks[call.result], "created", call)

    def task_claim(self, call):
        for claim in call.result or []:
            if claim["lease"]:
                self.occupy(claim["key"], call)
            if not call.may_have_happened():
                continue
            agent_until = self.agent_end(claim)
            over, until = self.bounds(call, claim["until"], agent_until)
            args = {"token": claim["token"], "since": self.reading(claim["since"], call.answered), "over": over,
                    "until": until}
            self.add(self.tasks[claim["task"]], "claimed", call, attempts=claim["attempts"],
                     max_attempts=claim["max_attempts"], hidden=0, given_back=False, **args)
            if claim["lease"]:
                self.add(self.keys[claim["key"]], "granted", call, lease=claim["lease"], claim=True, longest=until,
                         at=self.reading(claim["since"], call.at), agent_until=agent_until, **args)

    def agent_end(self, claim):
        """Until when its agent lasts at least; with a stepped clock a heartbeat may move that back."""
        return self.reading(claim.get("agent_until") or INFINITY, -INFINITY)

    def of_claim(self, call, op, unknown=None, **args):
        """A call that names a claim by its token."""
        task, token = call.asked["task"], call.asked["token"]
        claim = self.claims.get((task, token))
        if claim and claim["lease"]:
            self.occupy(claim["key"], call)
        if call.outcome == "refused":
            if call.error.startswith("55000") and not call.follows:
                self.add(self.tasks[task], "does not hold", call, token=token)
        elif call.may_have_happened():
            self.add(self.tasks[task], op if call.outcome == "ok" else unknown or op, call, token=token, **args)
            if claim and claim["lease"]:
                self.of_claims_lease(call, claim, **args)

    def of_claims_lease(self, call, claim, **args):
        calls = self.keys[claim["key"]]
        if call.op in ENDS_CLAIM:
            self.add(calls, "may have ended", call, leases=(claim["lease"],))
        else:
            self.add(calls, "renewed" if call.outcome == "ok" else "perhaps renewed", call, lease=claim["lease"],
                     token=claim["token"], claim=True, at=call.at, longest=args["until"], **args)

    def task_renew(self, call):
        claim = self.claims.get((call.asked["task"], call.asked["token"]), {})
        # no instant: it had run out again when the row was read
        until = (call.result or {}).get("until") or call.at + call.asked["ttl"]
        over, until = self.bounds(call, until, self.agent_end(claim))
        self.of_claim(call, "renewed", "perhaps renewed", over=over, until=until)

    def task_complete(self, call):
        self.of_claim(call, "completed")

    def task_fail(self, call):
        claim = self.claims[(call.asked["task"], call.asked["token"])]
        self.of_claim(call, "failed", max_attempts=claim["max_attempts"], said_state=call.result)

    def task_release(self, call):
        self.of_claim(call, "given back")

    def task_cancel(self, call):
        task = call.asked["task"]
        if not call.may_have_happened():
            return
        self.add(self.tasks[task], "cancelled", call)
        leases = defaultdict(list)
        for (of, _), claim in self.claims.items():
            if of == task and claim["lease"]:
                leases[claim["key"]].append(claim["lease"])
        for key, ids in leases.items():
            self.occupy(key, call)
            self.add(self.keys[key], "may have ended", call, leases=tuple(ids))

    # What is known only when all calls are

    @staticmethod
    def keep_at_last(calls):
        """A transaction keeps what it has from others, not from itself."""
        last = {}
        for call in sorted((c for c in calls if c.args.get("kept")), key=lambda c: c.start):
            transaction = call.said.connection, call.kept
            if transaction in last:
                last[transaction].args["kept"] = 0
            last[transaction] = call

    def mark_busy(self):
        """When a refusal tells nothing, since somebody may have had the row locked.  Where the clock is
        stepped, the sweep may come to a row at any time."""
        everywhere = [(c.at, c.at + GONE_AFTER, c) for c in self.unknown_claims]
        everywhere += [(c.at, min(c.done, c.at + GONE_AFTER), c) for c in self.history.calls if c.op == "agent_retire"]
        everywhere += [(since, until, None) for since, until in self.disturbed]
        for key, calls in self.keys.items():
            spans = self.busy[key] + everywhere
            for call in calls:
                if call.op == "not granted":
                    call.args["busy"] = not self.clock.is_true or any(
                        since <= call.answered and until >= call.start and who is not call.said
                        for since, until, who in spans)

    def count_hidden(self):
        """How many claims of a task there may be that nobody was told of."""
        instants = sorted(call.at for call in self.unknown_claims)
        retired = {agent for agent, spans in self.history.retired.items() if spans}
        for calls in self.tasks.values():
            last, holders = 0, set()
            for call in sorted((c for c in calls if c.op == "claimed"), key=lambda c: c.start):
                call.args["hidden"] = bisect.bisect_right(instants, call.end) - bisect.bisect_left(instants, last)
                call.args["given_back"] = bool(holders & retired) or call.args["hidden"] > 0
                last = call.start - GONE_AFTER
                holders.add(call.agent)

    def end(self, tasks, at):
        """tasks: id -> (state, token), as they are after the drain, at the instant "at".  What is not there
        was never created, if nobody has been told of it for sure."""
        for task, calls in self.tasks.items():
            if task not in tasks and all(call.optional for call in calls):
                continue
            state, token = tasks.get(task, ("lost", None))
            calls.append(Call("is", at, at, False, {"state": state, "token": token, "said": None}))


def check(objects, violations, happened):
    """One violation for each object whose history is not linearizable."""
    for what, step, histories in (("lease on", models.lease_step, objects.keys),
                                  ("task", models.task_step, objects.tasks)):
        for name, calls in histories.items():
            created = any(call.op == "created" and not call.optional for call in calls)
            start = models.FREE if what == "lease on" else models.NEW if created else models.PENDING
            verdict = linear.check(step, start, calls)
            happened[f"{what.split()[0]} histories"] += 1
            happened["calls in them"] += len(calls)
            happened["undecided"] += verdict.right is None
            if verdict.right is False:
                violations.add(f"{what} {name} is not linearizable: after {verdict.state} there can be none of",
                               *verdict.stuck, *around(calls, verdict.stuck))


def around(calls, stuck):
    """What else was said shortly before, to be read by a person."""
    if not stuck:
        return []
    at = min(call.start for call in stuck)
    before = sorted((c for c in calls if c not in stuck and c.start <= max(s.end for s in stuck)
                     and c.end >= at - 3), key=lambda c: c.start)
    return ["    (around it:)", *before[-12:]]
