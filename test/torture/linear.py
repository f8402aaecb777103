"""Whether a history of one object is linearizable: a search in the manner of Wing, Gong and Lowe.

A history is right if each call can be given one instant between its beginning and its
end, so that a sequential object, the model, called in the order of these instants would
have given the same answers.  A call whose outcome nobody knows may have its instant at
any time after its beginning, or none.

The model is a function of a state and a call that gives the states that can follow: none
if the answer is wrong, more than one where the model leaves something open.  States are
hashable.  Which calls have had their instant, and the state that they led to, is met only
once.  Calls of unknown outcome are tried last, since most have no part in what is seen.

Objects are independent of each other, so each is searched by itself.
"""

from dataclasses import dataclass, field

INFINITY = float("inf")
ENOUGH = 300_000        # steps of a search, which needs little more than one for each call


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an object, as its model knows it.  "optional" is one of unknown outcome."""
    op: str
    start: float
    end: float
    optional: bool = False
    args: dict = field(default_factory=dict)

    def __getattr__(self, name):
        try:
            return self.args[name]
        except KeyError:
            raise AttributeError(name) from None

    def __str__(self):
        args = ", ".join(f"{name} {value}" for name, value in self.args.items() if name != "said")
        said = self.args.get("said")
        args += f"; {said.op}: {said.error or said.outcome}" if said else ""
        return f"{self.op} {self.start:.6f} .. {self.end:.6f}{' (unknown)' if self.optional else ''}: {args}"


@dataclass
class Verdict:
    """right is None when the search gave up.  If wrong: how far it came, and with what."""
    right: bool
    steps: int = 0
    state: object = None
    stuck: tuple = ()


class Search:
    def __init__(self, step, calls):
        self.step = step
        self.calls = sorted((c for c in calls if not c.optional), key=lambda c: (c.start, c.end))
        self.optional = sorted((c for c in calls if c.optional), key=lambda c: c.start)
        self.steps = 0
        self.seen = set()
        self.deepest = (-1, None, ())

    def candidates(self, first, done, used, latest):
        """The calls that can be next: those that began before every other one had ended."""
        limit, open_calls = INFINITY, []
        for n in range(first, len(self.calls)):
            call = self.calls[n]
            if call.start > limit:
                break
            if not done >> (n - first) & 1:
                open_calls.append((n, call))
                limit = min(limit, call.end)
        # one that ended first is mostly the one that came first
        found = sorted(((n, c) for n, c in open_calls if c.start <= limit), key=lambda pair: pair[1].end)
        found += [(~n, c) for n, c in enumerate(self.optional)
                  if not used >> n & 1 and c.start <= limit and c.end >= latest]
        return found

    def node(self, first, done, used, latest, state):
        """The choices from here on, unless they were tried already."""
        while done & 1:
            done >>= 1
            first += 1
        key = first, done, used, state
        if key in self.seen:
            return None
        self.seen.add(key)
        found = self.candidates(first, done, used, latest)
        depth = first + done.bit_count()
        if depth > self.deepest[0]:
            self.deepest = depth, state, tuple(c for n, c in found if n >= 0)
        return first, done, used, latest, state, self.choices(found, state)

    def choices(self, found, state):
        for n, call in found:
            for following in self.step(state, call):
                if n >= 0 or following != state:
                    yield n, call, following

    def run(self, state):
        stack = [self.node(0, 0, 0, -INFINITY, state)]
        while stack:
            first, done, used, latest, _, choices = stack[-1]
            if first == len(self.calls):
                return Verdict(True, self.steps)
            if self.steps >= ENOUGH:
                return Verdict(None, self.steps)
            choice = next(choices, None)
            if choice is None:
                stack.pop()
                continue
            self.steps += 1
            n, call, following = choice
            marks = (done | 1 << (n - first), used) if n >= 0 else (done, used | 1 << ~n)
            if node := self.node(first, *marks, max(latest, call.start), following):
                stack.append(node)
        return Verdict(False, self.steps, *self.deepest[1:])


def check(step, state, calls):
    return Search(step, calls).run(state)
