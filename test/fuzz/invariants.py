"""What holds of the stored relations whenever no transaction is open, and that all can be read."""

import time

import psycopg2

from server import ask, connect

# each query's rows are what does not hold
INVARIANTS = {
    "a claim without a deadline": """
        SELECT id FROM coord.task_live t WHERE state = 'claimed'
            AND NOT EXISTS (SELECT FROM coord.claim_deadline d WHERE d.task_id = t.id AND d.agent_id = t.agent_id AND d.check_at = t.check_at)
            AND NOT EXISTS (SELECT FROM coord.claim_batch b WHERE t.check_at IS NULL AND t.id = ANY (b.task_ids) AND b.agent_id = t.agent_id)""",
    "a claim that is to be looked at too late": """
        SELECT id, check_at, lease_expires_at FROM coord.task_live WHERE state = 'claimed' AND check_at > lease_expires_at""",
    "a deadline of no claim": """
        SELECT task_id FROM coord.claim_deadline d WHERE NOT EXISTS
            (SELECT FROM coord.task_live t WHERE t.id = d.task_id AND t.state = 'claimed' AND t.check_at = d.check_at)""",
    "two deadlines of a claim": "SELECT task_id FROM coord.claim_deadline GROUP BY 1 HAVING count(*) > 1",
    "a claim that is half one": """
        SELECT id, state FROM coord.task_live WHERE (state = 'claimed') IS DISTINCT FROM
            (agent_id IS NOT NULL AND fencing_token IS NOT NULL AND lease_ttl IS NOT NULL AND lease_expires_at IS NOT NULL)""",
    "an unknown state": "SELECT id, state FROM coord.task_live WHERE state NOT IN ('blocked', 'pending', 'claimed')",
    "a blocked task that waits for nothing": """
        SELECT id FROM coord.task_live t WHERE state = 'blocked'
            AND NOT EXISTS (SELECT FROM coord.task_dependency d WHERE d.task_id = t.id)
            AND NOT EXISTS (SELECT FROM coord.dependency_check c WHERE c.task_id = t.id)""",
    "a dependency of what is not blocked": """
        SELECT d.* FROM coord.task_dependency d LEFT JOIN coord.task_live t ON t.id = d.task_id WHERE t.state IS DISTINCT FROM 'blocked'""",
    "a task that waits for what has finished": """
        SELECT d.* FROM coord.task_dependency d WHERE NOT EXISTS (SELECT FROM coord.task_live t WHERE t.id = d.depends_on)
            AND NOT EXISTS (SELECT FROM coord.dependency_check c WHERE c.task_id = d.task_id)
            AND NOT EXISTS (SELECT FROM coord.dependant_check c WHERE c.depends_on = d.depends_on AND c.after_task < d.task_id)""",
    "a blocked task out of its place": "SELECT id, state, ready_at FROM coord.task_live WHERE state = 'blocked' AND ready_at <> 'infinity'",
    "a pending task out of its place": "SELECT id, run_at, ready_at FROM coord.task_live WHERE state = 'pending' AND ready_at <> run_at",
    "a task that is there twice": "SELECT id FROM coord.task GROUP BY 1 HAVING count(*) > 1",
    "a slot of no claim": """
        SELECT s.* FROM coord.queue_slot s LEFT JOIN coord.task_live t ON t.id = s.task_id
        WHERE s.task_id IS NOT NULL AND (t.state, t.queue, t.queue_slot) IS DISTINCT FROM ('claimed', s.queue, s.slot)""",
    "a claim whose slot is another's": """
        SELECT t.id, t.queue, t.queue_slot FROM coord.task_live t JOIN coord.queue_slot s ON s.queue = t.queue AND s.slot = t.queue_slot
        WHERE s.task_id IS DISTINCT FROM t.id""",
    "a lease without a deadline": """
        SELECT slot FROM coord.lease_data l WHERE ended_at IS NULL AND
            (SELECT count(*) FROM coord.lease_deadline d WHERE d.slot = l.slot AND d.check_at = l.check_at) <> 1""",
    "a lease that is to be looked at too late": """
        SELECT slot FROM coord.lease_data WHERE ended_at IS NULL AND check_at > expires_at""",
    "a deadline of no lease": """
        SELECT d.* FROM coord.lease_deadline d LEFT JOIN coord.lease_data l USING (slot)
        WHERE l.check_at IS DISTINCT FROM d.check_at""",
    "a claim whose lease is another's": """
        SELECT t.id, l.id FROM coord.task_live t JOIN coord.lease_data l ON l.resource_key = t.claimed_key
        WHERE t.state = 'claimed' AND l.id = t.lease_id AND (l.agent_id <> t.agent_id OR l.ended_at < t.claimed_at)""",
    "two holders of a token": """
        SELECT fencing_token FROM (SELECT fencing_token, id FROM coord.task WHERE state = 'claimed'
            UNION ALL SELECT fencing_token, id FROM coord.lease WHERE task_id IS NULL AND state = 'active') h GROUP BY 1 HAVING count(*) > 1""",
    "a position that two events have": "SELECT position FROM coord.event_log GROUP BY 1 HAVING count(*) > 1",
    "a cursor past all events": """
        SELECT * FROM coord.event_cursor WHERE position > (SELECT max(position) FROM coord.event_log)
            AND position > (SELECT max(events_after) FROM coord.agent_data)""",
    "an agent that holds a lease after its end": """
        SELECT a.id, l.id FROM coord.agent_data a JOIN coord.lease_data l ON l.agent_id = a.id
        WHERE a.retired_at IS NOT NULL AND l.ended_at IS NULL AND l.expires_at > clock_timestamp()""",
    "a claim of an agent that has ended, after a sweep": """
        SELECT t.id, a.id FROM coord.task_live t JOIN coord.agent_data a ON a.id = t.agent_id
        WHERE t.state = 'claimed' AND (a.retired_at IS NOT NULL OR a.inactive_since IS NOT NULL)""",
}

