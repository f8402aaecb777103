-- What every database of the benches begins with: coord, 64 agents (one for each
-- pgbench client), and the textbook's tables.  Those that are updated in place are
-- churned before they are measured, as a table in use is.

CREATE EXTENSION coord;
CREATE EXTENSION pg_prewarm;
CREATE SCHEMA bench;

CREATE TABLE bench.agent (n integer PRIMARY KEY, id uuid NOT NULL);
INSERT INTO bench.agent
SELECT n, (SELECT id FROM coord.agent_register('agent ' || n, heartbeat_timeout => '1 day'))
FROM generate_series(0, 63) n;

-- The floor: what a durable single-row UPDATE costs.
CREATE TABLE bench.counter (id integer PRIMARY KEY, n bigint NOT NULL, filler text NOT NULL);
INSERT INTO bench.counter SELECT id, 0, repeat('x', 80) FROM generate_series(1, 10000) id;
UPDATE bench.counter SET n = n + 1;

-- The textbook queue.
CREATE TABLE bench.job (
	id bigserial PRIMARY KEY,
	state text NOT NULL DEFAULT 'waiting',
	payload jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	claimed_by integer,
	claimed_at timestamptz,
	finished_at timestamptz
);
CREATE INDEX job_waiting ON bench.job (id) WHERE state = 'waiting';

-- The textbook lease; its token counts the grants.
CREATE TABLE bench.lease (
	key text PRIMARY KEY,
	owner integer NOT NULL,
	token bigint NOT NULL,
	expires_at timestamptz NOT NULL
);
INSERT INTO bench.lease SELECT 'key ' || n, 0, 0, '-infinity' FROM generate_series(1, 10000) n;
UPDATE bench.lease SET token = 0;
SELECT count(coord.lease_release(l.id))
FROM generate_series(1, 2) round, generate_series(1, 10000) n,
	LATERAL coord.lease_acquire('key ' || n + 0 * round, (SELECT id FROM bench.agent WHERE n = 0), '1 min') l;

-- The textbook outbox.
CREATE TABLE bench.event (
	id bigserial PRIMARY KEY,
	type text NOT NULL,
	severity text NOT NULL DEFAULT 'info',
	sender_id uuid,
	recipient_id uuid,
	channel text,
	payload jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
