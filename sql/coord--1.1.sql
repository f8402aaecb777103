/*
 * coord 1.1: what CREATE EXTENSION runs.
 *
 * Read it as the schema's document, in this order: guard, sequences, stored
 * relations, helper functions, the relations that users read, functions,
 * comments, dump, rights.
 *
 * Stored relations are written by coord's functions alone.  Their columns are
 * chosen for few index writes: what changes while a lease is held, a task is
 * claimed or an agent beats is in no index (nor in an index predicate), so
 * those updates are HOT.  The exception is "check_at", the instant at which
 * the sweep must look at the row again.  It may be earlier than the row's real
 * deadline, never later; a renewal leaves it alone, and the sweep moves it on.
 */
\echo Use "CREATE EXTENSION coord" to load this file. \quit

-- Nothing in this script means an object by a name alone, but for those of pg_catalog: not even
-- the guard, which runs before it is known what is in the schema.
SET LOCAL search_path = pg_catalog, pg_temp;

-- The guard: a schema that somebody else made beforehand is theirs, and so would be what they
-- put in it: functions, types, operators, whatever depends on it, and default privileges.
DO $$
BEGIN
	IF (SELECT r.rolname <> current_user AND NOT r.rolsuper
		FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'coord') THEN
		RAISE EXCEPTION 'schema "coord" exists and belongs to another role'
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Drop the schema, then run CREATE EXTENSION coord again.';
	END IF;
	IF EXISTS (SELECT FROM pg_depend
		WHERE refclassid = 'pg_namespace'::regclass AND refobjid = 'coord'::regnamespace AND NOT
			(classid = 'pg_extension'::regclass AND objid = (SELECT oid FROM pg_extension WHERE extname = 'coord'))) THEN
		RAISE EXCEPTION 'schema "coord" is not empty'
			USING ERRCODE = 'duplicate_object',
				  HINT = 'Drop what is in the schema, then run CREATE EXTENSION coord again.';
	END IF;
END
$$;

----------------------------------------------------------------------------
-- Sequences
----------------------------------------------------------------------------

-- Fencing tokens and event positions: both must grow over restarts, restores
-- and failovers, so neither is used as it comes; see src/sequence.c.
CREATE SEQUENCE coord.fencing_token;
CREATE SEQUENCE coord.event_position;
-- The age of a task, and the place of a resource key.
CREATE SEQUENCE coord.task_seq;
CREATE SEQUENCE coord.lease_slot;

----------------------------------------------------------------------------
-- Stored relations
----------------------------------------------------------------------------

-- When the extension was created in this very database.  Not dumped: a
-- restored database has an instant of its own, from which tokens go on.
CREATE TABLE coord.installation (
	created_at timestamptz NOT NULL
);
INSERT INTO coord.installation VALUES (pg_catalog.clock_timestamp());

CREATE TABLE coord.agent_data (
	id uuid PRIMARY KEY,
	name text COLLATE "C" NOT NULL UNIQUE,
	type text NOT NULL,
	owner regrole NOT NULL,					-- who has another's name is not another
	metadata jsonb NOT NULL,
	heartbeat_timeout interval NOT NULL,
	heartbeat_at timestamptz NOT NULL,
	registered_at timestamptz NOT NULL,
	inactive_since timestamptz,				-- set by the sweep, or by whoever meets a lapsed agent first
	retired_at timestamptz,
	check_at timestamptz,					-- not NULL though inactive: it holds something still
	attachment bigint,						-- to a connection; see src/attachment.c
	events_after bigint NOT NULL			-- the last event position before it was registered
) WITH (fillfactor = 50);
CREATE INDEX agent_data_owner ON coord.agent_data (owner) WHERE retired_at IS NULL;
CREATE INDEX agent_data_check_at ON coord.agent_data (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX agent_data_attached ON coord.agent_data (id) WHERE attachment IS NOT NULL;
-- When those that hold nothing have ended: they are retired, and then deleted, after
-- coord.agent_retention.
CREATE INDEX agent_data_ended_at ON coord.agent_data ((coalesce(retired_at, inactive_since)), id)
	WHERE check_at IS NULL AND attachment IS NULL AND coalesce(retired_at, inactive_since) IS NOT NULL;

-- Heartbeats that came while another of the agent's transactions had its row
-- locked.  The sweep folds them into agent_data; mostly there are none.
CREATE TABLE coord.agent_beat (
	agent_id uuid NOT NULL,
	beat_at timestamptz NOT NULL
);
CREATE INDEX agent_beat_agent_id ON coord.agent_beat (agent_id, beat_at);

-- One row for each resource key: its current lease, or its last one.  The slot
-- is part of the lease's id, so that a lease is found by id without an index
-- on the id, which changes with every grant.
CREATE TABLE coord.lease_data (
	slot bigint PRIMARY KEY,
	resource_key text COLLATE "C" NOT NULL UNIQUE,
	id uuid NOT NULL,
	agent_id uuid NOT NULL,
	task_id uuid,							-- the claim that took it, if one did
	fencing_token bigint NOT NULL,
	ttl interval NOT NULL,
	auto_renew boolean NOT NULL,
	max_hold interval,
	acquired_at timestamptz NOT NULL,
	renewed_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	ended_at timestamptz,					-- NULL until somebody has seen its end
	released boolean NOT NULL,				-- how it ended
	check_at timestamptz					-- as in lease_deadline; never NULL before its end was seen
) WITH (fillfactor = 50);

-- When the sweep must look at a lease.
CREATE TABLE coord.lease_deadline (
	check_at timestamptz NOT NULL,
	slot bigint NOT NULL
);
CREATE INDEX lease_deadline_check_at ON coord.lease_deadline (check_at, slot);

CREATE TABLE coord.queue_data (
	name text COLLATE "C" PRIMARY KEY,
	paused boolean NOT NULL DEFAULT false,
	max_attempts integer NOT NULL DEFAULT 5,
	lease_ttl interval,						-- NULL: coord.default_lease_ttl
	backoff_base interval NOT NULL DEFAULT '1 s',
	backoff_max interval NOT NULL DEFAULT '5 min',
	max_claimed integer,					-- NULL: no limit
	retention interval,						-- NULL: coord.task_retention
	created_by oid NOT NULL					-- for a limit; not a regrole, as a dump keeps the queue without its role
);
CREATE INDEX queue_data_created_by ON coord.queue_data (created_by);

-- The tasks of long queues, as they were counted last; see src/queue_count.c.  Not dumped.
CREATE TABLE coord.queue_count (
	queue text COLLATE "C" NOT NULL,
	pending bigint NOT NULL,
	scheduled bigint NOT NULL,
	blocked bigint NOT NULL,
	claimed bigint NOT NULL,
	dead bigint NOT NULL,
	oldest_run_at timestamptz,				-- of what was pending
	counted_at timestamptz NOT NULL,
	took interval NOT NULL					-- the count of all queues
);
CREATE INDEX queue_count_queue ON coord.queue_count (queue);

-- A queue with max_claimed has that many slots; a claim occupies one.
CREATE TABLE coord.queue_slot (
	queue text COLLATE "C",
	slot integer,
	task_id uuid,
	PRIMARY KEY (queue, slot)
) WITH (fillfactor = 50);

-- Tasks that have not finished.  The order index has all of them, whatever
-- their state, so that a claim does not touch it; blocked ones are at its far
-- end by ready_at = 'infinity'.
CREATE TABLE coord.task_live (
	-- what stays, which the WAL of a claim's update does not repeat
	id uuid PRIMARY KEY,
	seq bigint NOT NULL,
	queue text COLLATE "C" NOT NULL,
	type text NOT NULL,
	payload jsonb NOT NULL,
	priority integer NOT NULL,
	max_attempts integer NOT NULL,
	resource_key text COLLATE "C",
	unique_key text COLLATE "C",
	depends_on uuid[],
	created_at timestamptz NOT NULL,
	run_at timestamptz NOT NULL,
	ready_at timestamptz NOT NULL,
	-- of the claim
	state text NOT NULL,					-- blocked, pending, claimed
	attempts integer NOT NULL,
	agent_id uuid,
	lease_id uuid,							-- the lease on its resource, if it has one
	claimed_key text COLLATE "C",			-- that resource
	fencing_token bigint,
	lease_ttl interval,
	lease_expires_at timestamptz,
	claimed_at timestamptz,
	check_at timestamptz,					-- as in claim_deadline; NULL: see claim_batch
	queue_slot integer,
	-- of the work
	progress jsonb,
	error text
) WITH (fillfactor = 40);	-- each task of a page can be claimed before one is vacuumed
CREATE INDEX task_live_order ON coord.task_live (queue, priority DESC, ready_at, seq);
CREATE INDEX task_live_resource ON coord.task_live (resource_key, queue, priority DESC, ready_at, seq)
	WHERE resource_key IS NOT NULL;
CREATE UNIQUE INDEX task_live_unique_key ON coord.task_live (queue, unique_key) WHERE unique_key IS NOT NULL;

-- One row for each claimed task that is in no batch: when the sweep must look at it.
CREATE TABLE coord.claim_deadline (
	check_at timestamptz NOT NULL,
	task_id uuid NOT NULL,
	agent_id uuid NOT NULL
);
CREATE INDEX claim_deadline_check_at ON coord.claim_deadline (check_at, task_id);
CREATE INDEX claim_deadline_agent_id ON coord.claim_deadline (agent_id);

-- The same for tasks that one call has claimed together; it stays until it is due.
CREATE TABLE coord.claim_batch (
	check_at timestamptz NOT NULL,
	agent_id uuid NOT NULL,
	task_ids uuid[] NOT NULL
);
CREATE INDEX claim_batch_check_at ON coord.claim_batch (check_at);
CREATE INDEX claim_batch_agent_id ON coord.claim_batch (agent_id);

-- What blocked tasks wait for.
CREATE TABLE coord.task_dependency (
	depends_on uuid,
	task_id uuid,
	PRIMARY KEY (depends_on, task_id)
);
CREATE INDEX task_dependency_task_id ON coord.task_dependency (task_id);

-- Blocked tasks whose dependencies the sweep must look at, because another
-- transaction was finishing one of them and neither could see the other.
CREATE TABLE coord.dependency_check (
	task_id uuid NOT NULL
);
CREATE INDEX dependency_check_task_id ON coord.dependency_check (task_id);

-- Finished tasks that had too many dependants for the transaction in which they finished:
-- the sweep goes on with those after that one.
CREATE TABLE coord.dependant_check (
	depends_on uuid NOT NULL,
	after_task uuid NOT NULL
);
CREATE INDEX dependant_check_depends_on ON coord.dependant_check (depends_on);

-- Tasks that have finished: dead letters, which can be driven again, and those that
-- nobody needs again.
CREATE TABLE coord.task_dead (
	id uuid PRIMARY KEY,
	queue text COLLATE "C" NOT NULL,
	type text NOT NULL,
	payload jsonb NOT NULL,
	priority integer NOT NULL,
	state text NOT NULL,					-- dead; in task_finished: completed, cancelled
	run_at timestamptz NOT NULL,
	attempts integer NOT NULL,
	max_attempts integer NOT NULL,
	agent_id uuid,
	lease_id uuid,
	fencing_token bigint,
	lease_expires_at timestamptz,
	resource_key text COLLATE "C",
	unique_key text COLLATE "C",
	depends_on uuid[],
	progress jsonb,
	result jsonb,
	error text,
	created_at timestamptz NOT NULL,
	claimed_at timestamptz,
	finished_at timestamptz NOT NULL
);
CREATE INDEX task_dead_queue ON coord.task_dead (queue, id);
CREATE INDEX task_dead_finished_at ON coord.task_dead (finished_at);

-- The partitions are filled one after the other and emptied whole, by TRUNCATE, as those
-- of event_log are.  Tasks whose queues keep them about equally long share one; see
-- src/store/finished_store.c.
CREATE TABLE coord.task_finished (
	LIKE coord.task_dead,
	partition smallint NOT NULL
) PARTITION BY LIST (partition);
CREATE INDEX task_finished_id ON coord.task_finished (id);
CREATE INDEX task_finished_blocks ON coord.task_finished USING brin (finished_at, state, queue text_bloom_ops (n_distinct_per_range = 200),
	type text_bloom_ops (n_distinct_per_range = 200), agent_id uuid_bloom_ops (n_distinct_per_range = 500),
	resource_key text_bloom_ops (n_distinct_per_range = 500)) WITH (autosummarize = on);
DO $$
BEGIN
	FOR n IN 0..15 LOOP
		EXECUTE format('CREATE TABLE coord.task_finished_%s PARTITION OF coord.task_finished FOR VALUES IN (%s)', n, n);
		EXECUTE format('COMMENT ON TABLE coord.task_finished_%s IS %L', n, 'Stored: a partition of task_finished.');
	END LOOP;
END
$$;

-- The partitions in use.  Not dumped: what was restored is found, and kept for a whole
-- retention from then on.
CREATE TABLE coord.task_partition (
	partition smallint NOT NULL,
	class smallint NOT NULL,				-- of how long its tasks are kept
	keep interval NOT NULL,					-- for how long at least, whatever the settings are later
	opened_at timestamptz NOT NULL,
	closed_at timestamptz,					-- when it was another's turn
	sealed_at timestamptz					-- when nobody could write it any more
);
INSERT INTO coord.task_partition VALUES (0, 99, '0', pg_catalog.clock_timestamp());

-- Events: a sender adds to the inbox, which has no index; whoever delivers
-- moves them to the log and gives them their position.
CREATE TABLE coord.event_inbox (
	id uuid NOT NULL,
	type text NOT NULL,
	severity text NOT NULL,
	sender_id uuid,
	recipient_id uuid,
	channel text COLLATE "C",
	payload jsonb NOT NULL,
	created_at timestamptz NOT NULL
);

-- The log is a circle of partitions: one after the other is written for an
-- eighth of coord.event_retention, and emptied by TRUNCATE when all of it is
-- older than that.  So nothing is deleted row by row, nothing is created or
-- dropped while it runs, and a dump has them all.
CREATE TABLE coord.event_log (
	position bigint NOT NULL,
	LIKE coord.event_inbox,
	partition smallint NOT NULL
) PARTITION BY LIST (partition);
CREATE UNIQUE INDEX event_log_position ON coord.event_log (position, partition);
CREATE INDEX event_log_recipient ON coord.event_log (recipient_id, position) WHERE recipient_id IS NOT NULL;
CREATE INDEX event_log_channel ON coord.event_log (channel, position) WHERE channel IS NOT NULL;
CREATE INDEX event_log_everyone ON coord.event_log (position) WHERE recipient_id IS NULL AND channel IS NULL;
CREATE INDEX event_log_task ON coord.event_log (left(payload ->> 'task_id', 36)) WHERE channel = 'coord.tasks';
CREATE INDEX event_log_id ON coord.event_log USING brin (id) WITH (autosummarize = on);
DO $$
BEGIN
	FOR n IN 0..9 LOOP
		EXECUTE format('CREATE TABLE coord.event_log_%s PARTITION OF coord.event_log FOR VALUES IN (%s)', n, n);
		EXECUTE format('COMMENT ON TABLE coord.event_log_%s IS %L', n, 'Stored: a partition of event_log.');
	END LOOP;
END
$$;

-- Which partition has which positions, in the order of first_position; the
-- last one is written.  A restored log may begin and end in the same one.
CREATE TABLE coord.event_partition (
	partition smallint NOT NULL,
	first_position bigint NOT NULL,
	opened_at timestamptz NOT NULL
);

-- The channels that agents are subscribed to, and how far they have read.
CREATE TABLE coord.event_subscription (
	agent_id uuid,
	channel text COLLATE "C",
	PRIMARY KEY (agent_id, channel)
);
CREATE TABLE coord.event_cursor (
	agent_id uuid PRIMARY KEY,
	position bigint NOT NULL
) WITH (fillfactor = 50);

-- What grant_agent and grant_monitor gave beyond privileges.  A row of a role that has no
-- USAGE of the schema (any more) counts for nothing.
CREATE TABLE coord.queue_grant (
	role regrole NOT NULL,
	queue text COLLATE "C",					-- NULL: every queue
	can_create boolean NOT NULL,
	can_claim boolean NOT NULL
);
CREATE UNIQUE INDEX queue_grant_queue_role ON coord.queue_grant (queue, role) NULLS NOT DISTINCT;
CREATE TABLE coord.monitor_grant (
	role regrole PRIMARY KEY,
	payloads boolean NOT NULL
);

-- Where a publication is FOR ALL TABLES, no statement may change rows that have no identity.
-- Those of the inbox are deleted by no statement, and would all be written to the WAL once more.
DO $$
DECLARE
	relation regclass;
BEGIN
	FOR relation IN
		SELECT oid FROM pg_class c
		WHERE relnamespace = 'coord'::regnamespace AND relkind = 'r' AND relname <> 'event_inbox'
			AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)
	LOOP
		EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', relation);
	END LOOP;
