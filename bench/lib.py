"""What the benches share: databases, pgbench, the results.

Each cell (one side of a comparison, at one number of clients, in one round) runs on a
fresh copy of a template database, so that no cell inherits what another has left.  The
sides of a comparison take turns, round by round; a ratio is the median of the rounds'
ratios, so that a machine that changes its speed meanwhile changes both sides of each.
"""

import contextlib
import datetime
import glob
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))


def connect(database="postgres"):
    connection = psycopg2.connect(dbname=database)
    connection.autocommit = True
    return connection


def rows(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchall()


def value(connection, sql, *arguments):
    return rows(connection, sql, *arguments)[0][0]


def run(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)


class Missing(Exception):
    """A yardstick that cannot be had here."""


def unpack(package, directory):
    """One of Debian's packages, which bench/prepare has fetched."""
    found = glob.glob(f"{HERE}/cache/{package}_*.deb")
    if not found:
        raise Missing(f"{package} could not be fetched")
    subprocess.run(["dpkg-deb", "--extract", found[0], directory], check=True)


# Databases

TEMPLATES = {}                  # name -> what fills it, beyond sql/schema.sql
made = set()


def template(name):
    """Names a function that fills a template database."""
    return lambda fill: TEMPLATES.setdefault(name, fill)


def worker_runs(db):
    return value(db, "SELECT pid IS NOT NULL FROM coord.worker")


def wait_for(condition, what, seconds=30):
    limit = time.time() + seconds
    while not condition():
        if time.time() > limit:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.02)


def make_template(name):
    admin = connect()
    run(admin, f"CREATE DATABASE {name}")
    db = connect(name)
    with open(f"{HERE}/sql/schema.sql") as schema:
        run(db, schema.read())
    TEMPLATES[name](db)
    run(db, "VACUUM ANALYZE")
    db.close()
    made.add(name)


@contextlib.contextmanager
def fresh(name, database="cell"):
    """A copy of a template, in memory, with coord's worker running."""
    if name not in made:
        make_template(name)
    admin = connect()
    run(admin, f"CREATE DATABASE {database} TEMPLATE {name} STRATEGY file_copy")
    db = None
    try:
        db = connect(database)
        wait_for(lambda: worker_runs(db), "coord's worker")
        value(db, """SELECT sum(pg_prewarm(oid)) FROM pg_class WHERE relkind IN ('r', 'i')
            AND relnamespace IN ('coord'::regnamespace, 'bench'::regnamespace)""")
        yield db
    finally:
        if db:
            db.close()
        run(admin, f"DROP DATABASE {database} WITH (FORCE)")
        admin.close()


def fill_jobs(db, number):
    run(db, "INSERT INTO bench.job (payload) SELECT jsonb_build_object('n', n) FROM generate_series(1, %s) n", number)


def fill_tasks(db, number, queues=1, resource=False):
    """Tasks 1 to number, spread evenly over "queue 1" to "queue N", by task_create_many."""
    for first in range(1, number + 1, 10000):
        value(db, """SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object(
                'type', 'bench', 'queue', 'queue ' || 1 + n %% %s, 'payload', jsonb_build_object('n', n))
                || CASE WHEN %s THEN jsonb_build_object('resource_key', 'resource ' || n) ELSE '{}' END)
            FROM generate_series(%s, %s) n))""", queues, resource, first, min(first + 9999, number))


@template("base")
def fill_base(db):
    fill_jobs(db, 1000)
    fill_tasks(db, 1000)


@template("stock")
def fill_stock(db):
    fill_jobs(db, 200000)
    fill_tasks(db, 200000)


# pgbench

class Run:
    """What one run of pgbench did.  The rate is that of the time in which all clients
    were at work: from when the last one had ended its first transaction, which makes a
    session's plans, until the first one ended its last."""

    def __init__(self, output, progress, logs):
        self.transactions = int(re.search(r"actually processed: (\d+)", output).group(1))
        self.progress = [(float(at), float(tps)) for at, tps in
                         re.findall(r"^progress: ([\d.]+) s, ([\d.]+) tps", progress, re.M)]
        ends, first, last = [], {}, {}
        for log in logs:
            with open(log) as file:
                for client, _, _, _, second, micros in map(str.split, file):
                    end = int(second) + int(micros) / 1e6
                    ends.append(end)
                    first.setdefault(client, end)
                    last[client] = end
        since, until = max(first.values(), default=0), min(last.values(), default=0)
        if until - since > 0.1:
            self.tps = sum(since < end <= until for end in ends) / (until - since)
        else:                   # too short for that
            self.tps = float(re.search(r"^tps = ([\d.]+)", output, re.M).group(1))

    def rate(self, number):
        """Of something that was done so often in the whole run."""
        return number * self.tps / self.transactions if self.transactions else 0


