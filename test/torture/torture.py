#!/usr/bin/python3
"""The whole torture: runs of every kind, one after another or side by side, each with a seed.

    test/torture/torture.py [--seconds N] [--seed N] [--kinds KIND,...] [--lanes N] [--keep DIRECTORY]

"make torture" starts this.  A kind is a load, or a nemesis of churn.py:

    plain       leases and claims; clients, backends, the worker and the server are killed and
                paused, connections cut and stalled
    queue       queues.py: no task is stranded, passed over, lost or claimed twice
    events      events.py: no event is missed, doubled or out of order
    disk        leases and claims on a disk that gets full
    clock       the same, and the server's clock is stepped
    failover    the same, and a synchronous standby takes over

Each run has a cluster of its own, drains it and checks what was seen, so that what is found is
found within minutes.  A run is repeated by its kind, its seconds and its seed, which are
printed; the seed decides what is tried, not how it falls out.  Which kinds cannot be had
here is said, and why.  Ends with the line "N violations", and with status 1 when there was one.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cluster

HERE = Path(__file__).parent
# Of how many seconds of each kind a round consists, in a short run and in a long one.
SHORT = {"plain": 16, "queue": 12, "events": 12, "failover": 8, "disk": 6, "clock": 6}
LONG = {"plain": 120, "queue": 60, "events": 60, "failover": 90, "disk": 60, "clock": 60}
NEMESES = ("plain", "disk", "clock", "failover")


class Run:
    """One run of a kind, as a process of its own."""

    def __init__(self, kind, seconds, seed, keep):
        self.kind, self.seconds, self.seed = kind, seconds, seed
        self.keep = f"{keep}/{kind}-{seed}" if keep else None
        self.violations = None
        self.output = ""

    def run(self):
        began = time.monotonic()
        options = ["--seconds", str(self.seconds), "--seed", str(self.seed)]
        if self.kind in NEMESES:
            command = [HERE / "churn.py", "--nemesis", self.kind, *options]
            command += ["--keep", self.keep] if self.keep else []
        else:
            command = [HERE / "torture.py", "--here", self.kind, *options]
        done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              stdin=subprocess.DEVNULL, text=True, errors="replace")
        found = re.findall(r"^(\d+) violations$", done.stdout, re.MULTILINE)
        # one that came to no end, or in which hardly anything happened, is wrong, too
        self.violations = int(found[-1]) if found else 1
        self.failed = self.violations > 0 or done.returncode != 0
        self.output = done.stdout
        self.took = time.monotonic() - began

    def __str__(self):
        return f"KINDS={self.kind} SECONDS={self.seconds} SEED={self.seed}"


class Lanes:
    """Runs side by side, until there are no more, or the first that finds something."""

    def __init__(self, runs, lanes):
        self.runs, self.done = iter(runs), []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.lane) for _ in range(lanes)]

    def next(self):
        with self.lock:
            return None if any(run.violations for run in self.done) else next(self.runs, None)

    def lane(self):
        while run := self.next():
            run.run()
            with self.lock:
                self.done.append(run)
                print(f"== {run}: {run.violations} violations{', failed' * run.failed}, {run.took:.0f} s")
                print(run.output if run.failed else summary(run.output), flush=True)

    def work(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        return self.done


def summary(output):
    """The line that says what happened."""
    return next((line for line in reversed(output.splitlines()) if ", " in line), "")


def plan(options, kinds):
    """Rounds of all kinds, until the time is over; a short run is one round, cut to size."""
    whole = sum(LONG[kind] for kind in kinds)
    short = options.seconds * options.lanes < whole
    sizes = SHORT if short and len(kinds) > 1 else LONG
    until = time.monotonic() + options.seconds
    seed = options.seed
    while True:
        for kind in kinds:
            seconds = sizes[kind] if len(kinds) > 1 else min(options.seconds, 600)
            yield Run(kind, seconds, seed, options.keep)
            if not short and time.monotonic() > until:
                return
        seed += 1
        if short or time.monotonic() > until:
            return


def here(kind, options):
    """A load that comes with no cluster, on a plain one."""
    program = {"queue": "queues.py", "events": "events.py"}[kind]
    with tempfile.TemporaryDirectory(dir=os.environ.get("COORD_WORK")) as place, \
            cluster.Cluster(place, place, "plain", fsync=options.seconds >= 60):
        # a restart takes long, and a short run has crashes
        short = ["--no-restart"] if options.seconds < 60 else []
        return subprocess.run([sys.executable, HERE / program, "--seconds", str(options.seconds),
                               "--seed", str(options.seed), *short]).returncode


def available(kinds):
    """Those that can be had; of the others it is said why not."""
    found = []
    for kind in kinds:
        if why := cluster.lacks(kind):
            print(f"skipped: {kind}: {why}", flush=True)
        else:
            found.append(kind)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--seed", type=int, default=random.randrange(10 ** 6))
    parser.add_argument("--kinds", default=",".join(LONG), help="of these: %(default)s")
    parser.add_argument("--lanes", type=int, default=2, help="runs side by side")
    parser.add_argument("--keep", metavar="DIRECTORY", help="leave histories and logs there")
    parser.add_argument("--here", metavar="KIND", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        sys.exit(here(options.here, options))
    print(f"seed {options.seed}", flush=True)
    kinds = available(options.kinds.split(","))
    done = Lanes(plan(options, kinds), min(options.lanes, len(kinds))).work()
    for run in done:
        if run.failed:
            print(f"once more: make torture {run}")
    print(f"{sum(run.violations for run in done)} violations", flush=True)
    sys.exit(1 if any(run.failed for run in done) or not done else 0)


if __name__ == "__main__":
    main()
