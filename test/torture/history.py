"""What the clients of the torture wrote down, and whether it can be true.

A history is a file of JSON lines, one for each process.  A call makes two: one before
it is sent, and one when its outcome is known.

    ok        it was committed, and "result" is what was said
    refused   an error of the kind that a call may give, so nothing has happened
    undone    rolled back with its transaction
    unknown   the connection broke; so is a call without an outcome, whose client died

A call in a transaction is "done" when that is, "answered" before, and "kept" is when
COMMIT was sent.

Here spans of time are compared: something was held from the instant that the server named
until the earliest end that is possible by what the client knew.  Client and server share
the clock.  What follows from the order of calls is checked by linear.py.
"""

import glob
import json
from collections import Counter, defaultdict

INFINITY = float("inf")
ENDS_CLAIM = ("task_complete", "task_fail", "task_release", "task_cancel")


class Call:
    """One call: what was asked, when, and what came of it."""

    def __init__(self, record, outcome):
        self.at, self.op, self.connection, self.agent, self.asked = (
            record[key] for key in ("at", "op", "connection", "agent", "asked"))
        self.outcome = outcome.get("outcome", "unknown")
        self.done = outcome.get("done", INFINITY)
        self.answered = outcome.get("answered", self.done)
        self.kept = outcome.get("kept") or 0
        self.result = outcome.get("result")
        self.error = outcome.get("error")
        self.follows = outcome.get("follows", 0)        # how many of its transaction

    def may_have_happened(self):
        return self.outcome in ("ok", "unknown")

    def __str__(self):
        return json.dumps({"at": self.at, **{key: value for key, value in vars(self).items() if key != "at"}})


class Holding:
    """Something that one held: a lease on a key, or a claim of a task."""

    def __init__(self, holder, token, start):
        self.holder, self.token, self.start = holder, token, start
        self.end = start
        self.calls = []


def read_lines(path):
    """The last line of a client that was killed may be half a one."""
    with open(path) as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def load(directory):
    calls = []
    for path in sorted(glob.glob(f"{directory}/client-*.jsonl")):
        asked, outcomes = {}, {}
        for record in read_lines(path):
            (outcomes if "outcome" in record else asked)[record["n"]] = record
        calls += [Call(record, outcomes.get(n, {})) for n, record in asked.items()]
    return sorted(calls, key=lambda call: call.at)


