"""Whether a backend gives back what calls took: each function is called many times, with
right and with wrong arguments, once in transactions of their own and once by one statement.

What a transaction must remember (what it has made claimable, which versions of a row are
its own) grows with its calls; so in one statement only calls that change nothing are made.
"""

import time

import psycopg2

from server import connect

# so much may a backend keep, in all, after its first calls: catalog entries, a grown hash table
TOLERANCE = 48 * 1024

# more may be the catalog's, as when statistics have just been gathered; a leak goes on
ROUNDS = 3

SET_UP = """
    CREATE TEMP TABLE known AS
    SELECT a.id AS agent, l.id AS lease, l.fencing_token AS lease_token, t.id AS task, t.fencing_token AS token
    FROM coord.agent_register('memory', heartbeat_timeout => '1 h') a, coord.lease_acquire('memory', a.id, '1 h') l,
        coord.task_create('memory', queue => 'memory') c, coord.task_claim(a.id, 'memory', c.id, lease_ttl => '1 h') t;
    CREATE TEMP TABLE fenced (resource text, token bigint);
    CREATE TRIGGER fence BEFORE INSERT OR UPDATE ON fenced FOR EACH ROW EXECUTE FUNCTION coord.fence('resource', 'token')"""

# in transactions of their own
CALLS = {
    "agent_register": "coord.agent_register('memory', heartbeat_timeout => '1 h')",
    "agent_heartbeat": "coord.agent_heartbeat(k.agent)",
    "agent_attach": "coord.agent_attach((coord.agent_register('attached')).id)",
    "agent_retire": "coord.agent_retire((coord.agent_register('retired')).id)",
    "agent_list": "coord.agent_list()",
    "lease_acquire": "coord.lease_acquire('r' || random(), k.agent)",
    "lease_acquire and release": "coord.lease_release((coord.lease_acquire('released', k.agent)).id)",
    "lease_acquire that is held": "coord.lease_acquire('memory', k.agent)",
    "lease_renew": "coord.lease_renew(k.lease)",
    "lease_assert": "coord.lease_assert('memory', k.lease_token)",
    "lease_list": "coord.lease_list()",
    "task_create": "coord.task_create('t', queue => 'm2', unique_key => 'u' || random(), resource_key => 'x')",
    "task_create with dependencies": "coord.task_create('t', queue => 'm3', depends_on => ARRAY[k.task, (coord.task_create('d', queue => 'm3')).id])",
    "task_create_many": "coord.task_create_many('[{\"type\": \"x\", \"queue\": \"m4\"}, {\"type\": \"y\", \"queue\": \"m4\"}]')",
    "task_claim": "coord.task_claim(k.agent, 'm4')",
    "task_claim of many": "coord.task_claim(k.agent, 'm4', max_tasks => 3)",
    "task_claim of nothing": "coord.task_claim(k.agent, 'empty')",
    "task_renew": "coord.task_renew(k.task, k.token, '1 h', '{\"a\": [1, 2]}')",
    "task_complete": "coord.task_complete(c.id, c.fencing_token, '{}') FROM coord.task_create('c', queue => 'm5') t, coord.task_claim(k.agent, 'm5', t.id) c",
    "task_fail": "coord.task_fail(c.id, c.fencing_token, 'e') FROM coord.task_create('c', queue => 'm5') t, coord.task_claim(k.agent, 'm5', t.id) c",
    "task_release": "coord.task_release(c.id, c.fencing_token) FROM coord.task_create('c', queue => 'm5') t, coord.task_claim(k.agent, 'm5', t.id) c",
    "task_cancel": "coord.task_cancel((coord.task_create('c', queue => 'm6')).id)",
    "task_redrive": "coord.task_redrive(queue => 'm5')",
    "task_list": "coord.task_list(queue => 'm5')",
    "queue_set": "coord.queue_set('m7', max_claimed => 5)",
    "queue_pause": "coord.queue_pause('m7')",
    "queue_resume": "coord.queue_resume('m7')",
    "queue_list": "coord.queue_list()",
    "queue_listen": "coord.queue_listen('m8')",
    "queue_unlisten": "coord.queue_unlisten('m8')",
    "event_send": "coord.event_send('e', '{\"to\": \"memory\"}', channel => 'c')",
    "event_listen": "coord.event_listen(k.agent)",
    "event_unlisten": "coord.event_unlisten(k.agent)",
    "event_subscribe": "coord.event_subscribe(k.agent, 'c')",
    "event_unsubscribe": "coord.event_unsubscribe(k.agent, 'c')",
    "event_list": "coord.event_list(channel => 'c')",
    "event_poll": "coord.event_poll(k.agent, 5)",
    "inbox": "coord.inbox(k.agent)",
    "sweep": "coord.sweep()",
    "rpc": "coord.rpc('{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"agent.list\", \"params\": {\"limit\": 1}}')",
    "rpc that fails": "coord.rpc('[{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"task.claim\", \"params\": {\"agent_id\": 5}}, 7]')",
    "mcp": "coord.mcp('{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"tools/list\"}')",
}

