"""Calls every function of schema coord with hostile arguments, and looks at what comes of it.

Which functions there are, with which arguments, is read from pg_proc; which SQLSTATEs a
function may raise, from its comment: so a new function is fuzzed from its first day, and an
error that no comment names is found.  What a comment need not name, since it is raised
before the function is called or by the state of the session, is in allow_by_context().

Arguments are made by type and by name.  Among them are ids, tokens and names of what other
calls have made, or the functions would never get beyond their first lines.

Several sessions run at once, of several roles, in all sorts of transactions and with all
sorts of settings.  Besides unexpected SQLSTATEs these are failures: a lost connection, an
error that the worker meets, a relation that can be read no more, an invariant that does not
hold at the end (invariants.py), and memory that a backend does not give back (memory.py).

The same --seed makes the same calls in each session; what they meet depends on time.
"""

import argparse
import collections
import random
import re
import sys
import threading
import time

import psycopg2

import invariants
import memory
import values
from findings import Findings
import server
from server import check_log, connect, ROLES, WEIGHTS

SESSIONS = 4
SUPERUSER = "postgres"
NO_RIGHTS = "fuzz_nobody"

# Of every function: a bad argument, which the comments do not all repeat, and the
# session's statement_timeout, which is short here.
ALWAYS = {"22004", "22023", "57014"}

NOT_FUZZED = ("rpc", "mcp")     # they never raise: test/clients has a fuzzer of their own

# A function that anybody could make, and that is wrongly marked: where the planner is to use parallel
# workers whatever they cost, one of them makes the call.
PARALLEL_MODE = "force_parallel_mode"
IN_PARALLEL = """CREATE FUNCTION public.fuzz_in_parallel(call text) RETURNS void LANGUAGE plpgsql PARALLEL SAFE AS
    $$BEGIN EXECUTE call; END$$"""

SETTINGS = {
    "client_encoding": ["UTF8", "LATIN1", "WIN1252", "SJIS", "EUC_JP", "GB18030", "SQL_ASCII"],
    "DateStyle": ["ISO, MDY", "German", "'SQL, DMY'", "Postgres"],
    "IntervalStyle": ["postgres", "iso_8601", "sql_standard", "postgres_verbose"],
    "TimeZone": ["UTC", "'Pacific/Kiritimati'", "'America/St_Johns'", "'<-24>24:59:59'"],
    "search_path": ["fuzz_trap, pg_catalog", "''", "pg_temp", "coord"],
    "standard_conforming_strings": ["off"],
    "transform_null_equals": ["on"],
    "array_nulls": ["off"],
    "bytea_output": ["escape"],
    "extra_float_digits": ["-15", "3"],
    PARALLEL_MODE: ["on"],
    "jit": ["off"],
    "enable_indexscan": ["off"],
    "enable_seqscan": ["off"],
    "enable_nestloop": ["off"],
    "enable_bitmapscan": ["off"],
    "work_mem": ["64kB"],
    "plan_cache_mode": ["force_generic_plan"],
    "synchronous_commit": ["off"],
    "default_transaction_isolation": ["'repeatable read'", "serializable"],
    "default_transaction_read_only": ["on"],
    "lc_messages": ["'C'"],
    "row_security": ["off"],
    "lock_timeout": ["1", "'50ms'"],
    "coord.default_lease_ttl": ["1", "2147483647", "200"],
    "coord.heartbeat_timeout": ["1", "2147483647", "300"],
}

Function = collections.namedtuple("Function", "name signature kind arguments states set_returning columns")
Argument = collections.namedtuple("Argument", "name type has_default")


