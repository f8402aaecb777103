#!/usr/bin/python3
"""How promptly coord does what falls due, measured against goals.

    bench/deadlines.py [--json FILE] [part]...

"make bench-deadlines" starts this on a throw-away cluster with fsync on.  It prints
one line for each figure, with its goal, and ends with status 1 when one is missed.
The parts, all of them unless some are named:

    locks       from a lease's expires_at to the arrival of lock.expired
    agents      from an agent's timeout to the arrival of agent.inactive
    tasks       from a task's run_at to the notification to those who wait at its queue
    idle        how often the worker runs when nothing is due
    burst       100,000 leases that end in one instant, and what it does to claims
    attached    from the death of a client to agent.inactive for its attached agent
    waiters     from a release, or an expiry, to the return of the next waiter's grant

Client and server share this machine's clock, so an arrival can be compared with an
instant in the database.  A part whose functions the server lacks is skipped.  FILE
may be the number of an open file descriptor.
"""

import argparse
import glob
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2


def connect():
    connection = psycopg2.connect("")
    connection.autocommit = True
    return connection


def rows(connection, sql, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(sql, arguments or None)
        return cursor.fetchall()


def value(connection, sql, *arguments):
    return rows(connection, sql, *arguments)[0][0]


def listen(sql, *arguments):
    connection = connect()
    value(connection, sql, *arguments)
    return connection


def sleep_until(instant):
    time.sleep(max(0, instant - time.time()))


def arrivals(connection, until, enough=None):
    """The notifications that come until an instant, or until there are enough of
    them: the payload of each, and when it came."""
    came = []
    while (left := until - time.time()) > 0 and (enough is None or len(came) < enough):
        if not connection.notifies:
            select.select([connection], [], [], left)
        connection.poll()
        now = time.time()
        came += [(json.loads(notify.payload), now) for notify in connection.notifies]
        connection.notifies.clear()
    return came


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


class Skipped(Exception):
    """The server lacks what the part measures."""


class Report:
    """The figures, each printed when it is known."""

    def __init__(self):
        self.figures = []

    def add(self, name, figure, unit, below=None, at_least=None):
        ok = figure is not None and (below is None or figure < below) and \
            (at_least is None or figure >= at_least)
        goal = f"< {below:g}" if below is not None else f">= {at_least:g}" if at_least is not None else ""
        self.figures.append({"name": name, "value": figure, "unit": unit, "goal": goal, "ok": ok})
        shown = "none" if figure is None else f"{figure:.2f}".rstrip("0").rstrip(".")
        print(f"  {name:<52} {shown:>10} {unit:<5} {goal:<8} {'' if not goal else 'ok' if ok else 'MISSED'}",
              flush=True)

    def add_delays(self, name, seconds, expected, p99_below):
        """How late things were, and whether each of those expected came."""
        delays = [s * 1000 for s in seconds]
        self.add(f"{name}: missing of {expected}", expected - len(delays), "", below=1)
        for label, percent, goal in (("p50", 50, None), ("p99", 99, p99_below), ("max", 100, None)):
            self.add(f"{name}: {label}", percentile(delays, percent) if delays else None, "ms", below=goal)

    def missed(self):
        return [figure["name"] for figure in self.figures if not figure["ok"]]

    def write(self, path):
        with open(int(path) if path.isdigit() else path, "w") as file:
            json.dump({"measured_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "cpus": os.cpu_count(),
                       "load": os.getloadavg(), "figures": self.figures}, file, indent=1)


def register(db, name, timeout="1 day"):
    return value(db, "SELECT id FROM coord.agent_register(%s, heartbeat_timeout => %s)", name, timeout)


def has_function(db, name, argument=None):
    return value(db, """SELECT count(*) > 0 FROM pg_proc WHERE pronamespace = 'coord'::regnamespace
        AND proname = %s AND (%s IS NULL OR %s = ANY(proargnames))""", name, argument, argument)


def require(db, name, argument=None):
    if not has_function(db, name, argument):
        raise Skipped(f"this server has no {name}{f' with {argument}' if argument else ''}")


def event_delays(db, came, sql):
    """For notifications of events: how long after the instant that the query finds
    for an event id each arrived."""
    due = dict(rows(db, sql, [notice["id"] for notice, _ in came]))
    return [arrived - float(due[notice["id"]]) for notice, arrived in came if notice["id"] in due]


def measure_locks(db, report):
    """25,000 of 100,000 leases end within 20 s, at a rate that grows from 500/s to 2,000/s."""
    listener = listen("SELECT coord.event_listen(channel => 'coord.locks')")
    agent = register(db, "locks")
    start = time.time() + 20
    value(db, """SELECT count(*) FROM generate_series(1, 100000) n, LATERAL coord.lease_acquire('live ' || n, %s,
        CASE WHEN n %% 4 > 0 THEN interval '2 h' + random() * interval '1 h' ELSE to_timestamp(%s) - clock_timestamp()
            + (sqrt(500 ^ 2 + 150 * 25000 * random()) - 500) / 75 * interval '1 s' END)""", agent, start)
    if time.time() > start - 1:
        raise RuntimeError("this machine took too long to create the leases")
    came = [(n, t) for n, t in arrivals(listener, start + 25, enough=25000) if n["type"] == "lock.expired"]
    report.add_delays("lock.expired after expires_at", event_delays(db, came, """
        SELECT id::text, extract(epoch FROM (payload->>'expires_at')::timestamptz) FROM coord.event
        WHERE id = ANY(%s::uuid[])"""), 25000, 20)


def measure_agents(db, report):
    listener = listen("SELECT coord.event_listen(channel => 'coord.agents')")
    value(db, """SELECT count(*) FROM generate_series(1, 10000) n, LATERAL coord.agent_register('silent ' || n,
        heartbeat_timeout => interval '10 s' + random() * interval '20 s')""")
    came = [(n, t) for n, t in arrivals(listener, time.time() + 35, enough=10000) if n["type"] == "agent.inactive"]
    report.add_delays("agent.inactive after its timeout", event_delays(db, came, """
        SELECT e.id::text, extract(epoch FROM a.last_heartbeat_at + a.heartbeat_timeout)
        FROM coord.event e JOIN coord.agent a ON a.id = (e.payload->>'agent_id')::uuid
        WHERE e.id = ANY(%s::uuid[])"""), 10000, 20)


def measure_tasks(db, report):
    """Each task has a queue of its own, since a notification names only the queue."""
    require(db, "queue_listen")
    agent = register(db, "tasks")
    queues = [f"later {n}" for n in range(200)]
    listener = connect()
    for queue in queues:
        value(listener, "SELECT coord.queue_listen(%s)", queue)

    def delays(due, until):
        first = {}
        for notice, arrived in arrivals(listener, until):
            if arrived >= due[notice["queue"]]:
                first.setdefault(notice["queue"], arrived - due[notice["queue"]])
        return first.values()

    due = dict(rows(db, """SELECT q, extract(epoch FROM run_at)::float FROM unnest(%s) q, LATERAL
        coord.task_create('t', queue => q, run_at => now() + interval '1 s' + random() * interval '10 s')""", queues))
    report.add_delays("queue told after run_at", delays(due, max(due.values()) + 1), len(queues), 20)
    due = dict(rows(db, """SELECT q, extract(epoch FROM f.run_at)::float FROM unnest(%s) q,
        LATERAL coord.task_claim(%s, q) c, LATERAL coord.task_fail(c.id, c.fencing_token,
            retry_in => interval '1 s' + random() * interval '10 s') f""", queues, agent))
    report.add_delays("queue told after retry_in", delays(due, max(due.values()) + 1), len(queues), 20)


def context_switches(pid):
    with open(f"/proc/{pid}/status") as status:
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)


