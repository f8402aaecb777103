#!/usr/bin/python3
"""Random sending of events, deaths of everybody, and a check of what was heard and read.

    test/torture/events.py [--seconds N] [--seed N] [--clients N] [--no-restart]

"make torture-events" starts this on a throw-away cluster.  Senders send in transactions
that commit soon or late, roll back, wholly or to a savepoint, or are prepared and decided
later.  Meanwhile there are

    listers     each goes on from the last position that it saw, by event_list
    listeners   the same, woken by notifications: LISTEN first, then catch up, then listen
    pollers     two for one agent, who share its acknowledged position

Connections are cut, the worker is ended, the inbox is vacuumed while an old snapshot is
held or not, and the server is crashed and restarted.  In the end, of each event that was
committed, and of no other, each lister and each listener must have seen exactly one, in
the order of positions, in which those of a sender are as it sent them.  The seed decides
what is tried, not how it falls out.
"""

import json
import os
import random
import select
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import Process

import psycopg2

import common
from common import ask, connect_at_last, rows
from history import Violations

CHANNELS = ("news", "long " * 40)
LONG = 0.3              # of the transactions stay open
READERS = {"lister": 2, "listener": 2, "everyone": 1, "poller": 2}

SETUP = """
    CREATE EXTENSION IF NOT EXISTS coord;
    CREATE SCHEMA torture;
    -- what was sent, said in the same transaction
    CREATE TABLE torture.sent (id uuid PRIMARY KEY, sender integer, n integer);
    SELECT coord.agent_register('torture', heartbeat_timeout => '1 day');
    SELECT coord.event_subscribe(id, 'news') FROM coord.agent"""

SEND = """INSERT INTO torture.sent
    SELECT (coord.event_send('torture', jsonb_build_object('sender', %s, 'n', %s), recipient_id => %s, channel => %s)).id, %s, %s"""


class Part:
    """A process that does something until it is told to end, and begins anew when it is cut off."""

    def __init__(self, kind, number, directory, seed):
        self.kind, self.number, self.directory = kind, number, directory
        self.random = random.Random(f"{seed} {kind} {number}")
        self.done = Counter()
        self.ends = f"{directory}/end"
        self.db = None

    def run(self):
        with open(f"{self.directory}/{self.kind}-{self.number}.jsonl", "w") as self.file:
            while not self.is_over():
                try:
                    if self.db is None or self.db.closed:
                        self.db = connect_at_last(f"torture {self.kind}")
                        self.done["connections"] += 1
                        self.begin()
                    self.step()
                except psycopg2.Error as error:
                    if not common.was_lost(self.db, error):
                        self.write(violation=f"{self.kind}: {error.pgcode} {error}")
                    self.db.close()
            self.write(done=self.done)

    def write(self, **record):
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def begin(self):
        """After connecting."""

    def is_over(self):
        return os.path.exists(self.ends)


class Sender(Part):
    n = 0

    def send(self):
        self.n += 1
        agent = self.agent if self.random.random() < 0.3 else None
        channel = self.random.choice(CHANNELS + (None,))
        rows(self.db, SEND, self.number, self.n, agent, channel, self.number, self.n)

    def begin(self):
        self.agent = rows(self.db, "SELECT id FROM coord.agent")[0][0]
        # what it had prepared when it was cut off comes before what it sends next
        self.decide(rows(self.db, "SELECT gid FROM pg_prepared_xacts WHERE gid LIKE %s", f"{self.number} %"))

    def decide(self, prepared):
        for gid, in prepared:
            rows(self.db, f"{self.random.choice(('COMMIT', 'ROLLBACK'))} PREPARED '{gid}'")

    def is_over(self):
        return os.path.exists(f"{self.directory}/senders-end")

    def step(self):
        ending = self.random.choices(("single", "commit", "rollback", "savepoint", "prepare"), (4, 4, 2, 2, 1))[0]
        if ending == "single":
            self.send()
        else:
            rows(self.db, "BEGIN")
            for _ in range(self.random.randint(1, 5)):
                self.send()
            if ending == "savepoint":
                rows(self.db, "SAVEPOINT s")
                self.send()
                rows(self.db, "ROLLBACK TO s")
                self.send()
            if self.random.random() < LONG:
                time.sleep(self.random.uniform(0, 0.4))
            if ending == "prepare":
                gid = f"{self.number} {self.n} {os.getpid()} {self.done['connections']}"
                rows(self.db, f"PREPARE TRANSACTION '{gid}'")
                time.sleep(self.random.uniform(0, 0.1))
                self.decide([(gid,)])
            else:
                rows(self.db, "ROLLBACK" if ending == "rollback" else "COMMIT")
        self.done[ending] += 1


