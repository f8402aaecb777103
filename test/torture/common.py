"""What the torture runs share: connections, the killer, the server's log, the report."""

import argparse
import multiprocessing
import os
import random
import re
import signal
import subprocess
import time

import psycopg2

# a process goes on with what there is; from Python 3.14 on that is not what happens by itself
multiprocessing.set_start_method("fork")

# the end of the timeout of an agent, as coord.agent a has it, that is not attached
AGENT_ENDS_AT = "(greatest(a.last_heartbeat_at, coord.beats_since()) + a.heartbeat_timeout)"

CONNECTION_LOST = ("57P01", "57P02", "57P03", "57P05", "08006", None)

# what is not at its end, of tasks, of leases, and of what belongs to them
LEFT_OVER = """SELECT 'task' AS what, id::text, state FROM coord.task
        WHERE state NOT IN ('completed', 'dead', 'cancelled')
    UNION ALL SELECT 'lease', id::text, resource_key FROM coord.lease_data WHERE ended_at IS NULL
    UNION ALL SELECT 'event', id::text, type FROM coord.event_inbox
    UNION ALL SELECT 'deadline of a claim', task_id::text, '' FROM coord.claim_deadline
    UNION ALL SELECT 'batch of claims', agent_id::text, check_at::text FROM coord.claim_batch WHERE check_at < clock_timestamp() - '10 s'::interval
    UNION ALL SELECT 'slot', task_id::text, queue FROM coord.queue_slot WHERE task_id IS NOT NULL"""


def connect(name, host=None, **settings):
    connection = psycopg2.connect(f"host={host}" if host else "", application_name=name, connect_timeout=5,
                                  options=" ".join(f"-c {setting}={value}" for setting, value in settings.items()))
    connection.autocommit = True
    return connection


def connect_at_last(name, seconds=60, host=None, **settings):
    """A connection, as soon as the server is up."""
    limit = time.monotonic() + seconds
    while True:
        try:
            return connect(name, host, **settings)
        except psycopg2.OperationalError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)


def rows(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchall() if cursor.description else []


def was_lost(connection, error):
    return connection.closed or error.pgcode in CONNECTION_LOST


def ask(sql, *arguments):
    """One query in a connection of its own."""
    connection = connect_at_last("ask")
    try:
        return rows(connection, sql, *arguments)
    finally:
        connection.close()


def wait_until_up(seconds=60):
    """Until the server answers: it may accept a connection before it sees that a process has crashed."""
    limit = time.monotonic() + seconds
    while True:
        try:
            return ask("SELECT")
        except psycopg2.DatabaseError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)


def server_log():
    return os.environ.get("COORD_LOG") or os.path.join(os.environ.get("COORD_WORK", ""), "server.log")


def of_full_disk():
    """Tells what the server says when its disk is full, on purpose.  A process that finds no room
    for the log ahead of it panics, which ends it by a signal."""
    panicked = set()

    def excused(line):
        if "No space left on device" in line:
            panicked.update(re.findall(r"\[(\d+)\].* PANIC: ", line))
            return True
        return any(pid in panicked for pid in re.findall(r"\(PID (\d+)\) was terminated by signal 6\b", line))

    return excused


# at the end of a run, without deeds that are felt for long
CALM = 20               # seconds


class Killer:
    """Draws its deeds from a shuffled deck, so that each comes up.  Its victims are the
    connections whose name begins with "victims"."""

    DECK = {}
    PAUSE = (0.3, 1.7)      # seconds

    def __init__(self, rng, victims):
        self.random, self.victims = rng, victims
        self.deeds, self.deck = [], []
        self.data = ask("SHOW data_directory")[0][0]

    def run(self, until):
        self.calm_from = until - min(CALM, (until - time.time()) / 3)
        while time.time() < until:
            self.wait(self.random.uniform(*self.PAUSE))
            if not self.deck:
                self.deck = [deed for deed, times in self.DECK.items() for _ in range(times)]
                self.random.shuffle(self.deck)
            deed = self.deck.pop()
            at = time.time()
            try:
                if getattr(self, deed)():
                    self.deeds.append((at, deed))
            except psycopg2.DatabaseError as error:     # another deed's crash
                if error.pgcode is not None and not isinstance(error, psycopg2.OperationalError):
                    raise
            self.look_after()

    def wait(self, seconds):
        time.sleep(seconds)

    def look_after(self):
        """What is to be done after each deed."""

    def cut_connection(self):
        return ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                   "WHERE application_name LIKE %s ORDER BY random() LIMIT 1", f"{self.victims}%")

    def crash(self, sql, *arguments):
        """The server ends all its processes and recovers, when one is killed."""
        for pid, in ask(sql, *arguments):
            os.kill(pid, signal.SIGKILL)
            return True

    def crash_backend(self):
        return self.crash("SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s "
                          "ORDER BY random() LIMIT 1", f"{self.victims}%")

    def restart_server(self):
        subprocess.run(["pg_ctl", "-s", "-w", "-D", self.data, "-l", server_log(), "-m", "immediate", "restart"],
                       check=True)
        return True


def check_log(violations, excused=lambda line: False):
    """Only what was killed died, and the worker met no error."""
    for path in filter(os.path.exists, server_log().split(":")):
        with open(path, errors="replace") as log:
            for line in log:
                if re.search(r"PANIC|TRAP:|terminated by signal (?!9\b)|coord.* ERROR|XX000", line) and not excused(line):
                    violations.add(f"in the server's log: {line.strip()}")


def parser(doc, clients):
    arguments = argparse.ArgumentParser(description=doc.splitlines()[0])
    arguments.add_argument("--seconds", type=int, default=int(os.environ.get("SECONDS", 60)))
    arguments.add_argument("--seed", type=int, default=random.randrange(10 ** 6))
    arguments.add_argument("--clients", type=int, default=clients)
    return arguments


def hardly_happened(happened, least):
    """A run that did not do often enough what "least" names proves nothing."""
    return [f"{name} {happened[name]}" for name, n in least.items() if happened[name] < n]


def report(options, happened, least, violations):
    """Prints what happened; the exit status."""
    print(f"seed {options.seed}, {options.seconds} s")
    print(", ".join(f"{name} {n}" for name, n in sorted(happened.items())))
    violations.show()
    too_few = hardly_happened(happened, least)
    if too_few:
        print(f"hardly happened: {', '.join(too_few)}")
    print(f"{len(violations)} violations", flush=True)
    return 1 if too_few or len(violations) else 0