END
$$;

----------------------------------------------------------------------------
-- Helper functions
----------------------------------------------------------------------------

CREATE FUNCTION coord.setting(name text) RETURNS interval
AS 'MODULE_PATHNAME', 'coord_setting' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION coord.backoff(backoff_base interval, backoff_max interval, attempts integer, task_id uuid) RETURNS interval
AS 'MODULE_PATHNAME', 'coord_backoff' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION coord.attachment_ended_at(agent_id uuid, attachment bigint, attached_at timestamptz)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'coord_attachment_ended_at' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION coord.last_beat(agent_id uuid) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'coord_last_beat_of' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION coord.beats_since() RETURNS timestamptz
AS 'MODULE_PATHNAME', 'coord_beats_since_of' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.new_id() RETURNS uuid
AS 'MODULE_PATHNAME', 'coord_new_id' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.worker_status(
	OUT pid integer, OUT database name, OUT started_at timestamptz, OUT last_wakeup_at timestamptz,
	OUT next_deadline_at timestamptz, OUT leases_expired bigint, OUT agents_expired bigint,
	OUT tasks_requeued bigint, OUT leases_renewed bigint, OUT events_delivered bigint,
	OUT sweep_lag_max interval, OUT errors bigint, OUT last_error_at timestamptz, OUT last_error text)
AS 'MODULE_PATHNAME', 'coord_worker_status' LANGUAGE C VOLATILE STRICT;

CREATE FUNCTION coord.grants_changed() RETURNS trigger
AS 'MODULE_PATHNAME', 'coord_grants_changed' LANGUAGE C VOLATILE;

CREATE TRIGGER grants_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coord.queue_grant
FOR EACH STATEMENT EXECUTE FUNCTION coord.grants_changed();
CREATE TRIGGER grants_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coord.monitor_grant
FOR EACH STATEMENT EXECUTE FUNCTION coord.grants_changed();

CREATE FUNCTION coord.count_tasks(queue text, OUT pending bigint, OUT scheduled bigint, OUT blocked bigint,
	OUT claimed bigint, OUT dead bigint, OUT oldest_pending_age interval, OUT counted_at timestamptz)
AS 'MODULE_PATHNAME', 'coord_count_tasks' LANGUAGE C STABLE STRICT;

-- What the current role may see.

CREATE FUNCTION coord.is_granted() RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_is_granted' LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION coord.is_monitor() RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_is_monitor' LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION coord.sees_payloads() RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_sees_payloads' LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION coord.sees_all_queues() RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_sees_all_queues' LANGUAGE C STABLE PARALLEL SAFE;

CREATE FUNCTION coord.seen_queues() RETURNS text[]
AS 'MODULE_PATHNAME', 'coord_seen_queues' LANGUAGE C STABLE PARALLEL SAFE;

-- For what is in no index: see the views.
CREATE FUNCTION coord.shown(value anyelement) RETURNS anyelement
AS 'MODULE_PATHNAME', 'coord_shown' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

----------------------------------------------------------------------------
-- The truth: a row is so at the instant of reading; what has run out shows
-- so, whether or not a sweep has been there.  These are for coord itself.
----------------------------------------------------------------------------

CREATE VIEW coord.agent_all AS
SELECT a.id, a.name, a.type,
	CASE WHEN a.retired_at IS NOT NULL THEN 'retired'
		 WHEN s.inactive_since IS NOT NULL THEN 'inactive'
		 ELSE 'active' END AS status,
	pg_catalog.pg_get_userbyid(a.owner) AS owner, a.metadata, a.heartbeat_timeout,
	b.heartbeat_at AS last_heartbeat_at, a.registered_at, s.inactive_since
FROM coord.agent_data a
	CROSS JOIN LATERAL (SELECT greatest(a.heartbeat_at, coord.last_beat(a.id),
		(SELECT max(beat_at) FROM coord.agent_beat WHERE agent_id = a.id)) AS heartbeat_at) b
	CROSS JOIN LATERAL (SELECT CASE WHEN a.attachment IS NULL THEN greatest(b.heartbeat_at, coord.beats_since()) + a.heartbeat_timeout
		ELSE coord.attachment_ended_at(a.id, a.attachment, a.heartbeat_at) END AS ends_at) e
	CROSS JOIN LATERAL (SELECT coalesce(a.inactive_since,
		CASE WHEN a.retired_at IS NULL AND e.ends_at <= pg_catalog.clock_timestamp()
			 THEN e.ends_at END) AS inactive_since) s;

CREATE VIEW coord.lease_all AS
SELECT l.id, l.resource_key, l.agent_id, l.task_id,
	CASE WHEN s.ended_at IS NULL THEN 'active'
		 WHEN l.released THEN 'released'
		 ELSE 'expired' END AS state,
	l.fencing_token, l.ttl, l.auto_renew, l.acquired_at, l.renewed_at, l.expires_at, s.ended_at
FROM coord.lease_data l,
	LATERAL (SELECT coalesce(l.ended_at,
		CASE WHEN l.expires_at <= pg_catalog.clock_timestamp() THEN l.expires_at END) AS ended_at) s;

-- Unfinished tasks.  "lost.since" is the instant at which the claim ran out:
-- by its lease, or by its agent's end.  The backoff is a function of the row,
-- so that what is shown here is what the sweep will write.
CREATE VIEW coord.task_unfinished AS
SELECT t.id, t.queue, t.type, t.payload, t.priority,
	CASE WHEN lost.since IS NULL THEN t.state
		 WHEN t.attempts < t.max_attempts THEN 'pending'
		 ELSE 'dead' END AS state,
	CASE WHEN lost.since IS NULL OR t.attempts >= t.max_attempts THEN t.run_at
		 ELSE lost.since + coord.backoff(coalesce(q.backoff_base, '1 s'), coalesce(q.backoff_max, '5 min'), t.attempts, t.id)
		 END AS run_at,
	t.attempts, t.max_attempts,
	CASE WHEN lost.since IS NULL OR t.attempts >= t.max_attempts THEN t.agent_id END AS agent_id,
	CASE WHEN lost.since IS NULL OR t.attempts >= t.max_attempts THEN t.lease_id END AS lease_id,
	CASE WHEN lost.since IS NULL OR t.attempts >= t.max_attempts THEN t.fencing_token END AS fencing_token,
	CASE WHEN lost.since IS NULL THEN t.lease_expires_at END AS lease_expires_at,
	CASE WHEN lost.since IS NULL OR t.attempts >= t.max_attempts THEN coalesce(t.claimed_key, t.resource_key)
		 ELSE t.resource_key END AS resource_key,
	t.unique_key, t.depends_on, t.progress, NULL::jsonb AS result,
	CASE WHEN lost.since IS NULL THEN t.error ELSE lost.reason END AS error,
	t.created_at,
	CASE WHEN lost.since IS NULL OR t.attempts >= t.max_attempts THEN t.claimed_at END AS claimed_at,
	CASE WHEN lost.since IS NOT NULL AND t.attempts >= t.max_attempts THEN lost.since END AS finished_at
FROM coord.task_live t
	LEFT JOIN coord.agent_data a ON a.id = t.agent_id
	LEFT JOIN coord.queue_data q ON q.name = t.queue
	CROSS JOIN LATERAL (SELECT coalesce(a.retired_at, a.inactive_since,
		CASE WHEN a.attachment IS NULL THEN a.heartbeat_timeout +
			greatest(a.heartbeat_at, coord.beats_since(), coord.last_beat(a.id), (SELECT max(beat_at) FROM coord.agent_beat WHERE agent_id = a.id))
		ELSE coord.attachment_ended_at(a.id, a.attachment, a.heartbeat_at) END) AS ends_at) agent
	CROSS JOIN LATERAL (SELECT
		CASE WHEN least(t.lease_expires_at, agent.ends_at) <= pg_catalog.clock_timestamp()
			 THEN least(t.lease_expires_at, agent.ends_at) END AS since,
		CASE WHEN agent.ends_at < t.lease_expires_at THEN 'agent inactive' ELSE 'lease expired' END AS reason) lost;