CATCHES_UP = """
    SELECT count(*) = 0 FROM (SELECT FROM coord.claim_deadline WHERE check_at < clock_timestamp()
        UNION ALL SELECT FROM coord.lease_deadline WHERE check_at < clock_timestamp()
        UNION ALL SELECT FROM coord.agent_data WHERE check_at < clock_timestamp()
        UNION ALL SELECT FROM coord.claim_batch WHERE check_at < clock_timestamp()
        UNION ALL SELECT FROM coord.event_inbox) due"""


def check(findings):
    for transaction, in ask("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        ask(f"ROLLBACK PREPARED '{transaction}'")
    limit = time.monotonic() + 20
    while not ask(CATCHES_UP)[0][0]:
        if time.monotonic() > limit:
            findings.add("the worker does not catch up", *ask("SELECT * FROM coord.worker"))
            break
        time.sleep(0.1)
    db = connect()
    cursor = db.cursor()
    cursor.execute("SET search_path = ''")
    for name, sql in INVARIANTS.items():
        # all at one instant, and twice: a row may be about to be changed by the worker
        wrong = []
        for _ in range(3):
            cursor.execute(f"SELECT x::text FROM ({sql}) x LIMIT 5")
            wrong = cursor.fetchall()
            if not wrong:
                break
            time.sleep(0.5)
        if wrong:
            findings.add(f"invariant: {name}", *[row[0] for row in wrong])
    everything_can_be_read(cursor, findings)
    db.close()


def everything_can_be_read(cursor, findings):
    for style in ("ISO", "German", "SQL, DMY", "Postgres"):
        cursor.execute(f"SET DateStyle = '{style}'")
        for view in ("agent", "lease", "task", "dead_letter", "event", "queue", "worker"):
            try:
                cursor.execute(f"SELECT count(v::text), count(to_jsonb(v)) FROM coord.{view} v")
            except psycopg2.Error as error:
                findings.add(f"coord.{view} cannot be read", str(error))
    for call in ("agent_list", "lease_list", "task_list", "queue_list", "event_list", "sweep"):
        try:
            cursor.execute(f"SELECT count(to_jsonb(r)) FROM coord.{call}() r")
        except psycopg2.Error as error:
            findings.add(f"coord.{call}() fails by what is stored", str(error))
    cursor.execute("SELECT pg_catalog.to_regproc('public.bt_index_check') IS NULL")
    if cursor.fetchone()[0]:        # a server without contrib
        return
    try:
        cursor.execute("""SELECT count(public.bt_index_check(c.oid, true)) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
            WHERE c.relnamespace = 'coord'::regnamespace AND c.relkind = 'i' AND a.amname = 'btree'""")
    except psycopg2.Error as error:
        findings.add("an index is broken", str(error))
