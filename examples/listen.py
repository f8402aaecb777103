#!/usr/bin/python3
"""A listener for events of coord, on psycopg2.

    examples/listen.py (--channel NAME | --agent ID | --everyone) [--position-file FILE] [conninfo]

Prints each event as a line of JSON: those on a channel, to an agent, or to everyone.
It goes on from the position in its file, without one from the first event that is
kept.  A lost connection is made again, and no event is missed or handled twice.
SIGTERM ends it.
"""

import argparse
import json
import os
import random
import select
import signal
import sys

import psycopg2
import psycopg2.extras

BATCH = 100

stopping = False


def stop(*_):
    global stopping
    stopping = True


def handle(event):
    """The work itself: here it prints the event."""
    print(json.dumps(event, default=str), flush=True)


class Listener:
    def __init__(self, options, signals):
        self.options = options
        self.signals = signals
        self.position = None
        self.failures = 0
        if options.position_file:       # fails now, not after the first event
            open(f"{options.position_file}.new", "w", encoding="ascii").close()
        if options.position_file and os.path.exists(options.position_file):
            with open(options.position_file, encoding="ascii") as file:
                self.position = int(file.read())

    def keep(self, position):
        """Keeps the position of an event that has been handled.

        Killed right before this, we handle that event again.  If what handle() does is
        in the database, keep the position there too, in the same transaction.
        """
        self.position = position
        if self.options.position_file:
            with open(f"{self.options.position_file}.new", "w", encoding="ascii") as file:
                file.write(str(position))
            os.replace(file.name, self.options.position_file)       # never half written

    def wanted(self, event):
        # With neither recipient nor channel, event_list gives all that we may read.
        return not self.options.everyone or (event["recipient_id"] is None and event["channel"] is None)

    def catch_up(self, connection):
        """Handles what has come since the last position.

        A notification is no more than a reason to do this: it lacks the payload, and
        those sent while we were away never come.
        """
        count = BATCH
        while count == BATCH:
            with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(
                    "SELECT * FROM coord.event_list(recipient_id => %s, channel => %s, after => %s, max_events => %s)",
                    (self.options.agent, self.options.channel, self.position, BATCH))
                count = cursor.rowcount
                for event in cursor:
                    if stopping:
                        return
                    if self.wanted(event):
                        handle(event)
                    self.keep(event["position"])

    def serve(self, connection):
        """Until SIGTERM; raises an error when the connection is lost."""
        connection.autocommit = True        # LISTEN begins at the commit
        with connection.cursor() as cursor:
            cursor.execute("SELECT coord.event_listen(recipient_id => %s, channel => %s)",
                           (self.options.agent, self.options.channel))
        # We listen, so what is not in the list by now will be notified.
        while not stopping:
            connection.notifies.clear()
            self.catch_up(connection)
            self.failures = 0
            if not connection.notifies and not stopping:
                select.select([connection, self.signals], [], [])
                connection.poll()

    def run(self):
        while not stopping:
            connection = None
            try:
                # Who only waits would not notice that the network has gone: the keepalives
                # do, and the user timeout when a query is under way.
                connection = psycopg2.connect(
                    self.options.conninfo, fallback_application_name="listen.py", connect_timeout=10,
                    keepalives_idle=10, keepalives_interval=5, keepalives_count=3, tcp_user_timeout=25000)
                self.serve(connection)
            except psycopg2.Error as error:
                # What the server says of a query (no such agent, no rights) it would say
                # again, but not that it is in recovery still (25006).  A lost connection has
                # no code and may be any of psycopg2's errors.
                passes = (psycopg2.OperationalError, psycopg2.errors.ReadOnlySqlTransaction)
                if error.pgcode is not None and not isinstance(error, passes):
                    raise
                # With jitter, so that not all come at once to a server that is back.
                pause = random.uniform(0.5, 1) * min(30, 0.1 * 2 ** min(self.failures, 9))
                self.failures += 1
                print(f"{str(error).strip()}; again in {pause:.1f} s", file=sys.stderr)
                select.select([self.signals], [], [], pause)
            finally:
                if connection is not None:
                    connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--channel", help="the events on this channel")
    what.add_argument("--agent", metavar="ID", help="the events to this agent")
    what.add_argument("--everyone", action="store_true", help="the events to everyone")
    parser.add_argument("--position-file", metavar="FILE", help="where the last position is kept")
    parser.add_argument("conninfo", nargs="?", default="")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signals, write_end = os.pipe()      # so that a signal ends select()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    Listener(options, signals).run()


if __name__ == "__main__":
    main()
