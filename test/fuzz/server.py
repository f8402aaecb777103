"""The scratch database of the fuzzers, its roles, connections to it, and the server's log."""

import os
import re

import psycopg2
import psycopg2.extensions
import psycopg2.extras

DATABASE = "fuzz"
ROLES = ("fuzz_a", "fuzz_b", "fuzz_monitor", "fuzz_nobody", "postgres")
WEIGHTS = (10, 2, 2, 1, 6)


# In front of pg_catalog for who asks for it: nothing of it may ever be called.
TRAP = """
    CREATE SCHEMA fuzz_trap;
    GRANT USAGE ON SCHEMA fuzz_trap TO PUBLIC;
    CREATE FUNCTION fuzz_trap.sprung() RETURNS boolean LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'trap' USING ERRCODE = 'XX000'; END$$;
    CREATE FUNCTION fuzz_trap.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz WHERE fuzz_trap.sprung()';
    CREATE FUNCTION fuzz_trap.eq(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT fuzz_trap.sprung()';
    CREATE FUNCTION fuzz_trap.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT fuzz_trap.sprung()';
    CREATE FUNCTION fuzz_trap.le(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT fuzz_trap.sprung()';
    CREATE OPERATOR fuzz_trap.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = fuzz_trap.eq);
    CREATE OPERATOR fuzz_trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = fuzz_trap.eq);
    CREATE OPERATOR fuzz_trap.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = fuzz_trap.le);
    CREATE TABLE fuzz_trap.agent_data (trap integer);
    CREATE TABLE fuzz_trap.task_live (trap integer);
    GRANT ALL ON ALL TABLES IN SCHEMA fuzz_trap TO PUBLIC"""

ROLES_AND_RIGHTS = """
    CREATE ROLE fuzz_a LOGIN;
    CREATE ROLE fuzz_b LOGIN;
    CREATE ROLE fuzz_monitor LOGIN;
    CREATE ROLE fuzz_nobody LOGIN;
    CREATE ROLE fuzz_victim;
    CREATE ROLE "fuzz ""victim"" 2";
    GRANT USAGE ON SCHEMA coord TO fuzz_nobody;
    SELECT coord.grant_agent('fuzz_a'), coord.grant_agent('fuzz_b'),
        coord.grant_agent('fuzz_monitor'), coord.grant_monitor('fuzz_monitor')"""


def connect(role="postgres", database=DATABASE):
    connection = psycopg2.connect(dbname=database, user=role, application_name="fuzz", connect_timeout=10)
    connection.autocommit = True
    psycopg2.extras.register_default_jsonb(connection, loads=str)
    for kind in (psycopg2.extensions.UNICODE, psycopg2.extensions.UNICODEARRAY):
        psycopg2.extensions.register_type(kind, connection)
    return connection


def ask(sql, role="postgres", database=DATABASE):
    connection = connect(role, database)
    try:
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def set_up(trap=True):
    """A new database with the extension, and roles; with objects that coord must not use, unless whoever
    asks for it would use them itself."""
    ask(f"DROP DATABASE IF EXISTS {DATABASE}", database="postgres")
    ask(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'", database="postgres")
    for role in ("fuzz_a", "fuzz_b", "fuzz_monitor", "fuzz_nobody", "fuzz_victim", '"fuzz ""victim"" 2"'):
        ask(f"DROP ROLE IF EXISTS {role}", database="postgres")
    ask("CREATE EXTENSION coord")
    if ask("SELECT FROM pg_available_extensions WHERE name = 'amcheck'"):
        ask("CREATE EXTENSION amcheck")
    if trap:
        ask(TRAP)
    ask(ROLES_AND_RIGHTS)


def server_log():
    return os.environ.get("COORD_LOG") or os.path.join(os.environ.get("COORD_WORK", ""), "server.log")


def log_length():
    try:
        return os.path.getsize(server_log())
    except OSError:
        return 0


WRONG = re.compile(r"TRAP:|PANIC:|terminated by signal|exited with exit code [^01]| XX000 ERROR: |"
                   r"possible (deadlock|corruption)|leak: ")


def check_log(findings, offset=0, not_ours=None):
    """No process died, no assertion failed, nothing was impossible, and the worker met no error."""
    for error, n in ask("SELECT last_error, errors FROM coord.worker WHERE errors > 0"):
        findings.add(f"the worker met {n} errors", error)
    if ask("SELECT count(*) FROM coord.worker WHERE pid IS NULL")[0][0]:
        findings.add("the worker is gone")
    if not os.path.exists(server_log()):
        return
    with open(server_log(), errors="replace") as log:
        log.seek(offset)
        statement = []
        for line in log:
            if WRONG.search(line) and not (not_ours and not_ours.search(line)) and "STATEMENT:" not in line:
                statement = [line.strip()]
                findings.add("the server's log has: " + re.sub(r"\\d+", "…", line.strip())[-120:], statement)
            elif statement and len(statement) < 60:     # its statement is most telling
                statement.append(line.rstrip())
