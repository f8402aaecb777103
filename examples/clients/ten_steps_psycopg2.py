#!/usr/bin/python3
"""The ten steps on psycopg2 (python3-psycopg2).

    examples/clients/ten_steps_psycopg2.py [conninfo [conninfo for LISTEN]]

Of the values only uuid needs care: register_uuid().  psycopg2 prepares nothing, so any
pooler will do.
"""

import json
import select
import sys
import uuid
from datetime import datetime, timedelta, timezone

import psycopg2
from psycopg2.extras import Json, NamedTupleCursor, register_uuid

JSON = {"deep": {"er": "\"\\"}, "name": "Zoë ☃", "parts": [1, 2.5, None, True]}


def connect(conninfo):
    connection = psycopg2.connect(conninfo, cursor_factory=NamedTupleCursor)
    connection.autocommit = True
    return connection


def same(got, wanted, yes, no):
    return yes if got == wanted else f"{no} ({got!r})"


def given(value):
    return same(value, JSON, "as given", "not as given")


def exact(number, text):
    """Of a number of ours, and what the server writes for it."""
    return same(str(number), text, "past 2^53 and exact" if number > 2**53 else "short", "rounded")


class Steps:
    def __init__(self, connection, listener):
        self.connection = connection
        self.listener = listener
        self.name = f"ten steps {uuid.uuid4()}"     # of the agent, its queue, a resource, a channel

    def all(self, query, *arguments):
        with self.connection.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall()

    def one(self, query, *arguments):
        return self.all(query, *arguments)[0]

    def agent(self):
        self.me = self.one("SELECT * FROM coord.agent_register(%s, heartbeat_timeout => %s, metadata => %s)",
                           self.name, timedelta(hours=1, minutes=30, milliseconds=250), Json(JSON))
        print(f"1 agent_register: {self.me.status}, timeout {self.me.heartbeat_timeout.total_seconds()} s,",
              f"metadata {given(self.me.metadata)}")

    def task(self):
        task_id = uuid.uuid4()
        run_at = datetime(2024, 2, 29, 12, 34, 56, 789012, timezone(timedelta(hours=2)))
        task = self.one("SELECT * FROM coord.task_create('resize', %s, queue => %s, run_at => %s, id => %s)",
                        Json(JSON), self.name, run_at, task_id)
        print(f"2 task_create: {task.state}, id {same(task.id, task_id, 'as given', 'not as given')},",
              f"run_at {task.run_at.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S.%f} UTC,",
              f"payload {given(task.payload)}")

        claim = self.one("SELECT *, fencing_token::text AS digits"
                         " FROM coord.task_claim(%s, %s, lease_ttl => %s)",
                         self.me.id, self.name, timedelta(minutes=1))
        print(f"3 task_claim: {claim.state}, attempt {claim.attempts},",
              f"token {exact(claim.fencing_token, claim.digits)}")

        held = (claim.id, claim.fencing_token)
        task = self.one("SELECT * FROM coord.task_renew(%s, %s, %s, progress => %s)",
                        *held, timedelta(minutes=2), Json(JSON))
        later = same(task.lease_expires_at > claim.lease_expires_at, True, "later", "no later")
        print(f"4 task_renew: {task.state}, progress {given(task.progress)}, until {later} than before")

        task = self.one("SELECT * FROM coord.task_complete(%s, %s, %s)", *held, Json(JSON))
        again = self.one("SELECT * FROM coord.task_complete(%s, %s, %s)", *held, Json(JSON))
        print(f"5 task_complete: {task.state}, result {given(task.result)}; again: {again.state}")
        return claim.fencing_token

    def lease(self):
        lease = self.one("SELECT * FROM coord.lease_acquire(%s, %s, %s)",
                         self.name, self.me.id, timedelta(minutes=1))
        again = self.one("SELECT * FROM coord.lease_renew(%s, %s)", lease.id, timedelta(minutes=2))
        later = same(again.expires_at > lease.expires_at, True, "later", "no later")
        token = same(again.fencing_token, lease.fencing_token, "the same", "another")
        released = [self.one("SELECT coord.lease_release(%s)", lease.id)[0] for _ in range(2)]
        print(f"6 lease: {lease.state}, renewed until {later} with {token} token,",
              f"released {released[0]}, again {released[1]}".lower())

    def notification(self):
        while not self.listener.notifies:
            select.select([self.listener], [], [])
            self.listener.poll()
        return json.loads(self.listener.notifies.pop(0).payload)

    def event(self):
        with self.listener.cursor() as cursor:
            cursor.execute("SELECT coord.event_listen(channel => %s)", [self.name])
        sent = self.one("SELECT * FROM coord.event_send('report', %s, channel => %s)", Json(JSON), self.name)
        heard = self.notification()
        event = self.one("SELECT *, position::text AS digits FROM coord.event_list(channel => %s)", self.name)
        # in JSON it is a string past 2^53, for those who would round it
        print(f"7 event_send: notified, id {same(heard['id'], str(sent.id), 'as sent', 'of another')},",
              f"position {exact(int(heard['position']), event.digits)}")

        rest = self.all("SELECT * FROM coord.event_list(channel => %s, after => %s)", self.name, event.position)
        print(f"8 event_list: {event.type}, payload {given(event.payload)};",
              f"after its position: {len(rest)} events")

    def refused(self, stale_token):
        self.one("SELECT * FROM coord.task_create('again', queue => %s)", self.name)
        self.connection.autocommit = False      # from here to rollback() is one transaction
        task = self.one("SELECT * FROM coord.task_claim(%s, %s)", self.me.id, self.name)
        claimed = f"{task.state}, attempt {task.attempts}"
        try:
            self.one("SELECT * FROM coord.task_complete(%s, %s)", task.id, stale_token)
        except psycopg2.errors.ObjectNotInPrerequisiteState as error:
            print(f"9 task_complete with a stale token: {error.pgcode}")
        self.connection.rollback()
        self.connection.autocommit = True
        task = self.one("SELECT * FROM coord.task WHERE id = %s", task.id)
        print(f"10 rolled back: {claimed}; then {task.state}, attempt {task.attempts}")
        self.one("SELECT * FROM coord.task_cancel(%s)", task.id)

    def run(self):
        self.agent()
        stale_token = self.task()
        self.lease()
        self.event()
        self.refused(stale_token)
        self.one("SELECT * FROM coord.agent_retire(%s)", self.me.id)


register_uuid()
connections = [connect(conninfo) for conninfo in sys.argv[1:] or [""]]
Steps(connections[0], connections[-1]).run()
