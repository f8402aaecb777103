#!/usr/bin/python3
"""A worker for a queue of coord, on psycopg2.

    examples/worker.py [--name NAME] [--queue QUEUE] [--once] [conninfo]

It claims a task, works in steps, renews its claim after each, and completes or
fails the task.  When it has lost its claim (SQLSTATE 55000) it drops the work.
SIGTERM ends it after the task at hand; then the agent retires.  With --once it
ends when there is nothing to do.
"""

import argparse
import signal
import threading

import psycopg2
import psycopg2.extras

stopping = threading.Event()


class LostClaim(Exception):
    """The claim has run out or was taken away: the task is somebody else's."""


def one(connection, query, *arguments):
    """The row that a query gives, or None."""
    with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
        try:
            cursor.execute(query, arguments)
        except psycopg2.errors.ObjectNotInPrerequisiteState as error:
            raise LostClaim(str(error)) from error
        return cursor.fetchone()


def work(connection, task):
    """The work itself: here it adds up numbers, one a step."""
    total = 0
    for done, number in enumerate(task.payload["numbers"], start=1):
        total += number
        one(connection, "SELECT id FROM coord.task_renew(%s, %s, progress => %s)",
            task.id, task.fencing_token, psycopg2.extras.Json({"done": done}))
    return {"total": total}


def serve(connection, me, queue, once):
    while not stopping.is_set():
        task = one(connection, "SELECT id, fencing_token, payload FROM coord.task_claim(%s, %s)", me, queue)
        if task is None:
            if once:
                return
            stopping.wait(1)
            continue
        try:
            result = work(connection, task)
            one(connection, "SELECT id FROM coord.task_complete(%s, %s, %s)",
                task.id, task.fencing_token, psycopg2.extras.Json(result))
            print(f"completed {task.id}: {result}")
        except LostClaim as error:
            print(f"lost {task.id}: {error}")
        except (KeyError, TypeError) as error:
            one(connection, "SELECT id FROM coord.task_fail(%s, %s, %s)",
                task.id, task.fencing_token, repr(error))
            print(f"failed {task.id}: {error!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="python worker")
    parser.add_argument("--queue", default="default")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("conninfo", nargs="?", default="")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    connection = psycopg2.connect(options.conninfo)
    connection.autocommit = True
    me = one(connection, "SELECT id FROM coord.agent_register(%s)", options.name).id
    serve(connection, me, options.queue, options.once)
    one(connection, "SELECT id FROM coord.agent_retire(%s)", me)


if __name__ == "__main__":
    main()
