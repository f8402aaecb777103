"""Arguments: hostile ones, ordinary ones, and what other calls have made.

Each is SQL text with the SQLSTATEs that writing it so may cost before the function is
called, which are those of the types' input functions.
"""

import json
import threading

KINDS = ("agent", "lease", "task", "queue", "resource", "event")

MIB = 1024 * 1024

# which arguments are ids of what
IDS = {"agent_id": "agent", "recipient_id": "agent", "sender_id": "agent", "lease_id": "lease", "task_id": "task",
       "depends_on": "task"}

WORDS = {
    "status": ["active", "inactive", "retired"],
    "state": ["active", "released", "expired", "blocked", "pending", "claimed", "completed", "dead", "cancelled"],
    "severity": ["debug", "info", "warning", "error", "critical"],
    "queue": ["default", "q1", "q2", "q3", "limited"],
    "name": ["a1", "a2", "a3", "a4", "a5", "q1", "limited", "default_lease_ttl"],
    "channel": ["c1", "c2", "coord.locks", "coord.tasks", "coord.agents"],
    "resource_key": ["r1", "r2", "r3", "r4"],
    "unique_key": ["u1", "u2", "u3"],
    "type": ["t1", "t2", "worker"],
    "after": ["a", "q1", "r2"],
    "schedule": ["0 3 29 2 *", "0 3 * *"],
    "sweep_schedule": ["0 3 29 2 *"],
    "purge_schedule": ["0 3 29 2 *"],
}

ODD_TEXTS = [
    ("''", ()), ("' '", ()), ("'%s%n%d'", ()), ("'%'", ()), ("E'a\\nb\\tc'", ()), ("E'\\x01\\x7f'", ()),
    ("''''", ()), ("'\"'", ()), ("'a;b--c/*'", ()), ("'ä€😀'", ("22P05", "22021")), ("E'\\u202e\\ufeff'", ("22P05",)),
    ("repeat('x', 512)", ()), ("repeat('x', 513)", ()), ("repeat(E'\\u20ac', 170)", ("22P05",)),
    ("repeat(E'\\u20ac', 171)", ("22P05",)), ("repeat('x', 63)", ()), ("repeat('x', 64)", ()),
    ("repeat('z', 1048576)", ()), ("repeat('z', 1048577)", ()), ("repeat('z', 3000000)", ()),
    ("E'\\xff\\xfe'", ("22021",)), ("E'a\\xc3'", ("22021",)), ("E'\\xed\\xa0\\x80'", ("22021",)),
    ("E'\\000'", ("22021",)), ("convert_from('\\xff'::bytea, 'UTF8')", ("22021", "22P02")),
    ("chr(1114111)", ()), ("'coord:all'", ()), ("upper('ß')", ("22P05",)), ("NULL", ()),
    ("pg_catalog.left(pg_catalog.repeat('\"', 600), 512)", ()), ("quote_literal(E'\\\\')", ()),
]

INTERVALS = [
    "0", "1 us", "-1 us", "100 ms", "99 ms", "200 ms", "1 s", "30 s", "1 h", "24 h", "24:00:00.000001", "366 days",
    "366 days 00:00:00.000001", "100 years", "1000 years", "178000000 years", "-178000000 years", "-1 day", "1 mon -30 days",
    "1 mon -29 days -23:59:59", "-1 mon 31 days", "2147483647 days", "-2147483648 days", "178956970 years 7 mons",
    "2562047788:00:54.775807", "-2562047788:00:54.775807", "2147483647 days 2562047788:00:54.775807",
    "-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807",
]

INSTANTS = [
    "now", "epoch", "infinity", "-infinity", "today", "2000-01-01", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00",
    "294247-01-10 04:00:54+00", "1999-12-31 23:59:59.999999+00", "2100-01-01", "0001-01-01 BC",
]

INTEGERS = [0, 1, -1, 2, 3, 10, 100, 1000, 1001, 10000, 10001, 1000000, 1000001, 2147483647, -2147483648]
BIGINTS = [0, 1, -1, 9223372036854775807, -9223372036854775808, 1 << 51, (1 << 51) - 1, 4095 << 51, 1 << 53, 1 << 62]

