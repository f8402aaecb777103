#!/usr/bin/python3
"""Three servers under Patroni, with etcd, and clients that work on while the leader changes.

    make test-patroni

First by patronictl switchover, then because the leader's Patroni and postmaster are killed;
what was killed comes back as a standby.  Replication is synchronous (synchronous_mode), so
nothing that a client was told may be gone.  test/torture/failover.py has the clients, and
what they check.  Ports are free ones of 127.0.0.1; all files are below $COORD_WORK.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
TORTURE = os.path.join(os.path.dirname(HERE), "torture")
sys.path.insert(0, TORTURE)
from common import rows     # noqa: E402

WORK = os.path.join(os.environ["COORD_WORK"], "patroni")
BIN = os.path.dirname(os.environ.get("COORD_PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config"))
OUTPUT = os.path.join(os.getcwd(), "test/output")       # is kept when the test fails
PATIENCE = 180      # seconds
ENOUGH = 100        # completed tasks, before and after each change

passed = failed = 0
children = []


def ok(good, name, why=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok' if good else 'not ok'} - {name}", flush=True)
    if not good and why:
        print(why, flush=True)
    return good


def comes(name, condition):
    """Wait until the condition gives something, which is returned; it may fail meanwhile."""
    limit, why = time.monotonic() + PATIENCE, ""
    while time.monotonic() < limit:
        try:
            found = condition()
            if found:
                ok(True, name)
                return found
        except (OSError, psycopg2.Error) as error:
            why = str(error)
        time.sleep(0.2)
    ok(False, name, why)
    sys.exit(1)


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(name, args, env=None):
    with open(os.path.join(OUTPUT, f"{name}.log"), "a") as log:
        child = subprocess.Popen(args, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    children.append(child)
    return child


def start_etcd():
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    start("etcd", ["etcd", "--data-dir", os.path.join(WORK, "etcd"), "--unsafe-no-fsync",
                   "--listen-client-urls", client, "--advertise-client-urls", client,
                   "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                   "--initial-cluster", f"default={peer}"])
    return client.removeprefix("http://")


def preloads_coord():
    """The settings with which the harness' servers find coord, as Patroni wants them."""
    with open(os.environ["COORD_CONF"]) as conf:
        settings = (line.split("=", 1) for line in conf if "=" in line)
        return {name.strip(): value.strip().strip("'") for name, value in settings}


class Node:
    def __init__(self, number, etcd):
        self.name = f"node{number}"
        self.port, self.rest = free_ports(2)
        self.data = os.path.join(WORK, self.name)
        self.conf = os.path.join(WORK, f"{self.name}.yml")
        who = {"username": "postgres"}
        with open(self.conf, "w") as conf:      # JSON is YAML
            json.dump({
                "scope": "coord", "name": self.name,
                "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
                "etcd3": {"host": etcd},
                "bootstrap": {
                    "dcs": {"ttl": 20, "loop_wait": 2, "retry_timeout": 9, "synchronous_mode": True,
                            "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 60}}},
                    "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, "no-sync"],
                    "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust",
                               "host replication all 127.0.0.1/32 trust"]},
                "postgresql": {
                    "listen": f"127.0.0.1:{self.port}", "connect_address": f"127.0.0.1:{self.port}",
                    "data_dir": self.data, "bin_dir": BIN, "pgpass": os.path.join(WORK, f"{self.name}.pgpass"),
                    "authentication": {"superuser": who, "replication": who, "rewind": who},
                    "parameters": preloads_coord() | {"unix_socket_directories": WORK}}}, conf)

    def start(self):
        self.patroni = start(self.name, ["/usr/bin/python3", "/usr/bin/patroni", self.conf])

    def promoted_at(self):
        """When it came to take writes, by its log."""
        with open(os.path.join(OUTPUT, f"{self.name}.log")) as log:
            return [line for line in log if "database system is ready to accept connections" in line][-1].split(" [")[0]

    def kill(self):
        """Patroni first, so that it does not see the end of its server."""
        with open(os.path.join(self.data, "postmaster.pid")) as pid_file:
            postmaster = int(pid_file.readline())
        for pid in (self.patroni.pid, postmaster):
            os.kill(pid, signal.SIGKILL)
        self.patroni.wait()

    def state(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/cluster", timeout=5) as answer:
            return {member["name"]: member for member in json.load(answer)["members"]}

    def ask(self, sql, *arguments):
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=5)
        try:
            connection.autocommit = True
            return rows(connection, sql, *arguments)[0]
        finally:
            connection.close()

    def completed(self):
        return self.ask("SELECT count(*) FROM coord.task WHERE state = 'completed'")[0]


