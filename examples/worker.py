#!/usr/bin/python3
"""A worker for a queue of coord, on psycopg2.

    examples/worker.py [--name NAME] [--queue QUEUE] [--once] [conninfo]

Its agent is attached to its connection: if it dies, its task is given to others at
once.  It claims a task, works in steps, renews its claim after each, and completes
or fails the task.  When it has lost its claim (SQLSTATE 55000) it drops the work.
With nothing to claim it sleeps until the queue has something.  SIGTERM ends it after
the task at hand; then the agent retires.  With --once it ends when there is nothing
to do.
"""

import argparse
import os
import select
import signal
import socket

import psycopg2
import psycopg2.extras
from psycopg2.errors import ObjectNotInPrerequisiteState as Lost     # SQLSTATE 55000

stopping = False


def stop(*_):
    global stopping
    stopping = True


def one(connection, query, *arguments):
    """The row that a query gives, or None."""
    with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchone()


def work(task, renew):
    """The work itself: here it adds up numbers, one a step."""
    total = 0
    for done, number in enumerate(task.payload["numbers"], start=1):
        total += number
        renew({"done": done})
    return {"total": total}


def handle(connection, task):
    held = (task.id, task.fencing_token)

    def renew(progress):
        one(connection, "SELECT id FROM coord.task_renew(%s, %s, progress => %s)",
            *held, psycopg2.extras.Json(progress))

    try:
        try:
            result = work(task, renew)
        except Lost:
            raise
        except Exception as error:
            one(connection, "SELECT id FROM coord.task_fail(%s, %s, %s)", *held, repr(error))
            print(f"failed {task.id}: {error!r}", flush=True)
        else:
            one(connection, "SELECT id FROM coord.task_complete(%s, %s, %s)",
                *held, psycopg2.extras.Json(result))
            print(f"completed {task.id}: {result}", flush=True)
    except Lost as error:               # the task is somebody else's by now
        print(f"lost {task.id}: {error.diag.message_primary}", flush=True)


def wait(connection, signals):
    """Until a notification or a signal comes."""
    if not connection.notifies and not stopping:
        select.select([connection, signals], [], [])
        connection.poll()


def serve(connection, signals, me, queue, once):
    one(connection, "SELECT coord.agent_attach(%s)", me)
    one(connection, "SELECT coord.queue_listen(%s)", queue)
    while not stopping:
        connection.notifies.clear()
        task = one(connection, "SELECT id, fencing_token, payload FROM coord.task_claim(%s, %s)", me, queue)
        if task is not None:
            handle(connection, task)
        elif once:
            return
        else:
            wait(connection, signals)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default=f"worker {socket.gethostname()}:{os.getpid()}",
                        help="unique among running workers: two of one name are one agent")
    parser.add_argument("--queue", default="default")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("conninfo", nargs="?", default="")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signals, write_end = os.pipe()      # so that a signal ends select()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    connection = psycopg2.connect(options.conninfo)
    connection.autocommit = True        # a claim must be committed before the work begins
    me = one(connection, "SELECT id FROM coord.agent_register(%s)", options.name).id
    serve(connection, signals, me, options.queue, options.once)
    one(connection, "SELECT id FROM coord.agent_retire(%s)", me)


if __name__ == "__main__":
    main()