class Reader(Part):
    """Reads on from the last position that it saw.  What it was given counts as handled
    as soon as it is written down."""

    filter = "NULL, NULL"
    last = 0

    def read(self):
        limit = self.random.choice((1, 7, 100, 1000))
        found = rows(self.db, f"SELECT position, id FROM coord.event_list({self.filter}, after => %s, max_events => %s)", self.last, limit)
        for position, event in found:
            self.write(position=position, id=event)
            self.last = position
        return len(found) == limit

    def is_over(self):
        return super().is_over() and self.last >= int(open(self.ends).read())


class Lister(Reader):
    filter = "NULL, 'news'"

    def step(self):
        self.read()
        time.sleep(self.random.uniform(0, 0.01))


class Everyone(Lister):
    """Reads all events, whoever they are for."""
    filter = "NULL, NULL"


class Listener(Reader):
    filter = "NULL, 'news'"

    def begin(self):
        rows(self.db, "SELECT coord.event_listen(channel => 'news')")
        while self.read():
            pass

    def step(self):
        if select.select([self.db], [], [], 0.05)[0]:
            self.db.poll()
        heard = [json.loads(notice.payload) for notice in self.db.notifies]
        self.db.notifies.clear()
        for event in heard:
            # it was committed between LISTEN and the catching up
            if event["position"] > self.last:
                self.write(position=event["position"], id=event["id"], heard=True)
                self.last = event["position"]
                self.done["heard"] += 1


class Poller(Part):
    """One of two, so that what it handles the other one may have handled too."""

    def step(self):
        agent = rows(self.db, "SELECT id FROM coord.agent")[0][0]
        found = rows(self.db, "SELECT position, id FROM coord.event_poll(%s, %s)", agent, self.random.choice((1, 10, 500)))
        for position, event in found:
            self.write(position=position, id=event)
        if found:
            try:
                rows(self.db, "SELECT coord.event_ack(%s, %s)", agent, found[-1][0])
                self.done["acknowledged"] += 1
            except psycopg2.Error as error:
                if error.pgcode != "55000":
                    raise
                self.done["acknowledged by the other"] += 1
        else:
            time.sleep(0.01)
        self.read_all = not found

    def is_over(self):
        return super().is_over() and self.read_all

    def begin(self):
        self.read_all = False


KINDS = {"sender": Sender, "lister": Lister, "listener": Listener, "everyone": Everyone, "poller": Poller}


class Killer(common.Killer):
    DECK = {"cut_connection": 8, "end_worker": 3, "crash_backend": 1, "vacuum": 3, "old_snapshot": 2, "restart_server": 1}
    PAUSE = (0.2, 0.8)
    old = None

    def end_worker(self):
        return ask("SELECT pg_terminate_backend(pid) FROM coord.worker WHERE pid IS NOT NULL")

    def vacuum(self):
        ask("VACUUM coord.event_inbox")
        return True

    def old_snapshot(self):
        self.old = connect_at_last("old")
        rows(self.old, "BEGIN ISOLATION LEVEL REPEATABLE READ")
        rows(self.old, "SELECT count(*) FROM coord.event")
        return True

    def look_after(self):
        if self.old is not None and self.random.random() < 0.3:
            self.old.close()
            self.old = None


class SteadyKiller(Killer):
    DECK = {deed: times for deed, times in Killer.DECK.items() if deed != "restart_server"}


def decide_prepared(rng):
    db = connect_at_last("decide")
    for gid, in rows(db, "SELECT gid FROM pg_prepared_xacts"):
        rows(db, f"{rng.choice(('COMMIT', 'ROLLBACK'))} PREPARED '{gid}'")
    db.close()