UUIDS = ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff",
         "{0193e4a0-0000-7000-8000-000000000001}", "0193e4a000007000800000000000000a",
         "00000000-0000-7000-8000-ffffffffffff"]

BAD_UUIDS = ["", "x", "0193e4a0-0000-7000-8000", "g0000000-0000-0000-0000-000000000000"]


ODD_JSON = [
    ("repeat('[', 10000) || repeat(']', 10000)", {"54001"}),
    ("repeat('{\"a\":', 6000) || '1' || repeat('}', 6000)", {"54001"}),
    ("'\"' || repeat('x', 1048574) || '\"'", set()), ("'\"' || repeat('x', 1048575) || '\"'", set()),
    ("'[' || repeat('0,', 400000) || '0]'", set()), ("'\"\\u0000\"'", {"22P05", "22P02"}),
    ("'{\"a\": 1, \"a\": 2}'", set()), ("'1e100000'", {"22003", "22P02"}), ("'-1e-16000'", {"22003"}), ("'1e131071'", set()),
    ("'NaN'", {"22P02"}), ("'null'", set()), ("'[]'", set()), ("'\"s\"'", set()), ("'true'", set()), ("''", {"22P02"}),
    ("'{\"to\": \"a1\"}'", set()), ("'{\"to\": 5}'", set()), ("'{\"to\": null}'", set()), ("'{\"to\": [\"a1\"]}'", set()),
    ("'{\"\": {}}'", set()), ("jsonb_build_object(repeat('k', 300), 1)::text", set()),
    ("jsonb_build_object('to', repeat('k', 1000))::text", set()), ("'\"\\ud800\"'", {"22P02", "22P05"}),
]


def literal(text):
    return "'" + str(text).replace("'", "''") + "'"


class Pool:
    """What calls have made, the latest of each kind."""

    def __init__(self):
        self.lock = threading.Lock()
        self.ids = {kind: [] for kind in KINDS}
        self.tokens = []
        self.claims = []        # task and token, which belong together
        self.leases = []        # resource and token
        self.positions = []

    def keep(self, among, what):
        if what is not None and what not in among:
            among.append(what)
            del among[:-40]

    def add(self, function, row):
        with self.lock:
            kind = function.split("_")[0]
            if kind in self.ids and row.get("id"):
                self.keep(self.ids[kind], row["id"])
            if row.get("agent_id"):
                self.keep(self.ids["agent"], row["agent_id"])
            if row.get("fencing_token"):
                self.keep(self.tokens, row["fencing_token"])
                if kind == "task":
                    self.keep(self.claims, (row["id"], row["fencing_token"]))
                else:
                    self.keep(self.leases, (row["resource_key"], row["fencing_token"]))
            if row.get("position"):
                self.keep(self.positions, row["position"])

    def draw(self, random, among):
        """Mostly one of the last few, which may still be as they were."""
        with self.lock:
            return random.choice(among[-5:] if random.random() < 0.6 else among) if among else None


