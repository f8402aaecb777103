#!/usr/bin/python3
"""Workers that listen to a queue, claim until there is nothing, and wait for a notification.

    test/torture/listening.py [--seconds N] [--seed N] [--clients N]

Somebody creates tasks, in transactions that commit or not, some to be run a little later,
and waits until they are done before he creates more, so that nothing else makes up for a
wake-up that was lost; others claim and roll back.  A worker that has waited for seconds
and then finds something to claim has lost one.
"""

import random
import select
import sys
import threading
import time
from collections import Counter

import common
from common import ask, connect_at_last, rows
from history import Violations

PATIENCE = 15           # seconds; each task is claimable long before
CLAIM = "SELECT id, fencing_token FROM coord.task_claim(%s, 'listened')"


class Run:
    def __init__(self, options):
        self.options = options
        self.happened = Counter()
        self.violations = Violations()
        self.until = time.time() + options.seconds
        self.over = threading.Event()

    def agent(self, db, name):
        return rows(db, "SELECT id FROM coord.agent_register(%s, heartbeat_timeout => '1 h')", name)[0][0]

    def work_off(self, db, agent, rng):
        n = 0
        while found := rows(db, CLAIM, agent):
            what = rng.choices(("complete", "release", "fail"), (8, 1, 1))[0]
            arguments = ", retry_in => '5 ms'" if what == "fail" else ""
            rows(db, f"SELECT coord.task_{what}(%s, %s{arguments})", *found[0])
            self.happened[what] += 1
            n += 1
        return n

    def works(self, number):
        rng = random.Random(f"{self.options.seed} works {number}")
        db = connect_at_last("works")
        agent = self.agent(db, f"works {number}")
        rows(db, "SELECT coord.queue_listen('listened')")
        self.work_off(db, agent, rng)
        while not self.over.is_set():
            woken = select.select([db], [], [], PATIENCE)[0]
            db.poll()
            self.happened["notifications"] += len(db.notifies)
            db.notifies.clear()
            n = self.work_off(db, agent, rng)
            if not woken and n > 0:
                self.violations.add(f"worker {number} was not told of {n} tasks")

    def undoes(self, number):
        rng = random.Random(f"{self.options.seed} undoes {number}")
        db = connect_at_last("undoes")
        agent = self.agent(db, f"undoes {number}")
        while not self.over.is_set():
            rows(db, "BEGIN")
            rows(db, "SAVEPOINT s")
            self.happened["undone claims"] += len(rows(db, CLAIM, agent))
            time.sleep(rng.uniform(0, 0.004))
            rows(db, rng.choice(("ROLLBACK", "ROLLBACK TO s; COMMIT")))
            time.sleep(rng.uniform(0, 0.004))

    def creates(self):
        rng = random.Random(f"{self.options.seed} creates")
        db = connect_at_last("creates")
        while time.time() < self.until:
            rows(db, "BEGIN")
            for _ in range(rng.choice((1, 1, 2, 30))):
                rows(db, "SELECT coord.task_create('t', queue => 'listened', max_attempts => 1000, "
                         "run_at => clock_timestamp() + %s * interval '1 ms')", rng.choice((0, 0, 0, rng.uniform(0, 20))))
                self.happened["created"] += 1
            rows(db, rng.choice(("COMMIT", "COMMIT", "COMMIT", "ROLLBACK")))
            while rows(db, "SELECT FROM coord.task WHERE queue = 'listened' AND state IN ('pending', 'claimed') LIMIT 1"):
                time.sleep(0.002)
        self.over.set()


def main():
    options = common.parser(__doc__, 3).parse_args()
    ask("CREATE EXTENSION IF NOT EXISTS coord")
    run = Run(options)
    threads = [threading.Thread(target=run.works, args=(n,)) for n in range(options.clients)]
    threads += [threading.Thread(target=run.undoes, args=(0,)), threading.Thread(target=run.creates)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    common.check_log(run.violations)
    least = {"created": 10 * options.seconds, "undone claims": options.seconds, "notifications": options.seconds}
    sys.exit(common.report(options, run.happened, least, run.violations))


if __name__ == "__main__":
    main()
