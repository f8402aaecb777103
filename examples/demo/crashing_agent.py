"""The agent that the demo kills: claims the next task of a queue, says so in one
line of JSON on its standard output, and then works on it for ever.

    crashing_agent.py AGENT-ID QUEUE LEASE-TTL

It sends no heartbeat and never completes.  If the demo itself ends first, its
standard input is closed, and it ends too.
"""

import json
import os
import sys

import psycopg2


def main():
    agent_id, queue, lease_ttl = sys.argv[1:]
    connection = psycopg2.connect("")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, fencing_token, lease_expires_at FROM coord.task_claim("
            "agent_id => %s, queue => %s, lease_ttl => %s)",
            (agent_id, queue, lease_ttl),
        )
        task_id, token, expires_at = cursor.fetchone()
    claim = {"pid": os.getpid(), "task_id": task_id, "fencing_token": token,
             "lease_expires_at": expires_at.isoformat()}
    print(json.dumps(claim), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