CREATE VIEW coord.task_all AS
SELECT * FROM coord.task_unfinished
UNION ALL
SELECT id, queue, type, payload, priority, state, run_at, attempts, max_attempts, agent_id, lease_id, fencing_token,
	lease_expires_at, resource_key, unique_key, depends_on, progress, result, error, created_at, claimed_at, finished_at
FROM coord.task_finished
UNION ALL
SELECT * FROM coord.task_dead;

CREATE VIEW coord.event_all AS
SELECT id, position, type, severity, sender_id, recipient_id, channel, payload, created_at
FROM coord.event_log
UNION ALL
SELECT id, NULL, type, severity, sender_id, recipient_id, channel, payload, created_at
FROM coord.event_inbox;

-- The names that only tasks have are found by going from each to the next one.  Tasks are
-- counted queue by queue, so that who asks for one does not count those of the others.
CREATE VIEW coord.queue_all AS
WITH RECURSIVE live_name (name) AS (
	SELECT min(queue) FROM coord.task_live
	UNION ALL
	SELECT (SELECT min(t.queue) FROM coord.task_live t WHERE t.queue > n.name) FROM live_name n WHERE n.name IS NOT NULL
), dead_name (name) AS (
	SELECT min(queue) FROM coord.task_dead
	UNION ALL
	SELECT (SELECT min(t.queue) FROM coord.task_dead t WHERE t.queue > n.name) FROM dead_name n WHERE n.name IS NOT NULL
), queue_name AS (
	SELECT name FROM coord.queue_data UNION SELECT 'default'
	UNION SELECT name FROM live_name WHERE name IS NOT NULL UNION SELECT name FROM dead_name WHERE name IS NOT NULL
)
SELECT n.name,
	coalesce(q.paused, false) AS paused,
	coalesce(q.max_attempts, 5) AS max_attempts,
	coalesce(q.lease_ttl, coord.setting('default_lease_ttl')) AS lease_ttl,
	coalesce(q.backoff_base, '1 s') AS backoff_base,
	coalesce(q.backoff_max, '5 min') AS backoff_max,
	q.max_claimed,
	coalesce(q.retention, coord.setting('task_retention')) AS retention,
	t.pending, t.scheduled, t.blocked, t.claimed, t.dead, t.oldest_pending_age, t.counted_at
FROM queue_name n
	LEFT JOIN coord.queue_data q USING (name)
	CROSS JOIN LATERAL coord.count_tasks(n.name) t;

----------------------------------------------------------------------------
-- The relations that users read: of the truth, what the current role may see.
-- What it may see in a statement is found out once; then rows are filtered,
-- below any function of the caller's (security_barrier).
----------------------------------------------------------------------------

CREATE VIEW coord.agent WITH (security_barrier) AS
SELECT * FROM coord.agent_all WHERE (SELECT coord.is_granted());

-- A condition of the caller's whose operators are leakproof is tried before a row is known to be his,
-- for the sake of the indexes, and EXPLAIN (ANALYZE) tells how that went; but not one on what a
-- volatile function gives.  So what is in no index is shown by coord.shown().

-- The id of an agent that was deleted may have been given to another one since.
CREATE VIEW coord.lease WITH (security_barrier) AS
SELECT id, resource_key, coord.shown(agent_id) AS agent_id, coord.shown(task_id) AS task_id, state,
	coord.shown(fencing_token) AS fencing_token, coord.shown(ttl) AS ttl,
	coord.shown(auto_renew) AS auto_renew, coord.shown(acquired_at) AS acquired_at,
	coord.shown(renewed_at) AS renewed_at, coord.shown(expires_at) AS expires_at, ended_at
FROM coord.lease_all l
WHERE (SELECT coord.sees_all_queues())
	OR EXISTS (SELECT FROM coord.agent_data a WHERE a.id = l.agent_id AND a.registered_at <= l.acquired_at
		AND pg_catalog.pg_has_role(a.owner, 'USAGE'));

CREATE VIEW coord.task WITH (security_barrier) AS
SELECT id, queue, type, coord.shown(payload) AS payload, priority, state, coord.shown(run_at) AS run_at,
	coord.shown(attempts) AS attempts, coord.shown(max_attempts) AS max_attempts, agent_id,
	coord.shown(lease_id) AS lease_id, coord.shown(fencing_token) AS fencing_token,
	coord.shown(lease_expires_at) AS lease_expires_at, resource_key, unique_key,
	coord.shown(depends_on) AS depends_on, coord.shown(progress) AS progress, coord.shown(result) AS result,
	coord.shown(error) AS error, coord.shown(created_at) AS created_at, coord.shown(claimed_at) AS claimed_at,
	finished_at
FROM coord.task_all
WHERE (SELECT coord.sees_all_queues()) OR queue = ANY ((SELECT coord.seen_queues())::text[]);

CREATE VIEW coord.dead_letter WITH (security_barrier) AS
SELECT id, queue, type, coord.shown(payload) AS payload, priority, state, coord.shown(run_at) AS run_at,
	coord.shown(attempts) AS attempts, coord.shown(max_attempts) AS max_attempts, agent_id,
	coord.shown(lease_id) AS lease_id, coord.shown(fencing_token) AS fencing_token,
	coord.shown(lease_expires_at) AS lease_expires_at, resource_key, unique_key,
	coord.shown(depends_on) AS depends_on, coord.shown(progress) AS progress, coord.shown(result) AS result,
	coord.shown(error) AS error, coord.shown(created_at) AS created_at, coord.shown(claimed_at) AS claimed_at,
	finished_at
FROM (SELECT * FROM coord.task_unfinished WHERE state = 'dead' UNION ALL SELECT * FROM coord.task_dead) t
WHERE (SELECT coord.sees_all_queues()) OR queue = ANY ((SELECT coord.seen_queues())::text[]);

CREATE VIEW coord.queue WITH (security_barrier) AS
SELECT name, coord.shown(paused) AS paused, coord.shown(max_attempts) AS max_attempts,
	coord.shown(lease_ttl) AS lease_ttl, coord.shown(backoff_base) AS backoff_base,
	coord.shown(backoff_max) AS backoff_max, coord.shown(max_claimed) AS max_claimed,
	coord.shown(retention) AS retention, coord.shown(pending) AS pending, coord.shown(scheduled) AS scheduled,
	coord.shown(blocked) AS blocked, coord.shown(claimed) AS claimed, coord.shown(dead) AS dead,
	coord.shown(oldest_pending_age) AS oldest_pending_age, coord.shown(counted_at) AS counted_at
FROM coord.queue_all
WHERE (SELECT coord.sees_all_queues()) OR name = ANY ((SELECT coord.seen_queues())::text[]);

-- No barrier here, since behind one nothing could be read in the order of positions without
-- reading all.  Instead whatever is private is NULL in a row that is not for the caller, also
-- to a function of his that is called before the row is filtered out.  What is left (id,
-- position, recipient_id, channel) is what anybody who can connect is told by LISTEN.
-- What came before an agent was registered was to another one of its id.
-- "level" is 2 for all of the row, 1 for all but its payload, 0 for none.
CREATE VIEW coord.event AS
SELECT e.id, e.position,
	CASE WHEN r.level > 0 THEN e.type END AS type,
	CASE WHEN r.level > 0 THEN e.severity END AS severity,
	CASE WHEN r.level > 0 THEN e.sender_id END AS sender_id,
	e.recipient_id, e.channel,
	CASE WHEN r.level = 2 THEN e.payload END AS payload,
	CASE WHEN r.level > 0 THEN e.created_at END AS created_at
FROM coord.event_all e
	CROSS JOIN LATERAL (SELECT CASE
		WHEN e.recipient_id IS NULL THEN CASE WHEN NOT (SELECT coord.is_granted()) THEN 0
			WHEN e.channel = 'coord.tasks' AND NOT (SELECT coord.sees_all_queues()) AND
				NOT coalesce(e.payload ->> 'queue' = ANY ((SELECT coord.seen_queues())::text[]), true) THEN 0
			ELSE 2 END
		WHEN (SELECT coord.sees_payloads()) THEN 2
		WHEN EXISTS (SELECT FROM coord.agent_data a WHERE a.id = e.recipient_id AND coalesce(e.position > a.events_after, true)
			AND pg_catalog.pg_has_role(a.owner, 'USAGE')) THEN 2
		WHEN (SELECT coord.is_monitor()) THEN 1
		ELSE 0 END AS level OFFSET 0) r
WHERE r.level > 0;

CREATE VIEW coord.worker AS
SELECT * FROM coord.worker_status();

----------------------------------------------------------------------------
-- Functions
----------------------------------------------------------------------------

-- What a queue has done since an instant; a row of queue_stats.
CREATE TYPE coord.queue_stat AS (
	queue text, since timestamptz, completed bigint, cancelled bigint, dead bigint, failed_attempts bigint,
	throughput double precision,
	waiting_p50 interval, waiting_p95 interval, waiting_p99 interval,
	running_p50 interval, running_p95 interval, running_p99 interval);

-- Something that has become of a task; a row of history.
CREATE TYPE coord.history_entry AS (
	at timestamptz, what text, attempt integer, agent_id uuid, detail jsonb);

-- Agents

CREATE FUNCTION coord.agent_register(name text, type text = 'worker', heartbeat_timeout interval = NULL,
	metadata jsonb = '{}', id uuid = NULL) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_register' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.agent_heartbeat(agent_id uuid) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_heartbeat' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.agent_attach(agent_id uuid) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_attach' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.agent_retire(agent_id uuid) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_retire' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.agent_list(status text = NULL, type text = NULL, name text = NULL, agent_id uuid = NULL,
	after uuid = NULL, "limit" integer = 100) RETURNS SETOF coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_list' LANGUAGE C VOLATILE ROWS 100;

-- Leases

CREATE FUNCTION coord.lease_acquire(resource_key text, agent_id uuid, ttl interval = NULL,
	auto_renew boolean = false, wait interval = '0', max_hold interval = NULL) RETURNS SETOF coord.lease
AS 'MODULE_PATHNAME', 'coord_lease_acquire' LANGUAGE C VOLATILE ROWS 1;

CREATE FUNCTION coord.lease_renew(lease_id uuid, ttl interval = NULL) RETURNS coord.lease
AS 'MODULE_PATHNAME', 'coord_lease_renew' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.lease_release(lease_id uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_lease_release' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.lease_assert(resource_key text, fencing_token bigint) RETURNS void
AS 'MODULE_PATHNAME', 'coord_lease_assert' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.lease_list(resource_key text = NULL, agent_id uuid = NULL, state text = NULL,
	after text = NULL, "limit" integer = 100) RETURNS SETOF coord.lease
AS 'MODULE_PATHNAME', 'coord_lease_list' LANGUAGE C VOLATILE ROWS 100;

CREATE FUNCTION coord.fence() RETURNS trigger
AS 'MODULE_PATHNAME', 'coord_fence' LANGUAGE C VOLATILE;

-- Tasks

CREATE FUNCTION coord.task_create(type text, payload jsonb = '{}', queue text = 'default', priority integer = 0,
	run_at timestamptz = NULL, max_attempts integer = NULL, unique_key text = NULL, depends_on uuid[] = NULL,
	resource_key text = NULL, id uuid = NULL) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_create' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_create_many(tasks jsonb) RETURNS SETOF uuid
AS 'MODULE_PATHNAME', 'coord_task_create_many' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_claim(agent_id uuid, queue text = 'default', task_id uuid = NULL,
	resource_key text = NULL, lease_ttl interval = NULL, max_tasks integer = 1) RETURNS SETOF coord.task
AS 'MODULE_PATHNAME', 'coord_task_claim' LANGUAGE C VOLATILE ROWS 1;

CREATE FUNCTION coord.task_renew(task_id uuid, fencing_token bigint, lease_ttl interval = NULL,
	progress jsonb = NULL) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_renew' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_complete(task_id uuid, fencing_token bigint, result jsonb = NULL) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_complete' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_complete_many(tasks jsonb) RETURNS SETOF coord.task
AS 'MODULE_PATHNAME', 'coord_task_complete_many' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_fail(task_id uuid, fencing_token bigint, error text = NULL,
	retry_in interval = NULL) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_fail' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_release(task_id uuid, fencing_token bigint) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_release' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_cancel(task_id uuid) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_cancel' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_redrive(task_id uuid = NULL, queue text = NULL) RETURNS bigint
AS 'MODULE_PATHNAME', 'coord_task_redrive' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_list(queue text = NULL, state text = NULL, type text = NULL, agent_id uuid = NULL,
	resource_key text = NULL, task_id uuid = NULL, after uuid = NULL, "limit" integer = 100) RETURNS SETOF coord.task
AS 'MODULE_PATHNAME', 'coord_task_list' LANGUAGE C VOLATILE ROWS 100;

CREATE FUNCTION coord.task_schedule(name text, schedule text, type text, payload jsonb = '{}', queue text = 'default',
	priority integer = 0, max_attempts integer = NULL, resource_key text = NULL, overlap boolean = false) RETURNS bigint
AS 'MODULE_PATHNAME', 'coord_task_schedule' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_unschedule(name text) RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_task_unschedule' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_set(name text, paused boolean = NULL, max_attempts integer = NULL,
	lease_ttl interval = NULL, backoff_base interval = NULL, backoff_max interval = NULL,
	max_claimed integer = NULL, retention interval = NULL) RETURNS coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_set' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_pause(name text) RETURNS coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_pause' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_resume(name text) RETURNS coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_resume' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_list(name text = NULL, paused boolean = NULL, after text = NULL,
	"limit" integer = 100) RETURNS SETOF coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_list' LANGUAGE C VOLATILE ROWS 100;

