/*
 * coord 1.0: what CREATE EXTENSION runs.
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

-- The guard: a schema that somebody else made beforehand is theirs, and so
-- would be what they put in it.
DO $$
BEGIN
	IF (SELECT nspowner <> current_user::regrole FROM pg_catalog.pg_namespace WHERE nspname = 'coord') THEN
		RAISE EXCEPTION 'schema "coord" exists and belongs to another role'
			USING ERRCODE = 'insufficient_privilege',
				  HINT = 'Drop the schema, then run CREATE EXTENSION coord again.';
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = 'coord'::regnamespace)
		OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = 'coord'::regnamespace) THEN
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
	owner name NOT NULL,
	metadata jsonb NOT NULL,
	heartbeat_timeout interval NOT NULL,
	heartbeat_at timestamptz NOT NULL,
	registered_at timestamptz NOT NULL,
	inactive_since timestamptz,				-- set by the sweep, or by whoever meets a lapsed agent first
	retired_at timestamptz,
	check_at timestamptz
) WITH (fillfactor = 50);
CREATE INDEX agent_data_check_at ON coord.agent_data (check_at) WHERE check_at IS NOT NULL;

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
	check_at timestamptz					-- never NULL before its end was seen
) WITH (fillfactor = 50);
CREATE INDEX lease_data_check_at ON coord.lease_data (check_at) WHERE check_at IS NOT NULL;

CREATE TABLE coord.queue_data (
	name text COLLATE "C" PRIMARY KEY,
	paused boolean NOT NULL DEFAULT false,
	max_attempts integer NOT NULL DEFAULT 5,
	lease_ttl interval,						-- NULL: coord.default_lease_ttl
	backoff_base interval NOT NULL DEFAULT '1 s',
	backoff_max interval NOT NULL DEFAULT '5 min',
	max_claimed integer,					-- NULL: no limit
	retention interval						-- NULL: coord.task_retention
);

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
	id uuid PRIMARY KEY,
	seq bigint NOT NULL,
	queue text COLLATE "C" NOT NULL,
	type text NOT NULL,
	payload jsonb NOT NULL,
	priority integer NOT NULL,
	state text NOT NULL,					-- blocked, pending, claimed
	run_at timestamptz NOT NULL,
	ready_at timestamptz NOT NULL,
	attempts integer NOT NULL,
	max_attempts integer NOT NULL,
	resource_key text COLLATE "C",
	unique_key text COLLATE "C",
	depends_on uuid[],
	created_at timestamptz NOT NULL,
	-- of the claim
	agent_id uuid,
	lease_id uuid,							-- the lease on its resource, if it has one
	claimed_key text COLLATE "C",			-- that resource
	fencing_token bigint,
	lease_ttl interval,
	lease_expires_at timestamptz,
	claimed_at timestamptz,
	check_at timestamptz,					-- as in claim_deadline
	queue_slot integer,
	-- of the work
	progress jsonb,
	error text
) WITH (fillfactor = 60);
CREATE INDEX task_live_order ON coord.task_live (queue, priority DESC, ready_at, seq);
CREATE UNIQUE INDEX task_live_unique_key ON coord.task_live (queue, unique_key) WHERE unique_key IS NOT NULL;

-- One row for each claimed task: when the sweep must look at it.
CREATE TABLE coord.claim_deadline (
	check_at timestamptz NOT NULL,
	task_id uuid NOT NULL,
	agent_id uuid NOT NULL
);
CREATE INDEX claim_deadline_check_at ON coord.claim_deadline (check_at, task_id);

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

-- Tasks that have finished.  task_finished has those that nobody needs again,
-- in partitions by time that can be dropped whole.
CREATE TABLE coord.task_finished (
	id uuid NOT NULL,
	queue text COLLATE "C" NOT NULL,
	type text NOT NULL,
	payload jsonb NOT NULL,
	priority integer NOT NULL,
	state text NOT NULL,					-- completed, cancelled
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
) PARTITION BY RANGE (finished_at);
CREATE INDEX task_finished_id ON coord.task_finished (id);
CREATE TABLE coord.task_finished_default PARTITION OF coord.task_finished DEFAULT;

CREATE TABLE coord.task_dead (
	LIKE coord.task_finished,
	PRIMARY KEY (id)
);
CREATE INDEX task_dead_queue ON coord.task_dead (queue);

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
CREATE TABLE coord.event_log (
	position bigint NOT NULL,
	LIKE coord.event_inbox
) PARTITION BY RANGE (position);
CREATE UNIQUE INDEX event_log_position ON coord.event_log (position);
CREATE INDEX event_log_id ON coord.event_log (id);
CREATE INDEX event_log_recipient ON coord.event_log (recipient_id, position) WHERE recipient_id IS NOT NULL;
CREATE INDEX event_log_channel ON coord.event_log (channel, position) WHERE channel IS NOT NULL;
CREATE TABLE coord.event_log_default PARTITION OF coord.event_log DEFAULT;

----------------------------------------------------------------------------
-- Helper functions
----------------------------------------------------------------------------

CREATE FUNCTION coord.setting(name text) RETURNS interval
AS 'MODULE_PATHNAME', 'coord_setting' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE FUNCTION coord.backoff(backoff_base interval, backoff_max interval, attempts integer, task_id uuid) RETURNS interval
AS 'MODULE_PATHNAME', 'coord_backoff' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE FUNCTION coord.worker_status(
	OUT pid integer, OUT database name, OUT started_at timestamptz, OUT last_wakeup_at timestamptz,
	OUT next_deadline_at timestamptz, OUT leases_expired bigint, OUT agents_expired bigint,
	OUT tasks_requeued bigint, OUT leases_renewed bigint, OUT events_delivered bigint,
	OUT sweep_lag_max interval)
AS 'MODULE_PATHNAME', 'coord_worker_status' LANGUAGE C VOLATILE STRICT;

----------------------------------------------------------------------------
-- The relations that users read.  A row is true at the instant of reading:
-- what has run out shows so, whether or not a sweep has been there.
----------------------------------------------------------------------------

CREATE VIEW coord.agent AS
SELECT a.id, a.name, a.type,
	CASE WHEN a.retired_at IS NOT NULL THEN 'retired'
		 WHEN s.inactive_since IS NOT NULL THEN 'inactive'
		 ELSE 'active' END AS status,
	a.owner, a.metadata, a.heartbeat_timeout,
	a.heartbeat_at AS last_heartbeat_at, a.registered_at, s.inactive_since
FROM coord.agent_data a,
	LATERAL (SELECT coalesce(a.inactive_since,
		CASE WHEN a.retired_at IS NULL AND a.heartbeat_at + a.heartbeat_timeout <= pg_catalog.clock_timestamp()
			 THEN a.heartbeat_at + a.heartbeat_timeout END) AS inactive_since) s;

CREATE VIEW coord.lease AS
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
	CASE WHEN lost.since IS NULL THEN t.agent_id END AS agent_id,
	CASE WHEN lost.since IS NULL THEN t.lease_id END AS lease_id,
	CASE WHEN lost.since IS NULL THEN t.fencing_token END AS fencing_token,
	CASE WHEN lost.since IS NULL THEN t.lease_expires_at END AS lease_expires_at,
	CASE WHEN lost.since IS NULL THEN coalesce(t.claimed_key, t.resource_key) ELSE t.resource_key END AS resource_key,
	t.unique_key, t.depends_on, t.progress, NULL::jsonb AS result,
	CASE WHEN lost.since IS NULL THEN t.error ELSE lost.reason END AS error,
	t.created_at,
	CASE WHEN lost.since IS NULL THEN t.claimed_at END AS claimed_at,
	CASE WHEN lost.since IS NOT NULL AND t.attempts >= t.max_attempts THEN lost.since END AS finished_at
FROM coord.task_live t
	LEFT JOIN coord.agent_data a ON a.id = t.agent_id
	LEFT JOIN coord.queue_data q ON q.name = t.queue
	CROSS JOIN LATERAL (SELECT coalesce(a.retired_at, a.inactive_since, a.heartbeat_at + a.heartbeat_timeout) AS ends_at) agent
	CROSS JOIN LATERAL (SELECT
		CASE WHEN least(t.lease_expires_at, agent.ends_at) <= pg_catalog.clock_timestamp()
			 THEN least(t.lease_expires_at, agent.ends_at) END AS since,
		CASE WHEN agent.ends_at < t.lease_expires_at THEN 'agent inactive' ELSE 'lease expired' END AS reason) lost;

CREATE VIEW coord.dead_letter AS
SELECT * FROM coord.task_unfinished WHERE state = 'dead'
UNION ALL
SELECT * FROM coord.task_dead;

CREATE VIEW coord.task AS
SELECT * FROM coord.task_unfinished
UNION ALL
SELECT * FROM coord.task_finished
UNION ALL
SELECT * FROM coord.task_dead;

CREATE VIEW coord.event AS
SELECT id, position, type, severity, sender_id, recipient_id, channel, payload, created_at
FROM coord.event_log
UNION ALL
SELECT id, NULL, type, severity, sender_id, recipient_id, channel, payload, created_at
FROM coord.event_inbox;

CREATE VIEW coord.queue AS
WITH task_count AS (
	SELECT queue AS name,
		count(*) FILTER (WHERE state = 'pending' AND run_at <= s.now) AS pending,
		count(*) FILTER (WHERE state = 'pending' AND run_at > s.now) AS scheduled,
		count(*) FILTER (WHERE state = 'blocked') AS blocked,
		count(*) FILTER (WHERE state = 'claimed') AS claimed,
		s.now - min(run_at) FILTER (WHERE state = 'pending' AND run_at <= s.now) AS oldest_pending_age
	FROM coord.task_unfinished, (SELECT pg_catalog.clock_timestamp() AS now) s
	GROUP BY queue, s.now
), dead_count AS (
	SELECT queue AS name, count(*) AS dead FROM coord.dead_letter GROUP BY queue
), queue_name AS (
	SELECT name FROM coord.queue_data UNION SELECT 'default'
	UNION SELECT name FROM task_count UNION SELECT name FROM dead_count
)
SELECT name,
	coalesce(q.paused, false) AS paused,
	coalesce(q.max_attempts, 5) AS max_attempts,
	coalesce(q.lease_ttl, coord.setting('default_lease_ttl')) AS lease_ttl,
	coalesce(q.backoff_base, '1 s') AS backoff_base,
	coalesce(q.backoff_max, '5 min') AS backoff_max,
	q.max_claimed,
	coalesce(q.retention, coord.setting('task_retention')) AS retention,
	coalesce(t.pending, 0) AS pending,
	coalesce(t.scheduled, 0) AS scheduled,
	coalesce(t.blocked, 0) AS blocked,
	coalesce(t.claimed, 0) AS claimed,
	coalesce(d.dead, 0) AS dead,
	t.oldest_pending_age
FROM queue_name
	LEFT JOIN coord.queue_data q USING (name)
	LEFT JOIN task_count t USING (name)
	LEFT JOIN dead_count d USING (name);

CREATE VIEW coord.worker AS
SELECT * FROM coord.worker_status();

----------------------------------------------------------------------------
-- Functions
----------------------------------------------------------------------------

-- Agents

CREATE FUNCTION coord.agent_register(name text, type text = 'worker', heartbeat_timeout interval = NULL,
	metadata jsonb = '{}', id uuid = NULL) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_register' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.agent_heartbeat(agent_id uuid) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_heartbeat' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.agent_retire(agent_id uuid) RETURNS coord.agent
AS 'MODULE_PATHNAME', 'coord_agent_retire' LANGUAGE C VOLATILE;

-- Leases

CREATE FUNCTION coord.lease_acquire(resource_key text, agent_id uuid, ttl interval = NULL,
	auto_renew boolean = false, max_hold interval = NULL) RETURNS SETOF coord.lease
AS 'MODULE_PATHNAME', 'coord_lease_acquire' LANGUAGE C VOLATILE ROWS 1;

CREATE FUNCTION coord.lease_renew(lease_id uuid, ttl interval = NULL) RETURNS coord.lease
AS 'MODULE_PATHNAME', 'coord_lease_renew' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.lease_release(lease_id uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'coord_lease_release' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.lease_assert(resource_key text, fencing_token bigint) RETURNS void
AS 'MODULE_PATHNAME', 'coord_lease_assert' LANGUAGE C VOLATILE;

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

CREATE FUNCTION coord.task_fail(task_id uuid, fencing_token bigint, error text = NULL,
	retry_in interval = NULL) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_fail' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_release(task_id uuid, fencing_token bigint) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_release' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_cancel(task_id uuid) RETURNS coord.task
AS 'MODULE_PATHNAME', 'coord_task_cancel' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.task_redrive(task_id uuid = NULL, queue text = NULL) RETURNS bigint
AS 'MODULE_PATHNAME', 'coord_task_redrive' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_set(name text, paused boolean = NULL, max_attempts integer = NULL,
	lease_ttl interval = NULL, backoff_base interval = NULL, backoff_max interval = NULL,
	max_claimed integer = NULL, retention interval = NULL) RETURNS coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_set' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_pause(name text) RETURNS coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_pause' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.queue_resume(name text) RETURNS coord.queue
AS 'MODULE_PATHNAME', 'coord_queue_resume' LANGUAGE C VOLATILE;

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

CREATE FUNCTION coord.event_list(recipient_id uuid = NULL, channel text = NULL, type text = NULL,
	after bigint = NULL, max_events integer = 100) RETURNS SETOF coord.event
AS 'MODULE_PATHNAME', 'coord_event_list' LANGUAGE C VOLATILE ROWS 100;

-- Upkeep

CREATE FUNCTION coord.sweep() RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_sweep' LANGUAGE C VOLATILE;

CREATE FUNCTION coord.version() RETURNS text
AS 'MODULE_PATHNAME', 'coord_version' LANGUAGE C IMMUTABLE PARALLEL SAFE;

-- Rights.  These run with the caller's own: only the extension's owner, or a
-- superuser, can give what they give.

CREATE FUNCTION coord.grant_agent(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f regprocedure;
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA coord TO %I', role);
	FOR f IN
		SELECT oid FROM pg_proc
		WHERE pronamespace = 'coord'::regnamespace
			AND proname ~ '^(agent|lease|task|queue|event)_|^(listen_name|sweep|version)$'
	LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', f, role);
	END LOOP;
END
$$;

CREATE FUNCTION coord.grant_monitor(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA coord TO %I', role);
	EXECUTE format('GRANT SELECT ON coord.agent, coord.lease, coord.task, coord.dead_letter, coord.event, '
		'coord.queue, coord.worker TO %I', role);
	EXECUTE format('GRANT EXECUTE ON FUNCTION coord.setting(text), coord.worker_status(), coord.version(), '
		'coord.backoff(interval, interval, integer, uuid) TO %I', role);
END
$$;

CREATE FUNCTION coord.revoke_all(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA coord FROM %I', role);
	EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA coord FROM %I', role);
	EXECUTE format('REVOKE ALL ON SCHEMA coord FROM %I', role);
END
$$;

-- COMMENTS_HERE

----------------------------------------------------------------------------
-- What pg_dump keeps: every stored row, and where the sequences are.
----------------------------------------------------------------------------

SELECT pg_catalog.pg_extension_config_dump(c.oid, '')
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'coord'::regnamespace
	AND c.relkind IN ('r', 'S')
	AND c.relname <> 'installation'
ORDER BY c.relname;

----------------------------------------------------------------------------
-- Rights: PUBLIC has nothing.
----------------------------------------------------------------------------

REVOKE ALL ON ALL TABLES IN SCHEMA coord FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA coord FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA coord FROM PUBLIC;
REVOKE ALL ON SCHEMA coord FROM PUBLIC;
