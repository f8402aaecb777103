"""What the fuzzers have found, each kind once, and how often."""

import collections
import threading


class Findings:
    def __init__(self):
        self.lock = threading.Lock()
        self.found = collections.OrderedDict()
        self.seen = collections.Counter()       # errors, by SQLSTATE
        self.calls = collections.Counter()
        self.successes = collections.Counter()

    def add(self, what, *details):
        with self.lock:
            times, first = self.found.get(what, (0, details))
            self.found[what] = (times + 1, first)

    def report(self):
        for what, (times, details) in self.found.items():
            print(f"FOUND ({times} times): {what}")
            for detail in details:
                print("    " + str(detail)[:2000])
        print(f"{len(self.found)} findings")
