"""Runs sqlsmith, which makes up queries from what the catalog has, on a database with coord:
as a role that is an agent's and a monitor's, and as a superuser.  sqlsmith rolls back what
it does.  Most of its statements fail; that is as it should be, but none may fail as what
cannot be (XX000), nor end a process.
"""

import argparse
import random
import re
import subprocess
import sys
import time

import invariants
import server
from findings import Findings

# ours need not answer for what PostgreSQL's own functions do with odd arguments
NOT_OURS = re.compile(r"could not open relation with OID|cache lookup failed|could not find function|"
                      r"invalid (attribute|column) number|unexpected .* (in|parse)|could not determine|"
                      r"failed to find conversion function from unknown|unrecognized objtype abbreviation|invalid INTERVAL typmod")

FILL = """
    SELECT coord.agent_register('a' || n, heartbeat_timeout => '1 h') FROM generate_series(1, 20) n;
    SELECT coord.queue_set('limited', max_claimed => 3);
    SELECT coord.task_create('t' || n % 7, queue => (ARRAY['default', 'q', 'limited'])[1 + n % 3], max_attempts => 1 + n % 3,
        resource_key => CASE WHEN n % 5 = 0 THEN 'r' || n % 3 END) FROM generate_series(1, 300) n;
    SELECT coord.task_claim(id, 'q', max_tasks => 3) FROM coord.agent;
    SELECT coord.task_claim(id, 'limited') FROM coord.agent LIMIT 3;
    SELECT coord.lease_acquire('l' || row_number() OVER (), id, '1 h') FROM coord.agent;
    SELECT coord.task_complete(id, fencing_token, '{}') FROM coord.task WHERE state = 'claimed' LIMIT 20;
    SELECT coord.task_fail(id, fencing_token, 'e') FROM coord.task WHERE state = 'claimed' LIMIT 20;
    SELECT coord.event_send('e', channel => 'c' || n % 3) FROM generate_series(1, 100) n"""


def run(role, seconds, seed, findings):
    target = f"dbname={server.DATABASE} user={role}"
    smith = subprocess.Popen(["sqlsmith", f"--target={target}", f"--seed={seed}", "--exclude-catalog"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    try:
        said, _ = smith.communicate(timeout=seconds)
        findings.add(f"sqlsmith as {role} ended", said[-1000:])
    except subprocess.TimeoutExpired:
        smith.terminate()
        said, _ = smith.communicate()


def count_statements(log_from):
    with open(server.server_log(), errors="replace") as log:
        log.seek(log_from)
        return sum(1 for line in log if " ERROR:  " in line)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=None)
    options = parser.parse_args()
    seed = int(options.seed or random.randrange(1 << 31))
    print(f"sqlsmith: seed {seed}", flush=True)
    findings = Findings()
    server.set_up(trap=False)
    server.ask(FILL, role="fuzz_monitor")
    log_from = server.log_length()
    for role in ("fuzz_monitor", "postgres"):
        run(role, options.seconds / 2, seed, findings)
    print(f"{count_statements(log_from)} statements of sqlsmith failed, as most are to")
    invariants.check(findings)
    server.check_log(findings, log_from, NOT_OURS)
    findings.report()
    sys.exit(bool(findings.found))


if __name__ == "__main__":
    main()