WARM_UP = 1                     # second, for the clients' first transactions


def pgbench(db, script, clients, seconds=None, transactions=None, progress=None, text=None, **variables):
    """Runs a script of sql/, or a text, in the database of a connection."""
    command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", str(min(clients, 2)), "-D", "new=1"]
    command += ["-T", str(seconds + WARM_UP)] if seconds else ["-t", str(max(1, transactions // clients))]
    command += ["-P", str(progress)] if progress else []
    for name, number in variables.items():
        command += ["-D", f"{name}={number}"]
    with tempfile.TemporaryDirectory() as directory:
        path = f"{HERE}/sql/{script}.sql"
        if text:
            path = f"{directory}/script.sql"
            with open(path, "w") as file:
                file.write(text)
        command += ["-f", path] if progress else ["-f", path, "-l", "--log-prefix", f"{directory}/log"]
        done = subprocess.run(command + [db.info.dbname], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=seconds + 120 if seconds else 1800)
        if done.returncode != 0:
            raise RuntimeError(f"pgbench -f {script}: {done.stderr.strip()[-800:]}")
        return Run(done.stdout, done.stderr, glob.glob(f"{directory}/log.*"))


def completed(db):
    """How many tasks of coord have been completed."""
    return value(db, "SELECT count(*) FROM coord.task_finished")


# Comparisons

class Side:
    """One candidate: a script of sql/ and how to count what it did, or a function of
    (db, clients, seconds) that returns a rate."""

    def __init__(self, name, script=None, count=None, times=1, also=None, measure=None, around=None, text=None, template=None,
                 **variables):
        self.name, self.script, self.count, self.times, self.also, self.template = name, script, count, times, also, template
        self.measure, self.around, self.text, self.variables = measure, around, text, variables

    def names(self):
        return [self.name] + ([self.also[0]] if self.also else [])

    def rates(self, db, clients, seconds, transactions):
        """The rate by name: of what it does, and perhaps of something else that it counts."""
        if self.measure:
            return {self.name: self.measure(db, clients, seconds)}
        text = self.text(db) if self.text else None
        counts = [count for count in (self.count, self.also[1] if self.also else None) if count]
        before = [count(db) for count in counts]
        with self.around(db, clients) if self.around else contextlib.nullcontext():
            done = pgbench(db, self.script, clients, None if transactions else seconds, transactions, text=text, **self.variables)
        done_of = [done.rate(count(db) - at_start) for count, at_start in zip(counts, before)]
        found = {self.name: (done_of[0] if self.count else done.tps) * self.times}
        if self.also:
            found[self.also[0]] = done_of[-1]
        return found


class Ratio:
    """One side over another, and the goal that DESIGN sets, if it does."""

    def __init__(self, name, over, under, times=1, at=16, at_least=None):
        self.name, self.over, self.under, self.times, self.at, self.at_least = name, over, under, times, at, at_least


class Results:
    """What was measured, shown as it becomes known and written as JSON."""

    def __init__(self, **settings):
        self.comparisons, self.figures, self.lines, self.missing, self.settings = [], [], [], [], settings
        self.started = datetime.datetime.now(datetime.timezone.utc)

    def compare(self, name, unit, sides, ratios=(), template="base", clients=(1, 4, 16, 32), rounds=3, seconds=4,
                transactions=None):
        print(f"{name} ({unit})", flush=True)
        names = [name for side in sides for name in side.names()]
        cells = {name: {str(c): [] for c in clients} for name in names}
        for c in clients:
            for _ in range(rounds):
                for side in sides:
                    with fresh(side.template or template) as db:
                        for series, rate in side.rates(db, c, seconds, transactions).items():
                            cells[series][str(c)].append(round(rate, 1))
            print(f"  {c:>3} clients  " + "  ".join(f"{name}: {statistics.median(cells[name][str(c)]):,.0f}" for name in names),
                  flush=True)
        comparison = {"name": name, "unit": unit, "clients": list(clients), "sides": [
            {"name": name, "cells": {c: {"rounds": r, "median": statistics.median(r)} for c, r in cells[name].items()}}
            for name in names], "ratios": []}
        for ratio in ratios:
            by_clients = {str(c): statistics.median(
                ratio.times * over / under if under else 0 for over, under in
                zip(cells[ratio.over][str(c)], cells[ratio.under][str(c)])) for c in clients}
            comparison["ratios"].append({"name": ratio.name, "over": ratio.over, "under": ratio.under,
                                         "times": ratio.times, "at": ratio.at, "at_least": ratio.at_least, "cells": by_clients})
            print(f"  {ratio.name}: " + ", ".join(f"{r:.2f} at {c}" for c, r in by_clients.items()), flush=True)
            if ratio.at_least and ratio.at in clients:
                self.figure(f"{name}, {ratio.at} clients: {ratio.name}", by_clients[str(ratio.at)], "",
                            at_least=ratio.at_least)
        self.comparisons.append(comparison)

    def figure(self, name, number, unit="", at_least=None, below=None):
        """One number, with its goal."""
        goal, reached = None, None
        if at_least is not None:
            goal, reached = f"at least {at_least:g}", number is not None and number >= at_least
        elif below is not None:
            goal, reached = f"under {below:g}", number is not None and number < below
        self.figures.append({"name": name, "value": number, "unit": unit, "goal": goal, "reached": reached})
        print(f"  {name}: {'none' if number is None else f'{number:,.2f}'} {unit}" +
              (f"  (goal: {goal}: {'reached' if reached else 'MISSED'})" if goal else ""), flush=True)

    def line(self, chart, name, points):
        """One line of a chart over time."""
        self.lines.append({"chart": chart, "name": name, "points": points})

    def lacks(self, what, why):
        why = str(why).strip().splitlines()[-1][:300] if str(why).strip() else type(why).__name__
        self.missing.append({"what": what, "why": why})
        print(f"  missing: {what}: {why}", flush=True)

    def end(self, failed, check):
        """Says how it went, and ends the program."""
        missed = [f["name"] for f in self.figures if f["reached"] is False]
        goals = [f for f in self.figures if f["goal"]]
        print(f"{len(goals) - len(missed)} of {len(goals)} goals reached" + "".join(f"\n  missed: {name}" for name in missed))
        if failed:
            print(f"failed: {', '.join(failed)}")
        sys.exit(2 if failed else 1 if missed and check else 0)

    def write(self, path):
        db = connect()
        names = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "max_connections",
                 "wal_sync_method", "autovacuum")
        with open("/proc/cpuinfo") as file:
            cpu = re.search(r"^model name\s*: (.*)$", file.read(), re.M)
        report = {
            "measured_at": self.started.isoformat(timespec="seconds"),
            "took_s": round((datetime.datetime.now(datetime.timezone.utc) - self.started).total_seconds()),
            "commit": os.environ.get("COORD_COMMIT") or "unknown",
            "machine": {"cpus": os.cpu_count(), "cpu": cpu.group(1) if cpu else "unknown",
                        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30),
                        "kernel": os.uname().release, "load_at_end": os.getloadavg()},
            "versions": {"postgresql": value(db, "SHOW server_version"), **self.settings.pop("versions", {})},
            "settings": {**{n: value(db, f"SHOW {n}") for n in names}, **self.settings},
            "comparisons": self.comparisons, "figures": self.figures, "lines": self.lines, "missing": self.missing}
        with open(int(path) if path.isdigit() else path, "w") as file:
            json.dump(report, file, indent=1)
            file.write("\n")


class Listener(threading.Thread):
    """Receives what comes on a channel while a block runs, and keeps (payload, when)."""

    def __init__(self, database, sql):
        super().__init__(daemon=True)
        self.connection, self.came, self.ends = connect(database), [], False
        run(self.connection, sql)

    def run(self):
        while not self.ends:
            if select.select([self.connection], [], [], 0.1)[0]:
                self.connection.poll()
                now = time.time()
                self.came += [(notice.payload, now) for notice in self.connection.notifies]
                self.connection.notifies.clear()

    def wait_until_quiet(self):
        """Until nothing has come for a while; what is late is to be counted too."""
        seen = -1
        while seen < len(self.came):
            seen = len(self.came)
            time.sleep(0.5)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ends = True
        self.join()
        self.connection.close()


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)] if values else None