class Maker:
    def __init__(self, random, pool):
        self.random, self.pool = random, pool
        self.claim = self.lease = None

    def argument(self, function, name, type):
        """SQL text and SQLSTATEs."""
        if name == "role":
            return self.role()
        if type == "anyelement":
            type = self.random.choice(("text", "uuid", "bigint", "interval", "jsonb"))
            sql, states = self.argument(function, name, type)
            return f"({sql})::{type}", states
        if self.random.random() < 0.04:
            return f"NULL::{type}", set()
        make = {
            "text": self.text, "uuid": self.uuid, "uuid[]": self.uuids, "integer": self.integer, "bigint": self.bigint,
            "boolean": self.boolean, "interval": self.interval, "timestamp with time zone": self.instant,
            "jsonb": self.jsonb, "name": self.role,
        }.get(type)
        if make is None:
            raise ValueError(f"values.py makes no {type}, which {function} wants as {name}")
        return make(function, name) if make != self.role else self.role()

    def role(self):
        return self.random.choice([
            ("'fuzz_victim'", {"42704"}), ("'fuzz \"victim\" 2'", {"42704"}), ("'nobody at all'", {"42704"}),
            ("''", {"42704", "42601", "42602"}), ("repeat('x', 70)::name", {"42704"}), ("'public'", {"42704", "42939"}),
            ("'fuzz_victim; SELECT 1'", {"42704"}), ("NULL::name", {"22004"})])

    # texts

    def text(self, function, name):
        if self.random.random() < 0.25:
            sql, states = self.random.choice(ODD_TEXTS)
            return sql, set(states)
        if name == "resource_key" and self.random.random() < 0.5:
            self.lease = self.pool.draw(self.random, self.pool.leases)
            if self.lease:
                return literal(self.lease[0]).replace("\\", "?"), {"22P05", "22021"}
        return literal(self.random.choice(WORDS.get(name, ["x", "y", "some text"]))), set()

    # numbers

    def integer(self, function, name):
        if self.random.random() < 0.04:
            return self.random.choice([("2147483648", {"42883", "42804"}), ("'NaN'", {"22P02"}), ("'1e3'", {"22P02"}),
                                       ("'2147483648'", {"22003"})])
        if self.random.random() < 0.5:
            return str(self.random.randint(1, 5)), set()
        return f"({self.random.choice(INTEGERS)})", set()

    def bigint(self, function, name):
        draw = self.random.random()
        if draw < 0.04:
            return self.random.choice([("'9223372036854775808'", {"22003"}), ("'NaN'", {"22P02"}), ("'Infinity'", {"22P02"})])
        if name == "fencing_token" and draw < 0.7:
            known = self.claim or self.lease
            if known:
                return f"({known[1]})", set()
        among = {"fencing_token": self.pool.tokens, "position": self.pool.positions, "ack": self.pool.positions,
                 "after": self.pool.positions}.get(name, [])
        known = self.pool.draw(self.random, among)
        if known is not None and draw < 0.8:
            return f"({known})", set()
        return f"'{self.random.choice(BIGINTS)}'::bigint", set()

    def boolean(self, function, name):
        return self.random.choice([("true", set()), ("false", set()), ("'maybe'", {"22P02"})][:2 + (self.random.random() < 0.05)])

    # times

    def interval(self, function, name):
        if self.random.random() < 0.05:
            return self.random.choice([
                ("'infinity'", {"22007", "22P02"}), ("'x'", {"22007"}), ("'99999999999999999999 s'", {"22008", "22015", "22007"}),
                ("make_interval(secs => 'NaN')", {"22008", "22003", "22015"}), ("interval '1' * 'NaN'::float8", {"22008"}),
                ("make_interval(secs => 1e300)", {"22008", "22003", "22015"})])
        if name == "heartbeat_timeout" and self.random.random() < 0.5:
            return "interval '1 h'", set()
        if self.random.random() < 0.6:
            return f"interval '{self.random.choice(['100 ms', '150 ms', '300 ms', '1 s', '5 s', '1 h'])}'", set()
        return f"interval '{self.random.choice(INTERVALS)}'", {"22008", "22015"}

    def instant(self, function, name):
        if self.random.random() < 0.05:
            return self.random.choice([("'294277-01-01'", {"22008"}), ("'yesterday at noon'", {"22007"}), ("'4714-11-23 BC'", {"22008"}),
                                       ("'2000-02-30'", {"22008"}), ("'2000-01-01 00:00 Mars/Olympus'", {"22023", "22007"})])
        if self.random.random() < 0.5:
            return f"clock_timestamp() + interval '{self.random.choice(['-1 s', '0', '50 ms', '300 ms', '1 day'])}'", set()
        return f"timestamptz '{self.random.choice(INSTANTS)}'", {"22008", "22007"}

    # ids

    def uuid_text(self, name, function):
        kind = IDS.get(name)
        if kind is None:
            kind = {"a": "agent", "t": "task", "l": "lease"}.get(function[:1], "task")
        known = self.pool.draw(self.random, self.pool.ids[kind])
        if kind == "task" and self.random.random() < 0.7:
            self.claim = self.pool.draw(self.random, self.pool.claims)
            known = self.claim[0] if self.claim else known
        if name == "id":    # of what is to be made
            known = known if self.random.random() < 0.3 else None
        if known and self.random.random() < 0.85:
            return known
        if self.random.random() < 0.3:
            return self.random.choice(UUIDS)
        return "%08x-%04x-7%03x-8%03x-%012x" % tuple(self.random.getrandbits(n) for n in (32, 16, 12, 12, 48))

    def uuid(self, function, name):
        if self.random.random() < 0.03:
            return literal(self.random.choice(BAD_UUIDS)), {"22P02"}
        return f"uuid {literal(self.uuid_text(name, function))}", set()

    def uuids(self, function, name):
        draw = self.random.random()
        if draw < 0.1:
            return self.random.choice([
                ("'{}'", set()), ("'{NULL}'", {"22P02"}), ("'{x}'", {"22P02"}), ("'{'", {"22P02"}),
                ("array_fill(coord.new_id(), ARRAY[2, 2])", {"42501"}),
                (f"'[-5:-5]={{{self.uuid_text(name, function)}}}'", set()),
                ("(SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 20000))", set()),
                ("array_fill(uuid '00000000-0000-0000-0000-000000000000', ARRAY[30000])", set())])
        ids = [self.uuid_text(name, function) for _ in range(self.random.randint(0, 4))]
        return "ARRAY[" + ", ".join(map(literal, ids)) + "]::uuid[]", set()

    # JSON

    def jsonb(self, function, name):
        if name == "tasks" and self.random.random() < 0.85:
            return self.tasks(function)
        if self.random.random() < 0.3:
            sql, states = self.random.choice(ODD_JSON)
            return f"({sql})::jsonb", set(states)
        value = self.random.choice([{}, {"a": 1}, {"to": "a2"}, [1, 2, None], {"a": {"b": [1.5, "x"]}}])
        return f"jsonb {literal(json.dumps(value))}", set()

    def tasks(self, function):
        """For task_create_many and task_complete_many: mostly right, here and there not."""
        items = []
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 50])):
            if function == "task_complete_many":
                known = self.pool.draw(self.random, self.pool.claims) or (UUIDS[0], 1)
                item = {"task_id": known[0], "fencing_token": self.random.choice([known[1], str(known[1])])}
                if self.random.random() < 0.3:
                    item["result"] = {"ok": True}
            else:
                item = {"type": self.random.choice(WORDS["type"])}
                for key, among in (("queue", WORDS["queue"]), ("priority", [0, 1, -5, 1.5, 1e10, "1"]), ("payload", [{}, 1, "x"]),
                                   ("run_at", ["now", "infinity", "2000-01-01", "x", 5, None]), ("max_attempts", [1, 2, 0, 10 ** 7]),
                                   ("unique_key", WORDS["unique_key"] + [""]), ("resource_key", WORDS["resource_key"] + ["x" * 513]),
                                   ("depends_on", [[], [UUIDS[0]], [None], "x"]), ("id", ["", 5, None])):
                    if self.random.random() < 0.2:
                        item[key] = self.random.choice(among)
                if self.random.random() < 0.4:
                    item["id"] = self.uuid_text("id", "task")
                if items and isinstance(items[-1], dict) and items[-1].get("id") and self.random.random() < 0.5:
                    item["depends_on"] = [items[-1]["id"]]
            if self.random.random() < 0.06:
                key = self.random.choice(list(item))
                item[key] = self.random.choice([None, [], {}, True, -1, 1e300, "", "x" * 600, item[key]])
            if self.random.random() < 0.02:
                item["unknown"] = 1
            items.append(item if self.random.random() > 0.01 else self.random.choice([1, None, "x", []]))
        # dates and numbers of members are read by the same input functions as arguments
        return f"jsonb {literal(json.dumps(items))}", {"22P02", "22007", "22008", "22003"} if function == "task_create_many" else set()