def read_functions(db):
    """The callable functions, with the SQLSTATEs that their comments name."""
    found = []
    db.execute("""SELECT p.proname, p.oid::regprocedure::text, p.prokind::text, p.pronargs, p.pronargdefaults,
            p.proargnames, p.proargtypes::regtype[]::text[], p.proretset, obj_description(p.oid, 'pg_proc'),
            EXISTS (SELECT FROM pg_type t WHERE t.oid = p.prorettype AND t.typtype = 'c')
        FROM pg_proc p WHERE p.pronamespace = 'coord'::regnamespace AND p.prorettype <> 'trigger'::regtype
        ORDER BY 2""")
    rows = db.fetchall()
    comments = {row[0]: row[8] or "" for row in rows}
    for name, signature, kind, n, defaults, names, types, returns_set, _, columns in rows:
        arguments = [Argument(names[i], types[i], i >= n - defaults) for i in range(n)]
        errors = comments[name].partition("\nErrors: ")[2]
        states = set(re.findall(r"\b[0-9A-Z]{5}\b", errors)) - set(re.findall(r"\b[A-Z]{5}\b", errors))
        as_well = re.search(r"\bas (\w+)", errors)
        if as_well:
            states |= set(re.findall(r"\b[0-9A-Z]{5}\b", comments[as_well.group(1)].partition("\nErrors: ")[2]))
        if name not in NOT_FUZZED:
            found.append(Function(name, signature, kind, arguments, states, returns_set, columns))
    return found