CREATE FUNCTION coord.queue_listen(queue text = 'default') RETURNS text
AS 'MODULE_PATHNAME', 'coord_queue_listen' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_unlisten(queue text = 'default') RETURNS text
AS 'MODULE_PATHNAME', 'coord_queue_unlisten' LANGUAGE C VOLATILE;

CREATE PROCEDURE coord.queue_wait(queue text = 'default', timeout interval = '30 s')
AS 'MODULE_PATHNAME', 'coord_queue_wait' LANGUAGE C;

-- Events

CREATE FUNCTION coord.event_send(type text, payload jsonb = '{}', recipient_id uuid = NULL, channel text = NULL,
	severity text = 'info', sender_id uuid = NULL) RETURNS coord.event
AS 'MODULE_PATHNAME', 'coord_event_send' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.event_listen(recipient_id uuid = NULL, channel text = NULL) RETURNS text
AS 'MODULE_PATHNAME', 'coord_event_listen' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.event_unlisten(recipient_id uuid = NULL, channel text = NULL) RETURNS text
AS 'MODULE_PATHNAME', 'coord_event_unlisten' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.listen_name(recipient_id uuid = NULL, channel text = NULL) RETURNS text
AS 'MODULE_PATHNAME', 'coord_listen_name' LANGUAGE C IMMUTABLE PARALLEL SAFE;

CREATE FUNCTION coord.event_subscribe(agent_id uuid, channel text) RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_event_subscribe' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.event_unsubscribe(agent_id uuid, channel text) RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_event_unsubscribe' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.event_poll(agent_id uuid, max_events integer = 100) RETURNS SETOF coord.event
AS 'MODULE_PATHNAME', 'coord_event_poll' LANGUAGE C VOLATILE ROWS 100;