class History:
    """All calls, and what was held by them."""

    def __init__(self, calls, restarts=()):
        self.calls = calls
        self.restarts = sorted(restarts)        # when all that had been begun before was over
        self.ok = [call for call in calls if call.outcome == "ok"]
        self.retired = defaultdict(list)        # agent -> when it may have been retired: since, until
        self.heard = {}                         # connection -> its last answer
        self.attached = {}                      # connection -> whose agent ends with it
        for call in calls:
            if call.op == "agent_retire" and call.may_have_happened():
                self.retired[call.agent].append((call.at, self.gone(call) if call.outcome == "unknown" else call.at))
            if call.outcome in ("ok", "refused"):
                self.heard[call.connection] = max(self.heard.get(call.connection, 0), call.done)
            if call.op == "agent_attach" and call.may_have_happened():
                self.attached[call.connection] = call.agent
        self.last_heard = {agent: self._life(agent) for agent in self.attached.values()}
        self.leases = self._leases()
        self.claims = self._claims()

    def _life(self, agent):
        return sorted(self.heard.get(c, 0) for c, of in self.attached.items() if of == agent)

    def gone(self, call):
        """When a call without an answer cannot take effect any more."""
        return next((at for at in self.restarts if at >= call.at), INFINITY)

    def cut(self, agent, since, until):
        """The earliest end that the agent may have had after an instant."""
        ends = [max(begin, since) for begin, end in self.retired[agent] if end >= since]
        ends += [at for at in self.last_heard.get(agent, []) if at >= since]
        return min([until, *ends])

    def _leases(self):
        """key -> {lease id -> Holding}, of what lease_acquire gave."""
        keys = defaultdict(dict)
        released = {}       # lease id -> until when a release of it may take effect
        for call in self.calls:
            result = call.result or {}
            if call.op == "lease_acquire" and call.outcome == "ok" and result and not result["task"]:
                held = keys[call.asked["key"]].setdefault(
                    result["lease"], Holding(call.agent, result["token"], result["since"]))
                # a release whose connection broke may be on its way still
                held.end = min(result["until"], call.at) if released.get(result["lease"], 0) > call.at else result["until"]
                held.calls.append(call)
            elif call.op in ("lease_renew", "lease_release", "lease_acquire") and call.asked.get("lease"):
                held = keys[call.asked["key"]].get(call.asked["lease"])
                if held is None or not call.may_have_happened() or call.asked["lease"] in released:
                    continue
                if call.op == "lease_acquire" and call.outcome == "ok" and \
                        result.get("lease") != call.asked["lease"]:
                    continue            # it was over, and another one was given, or none
                held.calls.append(call)
                if call.op == "lease_release":
                    held.end = min(held.end, call.at)
                    released[call.asked["lease"]] = self.gone(call) if call.outcome == "unknown" else call.done
                elif call.outcome == "ok" and "until" in result:
                    held.end = result["until"]
                elif call.outcome == "unknown":
                    held.end = min(held.end, call.at + call.asked["ttl"])
        for leases in keys.values():
            for held in leases.values():
                held.end = self.cut(held.holder, held.start, held.end)
        return keys

    def _claims(self):
        """task -> {token -> Holding}"""
        tasks = defaultdict(dict)
        cancels = defaultdict(list)
        for call in self.calls:
            if call.op == "task_claim" and call.outcome == "ok":
                for claim in call.result:
                    held = Holding(call.agent, claim["token"], claim["since"])
                    held.end = min(claim["until"], claim["agent_until"] or INFINITY)
                    held.agent_until = claim["agent_until"] or INFINITY
                    held.key, held.lease = claim["key"], claim["lease"]
                    held.calls.append(call)
                    if claim["token"] in tasks[claim["task"]]:
                        held.calls += tasks[claim["task"]][claim["token"]].calls
                        held.given_twice = True
                    tasks[claim["task"]][claim["token"]] = held
            elif call.op == "task_cancel" and call.may_have_happened():
                cancels[call.asked["task"]].append(call)
            elif call.op.startswith("task_") and call.asked.get("token") and call.may_have_happened():
                held = tasks[call.asked["task"]].get(call.asked["token"])
                if held is None:
                    continue
                held.calls.append(call)
                if call.op in ENDS_CLAIM:
                    held.end = min(held.end, call.at)
                elif call.outcome == "ok":
                    # no instant: it had run out again when the row was read
                    held.end = min(call.result["until"] or call.at + call.asked["ttl"], held.agent_until)
                elif call.outcome == "unknown":
                    held.end = min(held.end, call.at + call.asked["ttl"])
        for task, claims in tasks.items():
            for held in claims.values():
                held.end = self.cut(held.holder, held.start, held.end)
                for cancel in cancels[task]:
                    ended = self.gone(cancel) if cancel.outcome == "unknown" else cancel.done
                    if ended >= held.start:
                        held.end = min(held.end, max(cancel.at, held.start))
        return tasks


class Violations:
    def __init__(self):
        self.found = []

    def add(self, what, *calls):
        self.found.append((what, calls))

    def __len__(self):
        return len(self.found)

    def show(self, most=50):
        for what, calls in self.found[:most]:
            print(f"VIOLATION: {what}")
            for call in calls:
                print(f"    {call}")
        if len(self) > most:
            print(f"... and {len(self) - most} more")


def check_one_after_another(violations, what, holdings):
    """No two overlap, and tokens grow."""
    holdings = sorted(holdings, key=lambda held: (held.start, held.token))
    for before, after in zip(holdings, holdings[1:]):
        if after.start < before.end:
            violations.add(f"{what}: token {after.token} from {after.start:.6f} on, "
                           f"token {before.token} until {before.end:.6f}", *before.calls, *after.calls)
        if after.token <= before.token:
            violations.add(f"{what}: token {after.token} was given after {before.token}",
                           *before.calls, *after.calls)


def check_leases(history, violations):
    """A lease on a key comes from lease_acquire, or with a claim, or from the one
    and serves the other."""
    keys = {key: dict(leases) for key, leases in history.leases.items()}
    for task, claims in history.claims.items():
        for claim in claims.values():
            if claim.lease is None:
                continue
            held = keys.setdefault(claim.key, {}).get(claim.lease)
            if held is None:
                keys[claim.key][claim.lease] = claim
            elif held.holder != claim.holder:
                violations.add(f"lease {claim.lease} is of two agents", *held.calls, *claim.calls)
    for key, leases in keys.items():
        check_one_after_another(violations, f"lease on {key!r}", leases.values())


def check_claims(history, violations):
    for task, claims in history.claims.items():
        check_one_after_another(violations, f"claim of {task}", claims.values())
        for held in claims.values():
            if hasattr(held, "given_twice"):
                violations.add(f"token {held.token} was given twice for {task}", *held.calls)


