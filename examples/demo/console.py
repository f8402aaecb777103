"""How the demo speaks to the database and to the person who watches.

Session asks and shows what it asked and what came back; Listener waits for
notifications; Report counts the checks.  Nothing here sleeps: who waits, waits
for a notification or until an instant that is known.
"""

import json
import select
import sys
import time
from datetime import datetime, timezone

import psycopg2
import psycopg2.extras

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def paint(colour, text):
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if sys.stdout.isatty() else text


def now():
    """The wall clock, which is the server's too: both are on this machine."""
    return datetime.now(timezone.utc)


def ms(delta):
    return delta.total_seconds() * 1000


def as_json(row, *keys):
    chosen = {key: row[key] for key in keys or row}
    return json.dumps(chosen, ensure_ascii=False,
                      default=lambda v: v.isoformat() if isinstance(v, datetime) else str(v))


class Report:
    """What was checked, and how it went."""

    def __init__(self):
        self.passed = self.failed = 0

    def title(self, text):
        print("\n" + paint("bold", text), flush=True)

    def say(self, text):
        print(f"   {text}", flush=True)

    def check(self, what, holds):
        if holds:
            self.passed += 1
            print(f"   {paint('green', 'ok')}      {what}", flush=True)
        else:
            self.failed += 1
            print(f"   {paint('red', 'FAILED')}  {what}", flush=True)
        return holds

    def check_late(self, what, late, limit=250):
        """The limit, in ms, is far above what is usual: busy machines run demos too."""
        self.check(f"{what}: {ms(late):+.1f} ms", -1 < ms(late) < limit)


class Session:
    """One connection.  Its calls are shown as they could be typed into psql."""

    def __init__(self):
        self.connection = psycopg2.connect("")
        self.connection.autocommit = True

    def query(self, sql, *values):
        """The rows, as dictionaries; nothing is shown."""
        with self.connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def ask(self, sql, *values, show=()):
        """The rows, as dictionaries, of which the columns named are shown."""
        self._show_question(sql, values)
        rows = self.query(sql, *values)
        for row in rows:
            print(f"   {paint('dim', '<')} {as_json(row, *show)}")
        if not rows:
            print(f"   {paint('dim', '<')} (no row)")
        sys.stdout.flush()
        return rows

    def ask_refused(self, sql, *values):
        """The error that refuses the call, or None when it was not refused."""
        self._show_question(sql, values)
        try:
            self.query(sql, *values)
        except psycopg2.Error as error:
            message = error.diag.message_primary or str(error).strip()
            print(f"   {paint('dim', '<')} ERROR {error.pgcode}: {message}", flush=True)
            return error
        print(f"   {paint('dim', '<')} (not refused)", flush=True)
        return None

    def _show_question(self, sql, values):
        with self.connection.cursor() as cursor:
            text = cursor.mogrify(sql, values or None).decode()
        print(f"   {paint('cyan', '>')} {text}", flush=True)


class Listener(Session):
    """A connection that listens, and gives each notification's time of arrival."""

    def __init__(self, **to):
        super().__init__()
        self.waiting = []
        for argument, value in to.items():
            self.ask(f"SELECT coord.event_listen({argument} => %s) AS listens_to", value)

    def take(self, event_type, count=1, until=None, **payload):
        """Up to count events of that type whose payload has these values, in their
        order of arrival: dictionaries with the notification's fields, "payload"
        and "received".  Waits for them until the instant given, or for 10 s."""
        deadline = time.monotonic() + ((until - now()).total_seconds() if until else 10)
        taken = []
        while True:
            taken += self._matching(event_type, count - len(taken), payload)
            left = deadline - time.monotonic()
            if len(taken) == count or left <= 0:
                return taken
            self._receive(left)

    def wait_until(self, instant):
        """Goes on receiving until that instant."""
        while (left := (instant - now()).total_seconds()) > 0:
            self._receive(left)

    def _receive(self, seconds):
        # a query on this connection may have brought some along already
        if not self.connection.notifies:
            select.select([self.connection], [], [], seconds)
        received = now()
        self.connection.poll()
        notifies, self.connection.notifies[:] = self.connection.notifies[:], []
        for notify in notifies:
            self.waiting.append({**json.loads(notify.payload), "received": received})

    def _matching(self, event_type, count, payload):
        """Takes what matches from what has come; the payloads are read from the table."""
        matching, rest = [], []
        for event in self.waiting:
            if event["type"] == event_type and len(matching) < count:
                if "payload" not in event:
                    event["payload"] = self.query(
                        "SELECT payload FROM coord.event WHERE id = %s", event["id"])[0]["payload"]
                if payload.items() <= event["payload"].items():
                    matching.append(event)
                    continue
            rest.append(event)
        self.waiting = rest
        return matching