CREATE FUNCTION coord.event_ack(agent_id uuid, "position" bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'coord_event_ack' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.inbox(agent_id uuid, ack bigint = NULL, max_events integer = 20) RETURNS SETOF coord.event
AS 'MODULE_PATHNAME', 'coord_inbox' LANGUAGE C VOLATILE ROWS 20;

CREATE FUNCTION coord.event_list(recipient_id uuid = NULL, channel text = NULL, type text = NULL,
	after bigint = NULL, max_events integer = 100) RETURNS SETOF coord.event
AS 'MODULE_PATHNAME', 'coord_event_list' LANGUAGE C VOLATILE ROWS 100;

-- Sight

CREATE FUNCTION coord.queue_stats(name text = NULL, since timestamptz = NULL) RETURNS SETOF coord.queue_stat
AS 'MODULE_PATHNAME', 'coord_queue_stats' LANGUAGE C VOLATILE ROWS 10;

CREATE FUNCTION coord.blocked_by(task_id uuid) RETURNS text
AS 'MODULE_PATHNAME', 'coord_blocked_by' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.history(task_id uuid) RETURNS SETOF coord.history_entry
AS 'MODULE_PATHNAME', 'coord_history' LANGUAGE C VOLATILE ROWS 10;

CREATE FUNCTION coord.dashboard() RETURNS text
AS 'MODULE_PATHNAME', 'coord_dashboard' LANGUAGE C VOLATILE;

-- Upkeep

CREATE FUNCTION coord.sweep() RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_sweep' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.purge(older_than interval = NULL) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_purge' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.cron_install(sweep_schedule text = NULL, purge_schedule text = NULL) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_cron_install' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.cron_remove() RETURNS integer
AS 'MODULE_PATHNAME', 'coord_cron_remove' LANGUAGE C VOLATILE;

-- JSON-RPC and MCP

CREATE FUNCTION coord.rpc(request text) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_rpc_text' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.rpc(request jsonb) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_rpc_jsonb' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.mcp(request text, defaults jsonb = NULL) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_mcp' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.version() RETURNS text
AS 'MODULE_PATHNAME', 'coord_version' LANGUAGE C IMMUTABLE PARALLEL SAFE;

-- Rights.  These run with the caller's own: only the extension's owner, or a
-- superuser, can give what they give.

CREATE FUNCTION coord.grant_agent(role name, queue text = NULL, can_create boolean = true, can_claim boolean = true)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	role_oid oid := coord.grant_to(role);
	f regprocedure;
BEGIN
	IF octet_length(queue) NOT BETWEEN 1 AND 512 THEN
		RAISE EXCEPTION 'argument "queue" %', CASE queue WHEN '' THEN 'must not be empty' ELSE 'is too long' END
			USING ERRCODE = 'invalid_parameter_value',
				  DETAIL = format('It has %s bytes; 1 to 512 are allowed.', octet_length(queue));
	END IF;
	FOR f IN
		SELECT oid FROM pg_proc
		WHERE pronamespace = 'coord'::regnamespace
			AND proname ~ '^(agent|lease|task|queue|event)_|^(fence|inbox|listen_name|mcp|rpc|sweep)$'
	LOOP
		EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', f, role);
	END LOOP;
	DELETE FROM coord.queue_grant g WHERE g.role = role_oid AND g.queue IS NOT DISTINCT FROM grant_agent.queue;
	INSERT INTO coord.queue_grant SELECT role_oid, queue, c.can_create, c.can_claim
	FROM (SELECT coalesce(can_create, true), coalesce(can_claim, true)) c (can_create, can_claim)
	WHERE c.can_create OR c.can_claim;
END
$$;

CREATE FUNCTION coord.grant_monitor(role name, payloads boolean = false)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	role_oid oid := coord.grant_to(role);
BEGIN
	EXECUTE format('GRANT SELECT ON coord.worker TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION coord.worker_status() TO %I', role);
	DELETE FROM coord.monitor_grant g WHERE g.role = role_oid;
	INSERT INTO coord.monitor_grant VALUES (role_oid, coalesce(payloads, false));
END
$$;

CREATE FUNCTION coord.revoke_all(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	role_oid oid := (SELECT oid FROM pg_roles WHERE rolname = role);
BEGIN
	LOCK TABLE coord.queue_grant IN SHARE ROW EXCLUSIVE MODE;
	EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA coord FROM %I', role);
	EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA coord FROM %I', role);
	EXECUTE format('REVOKE ALL ON SCHEMA coord FROM %I', role);
	DELETE FROM coord.queue_grant g WHERE g.role = role_oid;
	DELETE FROM coord.monitor_grant g WHERE g.role = role_oid;
END
$$;

-- What every role is given that is given anything.  One that did not have it before has lost its
-- grants, by DROP OWNED for example; they do not come back, though it may have got USAGE again.
CREATE FUNCTION coord.grant_to(role name) RETURNS oid
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	role_oid oid := (SELECT oid FROM pg_roles WHERE rolname = role);
BEGIN
	IF role IS NULL THEN
		RAISE EXCEPTION 'argument "role" must not be null' USING ERRCODE = 'null_value_not_allowed';
	ELSIF role_oid IS NULL THEN
		RAISE EXCEPTION 'role "%" does not exist', role USING ERRCODE = 'undefined_object';
	END IF;
	-- GRANT itself does not wait for another one of the same object: it fails
	LOCK TABLE coord.queue_grant IN SHARE ROW EXCLUSIVE MODE;
	IF NOT EXISTS (SELECT FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'coord' AND a.grantee = role_oid) OR
		NOT EXISTS (SELECT FROM pg_proc p, aclexplode(p.proacl) a WHERE p.oid = 'coord.version()'::regprocedure AND a.grantee = role_oid)
	THEN
		DELETE FROM coord.queue_grant g WHERE g.role = role_oid;
		DELETE FROM coord.monitor_grant g WHERE g.role = role_oid;
	END IF;
	EXECUTE format('GRANT USAGE ON SCHEMA coord TO %I', role);
	EXECUTE format('GRANT SELECT ON coord.agent, coord.lease, coord.task, coord.dead_letter, coord.event, '
		'coord.queue TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION coord.setting(text), coord.version(), '
		'coord.backoff(interval, interval, integer, uuid), '
		'coord.attachment_ended_at(uuid, bigint, timestamptz), coord.last_beat(uuid), coord.beats_since(), '
		'coord.is_granted(), coord.is_monitor(), coord.sees_payloads(), coord.sees_all_queues(), '
		'coord.seen_queues(), coord.shown(anyelement), coord.count_tasks(text), '
		'coord.queue_stats(text, timestamptz), coord.blocked_by(uuid), coord.history(uuid), coord.dashboard() TO %I', role);
	RETURN role_oid;
END
$$;

----------------------------------------------------------------------------
-- Comments
----------------------------------------------------------------------------

COMMENT ON SCHEMA coord IS 'Coordination of workers and agents: leases, task claims, agents with heartbeats, events.';

-- Relations

COMMENT ON VIEW coord.agent IS 'Agents, true at the instant of reading: one whose heartbeat timeout has passed is inactive, swept or not. status: active, inactive, retired.';
COMMENT ON COLUMN coord.agent.id IS 'Stays the same for a name, until the agent is deleted.';
COMMENT ON COLUMN coord.agent.name IS 'Unique.';
COMMENT ON COLUMN coord.agent.type IS 'As registered; means nothing to coord.';
COMMENT ON COLUMN coord.agent.status IS 'active, inactive (no heartbeat for heartbeat_timeout, or its connection has ended) or retired (by agent_retire, or inactive for coord.agent_retention); deleted when it has been that for as long again.';
COMMENT ON COLUMN coord.agent.owner IS 'The role that registered it; it, and who has its rights, may act for the agent.';
COMMENT ON COLUMN coord.agent.metadata IS 'As registered; means nothing to coord.';
COMMENT ON COLUMN coord.agent.heartbeat_timeout IS 'How long after its last heartbeat, or after a later start or promotion of the server, it becomes inactive, unless it is attached to a connection.';
COMMENT ON COLUMN coord.agent.last_heartbeat_at IS 'Its last sign of life: registration, heartbeat, claim or renewal of a claim.';
COMMENT ON COLUMN coord.agent.registered_at IS 'When the name was first registered, since an agent of that name was last deleted.';
COMMENT ON COLUMN coord.agent.inactive_since IS 'When its heartbeat timeout passed, or its connection ended; NULL while it is active.';

COMMENT ON VIEW coord.lease IS 'Leases, true at the instant of reading: for each resource key its current lease or its last one. state: active, released, expired.';
COMMENT ON COLUMN coord.lease.id IS 'New with each grant; the same through renewals.';
COMMENT ON COLUMN coord.lease.resource_key IS 'What is leased. Find a lease by this column: it is indexed, the id is not.';
COMMENT ON COLUMN coord.lease.agent_id IS 'The holder.';
COMMENT ON COLUMN coord.lease.task_id IS 'The task whose claim took the lease; NULL for one taken by lease_acquire.';
COMMENT ON COLUMN coord.lease.state IS 'active, released or expired.';
COMMENT ON COLUMN coord.lease.fencing_token IS 'Greater than that of every earlier lease and claim in the database.';
COMMENT ON COLUMN coord.lease.ttl IS 'By which a renewal that does not say otherwise extends it.';
COMMENT ON COLUMN coord.lease.auto_renew IS 'Whether the server renews it at every TTL/3 while its agent is active.';
COMMENT ON COLUMN coord.lease.acquired_at IS 'When it was granted.';
COMMENT ON COLUMN coord.lease.renewed_at IS 'When it was last renewed, or granted.';
COMMENT ON COLUMN coord.lease.expires_at IS 'From this instant on it is not held.';
COMMENT ON COLUMN coord.lease.ended_at IS 'When it was released or expired; NULL while it is active.';

COMMENT ON VIEW coord.task IS 'Tasks, true at the instant of reading: one whose claim has run out is pending or dead, swept or not. state: blocked, pending, claimed, completed, dead, cancelled.';
COMMENT ON COLUMN coord.task.id IS 'UUID version 7, unless the creator chose it.';
COMMENT ON COLUMN coord.task.queue IS 'The queue that it is claimed from.';
COMMENT ON COLUMN coord.task.type IS 'What kind of work; means nothing to coord.';
COMMENT ON COLUMN coord.task.payload IS 'What the worker needs to know.';
COMMENT ON COLUMN coord.task.priority IS 'Higher ones are claimed first.';
COMMENT ON COLUMN coord.task.state IS 'blocked (waits for depends_on), pending (claimable from run_at on), claimed, completed, dead (attempts used up), cancelled.';
COMMENT ON COLUMN coord.task.run_at IS 'Not claimable before this instant; a retry moves it.';
COMMENT ON COLUMN coord.task.attempts IS 'How often it was claimed, releases not counted.';
COMMENT ON COLUMN coord.task.max_attempts IS 'A failure or run-out claim after so many attempts makes it dead.';
COMMENT ON COLUMN coord.task.agent_id IS 'Who has claimed it; after completion, who had.';
COMMENT ON COLUMN coord.task.lease_id IS 'The lease on its resource, when the claim has one.';
COMMENT ON COLUMN coord.task.fencing_token IS 'Of the claim: renew, complete, fail and release need it.';
COMMENT ON COLUMN coord.task.lease_expires_at IS 'When the claim runs out, unless it is renewed.';
COMMENT ON COLUMN coord.task.resource_key IS 'The resource that a claim takes with it: the task''s own, or the one that the claimant gave.';
COMMENT ON COLUMN coord.task.unique_key IS 'No other unfinished task of the queue has it.';
COMMENT ON COLUMN coord.task.depends_on IS 'The tasks that must be completed before it is claimable.';
COMMENT ON COLUMN coord.task.progress IS 'What the worker last said by task_renew.';
COMMENT ON COLUMN coord.task.result IS 'What the worker said by task_complete.';
COMMENT ON COLUMN coord.task.error IS 'Why it failed last, or was cancelled.';
COMMENT ON COLUMN coord.task.created_at IS 'When it was created.';
COMMENT ON COLUMN coord.task.claimed_at IS 'When its claim was made.';
COMMENT ON COLUMN coord.task.finished_at IS 'When it was completed, cancelled or became dead.';

COMMENT ON VIEW coord.dead_letter IS 'The tasks of coord.task whose state is dead: attempts used up. task_redrive makes them pending again.';
COMMENT ON VIEW coord.task_unfinished IS 'Internal: the part of coord.task_all that has not finished, or that only a sweep has yet to finish.';
COMMENT ON VIEW coord.agent_all IS 'Internal: coord.agent, whoever reads it.';
COMMENT ON VIEW coord.lease_all IS 'Internal: coord.lease, whoever reads it.';
COMMENT ON VIEW coord.task_all IS 'Internal: coord.task, whoever reads it.';
COMMENT ON VIEW coord.event_all IS 'Internal: coord.event, whoever reads it.';
COMMENT ON VIEW coord.queue_all IS 'Internal: coord.queue, whoever reads it.';

COMMENT ON VIEW coord.event IS 'Events. position is NULL until the event is delivered, which is right after its transaction commits.';
COMMENT ON COLUMN coord.event.id IS 'UUID version 7; in a transaction, in the order of sending.';
COMMENT ON COLUMN coord.event.position IS 'The order of delivery. It grows, with gaps, and never goes back.';
COMMENT ON COLUMN coord.event.type IS 'What happened; coord''s own are lock.expired, agent.inactive, agent.active, task.requeued, task.dead.';
COMMENT ON COLUMN coord.event.severity IS 'debug, info, warning, error or critical.';
COMMENT ON COLUMN coord.event.sender_id IS 'The agent that sent it; NULL when it was not said, and for coord''s own.';
COMMENT ON COLUMN coord.event.recipient_id IS 'The agent that it is for; NULL when it is for none in particular.';
COMMENT ON COLUMN coord.event.channel IS 'The channel that it is for; with neither recipient nor channel it is for everyone.';
COMMENT ON COLUMN coord.event.payload IS 'As sent; NULL for a monitor that may not see it.';
COMMENT ON COLUMN coord.event.created_at IS 'When it was sent.';

COMMENT ON VIEW coord.queue IS 'Queues: their settings and how many tasks they have in which state. The tasks of a long queue, of more than 10,000 or so, are not counted at each reading: see counted_at.';
COMMENT ON COLUMN coord.queue.name IS 'A queue comes into being with its first task, or by queue_set. "default" always is.';
COMMENT ON COLUMN coord.queue.paused IS 'While true, nothing is claimed from it.';
COMMENT ON COLUMN coord.queue.max_attempts IS 'Of new tasks that do not say.';
COMMENT ON COLUMN coord.queue.lease_ttl IS 'Of claims that do not say.';
COMMENT ON COLUMN coord.queue.backoff_base IS 'The wait after the first failure; each further one doubles it.';
COMMENT ON COLUMN coord.queue.backoff_max IS 'The longest wait after a failure.';
COMMENT ON COLUMN coord.queue.max_claimed IS 'How many of its tasks may be claimed at once; NULL for no limit.';
COMMENT ON COLUMN coord.queue.retention IS 'How long its finished tasks are kept.';
COMMENT ON COLUMN coord.queue.pending IS 'Tasks that are claimable now.';
COMMENT ON COLUMN coord.queue.scheduled IS 'Pending tasks whose run_at has yet to come.';
COMMENT ON COLUMN coord.queue.blocked IS 'Tasks that wait for others.';
COMMENT ON COLUMN coord.queue.claimed IS 'Tasks that are being worked on.';
COMMENT ON COLUMN coord.queue.dead IS 'Dead letters.';
COMMENT ON COLUMN coord.queue.oldest_pending_age IS 'For how long the one that has been claimable longest has been so; NULL when there is none.';

COMMENT ON COLUMN coord.queue.counted_at IS 'NULL: the counts are of now. Else the queue is long, and they are as of then; the worker, or sweep(), counts it anew when it has changed, at most every 5 seconds and in a twentieth of the time.';

COMMENT ON TYPE coord.queue_stat IS 'What a queue has done since an instant. Durations are of completed tasks, NULL when there are none.';
COMMENT ON COLUMN coord.queue_stat.since IS 'From then on.';
COMMENT ON COLUMN coord.queue_stat.completed IS 'Tasks that were completed.';
COMMENT ON COLUMN coord.queue_stat.cancelled IS 'Tasks that were cancelled, by a call or since a dependency failed.';
COMMENT ON COLUMN coord.queue_stat.dead IS 'Tasks that became dead letters, and still are.';
COMMENT ON COLUMN coord.queue_stat.failed_attempts IS 'Attempts of all these tasks that failed or were lost.';
COMMENT ON COLUMN coord.queue_stat.throughput IS 'Completed tasks per second.';
COMMENT ON COLUMN coord.queue_stat.waiting_p50 IS 'From run_at to the claim that completed it: the median.';
COMMENT ON COLUMN coord.queue_stat.waiting_p95 IS 'The same: 95 of 100 waited no longer.';
COMMENT ON COLUMN coord.queue_stat.waiting_p99 IS 'The same: 99 of 100 waited no longer.';
COMMENT ON COLUMN coord.queue_stat.running_p50 IS 'From that claim to the completion: the median.';
COMMENT ON COLUMN coord.queue_stat.running_p95 IS 'The same: 95 of 100 took no longer.';
COMMENT ON COLUMN coord.queue_stat.running_p99 IS 'The same: 99 of 100 took no longer.';

COMMENT ON TYPE coord.history_entry IS 'Something that has become of a task.';
COMMENT ON COLUMN coord.history_entry.what IS 'created, claimed (the last claim), requeued (a claim that was lost), dead, completed, cancelled, or scheduled: when it is to be claimed next.';
COMMENT ON COLUMN coord.history_entry.attempt IS 'Of which attempt, where there was one.';
COMMENT ON COLUMN coord.history_entry.agent_id IS 'By whom, or whose claim, where there was one.';
COMMENT ON COLUMN coord.history_entry.detail IS 'More: reason, error, fencing_token and so on.';

COMMENT ON VIEW coord.worker IS 'One row: the background worker of this database and what it has done since it started. pid is NULL when there is none.';
COMMENT ON COLUMN coord.worker.pid IS 'Its process, as in pg_stat_activity.';
COMMENT ON COLUMN coord.worker.database IS 'This database.';
COMMENT ON COLUMN coord.worker.started_at IS 'When it started.';
COMMENT ON COLUMN coord.worker.last_wakeup_at IS 'When it last woke.';
COMMENT ON COLUMN coord.worker.next_deadline_at IS 'Until when it sleeps, unless a commit wakes it; NULL when there is nothing to wait for.';
COMMENT ON COLUMN coord.worker.leases_expired IS 'Leases that it saw expire.';
COMMENT ON COLUMN coord.worker.agents_expired IS 'Agents that it saw become inactive.';
COMMENT ON COLUMN coord.worker.tasks_requeued IS 'Tasks that it gave back, or made dead, because their claim ran out.';
COMMENT ON COLUMN coord.worker.leases_renewed IS 'Renewals that it made for auto_renew.';
COMMENT ON COLUMN coord.worker.events_delivered IS 'Events that it delivered.';
COMMENT ON COLUMN coord.worker.sweep_lag_max IS 'The longest time from an expiry to its sweep.';
COMMENT ON COLUMN coord.worker.errors IS 'Errors that it met and went on after; the server''s log has no more than one a minute of each kind.';
COMMENT ON COLUMN coord.worker.last_error_at IS 'When it met the last one.';
COMMENT ON COLUMN coord.worker.last_error IS 'Its message.';

-- Stored relations

COMMENT ON TABLE coord.installation IS 'Stored: when the extension was created in this database. Not dumped.';
COMMENT ON TABLE coord.agent_data IS 'Stored: agents. Read coord.agent instead.';
COMMENT ON TABLE coord.agent_beat IS 'Stored: heartbeats that came while another transaction of the agent had its row locked.';
COMMENT ON TABLE coord.lease_data IS 'Stored: for each resource key its current or last lease. Read coord.lease instead.';
COMMENT ON TABLE coord.lease_deadline IS 'Stored: for each lease whose end has not been seen, when the sweep must look at it.';
COMMENT ON TABLE coord.queue_data IS 'Stored: settings of queues. Read coord.queue instead.';
COMMENT ON TABLE coord.queue_count IS 'Stored: the counts of long queues. Read coord.queue instead.';
COMMENT ON TABLE coord.queue_slot IS 'Stored: as many slots as max_claimed says, for queues that have it; a claim occupies one.';
COMMENT ON TABLE coord.task_live IS 'Stored: unfinished tasks. Read coord.task instead.';
COMMENT ON TABLE coord.claim_deadline IS 'Stored: for each claim, when the sweep must look at it.';
COMMENT ON TABLE coord.claim_batch IS 'Stored: for the claims that one call has made together, when the sweep must look at them.';
COMMENT ON TABLE coord.task_dependency IS 'Stored: what blocked tasks wait for.';
COMMENT ON TABLE coord.dependency_check IS 'Stored: blocked tasks whose dependencies the sweep must look at.';
COMMENT ON TABLE coord.dependant_check IS 'Stored: finished tasks whose dependants the sweep must look at.';
COMMENT ON TABLE coord.task_finished IS 'Stored: completed and cancelled tasks. Read coord.task instead.';
COMMENT ON TABLE coord.task_partition IS 'Stored: which partitions of task_finished have something, or are written.';
COMMENT ON TABLE coord.task_dead IS 'Stored: dead letters. Read coord.dead_letter instead.';
COMMENT ON TABLE coord.event_inbox IS 'Stored: events that have yet to be delivered. Read coord.event instead.';
COMMENT ON TABLE coord.event_log IS 'Stored: delivered events. Read coord.event instead.';
COMMENT ON TABLE coord.event_partition IS 'Stored: which partitions of event_log have something.';
COMMENT ON TABLE coord.event_subscription IS 'Stored: the channels that agents are subscribed to.';
COMMENT ON TABLE coord.queue_grant IS 'Stored: what grant_agent gave, queue by queue.';
COMMENT ON TABLE coord.monitor_grant IS 'Stored: what grant_monitor gave.';
COMMENT ON TABLE coord.event_cursor IS 'Stored: the positions that agents have acknowledged.';
COMMENT ON SEQUENCE coord.fencing_token IS 'Fencing tokens, as far as a sequence can be trusted with them; see src/sequence.c.';
COMMENT ON SEQUENCE coord.event_position IS 'Event positions, as far as a sequence can be trusted with them; see src/sequence.c.';
COMMENT ON SEQUENCE coord.task_seq IS 'The age of tasks.';
COMMENT ON SEQUENCE coord.lease_slot IS 'The places of resource keys in lease_data.';

-- Functions: what the arguments are, with units; what comes back; errors.

COMMENT ON FUNCTION coord.agent_register(text, text, interval, jsonb, uuid) IS
$$Registers an agent, or registers it anew, and makes it active. Other calls name the agent by the id that comes back.
name: 1 to 512 bytes, unique. type: any word for its kind. heartbeat_timeout: how long after its last heartbeat it becomes inactive, from coord.min_lease_ttl to 366 days; NULL is coord.heartbeat_timeout. metadata: any JSON up to 1 MiB. id: an id of the caller's choice; NULL makes one.
Returns the agent. A name that the same owner registered before keeps its id, unless that agent was deleted: when it had been retired for coord.agent_retention.
Errors: 22004, 22023 bad argument, or an id that is another agent's; 42501 the name belongs to another role; 55P03 an open transaction is registering the name or changing the agent, or another agent had the id, and events to it are yet to be delivered or claims of its have not run out; 54000 metadata too large; 53400 the role has coord.max_agents_per_role.$$;

COMMENT ON FUNCTION coord.agent_heartbeat(uuid) IS
$$Tells that an agent is alive, and makes it active if it was inactive. Due within each heartbeat_timeout of the agent.
agent_id: the agent.
Returns the agent. One that had become inactive has lost its claims: task.requeued events tell it which.
Errors: P0002 no such agent; 55000 it is retired, by agent_retire or since it was inactive for coord.agent_retention; 42501 it belongs to another role; 55P03 it is inactive, and an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.agent_attach(uuid) IS
$$Binds an agent's life to this connection: while the connection lives, the agent is active with no heartbeats; when it ends, however it ends, the agent is inactive at once, its tasks are given back and its leases are released. Does not serve behind a pooler in transaction mode: there it binds the agent to a connection of the pooler.
agent_id: the agent; an inactive one is made active. The last call for it counts, in whatever session.
Returns the agent.
Errors: P0002 no such agent; 55000 it is retired, or coord is not in shared_preload_libraries; 42501 it belongs to another role; 55P03 an open transaction is changing it; 53400 coord.max_attached_agents are attached, or coord.max_share_per_role of that by this role.$$;

COMMENT ON FUNCTION coord.agent_retire(uuid) IS
$$Ends an agent for good: releases its leases and gives its tasks back at once, their attempts not counted. It is deleted after coord.agent_retention.
agent_id: the agent.
Returns the agent; retiring it again changes nothing.
Errors: P0002 no such agent; 42501 it belongs to another role; 55P03 an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.agent_list(text, text, text, uuid, uuid, integer) IS
$$Lists agents of all roles, those with the highest id first: the newest, unless ids were chosen by callers.
status: active, inactive or retired, as it is at this instant; NULL is any. type: only agents of that type. name: only the agent of that name. agent_id: only that agent. after: the id of the last agent of the page before; NULL is the first page. limit: how many at most, 1 to 1,000; NULL is 100.
Returns the agents; fewer than limit when there are no more.
Errors: 22023 bad argument.$$;

COMMENT ON FUNCTION coord.lease_acquire(text, uuid, interval, boolean, interval, interval) IS
$$Takes a resource for an agent, for a while: nobody else gets it before the lease is released or expires. Waits only if it is told to.
resource_key: 1 to 512 bytes. agent_id: an active agent. ttl: how long, from now, within coord.min_lease_ttl and coord.max_lease_ttl; NULL is coord.default_lease_ttl. auto_renew: whether the server renews the lease at every ttl/3 while the agent is active. wait: how long to wait while another agent holds the resource; who came first is served first, and gets it the moment it is released or expires. max_hold: how long after it was acquired auto_renew stops; NULL is never.
Returns the lease. When another agent holds the resource, waits for it, or is changing it in an open transaction: no row, which in JSON is the error 1002 with holder, expires_at and retry_after. Held by this agent already: renewed, the same id and fencing_token. Otherwise a new id and a higher fencing_token.
Errors: 22004, 22023 bad argument; P0002 no such agent; 55000 it is not active, also while it waits, or there is a wait and coord is not in shared_preload_libraries; 42501 it belongs to another role. Who waited in vain in a deadlock gets a warning, 40P01.$$;

COMMENT ON FUNCTION coord.lease_renew(uuid, interval) IS
$$Renews a lease that is still active, so that it expires a ttl from now.
lease_id: the id of the lease. ttl: how long it lasts from now, within coord.min_lease_ttl and coord.max_lease_ttl; NULL is the lease's own.
Returns the lease.
Errors: P0002 no such lease; 55000 it is no longer active; 22023 ttl out of bounds; 42501 its agent belongs to another role.$$;

COMMENT ON FUNCTION coord.lease_release(uuid) IS
$$Ends a lease now, so that others can get the resource.
lease_id: the id of the lease.
Returns true, or false when it had ended already.
Errors: P0002 no such lease; 55000 it belongs to a claimed task, which must be completed, failed or released instead; 42501 its agent belongs to another role.$$;

COMMENT ON FUNCTION coord.lease_assert(text, bigint) IS
$$Makes sure that a token holds a resource now, and that nobody else is granted the resource before this transaction ends: a write in the same transaction cannot be made by a holder that has lost its lease.
resource_key: the resource. fencing_token: that of the lease, as it was granted.
Returns nothing: no error means that the token holds the resource. A call that is a transaction of its own, as those of MCP are, only tells that it does now.
Errors: 55000 the token does not hold the resource.$$;

COMMENT ON FUNCTION coord.lease_list(text, uuid, text, text, integer) IS
$$Lists leases of all agents in the order of their resource_key; each resource has one, its current lease or its last.
resource_key: only that resource. agent_id: only leases of that agent. state: active, released or expired, as it is at this instant; NULL is any. after: the resource_key of the last lease of the page before; NULL is the first page. limit: how many at most, 1 to 1,000; NULL is 100.
Returns the leases; fewer than limit when there are no more.
Errors: 22023 bad argument.$$;

COMMENT ON FUNCTION coord.fence() IS
$$A trigger for one's own tables, BEFORE INSERT OR UPDATE and FOR EACH ROW: it lets a row be written only with a fencing token that holds the row's resource now, as lease_assert does. Who writes needs no right to it; DELETE and TRUNCATE are not guarded.
Its arguments are the names of two columns: the resource's, whose type has a text that does not depend on settings, as strings, integers and uuid have, and the token's (bigint).
Returns the row.
Errors: 55000 the token does not hold the resource, or an UPDATE changes the resource; 23502 either is null; 42703, 42804 no such column, or not of its type; 39P01 not such a trigger.$$;

COMMENT ON FUNCTION coord.task_create(text, jsonb, text, integer, timestamptz, integer, text, uuid[], text, uuid) IS
$$Creates a task, in this transaction.
type: the kind of work, 1 to 512 bytes. payload: any JSON up to 1 MiB. queue: the queue to put it into, 1 to 512 bytes, which comes into being with its first task. priority: higher ones are claimed first. run_at: the instant before which it is not claimable; NULL is now. max_attempts: how often it may be claimed, 1 to 1,000,000; NULL is the queue's. unique_key: while a task of the queue with this key has not finished, that one is returned, unchanged. depends_on: the ids of tasks, in queues that the role sees, that must be completed first; if one ends dead or cancelled, so does this one, cancelled. resource_key: a lease that each claim of it takes too, so that no two tasks with the key are worked on at once. id: an id of the caller's choice; NULL makes one.
Returns the task.
Errors: 22004, 22023 bad argument, an id that exists, a task that depends on itself; P0002 a dependency does not exist, or is in a queue that the role does not see; 55P03 an open transaction is creating a task with the unique_key or id; 54000 payload too large; 53400 the queue would be one more than coord.max_queues_per_role.$$;

COMMENT ON FUNCTION coord.task_create_many(jsonb) IS
$$Creates many tasks, all or none.
tasks: a JSON array of objects with the members type, which each must have, and payload, queue, priority, run_at, max_attempts, unique_key, depends_on, resource_key and id, which mean the same as the arguments of task_create. A task may depend on another one of the array that is given an id.
Returns the ids, in the order of the array.
Errors: as task_create; 22023 also for an unknown member and for dependencies that form a cycle.$$;

COMMENT ON FUNCTION coord.task_claim(uuid, text, uuid, text, interval, integer) IS
$$Claims tasks for an agent: nobody else gets them before the claim ends, by task_complete, task_fail or task_release, or by running out at lease_expires_at, which task_renew moves. Also a heartbeat.
agent_id: an active agent. queue: the queue to claim from, when task_id is NULL. task_id: that task and no other; NULL is the next ones of the queue. resource_key: a lease to take with the claim, for tasks that have none of their own. lease_ttl: how long the claim lasts, unless it is renewed; NULL is the queue's. max_tasks: how many at most, 1 to 10,000, when task_id is NULL.
Returns the tasks, highest priority first, then earliest run_at, then oldest, each with its fencing_token and lease_expires_at; none when none is claimable. Tasks whose resource is held are passed over. A batch ends when its tasks have 32 MiB as text; the next call goes on.
Errors: 22004, 22023 bad argument; P0002 no such agent or task; 55000 the agent is not active; 42501 it belongs to another role. With task_id also: 55P03 the task is claimed, its resource is held, an open transaction is changing either, or the queue is at max_claimed; 55000 it is not claimable.$$;

COMMENT ON FUNCTION coord.task_renew(uuid, bigint, interval, jsonb) IS
$$Renews a claim, so that it runs out a lease_ttl from now, and tells how far the work is. Also a heartbeat.
task_id: the id of the task. fencing_token: that of the claim. lease_ttl: how long it lasts from now; NULL is the claim's own. progress: any JSON up to 1 MiB; NULL leaves it.
Returns the task.
Errors: P0002 no such task; 55000 the token does not hold it; 22023 lease_ttl out of bounds; 42501 its agent belongs to another role; 54000 progress too large.$$;

COMMENT ON FUNCTION coord.task_complete(uuid, bigint, jsonb) IS
$$Completes a task, releases the lease that its claim took, and unblocks what depends on it; beyond 1,000 such tasks the worker does, right afterwards.
task_id: the id of the task. fencing_token: that of the claim. result: any JSON up to 1 MiB.
Returns the task. Repeating a completion that succeeded changes nothing and is no error.
Errors: P0002 no such task; 55000 the token does not hold it; 42501 its agent belongs to another role; 54000 result too large.$$;

COMMENT ON FUNCTION coord.task_complete_many(jsonb) IS
$$Completes many tasks, all or none, each as task_complete does.
tasks: a JSON array of objects with the members task_id, fencing_token (a number or a string of digits) and result, which may be left out.
Returns the tasks, in the order of the array.
Errors: as task_complete; 22023 also for an unknown member, 22004 for a missing one.$$;

COMMENT ON FUNCTION coord.task_fail(uuid, bigint, text, interval) IS
$$Ends a claim as failed: the task is pending again after a backoff, or dead when max_attempts is used up.
task_id: the id of the task. fencing_token: that of the claim. error: why it failed. retry_in: how long until it is claimable again; NULL is the queue's backoff_base * 2^(attempts-1), at most backoff_max, less up to a quarter.
Returns the task.
Errors: P0002 no such task; 55000 the token does not hold it; 22023 retry_in is negative; 42501 its agent belongs to another role; 54000 error too large.$$;

COMMENT ON FUNCTION coord.task_release(uuid, bigint) IS
$$Gives a claimed task back at once, the attempt not counted, for others to claim.
task_id: the id of the task. fencing_token: that of the claim.
Returns the task.
Errors: P0002 no such task; 55000 the token does not hold it; 42501 its agent belongs to another role.$$;

COMMENT ON FUNCTION coord.task_cancel(uuid) IS
$$Cancels a task that has not finished, claimed or not, and what depends on it; beyond 1,000 such tasks the worker does, right afterwards.
task_id: the id of the task.
Returns the task; cancelling it again changes nothing.
Errors: P0002 no such task; 55000 it is completed or dead; 42501 an agent of another role has claimed it; 55P03 an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.task_redrive(uuid, text) IS
$$Makes dead letters, tasks whose attempts are used up, pending again, with no attempts. With neither argument, all of them.
task_id: only that one. queue: only those of that queue, when task_id is NULL.
Returns how many were made pending. Those whose unique_key a new task has are left.
Errors: P0002 no such task or queue; 55000 the task is not dead, or its unique_key is in use.$$;

COMMENT ON FUNCTION coord.task_list(text, text, text, uuid, text, uuid, uuid, integer) IS
$$Lists tasks, or looks up one, those with the highest id first: the newest, unless ids were chosen by callers. With type, agent_id or resource_key give a state of unfinished tasks where you can; else finished tasks are looked through until limit are found.
queue: only tasks of that queue. state: blocked, pending, claimed, completed, dead or cancelled, as it is at this instant; NULL is any. type: only tasks of that type. agent_id: only tasks that this agent has claimed, or had when they ended. resource_key: only tasks with that resource. task_id: only that task, to learn its state or result. after: the id of the last task of the page before; NULL is the first page. limit: how many at most, 1 to 1,000; NULL is 100.
Returns the tasks; fewer than limit when there are no more.
Errors: 22023 bad argument.$$;

COMMENT ON FUNCTION coord.task_schedule(text, text, text, jsonb, text, integer, integer, text, boolean) IS
$$Creates a task again and again, at the times that a schedule says. While the last one has not finished no other is created, unless they may overlap. Scheduling a name again replaces what it was. It is a job of pg_cron, which must be there, in this database or another one, and runs it as the role that calls this.
name: of the schedule, 1 to 512 bytes; each role has its own. schedule: when, in the form of cron ('*/5 * * * *' is every five minutes, '0 3 * * 1' Mondays at 3:00), in GMT unless the server is set otherwise, or, with pg_cron 1.5 or newer, '1 seconds' to '59 seconds'. type: what kind of work, 1 to 512 bytes. payload: any JSON up to 1 MiB; keep it small, as pg_cron notes it at each run. queue: the queue to create the tasks in. priority: higher ones are claimed first. max_attempts: how often a task may be claimed before it is dead; NULL is the queue's. resource_key: a resource that each claim of a task takes a lease on. overlap: whether a task is created though the last one has not finished.
Returns the id of pg_cron's job.
Errors: 22004, 22023 bad argument, also a schedule that pg_cron does not understand; 54000 payload too large; 42501 no right to create tasks in the queue, or to use pg_cron; 55000 pg_cron is missing; 55P03 an open transaction is changing the schedule, or pg_cron is in another database and open transactions of the role have a quarter of max_worker_processes; 53400 it is, and no background worker is free; 0A000 it is, and the transaction has schedules of another role too.$$;

COMMENT ON FUNCTION coord.task_unschedule(text) IS
$$Ends a schedule of the calling role: no more tasks are created by it. Those that there are stay.
name: of the schedule.
Returns true, or false when there was none.
Errors: 22004, 22023 bad argument; 42501 no right to use pg_cron; 55000 pg_cron is missing; 55P03, 53400, 0A000 as task_schedule.$$;

COMMENT ON FUNCTION coord.queue_set(text, boolean, integer, interval, interval, interval, integer, interval) IS
$$Creates a queue, or changes its settings; NULL leaves a setting as it is.
name: the queue, 1 to 512 bytes. paused: while true, nothing is claimed from it. max_attempts: how often a task may be claimed that does not say, 1 to 1,000,000. lease_ttl: how long a claim lasts that does not say. backoff_base: the wait after a task's first failure; each further one doubles it. backoff_max: the longest wait after a failure. max_claimed: how many tasks may be claimed at once, 1 to 10,000; 0 is no limit. retention: how long finished tasks are kept.
Returns the queue.
Errors: 22004, 22023 bad argument; 55P03 an open transaction is changing the queue; 53400 the queue would be one more than coord.max_queues_per_role.$$;

COMMENT ON FUNCTION coord.queue_pause(text) IS
$$Lets nothing be claimed from a queue, until queue_resume. What is claimed already goes on.
name: the queue.
Returns the queue.
Errors: P0002 no such queue; 55P03 an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.queue_resume(text) IS
$$Lets tasks be claimed from a queue again, after queue_pause.
name: the queue.
Returns the queue.
Errors: P0002 no such queue; 55P03 an open transaction is changing it.$$;

COMMENT ON FUNCTION coord.queue_list(text, boolean, text, integer) IS
$$Lists queues by name, with their settings and how many tasks they have in which state. It counts the unfinished and dead tasks of the queues that it returns.
name: only that queue. paused: true for only those that are paused, false for only the others; NULL is both. after: the name of the last queue of the page before; NULL is the first page. limit: how many at most, 1 to 1,000; NULL is 100.
Returns the queues; fewer than limit when there are no more.
Errors: 22023 bad argument.$$;

COMMENT ON FUNCTION coord.queue_listen(text) IS
$$Does LISTEN on this connection for tasks of a queue becoming claimable: new ones, those whose run_at or retry has come, those given back. Does not serve behind a pooler in transaction mode: there it returns as ever, and the notifications are lost.
queue: the queue, which need not exist yet.
Returns the name of the NOTIFY channel. A notification's payload is a JSON object, in ASCII, with queue; one is for any number of tasks. Claim until there is nothing, then wait for the next one.
Errors: 22023 bad argument; 55000 coord is not in shared_preload_libraries; 53400 coord.max_listened_queues are listened to, or coord.max_share_per_role of that by this role.$$;

COMMENT ON FUNCTION coord.queue_unlisten(text) IS
$$Ends queue_listen.
queue: the queue.
Returns the name of the NOTIFY channel.
Errors: 22023 bad argument.$$;

COMMENT ON PROCEDURE coord.queue_wait(text, interval) IS
$$Waits until something in a queue is claimable; use it with CALL. It commits its transaction, that of a calling DO block or procedure too, and holds no snapshot, no lock and no transaction id while it waits, and as it is one statement it works behind a pooler in transaction mode.
queue: the queue, which need not exist yet; NULL is default. timeout: how long to wait at most, for example '5 s', up to 100 years; 0 only looks, NULL is 30 s.
Returns nothing, when a task is there that an agent that holds no lease could claim, or at the timeout. Another session may claim the task first: claim until there is nothing, then wait again.
Errors: 22023 bad argument; 25001 called inside a transaction block, by a function, in a block with EXCEPTION, or beside other statements in one string; 25006 the server is a standby; 55000 coord is not in shared_preload_libraries; 53400 coord.max_queue_waiters sessions wait, or coord.max_share_per_role of that are this role's.$$;

COMMENT ON FUNCTION coord.event_send(text, jsonb, uuid, text, text, uuid) IS
$$Sends an event, in this transaction, to an agent, on a channel, or (with neither) to everyone. It is delivered when the transaction has committed.
type: what happened, 1 to 512 bytes. payload: any JSON up to 1 MiB. recipient_id: the agent that it is for; when NULL, the agent whose name payload.to is; if there is none of that name a NOTICE says so, and the event has no recipient. channel: the channel that it is for, 1 to 512 bytes. severity: debug, info, warning, error or critical. sender_id: the agent that sends it; NULL does not say.
Returns the event, which has no position yet.
Errors: 22004, 22023 bad argument; P0002 no such recipient or sender; 42501 the sender belongs to another role; 55P03 either is just being deleted; 54000 payload too large.$$;

COMMENT ON FUNCTION coord.event_listen(uuid, text) IS
$$Does LISTEN on this connection for events to an agent, on a channel, or (both NULL) to everyone. Does not serve behind a pooler in transaction mode: there it returns as ever, and the notifications are lost.
recipient_id: the agent. channel: the channel. Not both at once.
Returns the name of the NOTIFY channel. A notification's payload is a JSON object, in ASCII, with id, position, type, severity, recipient_id and channel.
Errors: 22023 both given; P0002 no such agent; 42501 it belongs to another role.$$;

COMMENT ON FUNCTION coord.event_unlisten(uuid, text) IS
$$Ends event_listen.
recipient_id, channel: as given to event_listen.
Returns the name of the NOTIFY channel.
Errors: 22023 both given.$$;

COMMENT ON FUNCTION coord.listen_name(uuid, text) IS
$$The name of the NOTIFY channel for events to an agent, on a channel, or (both NULL) to everyone, for a client that does LISTEN by itself.
recipient_id: the agent. channel: the channel. Not both at once.
Returns coord:agent:<id>, coord:channel:<channel> or coord:all; for a channel whose name would not fit in 63 bytes, coord:sha256: and the base64url of its SHA-256, without padding.
Errors: 22023 both given.$$;

COMMENT ON FUNCTION coord.event_list(uuid, text, text, bigint, integer) IS
$$Lists delivered events in the order of their positions, the oldest first. A reader that goes on from the last position that it saw misses none, whatever commits late.
recipient_id: only those to that agent, which must be the caller's. channel: only those on that channel. type: only those of that type. after: the position of the last event that was seen, to go on from there; NULL is from the first one kept. max_events: how many at most, 1 to 10,000.
Returns the events, without those addressed to agents of other roles.
Errors: 22023 bad argument; P0002 no such agent; 42501 it belongs to another role.$$;

COMMENT ON FUNCTION coord.event_subscribe(uuid, text) IS
$$Has event_poll and inbox give an agent the events of a channel too, from the position that it has acknowledged: also those that were sent since, before this call.
agent_id: the agent. channel: the channel, 1 to 512 bytes.
Returns true, or false when it was subscribed.
Errors: 22004, 22023 bad argument; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted; 53400 the agent has coord.max_subscriptions_per_agent.$$;

COMMENT ON FUNCTION coord.event_unsubscribe(uuid, text) IS
$$Ends a subscription: event_poll and inbox no longer give the agent the events of the channel.
agent_id: the agent. channel: the channel.
Returns true, or false when it was not subscribed.
Errors: 22004, 22023 bad argument; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted.$$;

COMMENT ON FUNCTION coord.event_poll(uuid, integer) IS
$$Gives what an agent has yet to acknowledge: the delivered events that are addressed to it, those of the channels that it is subscribed to, and those to everyone, in the order of their positions. It changes nothing: who polls again without event_ack gets the same again.
agent_id: the agent, whose events begin with its registration. max_events: how many at most, 1 to 10,000.
Returns the events, without those addressed to agents of other roles.
Errors: 22004, 22023 bad argument; P0002 no such agent; 42501 it belongs to another role.$$;

COMMENT ON FUNCTION coord.event_ack(uuid, bigint) IS
$$Acknowledges an agent's events up to a position, after which event_poll and inbox go on. Several readers of an agent share its position.
agent_id: the agent. position: that of the last event that was handled.
Returns the position. Repeating it is no error.
Errors: 22004 an argument is NULL; 22023 no event has that position yet; 55000 a later one is acknowledged already, or was given before the agent was registered; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted.$$;

COMMENT ON FUNCTION coord.inbox(uuid, bigint, integer) IS
$$Reads an agent's events: acknowledges those that it has handled, then returns the next ones, as event_ack and event_poll do. What is not acknowledged comes again with the next call.
agent_id: the agent that the events are for. ack: the position of the last event that was handled, which acknowledges all up to it; NULL acknowledges none. max_events: how many at most, 1 to 10,000; NULL is 20.
Returns the events that are addressed to the agent, those of its channels and those to everyone, in the order of their positions; none when all are acknowledged.
Errors: 22004, 22023 bad argument, or no event has the position ack yet; 55000 a later one is acknowledged already, or was given before the agent was registered; P0002 no such agent; 42501 it belongs to another role; 55P03 it is just being deleted.$$;

COMMENT ON FUNCTION coord.queue_stats(text, timestamptz) IS
$$Says what a queue, or each queue, has done lately: how many tasks it has finished, how fast, how long they waited and ran, and what failed.
name: the queue; NULL is each that the caller may see. since: from that instant on, by when tasks finished; NULL is an hour ago. What is past its retention does not count.
Returns a row for each queue.
Errors: 22023 bad argument, or since is in the future; P0002 no such queue; 42501 no grant for it.$$;

COMMENT ON FUNCTION coord.blocked_by(uuid) IS
$$Says in words why a task is not running: what it waits for, who holds its resource, what limits its queue, what comes before it; or that it runs, or how it ended.
task_id: the task.
Returns the text, with a line for each reason.
Errors: 22004 task_id is NULL; P0002 no such task.$$;

COMMENT ON FUNCTION coord.history(uuid) IS
$$Tells what has become of a task, in the order of time: its creation, the claims that it lost, its last claim and its end, from its row and from what is still kept of the events about it, the last 1,000.
task_id: the task.
Returns a row for each.
Errors: 22004 task_id is NULL; P0002 no such task.$$;

COMMENT ON FUNCTION coord.dashboard() IS
$$Shows how things stand as one page of HTML, which needs nothing but itself: queues, the throughput of the last hour, leases about to end, dead letters, agents, and the worker; of many, the first ones. Takes no arguments.
Returns the page, in ASCII: psql -qAtXc 'select coord.dashboard()' > coord.html. It has what the caller may see.
Errors: none of its own.$$;

COMMENT ON FUNCTION coord.purge(interval) IS
$$Drops what is past its retention now, as the background worker does: finished tasks past their queue's retention or coord.task_retention, events past coord.event_retention, in partitions that are emptied whole; and agents past coord.agent_retention, the inactive of which are retired, and the retired deleted. Dead letters stay. For the extension's owner, and roles to which that grants EXECUTE.
older_than: NULL, or drop also whatever task finished, and whatever event was sent, that long ago or longer, row by row where a partition has younger ones too; agents go by coord.agent_retention all the same.
Returns how many: task_partitions_emptied, tasks_deleted, event_partitions_emptied, events_deleted, agents_retired, agents_deleted. A partition that another transaction is using stays for the next time. So do, in a transaction block, those of tasks, since whoever reads would have to wait for its end, and those of events that are not past coord.event_retention. Waits for whoever is delivering or dropping just now, within lock_timeout.
Errors: 22023 older_than is negative or infinite.$$;

COMMENT ON FUNCTION coord.cron_install(text, text) IS
$$Has pg_cron run sweep() and purge() as the calling role, where there is no background worker, and delete what it notes of the runs of coord's jobs, which it keeps for good itself, after a day. Calling it again replaces what was installed. For the extension's owner, and roles to which that grants EXECUTE, also of sweep() and purge().
sweep_schedule: when to sweep; NULL is every 10 seconds, and every minute with a pg_cron older than 1.5. purge_schedule: when to purge; NULL is every hour.
Returns the ids of pg_cron's jobs, as sweep, purge and trim. What it notes of the runs of other roles' schedules can be deleted only by a superuser's job.
Errors: as task_schedule.$$;

COMMENT ON FUNCTION coord.cron_remove() IS
$$Takes away what cron_install of the calling role has installed. Schedules of tasks stay. Takes no arguments.
Returns how many of pg_cron's jobs there were.
Errors: as task_unschedule.$$;

COMMENT ON FUNCTION coord.sweep() IS
$$Does now what the background worker does: expires leases and agents, gives back what they held, renews leases, delivers events. Needed where there is no worker. Called by the extension's owner or a superuser it is done in this transaction, and what it changes is locked until its end; for any other role the worker does it, and the call waits for that, ten seconds at most. Takes no arguments.
Returns how many: leases_expired, agents_expired, tasks_requeued, leases_renewed, events_delivered.
Errors: 25001 there is no worker, the role is not the owner's, and the call is not a statement of its own, outside of a transaction block: SELECT coord.sweep().$$;

COMMENT ON FUNCTION coord.rpc(text) IS
$$Serves a request of JSON-RPC 2.0, or a batch of up to 1,000, and those of MCP. Each one is served as if in a savepoint of its own: what a failed one did is undone, that of the others is not.
request: JSON. The methods are the functions under dotted names, with arguments by name: task.claim, lock.acquire and so on; tools/list describes them. Durations are numbers of seconds, times ISO 8601 with an offset.
Returns the response, or an array of them; NULL when there is nothing to answer. An integer beyond 2^53, which most readers of JSON would round, is a string of digits.
Errors: as rpc(text). Only a statement of which a request was cancelled, and which calls again, gets 57014.$$;

COMMENT ON FUNCTION coord.rpc(jsonb) IS
$$The same for a request that has been parsed.
request: as for rpc(text).
Returns the same.
Errors: none; every failure is a response with error.$$;

COMMENT ON FUNCTION coord.mcp(text, jsonb) IS
$$As rpc, for a server of MCP, such as coord-mcp: the id of a request must be a string or an integer, and where JSON-RPC has a null id there is none.
request: one message of MCP, or a batch. defaults: an object of values for arguments that a call leaves out, by argument name, for example agent_id; with it, task_claim and lock_acquire take the argument wait and leave waiting to the server of MCP, which tries again.
Returns the response; NULL when there is nothing to answer.
Errors: 22023 defaults is not an object.$$;

COMMENT ON FUNCTION coord.version() IS
$$The version of the loaded library. Takes no arguments.
Returns, for example, 1.1.$$;

COMMENT ON FUNCTION coord.grant_agent(name, text, boolean, boolean) IS
$$Lets a role call the functions of agents (all but those that grant and revoke), with rights to one queue or to every queue. It sees the tasks of those queues, agents, and events that are not to agents of other roles.
role: the role. queue: the queue that it gets rights to, which need not exist yet; NULL is every queue, those to come too, with which it may also change the settings of queues and see all leases. can_create: whether it may create, cancel and redrive tasks there. can_claim: whether it may claim tasks, listen and wait there.
Returns nothing. A grant for the same queue is replaced, and taken away when can_create and can_claim are both false; grants for several queues add up. A role whose last grant is taken away like that is still an agent's: it has leases and events, and no tasks; revoke_all takes everything.
Errors: 42704 no such role; 22023 bad argument; 42501 the caller is not the extension's owner.$$;

COMMENT ON FUNCTION coord.grant_monitor(name, boolean) IS
$$Lets a role read all rows of the relations agent, lease, task, dead_letter, event, queue and worker.
role: the role. payloads: whether also the payloads of events that are addressed to agents of other roles, which are NULL otherwise.
Returns nothing.
Errors: 42704 no such role; 42501 the caller is not the extension's owner.$$;

COMMENT ON FUNCTION coord.revoke_all(name) IS
$$Takes away all that grant_agent and grant_monitor gave. The role's agents stay, and are out of its reach. A call that is under way ends as it began, and an attached agent lives while its connection does: terminate the role's sessions, too.
role: the role.
Returns nothing.
Errors: 42704 no such role; 42501 the caller is not the extension's owner.$$;

COMMENT ON FUNCTION coord.grant_to(name) IS
$$Internal: what grant_agent and grant_monitor both give.
role: the role.
Returns its oid.$$;

COMMENT ON FUNCTION coord.grants_changed() IS
$$Internal: a trigger that has sessions forget what they know of grants. Takes no arguments.
Returns nothing.$$;

COMMENT ON FUNCTION coord.is_granted() IS
$$Internal: whether the current role may see anything. Takes no arguments.
Returns true or false.$$;

COMMENT ON FUNCTION coord.is_monitor() IS
$$Internal: whether the current role may see all rows. Takes no arguments.
Returns true or false.$$;

COMMENT ON FUNCTION coord.sees_payloads() IS
$$Internal: whether the current role may see the payloads of events to whatever agent. Takes no arguments.
Returns true or false.$$;

COMMENT ON FUNCTION coord.sees_all_queues() IS
$$Internal: whether the current role may see every queue. Takes no arguments.
Returns true or false.$$;

COMMENT ON FUNCTION coord.seen_queues() IS
$$Internal: the queues that the current role may see by grants for single queues. Takes no arguments.
Returns their names.$$;

COMMENT ON FUNCTION coord.shown(anyelement) IS
$$Internal: a value as a view shows it. Volatile, so that no condition on it is tried on rows that are not shown.
value: the value.
Returns it.$$;

COMMENT ON FUNCTION coord.count_tasks(text) IS
$$Internal: how many tasks a queue has in which state.
queue: the queue.
Returns what coord.queue shows of it, NULLs to who may not see it.$$;

COMMENT ON FUNCTION coord.setting(text) IS
$$Internal: a setting of coord that is a duration.
name: default_lease_ttl or task_retention.
Returns it as an interval.$$;

COMMENT ON FUNCTION coord.backoff(interval, interval, integer, uuid) IS
$$Internal: how long a task waits after a failure.
backoff_base, backoff_max: the queue's. attempts: how many the task has made. task_id: whose hash is the jitter.
Returns an interval.$$;

COMMENT ON FUNCTION coord.attachment_ended_at(uuid, bigint, timestamptz) IS
$$Internal: when the connection ended that an agent is attached to.
agent_id, attachment, attached_at: of the agent's row.
Returns that instant, or NULL while it lives.$$;

COMMENT ON FUNCTION coord.last_beat(uuid) IS
'Internal: the last heartbeat of agent agent_id that is noted in shared memory. Returns NULL when none is.';

COMMENT ON FUNCTION coord.beats_since() IS
$$Internal: since when the server takes heartbeats; no heartbeat timeout begins before. Takes no arguments.
Returns that instant, its start or promotion, or NULL on a standby.$$;

COMMENT ON FUNCTION coord.new_id() IS
$$Internal: a new UUID version 7. Takes no arguments.
Returns it.$$;

COMMENT ON FUNCTION coord.worker_status() IS
$$Internal: the row of coord.worker. Takes no arguments.
Returns one row.$$;

----------------------------------------------------------------------------
-- What pg_dump keeps: every stored row, and where the sequences are.  A role
-- is dumped by its name.  One that was dropped has none, only a number, which
-- may be another role's where the dump is restored: its rows are left out.
----------------------------------------------------------------------------

DO $$
DECLARE
	stored record;
BEGIN
	FOR stored IN
		SELECT c.oid, a.attname AS role
		FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.atttypid = 'regrole'::regtype
		WHERE c.relnamespace = 'coord'::regnamespace AND c.relkind IN ('r', 'S') AND c.relname NOT IN ('installation', 'task_partition', 'queue_count')
		ORDER BY c.relname
	LOOP
		PERFORM pg_extension_config_dump(stored.oid, CASE WHEN stored.role IS NULL THEN '' ELSE
			format('WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = %I)', stored.role) END);
	END LOOP;
END
$$;

----------------------------------------------------------------------------
-- Rights: nobody has any but the owner, whatever default privileges say.
----------------------------------------------------------------------------

DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		WITH object (kind, name, owner, acl) AS (
			SELECT 'SCHEMA', quote_ident(nspname), nspowner, coalesce(nspacl, acldefault('n', nspowner))
			FROM pg_namespace WHERE nspname = 'coord'
			UNION ALL
			SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass::text, relowner,
				coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
			FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
			UNION ALL
			SELECT 'ROUTINE', oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
			FROM pg_proc WHERE pronamespace = 'coord'::regnamespace
		)
		SELECT DISTINCT format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
		FROM object o, aclexplode(o.acl) a WHERE a.grantee <> o.owner
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;

-- What another transaction has put into the schema meanwhile, the guard could not see.
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_depend d
		WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'coord'::regnamespace
			AND d.classid <> 'pg_extension'::regclass
			AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid
				AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e')) THEN
		RAISE EXCEPTION 'schema "coord" has objects that are not the extension''s'
			USING ERRCODE = 'duplicate_object',
				  HINT = 'Drop the schema, then run CREATE EXTENSION coord again.';
	END IF;
END
$$;