def check_tokens(history, violations):
    """A token is that of one lease, or of one claim, or of a claim and its lease."""
    leases, claims = {}, {}
    for held_leases in history.leases.values():
        for lease, held in held_leases.items():
            if leases.setdefault(held.token, lease) != lease:
                violations.add(f"token {held.token} is of two leases", *held.calls)
    for task, held_claims in history.claims.items():
        for token, held in held_claims.items():
            if claims.setdefault(token, task) != task:
                violations.add(f"token {token} is of two tasks, {claims[token]} and {task}", *held.calls)
            if leases.get(token, held.lease) != held.lease:
                violations.add(f"token {token} is of a claim and of another lease", *held.calls)


def check_grants(history, violations):
    """A grant that began after another one was known has a higher token, whatever they are of."""
    grants = [(call, call.result["token"]) for call in history.ok if call.op == "lease_acquire" and call.result
              and call.result["since"] == call.result["at"] and not call.result["task"]]
    grants += [(call, claim["token"]) for call in history.ok if call.op == "task_claim" for claim in call.result]
    known = sorted(grants, key=lambda grant: grant[0].done)
    n, highest, whose = 0, 0, None
    for call, token in sorted(grants, key=lambda grant: grant[0].at):
        while n < len(known) and known[n][0].done < call.at:
            if known[n][1] > highest:
                whose, highest = known[n]
            n += 1
        if token <= highest:
            violations.add(f"token {token} was given after {highest}", whose, call)


def check_writes(history, violations):
    """Nobody has written a guarded row after somebody with a higher token; and nobody was granted
    the key between an assertion and the end of its transaction."""
    for call in history.ok:
        if call.op in ("guarded_write", "fenced_write") and call.result > call.asked["token"]:
            violations.add(f"the row of {call.asked['key']} was written with token {call.asked['token']} "
                           f"after {call.result}", call)


def check_completions(history, violations):
    by_task = defaultdict(list)
    for call in history.ok:
        if call.op == "task_complete":
            by_task[call.asked["task"]].append(call)
    for task, calls in by_task.items():
        if len({call.asked["token"] for call in calls}) > 1:
            violations.add(f"{task} was completed with two tokens", *calls)


def check_tasks(history, tasks, violations):
    """tasks: id -> list of (state, token), as they are after the drain.  What was
    acknowledged is so."""
    for call in history.ok:
        if call.op == "task_create":
            found = tasks.get(call.result, [])
            if len(found) != 1 or found[0][0] not in ("completed", "dead", "cancelled"):
                violations.add(f"task {call.result} was created, and is {found} in the end", call)
        elif call.op == "task_complete" and tasks.get(call.asked["task"]) != [("completed", call.asked["token"])]:
            violations.add(f"task {call.asked['task']} was completed, and is {tasks.get(call.asked['task'])}", call)
        elif call.op == "task_cancel" and [state for state, _ in tasks.get(call.asked["task"], [])] != ["cancelled"]:
            violations.add(f"task {call.asked['task']} was cancelled, and is {tasks.get(call.asked['task'])}", call)


def check_expiries(history, announced, violations):
    """announced: lease id -> how many lock.expired it has.  A lease that nobody can
    have ended has exactly one, a released one has none."""
    for lease, count in announced.items():
        if count > 1:
            violations.add(f"lease {lease} has {count} lock.expired")
    for leases in history.leases.values():
        for lease, held in leases.items():
            ended = [call for call in held.calls if call.op == "lease_release"]
            if any(call.outcome == "ok" and call.result is True for call in ended) and announced.get(lease):
                violations.add(f"lease {lease} was released, and lock.expired was sent", *held.calls)
            if not ended and not history.retired[held.holder] and held.holder not in history.last_heard \
                    and announced.get(lease, 0) != 1:
                violations.add(f"lease {lease} ran out, and has {announced.get(lease, 0)} lock.expired", *held.calls)


def check_errors(history, violations):
    for call in history.calls:
        if call.outcome == "unexpected":
            violations.add(f"{call.op} failed: {call.error}", call)


def counts(history):
    """How often each thing really happened."""
    happened = Counter(call.op for call in history.ok)
    happened["lease_acquire"] = sum(map(len, history.leases.values()))
    happened["task_claim"] = sum(map(len, history.claims.values()))
    happened["depends_on"] = sum(bool(c.asked["depends_on"]) for c in history.ok if c.op == "task_create")
    happened["resource_key"] = sum(held.lease is not None for claims in history.claims.values()
                                   for held in claims.values())
    happened["run_at"] = sum(bool(c.asked["later"]) for c in history.ok if c.op == "task_create")
    happened["waited"] = sum(bool(c.asked.get("wait")) and bool(c.result) for c in history.ok)
    for outcome in ("refused", "undone", "unknown"):
        happened[outcome] = sum(call.outcome == outcome for call in history.calls)
    return happened