def measure_idle(db, report):
    quiet = """SELECT pid FROM coord.worker WHERE last_wakeup_at < clock_timestamp() - interval '2 s'
        AND next_deadline_at > clock_timestamp() + interval '15 s'"""
    limit = time.time() + 60
    while not (found := rows(db, quiet)):
        if time.time() > limit:
            raise RuntimeError("the worker found no rest within 60 s")
        time.sleep(0.5)
    before = context_switches(found[0][0])
    time.sleep(10)
    report.add("context switches of the idle worker in 10 s", context_switches(found[0][0]) - before, "", below=3)


CLAIMS_GO_ON = 10               # seconds for which the clients go on after the burst began
CLAIM_LOOP = """SELECT id, fencing_token AS token FROM coord.task_claim('%s', 'burst', lease_ttl => '10 min') \\gset
SELECT coord.task_complete(':id', :token);
"""


def claim_loops(agent, seconds, directory):
    """Starts four clients that claim and complete; pgbench logs each transaction's end."""
    script = os.path.join(directory, "claim.sql")
    with open(script, "w") as file:
        file.write(CLAIM_LOOP % agent)
    return subprocess.Popen(["pgbench", "-n", "-c", "4", "-T", str(seconds), "-f", script, "-l",
                             "--log-prefix", os.path.join(directory, "log")],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def rate(ends, since, until):
    return sum(since <= end < until for end in ends) / (until - since)


def burst(db, agent, number):
    """Returns how long the sweep took, the largest transaction, when all was announced,
    and the rate of claims during the sweep and before."""
    instant = time.time() + 25
    value(db, """SELECT count(*) FROM generate_series(1, 100000) n, LATERAL coord.lease_acquire(
        format('burst %%s %%s', %s, n), %s, to_timestamp(%s) - clock_timestamp())""", number, agent, instant)
    value(db, "SELECT count(coord.task_create('t', queue => 'burst')) FROM generate_series(1, 40000)")
    if time.time() > instant - 7:
        raise RuntimeError("this machine took too long to prepare the burst")
    with tempfile.TemporaryDirectory() as directory:
        sleep_until(instant - 6)
        clients = claim_loops(agent, 6 + CLAIMS_GO_ON, directory)
        sleep_until(instant)
        while not value(db, "SELECT NOT EXISTS (SELECT FROM coord.lease_deadline WHERE check_at <= now())"):
            time.sleep(0.02)
        swept = time.time()
        while value(db, "SELECT EXISTS (SELECT FROM coord.event_inbox)"):
            time.sleep(0.02)
        announced = time.time()
        if clients.wait() != 0:
            raise RuntimeError(clients.stderr.read().decode())
        ends = [float(fields[4]) + float(fields[5]) / 1e6 for log in glob.glob(f"{directory}/log.*")
                for fields in map(str.split, open(log))]
    largest = value(db, """SELECT max(n) FROM (SELECT count(*) AS n FROM coord.lease_data
        WHERE resource_key LIKE %s AND ended_at IS NOT NULL GROUP BY xmin::text) t""", f"burst {number} %")
    return swept - instant, largest, announced - instant, \
        rate(ends, instant, min(swept, instant + CLAIMS_GO_ON - 1)), rate(ends, instant - 5, instant)


def measure_burst(db, report):
    agent = register(db, "burst")
    for number in (1, 2):
        seconds, largest, announced, during, before = burst(db, agent, number)
        report.add(f"burst {number}: all 100,000 ended after", seconds, "s", below=3)
        report.add(f"burst {number}: all lock.expired delivered after", announced, "s")
        report.add(f"burst {number}: most leases ended in one transaction", largest, "")
        report.add(f"burst {number}: claim + complete before", before, "/s")
        report.add(f"burst {number}: claim + complete during the sweep", during, "/s")
        report.add(f"burst {number}: during / before", during / before, "", at_least=0.5)


def attached_client(agent):
    """What the child does: says when it holds a task and a lease, and stays."""
    connection = connect()
    value(connection, "SELECT coord.agent_attach(%s)", agent)
    value(connection, "SELECT id FROM coord.task_claim(%s, 'attached', lease_ttl => '1 h')", agent)
    value(connection, "SELECT id FROM coord.lease_acquire(%s, %s, '1 h')", f"attached {agent}", agent)
    print("ready", flush=True)
    sys.stdin.read()


def kill_attached_client(db, number):
    """Returns the agent whose client was killed, and when."""
    agent = register(db, f"attached {number}")
    value(db, "SELECT id FROM coord.task_create('t', queue => 'attached')")
    child = subprocess.Popen([sys.executable, __file__, "--attached-client", agent],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if child.stdout.readline() != b"ready\n":
        raise RuntimeError("the attached client failed")
    killed = time.time()
    child.send_signal(signal.SIGKILL)
    child.wait()
    return agent, killed


def measure_attached(db, report):
    require(db, "agent_attach")
    listener = listen("SELECT coord.event_listen(channel => 'coord.agents')")
    killed, came = {}, []
    for number in range(50):
        agent, instant = kill_attached_client(db, number)
        killed[agent] = instant
        came += arrivals(listener, time.time() + 2, enough=1)
    came = [(n, t) for n, t in came if n["type"] == "agent.inactive"]
    agents = dict(rows(db, "SELECT id::text, payload->>'agent_id' FROM coord.event WHERE id = ANY(%s::uuid[])",
                       [notice["id"] for notice, _ in came]))
    report.add_delays("agent.inactive after kill -9 of its client",
                      [t - killed[agents[n["id"]]] for n, t in came if agents[n["id"]] in killed], 50, 50)
    held = """SELECT (SELECT count(*) FROM coord.task WHERE queue = 'attached' AND state = 'claimed')
        + (SELECT count(*) FROM coord.lease WHERE resource_key LIKE 'attached %%' AND state = 'active')"""
    limit = time.time() + 1
    while value(db, held) > 0 and time.time() < limit:
        time.sleep(0.01)
    report.add("what killed clients still hold a second later", value(db, held), "", below=1)


class Waiter(threading.Thread):
    """Waits for a key, takes it, and perhaps releases it at once."""

    def __init__(self, db, key, number, ttl, releases):
        super().__init__(daemon=True)
        self.agent = register(db, f"waiter {number}")
        self.connection = connect()
        self.key, self.number, self.ttl, self.releases = key, number, ttl, releases
        self.granted = self.released = self.expires_at = None

    def run(self):
        found = rows(self.connection, """SELECT id, extract(epoch FROM expires_at)::float
            FROM coord.lease_acquire(%s, %s, %s, wait => '1 min')""", self.key, self.agent, self.ttl)
        self.granted = time.time()
        if found:
            lease, self.expires_at = found[0]
        if found and self.releases:
            value(self.connection, "SELECT coord.lease_release(%s)", lease)
            self.released = time.time()

    def start_and_wait_until_queued(self, db):
        self.start()
        while not value(db, """SELECT state = 'active' AND wait_event IS NOT NULL FROM pg_stat_activity
                WHERE pid = %s""", self.connection.info.backend_pid):
            time.sleep(0.001)
        time.sleep(0.01)


def hand_over(db, key, ttl, releases):
    """50 waiters for a key that is held.  Returns them in the order of their grants."""
    holder = register(db, "holder")
    first = value(db, "SELECT id FROM coord.lease_acquire(%s, %s, '1 min')", key, holder)
    waiters = [Waiter(db, key, number, ttl, releases) for number in range(50)]
    for waiter in waiters:
        waiter.start_and_wait_until_queued(db)
    value(db, "SELECT coord.lease_release(%s)", first)
    for waiter in waiters:
        waiter.join(70)
    for waiter in waiters:
        waiter.connection.close()
    return sorted((w for w in waiters if w.expires_at), key=lambda w: w.granted)


def measure_waiters(db, report):
    require(db, "lease_acquire", "wait")
    for name, ttl, releases in (("release", "1 min", True), ("expiry", "100 ms", False)):
        served = hand_over(db, f"hand over by {name}", ttl, releases)
        report.add(f"waiters, {name}: grants out of order of arrival",
                   sum(a.number > b.number for a, b in zip(served, served[1:])), "", below=1)
        report.add_delays(f"waiters, {name} to the next grant", [
            after.granted - (before.released if releases else before.expires_at)
            for before, after in zip(served, served[1:])], 49, 10)


PARTS = {"locks": measure_locks, "agents": measure_agents, "tasks": measure_tasks, "idle": measure_idle,
         "burst": measure_burst, "attached": measure_attached, "waiters": measure_waiters}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--attached-client", metavar="AGENT", help=argparse.SUPPRESS)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options = parser.parse_args()
    if options.attached_client:
        return attached_client(options.attached_client)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")

    db, report = connect(), Report()
    value(db, "CREATE EXTENSION IF NOT EXISTS coord; SELECT true")
    for part in options.parts or PARTS:
        print(part, flush=True)
        db.cursor().execute("VACUUM")    # each part begins without what the last one left
        try:
            PARTS[part](db, report)
        except Skipped as reason:
            print(f"  skipped: {reason}", flush=True)
    if options.json:
        report.write(options.json)
    if missed := report.missed():
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