class Session(threading.Thread):
    """One connection after another, in each a few transactions."""

    def __init__(self, number, seed, until, functions, pool, findings):
        super().__init__(daemon=True)
        self.random = random.Random(f"{seed} {number}")
        self.number, self.until, self.functions, self.findings = number, until, functions, findings
        self.make = values.Maker(self.random, pool)
        self.pool = pool
        self.history = collections.deque(maxlen=12)

    def run(self):
        try:
            while time.time() < self.until:
                self.connect()
                for _ in range(self.random.randint(1, 12)):
                    if time.time() >= self.until or self.db.closed:
                        break
                    self.transact()
                if not self.db.closed:
                    self.db.close()     # an open transaction too
        except Exception as error:
            self.findings.add(f"session {self.number} ended: {type(error).__name__}", error, *self.history)

    def connect(self):
        self.role = self.random.choices(ROLES, WEIGHTS)[0]
        self.settings = {}
        for name, among in SETTINGS.items():
            if self.random.random() < 0.12:
                self.settings[name] = self.random.choice(among)
        self.encoding = self.settings.get("client_encoding", "UTF8")
        self.db = connect(self.role)
        self.cursor = self.db.cursor()
        self.history.clear()
        self.say("SET statement_timeout = 400")
        self.say("SET lock_timeout = 100")
        for name, value in self.settings.items():
            if name == PARALLEL_MODE and self.db.server_version >= 160000:
                name = "debug_parallel_query"
            self.say(f"SET {name} = {value}")

    def python_encoding(self):
        return {"LATIN1": "latin-1", "WIN1252": "cp1252", "SJIS": "shift_jis", "EUC_JP": "euc_jp",
                "GB18030": "gb18030"}.get(self.encoding, "utf-8")

    def say(self, sql):
        """Run a statement; returns its SQLSTATE and message, both None when there was no error."""
        self.history.append(sql if len(sql) < 400 else f"{sql[:300]} … ({len(sql)})")
        text = sql.encode(self.python_encoding(), "replace") if isinstance(sql, str) else sql
        try:
            self.cursor.execute(text)
            return None, None
        except psycopg2.Error as error:
            if self.db.closed:
                self.findings.add("a connection was lost", str(error).strip(), *self.history)
            return error.pgcode, str(error).strip()
        except (UnicodeError, LookupError):     # psycopg2 could not decode the answer
            return None, None

    def transact(self):
        kind = self.random.random()
        self.read_only = self.settings.get("default_transaction_read_only") == "on"
        self.snapshot = "default_transaction_isolation" in self.settings
        if kind < 0.4:
            for _ in range(self.random.randint(1, 6)):
                self.call(False)
            return
        begin = "BEGIN"
        if self.random.random() < 0.25:
            begin += " ISOLATION LEVEL " + self.random.choice(["REPEATABLE READ", "SERIALIZABLE"])
            self.snapshot = True
        if self.random.random() < 0.08:
            begin += " READ ONLY"
            self.read_only = True
        self.say(begin)
        savepoints = 0
        for _ in range(self.random.randint(1, 8)):
            if self.db.closed:
                return
            deed = self.random.random()
            if deed < 0.2:
                savepoints += 1
                self.say(f"SAVEPOINT s{savepoints}")
            elif deed < 0.3 and savepoints:
                self.say(f"ROLLBACK TO s{self.random.randint(1, savepoints)}")
            elif deed < 0.34 and savepoints:
                self.say(f"RELEASE s{savepoints}")
                savepoints -= 1
            elif not self.call(True):
                if savepoints:
                    self.say(f"ROLLBACK TO s{savepoints}")
                elif self.random.random() < 0.8:
                    break
        self.end_transaction()

    def end_transaction(self):
        deed = self.random.random()
        if deed < 0.55:
            end = "COMMIT"
        elif deed < 0.9:
            end = "ROLLBACK"
        else:
            end = f"PREPARE TRANSACTION 'fuzz {self.number}'"
        state, message = self.say(end)
        self.judge(state, message, end, {"0A000", "55000", "40001", "57014"} | ({"25P02"} if deed >= 0.9 else set()))
        if self.db.closed:
            return
        if state is not None and deed >= 0.55:
            self.say("ROLLBACK")
        if deed >= 0.9 and state is None and self.cursor.statusmessage != "ROLLBACK":
            if self.random.random() < 0.5:
                time.sleep(self.random.random() / 4)
            end = f"{self.random.choice(['COMMIT', 'ROLLBACK'])} PREPARED 'fuzz {self.number}'"
            state, message = self.say(end)
            if state == "57014":    # by its statement_timeout: then it is prepared still
                self.say("SET statement_timeout = 0")
                state, message = self.say(end)
                self.say("SET statement_timeout = 400")
            self.judge(state, message, end, set())

    # one call

    def call(self, in_block):
        function = self.random.choice(self.functions)
        allowed = function.states | ALWAYS
        arguments = []
        named = self.random.random() < 0.7
        for i, argument in enumerate(function.arguments):
            if argument.has_default and self.random.random() < 0.5:
                if named:
                    continue
                break
            text, its_states = self.make.argument(function.name, argument.name, argument.type)
            allowed |= its_states
            arguments.append(f'"{argument.name}" => {text}' if named else text)
        call = f"coord.{function.name}({', '.join(arguments)})"
        if self.settings.get("standard_conforming_strings") == "off":
            call = call.replace("\\", "\\\\") if "E'" not in call else call
            allowed |= {"22025", "22P06", "42601"}      # where a backslash escapes
        state, message, sql = self.in_some_form(function, call, allowed)
        self.findings.calls[function.name] += 1
        self.findings.successes[function.name] += state is None
        if state is None and sql.startswith("SELECT *"):
            self.harvest(function)
        self.allow_by_context(function, allowed, message, in_block)
        self.judge(state, message, sql, allowed, function.name)
        return state is None

    def in_some_form(self, function, call, allowed):
        """The call in one of many forms: alone, for several rows, in a subtransaction, by a cursor ..."""
        form = self.random.random()
        if function.kind == "p":
            sql = f"CALL {call}"
        elif PARALLEL_MODE in self.settings and form < 0.5 and "$fuzz$" not in call:
            sql = f"SELECT public.fuzz_in_parallel($fuzz$SELECT {call}$fuzz$)"
        elif form < 0.6:
            sql = f"SELECT * FROM {call}"
        elif form < 0.68:
            sql = f"SELECT {call}"
        elif form < 0.74:
            sql = f"SELECT {call} FROM generate_series(1, {self.random.choice([2, 3, 30])}) LIMIT 5"
        elif form < 0.78 and function.columns:
            sql = f"SELECT ({call}).*"
        elif form < 0.83:
            sql = f"SELECT * FROM generate_series(1, 3) n, LATERAL {call} x LIMIT 2"
        elif form < 0.87:
            sql = f"EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM {call}"
            allowed.add("25006")
        elif form < 0.90:
            sql = f"COPY (SELECT x::text FROM {call} x) TO STDOUT"
            try:
                self.history.append(sql[:400])
                self.cursor.copy_expert(sql.encode(self.python_encoding(), "replace"), Nowhere())
                return None, None, sql
            except psycopg2.Error as error:
                if self.db.closed:
                    self.findings.add("a connection was lost", str(error).strip(), *self.history)
                return error.pgcode, str(error).strip(), sql
        elif form < 0.95 and "$fuzz$" not in call:
            # the subtransaction's error is caught by its condition, or it is raised again
            sql = (f"DO $fuzz$ BEGIN PERFORM {call}; "
                   "EXCEPTION WHEN sqlstate '22023' OR no_data_found THEN PERFORM coord.version(); END $fuzz$")
        else:
            sql = f"WITH x AS MATERIALIZED (SELECT * FROM {call}) SELECT count(*) FROM x a, x b"
        return *self.say(sql), sql

    def allow_by_context(self, function, allowed, message, in_block):
        """What the session's state may cost, whatever the function."""
        message = message or ""
        if self.read_only:
            allowed |= {"25006"}
        if "parallel operation" in message:     # by fuzz_in_parallel(), or the subquery of our own argument
            allowed |= {"25000"}
        if "needs a client's session" in message:   # which a parallel worker is not
            allowed |= {"55000"}
        if self.snapshot:
            allowed |= {"40001"}
        if in_block:                            # after an error
            allowed |= {"25P02"}
        if "lock timeout" in message:
            allowed |= {"55P03"}
        if self.role == NO_RIGHTS or "permission denied for function" in message:
            allowed |= {"42501"}
        if self.encoding != "UTF8":             # which has no such character
            allowed |= {"22P05", "22021"}
        if function.kind == "p":                # CALL where it cannot commit
            allowed |= {"25001"}

    def judge(self, state, message, sql, allowed, name="the end of a transaction"):
        if state is None:
            return
        self.findings.seen[state] += 1
        if state not in allowed or state == "XX000":
            short = re.sub(r"[0-9a-f-]{36}|\d+|\".*?\"", "…", (message or "").split("\n")[0])[:90]
            self.findings.add(f"{name}: {state}: {short}", message, self.role, self.settings, *self.history)

    def harvest(self, function):
        """Remember what the answer names, for later calls."""
        try:
            columns = [column.name for column in self.cursor.description or []]
            for row in self.cursor.fetchmany(20):
                self.pool.add(function.name, dict(zip(columns, row)))
        except (psycopg2.Error, UnicodeError, ValueError, OverflowError):
            pass        # a date that Python does not know, for instance


