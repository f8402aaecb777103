"""The sequential objects that coord is compared with: the lease on a key, and a task.

Time.  A lease ends by itself, so when a call had its instant matters, and not only its
place in the order.  Client and server share the clock, and the server reads it during the
call, mostly once, and says what it read: a grant begins at "since", which is exact.  Where
it says nothing, its reading lies between the call's beginning and its answer.  So each
state has two bounds:

    over    before this instant the lease has not ended, whatever the sweep does: the
            earliest expiry that is possible by what is known, or the end of its agent
    until   from this instant on it has ended

Between the two it may be held or not, which is what a call of unknown outcome leaves
behind, or an agent whose connection has ended.  A grant to somebody else needs "since" not
to be before "over"; whoever is told that he holds it needs the beginning of his call
before "until"; whoever is told that he does not needs his answer not to be before "over".
A lease that nobody ends stays in the state, however long it is over.

A transaction keeps the row that it has written, or asserted, until it ends: "over" is not
before COMMIT was sent.  Where the clock is stepped, all this is in true time: "over" is when the
clock may first have come to what was said, and "until" is never.
"""

from typing import NamedTuple, Optional

INFINITY = float("inf")
EPSILON = 5e-6          # of clock readings, which are stored in microseconds
SWEEP_TAKES = 1.0       # it may have a row locked so long after it was due


# The lease on a key

class Lease(NamedTuple):
    """The current lease, or the last one.  An id "?" is that of a grant which nobody was told.
    Claims that it serves tell its id later, but not its token, since theirs are their own."""
    id: Optional[str] = None
    agent: Optional[str] = None
    token: int = 0
    over: float = -INFINITY
    until: float = -INFINITY
    told: bool = True   # its token; else "token" is an earlier one


FREE = Lease()


def is_it(lease, call):
    """Whether the call's id, or else its token, is that of the current lease."""
    if lease.id == "?":
        return lease.agent == call.agent and (call.token or INFINITY) > lease.token
    return lease.id == call.lease if call.lease else has_token(lease, call)


def has_token(lease, call):
    return lease.token == call.token if lease.told else call.token > lease.token


def named(lease, call):
    """The same lease, if that of an unknown grant is now told."""
    if lease.told:
        return lease
    if not call.claim and call.token:
        lease = lease._replace(token=call.token, told=True)
    return lease._replace(id=call.lease or lease.id)


def keep(lease, call):
    return lease._replace(over=max(lease.over, call.kept)) if call.kept else lease


def granted(lease, call):
    """lease_acquire, or a claim with a resource: renewed if it is the agent's, else granted anew."""
    if is_it(lease, call):
        same = lease.id == "?" or (lease.agent == call.agent and (call.claim or has_token(lease, call)))
        if not same or call.at > lease.until + EPSILON:
            return
        if call.claim:
            yield keep(named(lease, call)._replace(
                over=min(max(lease.over, call.over), call.agent_until), until=max(lease.until, call.until)), call)
        else:
            yield keep(named(lease, call)._replace(over=call.over, until=max(call.until, call.longest)), call)
    if lease.id != call.lease and call.since >= lease.over - EPSILON and call.token > lease.token:
        yield Lease(call.lease, call.agent, call.token, max(call.over, call.kept), max(call.until, call.longest))


def not_granted(lease, call):
    """A refusal is right while another has it, or a transaction, or the sweep, has its row."""
    held = lease.id is not None and lease.agent != call.agent and call.start < lease.until
    swept = call.start - SWEEP_TAKES <= lease.over <= call.answered
    if call.busy or held or swept:
        yield lease


def perhaps_granted(lease, call):
    if lease.id is not None and lease.agent == call.agent:
        yield lease._replace(over=min(lease.over, call.over), until=INFINITY)
    if call.end >= lease.over:
        yield Lease("?", call.agent, lease.token, min(call.over, call.agent_until), INFINITY, False)


def renewed(lease, call):
    """Until the end that was said; but what the agent had before lasts as long as its claim at
    least, and who renews a claim need not have its lease any more."""
    if is_it(lease, call) and call.at <= lease.until + EPSILON:
        over, until = call.over, max(call.until, call.longest)
        if call.claim and not lease.told:
            over, until = min(lease.over, over), INFINITY
        elif call.claim and lease.token != call.token:
            over, until = max(lease.over, over), max(lease.until, until)
        yield keep(named(lease, call)._replace(over=over, until=until), call)
    elif call.claim and not is_it(lease, call):
        yield lease


