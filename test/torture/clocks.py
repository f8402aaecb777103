"""The server's clock, as the checker knows it: the true time, or stepped at known instants."""

INFINITY = float("inf")


class TrueClock:
    is_true = True

    def reached(self, instant, since):
        return instant


class SteppedClock:
    """"steps" are when each was begun and done, and how far from the true time the clock is
    from then on.  In between it shows the one or the other."""

    is_true = False

    def __init__(self, steps):
        self.steps = [(-INFINITY, -INFINITY, 0), *steps]

    def reached(self, instant, since):
        """The earliest true time, from "since" on, at which the clock may have come to an instant."""
        ends = [done for _, done, _ in self.steps[1:]] + [INFINITY]
        times = [(max(begun, since, instant - offset), end) for (begun, _, offset), end in zip(self.steps, ends)]
        return min((at for at, end in times if at <= end), default=INFINITY)