def seen_by(directory, kind, number, happened, violations):
    seen = []
    with open(f"{directory}/{kind}-{number}.jsonl") as file:
        for line in file:
            record = json.loads(line)
            happened.update({f"{kind} {what}": n for what, n in record.get("done", {}).items()})
            if "violation" in record:
                violations.add(record["violation"])
            elif "position" in record:
                seen.append((record["position"], record["id"]))
    return seen


def check_order(who, seen, violations):
    for (before, _), (position, event) in zip(seen, seen[1:]):
        if position <= before:
            violations.add(f"{who} was given {event} at {position} after {before}")


def check_same(who, seen, must, violations):
    for event in sorted(set(must) - {event for _, event in seen}):
        violations.add(f"{who} has missed {event} at {must[event]}")
    for event, n in Counter(event for _, event in seen).items():
        if event not in must:
            violations.add(f"{who} was given {event}, which is not there")
        elif n > 1:
            violations.add(f"{who} was given {event} {n} times")


def check(directory, happened, violations):
    stored = ask("SELECT e.id, e.position, e.channel, e.payload->>'sender', (e.payload->>'n')::int, "
                 "e.recipient_id IS NOT NULL FROM coord.event e WHERE type IN ('torture', 'end') ORDER BY e.position")
    sent = {event for event, in ask("SELECT id FROM torture.sent")}
    if sent != {event for event, _, _, sender, _, _ in stored if sender}:
        violations.add(f"{len(sent)} events were committed, and there are {len(stored)}")
    last = Counter()
    for event, position, _, sender, n, _ in stored:
        if sender and n <= last[sender]:
            violations.add(f"event {event} of sender {sender}, number {n}, is at {position}, after number {last[sender]}")
        last[sender] = n or 0
    every = {row[0]: row[1] for row in stored}
    news = {row[0]: row[1] for row in stored if row[2] == "news"}
    for_agent = {row[0]: row[1] for row in stored if row[2] == "news" or row[5] or row[2] is None}
    polled = []
    for kind, count in READERS.items():
        for number in range(count):
            seen = seen_by(directory, kind, number, happened, violations)
            if kind == "poller":
                polled += seen
                continue
            seen = [(position, event) for position, event in seen if event in every or kind != "everyone"]
            check_order(f"{kind} {number}", seen, violations)
            check_same(f"{kind} {number}", seen, every if kind == "everyone" else news, violations)
    check_same("the pollers", sorted({seen for seen in polled if seen[1] in every}), for_agent, violations)
    happened["events"] = len(stored)


def main():
    parser = common.parser(__doc__, 6)
    parser.add_argument("--no-restart", action="store_true", help="the server is crashed, but not restarted by pg_ctl")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    happened, violations = Counter(), Violations()
    ask(SETUP)
    with tempfile.TemporaryDirectory() as directory:
        parts = [KINDS[kind](kind, number, directory, options.seed)
                 for kind, count in {"sender": options.clients, **READERS}.items() for number in range(count)]
        processes = [Process(target=part.run) for part in parts]
        for process in processes:
            process.start()
        killer = (SteadyKiller if options.no_restart else Killer)(rng, "torture")
        killer.run(time.time() + options.seconds)
        if killer.old is not None:
            killer.old.close()
        happened.update(deed for _, deed in killer.deeds)

        open(f"{directory}/senders-end", "w").close()
        for process in processes[:options.clients]:
            process.join(60)
        decide_prepared(rng)        # of those that were cut off last
        ask("SELECT coord.event_send('end', channel => 'news')")
        end = ask("SELECT position FROM coord.event_list(type => 'end')")[0][0]
        with open(f"{directory}/end.new", "w") as file:
            file.write(str(end))
        os.rename(f"{directory}/end.new", f"{directory}/end")
        for process in processes:
            process.join(30)
            if process.is_alive():
                violations.add(f"{process.name} does not come to the end")
                process.terminate()
        for number in range(options.clients):
            seen_by(directory, "sender", number, happened, violations)
        check(directory, happened, violations)
        common.check_log(violations)
    least = {"events": 10 * options.seconds, "listener heard": options.seconds, "cut_connection": 1, "end_worker": 1,
             "sender prepare": 1, "sender savepoint": 1, "poller acknowledged": 1}
    if options.seconds < 60:
        least = {name: 1 for name in least if name != "cut_connection"}
    sys.exit(common.report(options, happened, least, violations))


if __name__ == "__main__":
    main()