def perhaps_renewed(lease, call):
    yield lease
    if is_it(lease, call):
        yield lease._replace(over=min(lease.over, call.over), until=INFINITY)


def released(lease, call):
    if is_it(lease, call) and call.start <= lease.until + EPSILON:
        yield FREE._replace(token=lease.token, over=max(call.start, call.kept))


def asserted(lease, call):
    if is_it(lease, call) and call.start <= lease.until + EPSILON:
        yield keep(named(lease, call), call)


def is_not_held(lease, call):
    """What is told to whoever renews, releases or asserts what he does not hold."""
    if lease.id == "?" or not (lease.told or call.lease) or not is_it(lease, call) or call.answered >= lease.over - EPSILON:
        yield lease


def may_have_ended(lease, call):
    """The claim that the lease came with has ended; if the agent had it before, it goes on."""
    if not lease.told or lease.id in call.leases:
        yield lease._replace(over=min(lease.over, max(call.start, call.kept)))
    else:
        yield lease


LEASE_CALLS = {
    "granted": granted, "not granted": not_granted, "perhaps granted": perhaps_granted, "renewed": renewed,
    "perhaps renewed": perhaps_renewed, "released": released, "asserted": asserted, "is not held": is_not_held,
    "may have ended": may_have_ended}


def lease_step(lease, call):
    return LEASE_CALLS[call.op](lease, call)


# A task

class Task(NamedTuple):
    """state: new, pending, claimed, completed, dead, cancelled.  Pending is also who is blocked."""
    state: str = "new"
    token: int = 0      # of its latest claim
    least: int = 0      # attempts
    most: int = 0
    over: float = -INFINITY
    until: float = -INFINITY


NEW = Task()
PENDING = Task("pending")


def created(task, call):
    if task.state == "new":
        yield task._replace(state="pending")


def claimed(task, call):
    """A claim that has run out, swept or not, counts; one that was given back by the end of
    its agent may not.  "hidden" is how many claims there may be that nobody was told of."""
    if task.state == "claimed" and call.since < task.over - EPSILON or task.state not in ("pending", "claimed"):
        return
    least = task.least - (task.state == "claimed" and call.given_back)
    most = min(task.most + 1 + call.hidden, call.max_attempts)
    if call.token > task.token and max(least, 0) + 1 <= call.attempts <= most:
        yield Task("claimed", call.token, call.attempts, call.attempts, max(call.over, call.kept), call.until)


def holds(task, call):
    return task.state == "claimed" and task.token == call.token and call.start <= task.until + EPSILON


def claim_renewed(task, call):
    if holds(task, call):
        yield task._replace(over=max(call.over, call.kept), until=call.until)


def perhaps_claim_renewed(task, call):
    yield task
    if holds(task, call):
        yield task._replace(over=min(task.over, call.over), until=INFINITY)


def completed(task, call):
    if holds(task, call):
        yield task._replace(state="completed")
    elif task.state == "completed" and task.token == call.token:
        yield task


def failed(task, call):
    """Dead if and only if its attempts are used up.  The answer is None, if nobody knows it."""
    if holds(task, call):
        is_dead = task.most >= call.max_attempts
        if call.said_state is None or (call.said_state == "dead") == is_dead:
            yield task._replace(state="dead" if is_dead else "pending")


def given_back(task, call):
    if holds(task, call):
        yield task._replace(state="pending", least=task.least - 1, most=task.most - 1)


def cancelled(task, call):
    if task.state in ("pending", "claimed", "cancelled"):
        yield task._replace(state="cancelled")


def claim_does_not_hold(task, call):
    if task.state != "claimed" or task.token != call.token or call.answered >= task.over - EPSILON:
        yield task


def is_in_the_end(task, call):
    """After the drain.  Its claims and completions are in no history, and tasks that depend on
    others may be cancelled with those."""
    if task.state in ("completed", "cancelled", "dead"):
        if (task.state, task.token if task.state == "completed" else None) == (
                call.state, call.token if task.state == "completed" else None):
            yield task
    elif task.state != "new" and call.state in ("completed", "cancelled", "dead") and \
            (call.state != "completed" or call.token >= task.token):
        yield task._replace(state=call.state, token=call.token or task.token)


TASK_CALLS = {
    "created": created, "claimed": claimed, "renewed": claim_renewed, "perhaps renewed": perhaps_claim_renewed,
    "completed": completed, "failed": failed, "given back": given_back, "cancelled": cancelled,
    "does not hold": claim_does_not_hold, "is": is_in_the_end}


def task_step(task, call):
    return TASK_CALLS[call.op](task, call)