WRONG = {
    "lease_renew of none": "coord.lease_renew(k.agent)",
    "task_complete with a stale token": "coord.task_complete(k.task, 1)",
    "task_claim of a task that is claimed": "coord.task_claim(k.agent, task_id => k.task)",
    "agent_register with a bad name": "coord.agent_register(repeat('x', 600))",
    "task_create with too much": "coord.task_create('t', to_jsonb(repeat('x', 1100000)))",
    "event_ack of what is not": "coord.event_ack(k.agent, 9000000000000000000)",
    "lease_assert with a stale token": "coord.lease_assert('memory', 1)",
}

# a function may take no longer, in seconds: those that list and count are slow
LIMIT = 1

# by one statement, since these change nothing, or what they change is remembered once
ALIKE = ("agent_heartbeat", "agent_list", "lease_assert", "lease_list", "task_claim of nothing", "task_list", "queue_list", "event_list", "event_poll", "inbox", "rpc", "mcp")

USED = "SELECT name, sum(used_bytes)::bigint FROM pg_backend_memory_contexts GROUP BY 1"
IN_TRANSACTIONS = """DO $$
    DECLARE
        k record;
        until timestamptz = clock_timestamp() + '{limit} s';
    BEGIN
        FOR i IN 1..{times} LOOP
            EXIT WHEN clock_timestamp() > until;
            SELECT * INTO k FROM known;
            {begin} PERFORM {call}; {end}
            COMMIT;
        END LOOP;
    END $$"""


def used(cursor):
    cursor.execute(USED)
    return dict(cursor.fetchall())


def compare(findings, what, cursor, times, call):
    """Whether each of some rounds of calls keeps memory."""
    for _ in range(ROUNDS):
        before = used(cursor)
        call()
        after = used(cursor)
        grown = sum(after.values()) - sum(before.values())
        if grown <= TOLERANCE:
            return
    most = sorted(after, key=lambda name: before.get(name, 0) - after[name])[:4]
    findings.add(f"memory: {what} keeps {grown} bytes of {times} calls, time and again",
                 *[f"{name}: {before.get(name, 0)} to {after[name]}" for name in most])


def check(findings, times):
    for what, call in CALLS.items():
        repeat(findings, what, call, times, "", "")
    for what, call in WRONG.items():
        repeat(findings, what, call, times, "BEGIN", "EXCEPTION WHEN OTHERS THEN NULL; END;")
    for what in ALIKE:
        in_one_statement(findings, what, CALLS[what], times)


def session():
    db = connect()
    cursor = db.cursor()
    cursor.execute("SET client_min_messages = error")
    cursor.execute(SET_UP)
    return db, cursor


def repeat(findings, what, call, times, begin, end):
    db, cursor = session()
    try:
        def calls(n):
            cursor.execute(IN_TRANSACTIONS.format(times=n, limit=LIMIT, begin=begin, end=end, call=call))
        calls(times // 4)
        compare(findings, what, cursor, times, lambda: calls(times))
    except psycopg2.Error as error:
        findings.add(f"memory: {what}", error)
    db.close()


def in_one_statement(findings, what, call, times):
    db, cursor = session()
    try:
        cursor.execute("BEGIN")
        cursor.execute(f"DECLARE c CURSOR FOR SELECT CASE WHEN g > 0 THEN (SELECT count(*) FROM {call} WHERE g > 0) END "
                       "FROM known k, generate_series(1, 1000000) g")
        fetch(cursor, times // 4)
        compare(findings, f"{what} in one statement", cursor, times, lambda: fetch(cursor, times))
    except psycopg2.Error as error:
        findings.add(f"memory: {what} in one statement", error)
    db.close()


def fetch(cursor, times):
    until = time.monotonic() + LIMIT
    for _ in range(0, times, 50):
        cursor.execute("FETCH 50 FROM c")
        if time.monotonic() > until:
            break