class Cluster:
    def __init__(self, etcd):
        self.nodes = [Node(number, etcd) for number in range(3)]
        for node in self.nodes:
            node.start()

    def leader(self):
        """Who takes writes, by its own word."""
        for node in self.nodes:
            try:
                if not node.ask("SELECT pg_is_in_recovery()")[0]:
                    return node
            except psycopg2.OperationalError:
                continue
        return None

    def is_whole(self):
        """All three are there, and commits wait for one of the standbys."""
        leader = self.leader()
        return leader and leader.ask("SELECT count(*) = 2 AND count(*) FILTER (WHERE sync_state = 'sync') = 1 "
                                     "FROM pg_stat_replication WHERE state = 'streaming'")[0] and leader

    def program(self, *arguments):
        """The clients, or their check: how to start it, where they connect to whoever is the leader."""
        env = os.environ | {"PGHOST": ",".join(["127.0.0.1"] * len(self.nodes)), "PGUSER": "postgres",
                            "PGPORT": ",".join(str(node.port) for node in self.nodes), "PGDATABASE": "postgres",
                            "PGTARGETSESSIONATTRS": "read-write"}
        return {"args": ["/usr/bin/python3", os.path.join(TORTURE, "failover.py"), *arguments], "env": env}


def work_goes_on(how, node):
    target = node.completed() + ENOUGH
    comes(f"{how}: {ENOUGH} tasks are completed", lambda: node.completed() >= target)


def change_leader(cluster, how, deed):
    """Work, a change of the leader in the middle of it, and work."""
    directory = os.path.join(OUTPUT, how)
    os.mkdir(directory)
    old = comes(f"{how}: the cluster is whole", cluster.is_whole)
    clients = start("clients", **cluster.program("work", directory))
    comes(f"{how}: clients come", lambda: old.ask("SELECT to_regclass('written') IS NOT NULL")[0])
    work_goes_on(how, old)
    old.ask("""SELECT count(*) FROM generate_series(1, 60) g, coord.agent_register('deadlines', heartbeat_timeout => '1 h') a,
        coord.lease_acquire('deadline ' || g, a.id, make_interval(secs => g))""")
    deed(old)
    new = comes(f"{how}: there is another leader", lambda: (leader := cluster.leader()) is not old and leader)
    work_goes_on(how, new)
    comes(f"{how}: what runs out is announced", lambda: new.ask("""SELECT count(*) >= 3 FROM coord.event
        WHERE type = 'lock.expired' AND created_at > coord.beats_since() AND payload ->> 'resource_key' LIKE 'deadline %'""")[0])
    comes(f"{how}: the worker comes", lambda: new.ask("SELECT pid IS NOT NULL FROM coord.worker")[0])
    delay = new.ask("SELECT extract(epoch FROM started_at - %s::timestamptz)::float8 FROM coord.worker",
                    new.promoted_at())[0]
    ok(delay < 1, f"{how}: the worker is there within a second", f"{delay} s")
    ok(new.ask("SELECT count(*) FROM coord.event WHERE type = 'agent.inactive' AND payload ->> 'name' LIKE 'client %'")[0] == 0,
       f"{how}: no client was declared dead")
    clients.terminate()
    ok(clients.wait(PATIENCE) == 0, f"{how}: the clients end")
    checked = subprocess.run(**cluster.program("check", directory), stdout=subprocess.PIPE, text=True, check=False)
    ok(checked.returncode == 0, f"{how}: what they were told is so, in order", checked.stdout)
    print(f"# {checked.stdout.splitlines()[0]}; worker after {delay} s", flush=True)
    new.ask("SELECT count(coord.lease_release(id)) FROM coord.lease WHERE resource_key LIKE 'deadline %' AND state = 'active'")


def switch_over(old):
    state = old.state()
    candidate = next(name for name, member in state.items() if member["role"] == "sync_standby")
    done = subprocess.run(["/usr/bin/python3", "/usr/bin/patronictl", "-c", old.conf, "switchover", "coord",
                           "--master", old.name, "--candidate", candidate, "--force"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    ok(done.returncode == 0, "switchover: patronictl does it", done.stdout)


def end_children():
    """Patroni ends its server; etcd, which it needs for that, is the first that was started."""
    for child in reversed(children):
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def main():
    os.makedirs(WORK, mode=0o700)
    os.makedirs(OUTPUT, exist_ok=True)
    try:
        cluster = Cluster(start_etcd())
        change_leader(cluster, "switchover", switch_over)
        change_leader(cluster, "kill", Node.kill)
        killed = next(node for node in cluster.nodes if node.patroni.poll() is not None)
        killed.start()
        leader = comes("kill: what was killed comes back as a standby", cluster.is_whole)
        ok(killed is not leader and killed.completed() >= ENOUGH, "kill: it has what was done meanwhile")
    finally:
        end_children()
        print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