class Nowhere:
    def write(self, data):
        return len(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default=None)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--memory-calls", type=int, default=2000)
    options = parser.parse_args()
    seed = options.seed or str(random.randrange(1 << 32))
    print(f"seed {seed}", flush=True)

    server.set_up()
    server.ask(IN_PARALLEL)
    log_from = server.log_length()
    findings = Findings()
    connection = connect(SUPERUSER)
    cursor = connection.cursor()
    functions = read_functions(cursor)
    pool = values.Pool()
    until = time.time() + options.seconds
    sessions = [Session(i, seed, until, functions, pool, findings) for i in range(options.sessions)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join(options.seconds + 120)
        if session.is_alive():
            findings.add(f"session {session.number} hangs", *session.history)

    never = sorted({function.name for function in functions} - set(+findings.successes))
    print(f"{sum(findings.calls.values())} calls of {len(findings.calls)} functions,"
          f" {sum(findings.successes.values())} without an error; never without: {', '.join(never) or 'none'}")
    print("errors: " + ", ".join(f"{state} {n}" for state, n in sorted(findings.seen.items())))
    invariants.check(findings)
    if options.memory_calls:
        memory.check(findings, options.memory_calls)
    check_log(findings, log_from)
    findings.report()
    sys.exit(bool(findings.found))


if __name__ == "__main__":
    main()
