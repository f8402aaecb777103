/*
 * coord 1.0 to 1.1: finished tasks go to partitions, which purge() and the worker empty.
 *
 * What was finished so far becomes the first partition, without being rewritten.  It is
 * kept for a whole retention from the time at which that is closed.
 */
\echo Use "ALTER EXTENSION coord UPDATE" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- All that is changed, and what is read with it, is locked at once or not at all: whoever
-- reads locks the view first, whoever finishes a task the table.
DO $$
BEGIN
	LOOP
		BEGIN
			LOCK TABLE coord.task_all IN ACCESS EXCLUSIVE MODE NOWAIT;
			EXIT;
		EXCEPTION WHEN lock_not_available THEN
			PERFORM pg_sleep(random() * 0.01);
		END;
	END LOOP;
END
$$;

ALTER TABLE coord.task_finished RENAME TO task_finished_unpartitioned;
ALTER INDEX coord.task_finished_id RENAME TO task_finished_unpartitioned_id;
ALTER TABLE coord.task_finished_unpartitioned DETACH PARTITION coord.task_finished_default;

CREATE TABLE coord.task_finished (
	LIKE coord.task_dead,
	partition smallint NOT NULL
) PARTITION BY LIST (partition);
CREATE INDEX task_finished_id ON coord.task_finished (id);

ALTER TABLE coord.task_finished_default ADD COLUMN partition smallint NOT NULL DEFAULT 0;
ALTER TABLE coord.task_finished_default ALTER COLUMN partition DROP DEFAULT;
ALTER TABLE coord.task_finished_default RENAME TO task_finished_0;
ALTER INDEX coord.task_finished_default_id_idx RENAME TO task_finished_0_id_idx;
ALTER TABLE coord.task_finished ATTACH PARTITION coord.task_finished_0 FOR VALUES IN (0);
COMMENT ON TABLE coord.task_finished_0 IS 'Stored: a partition of task_finished.';
DO $$
BEGIN
	FOR n IN 1..15 LOOP
		EXECUTE format('CREATE TABLE coord.task_finished_%s PARTITION OF coord.task_finished FOR VALUES IN (%s)', n, n);
		EXECUTE format('COMMENT ON TABLE coord.task_finished_%s IS %L', n, 'Stored: a partition of task_finished.');
		PERFORM pg_extension_config_dump(format('coord.task_finished_%s', n)::regclass, '');
	END LOOP;
END
$$;
COMMENT ON TABLE coord.task_finished IS 'Stored: completed and cancelled tasks. Read coord.task instead.';

CREATE OR REPLACE VIEW coord.task_all AS
SELECT * FROM coord.task_unfinished
UNION ALL
SELECT id, queue, type, payload, priority, state, run_at, attempts, max_attempts, agent_id, lease_id, fencing_token,
	lease_expires_at, resource_key, unique_key, depends_on, progress, result, error, created_at, claimed_at, finished_at
FROM coord.task_finished
UNION ALL
SELECT * FROM coord.task_dead;
DROP TABLE coord.task_finished_unpartitioned;

CREATE TABLE coord.task_partition (
	partition smallint NOT NULL,
	class smallint NOT NULL,
	keep interval NOT NULL,
	opened_at timestamptz NOT NULL,
	closed_at timestamptz,
	sealed_at timestamptz
);
INSERT INTO coord.task_partition VALUES (0, 99, '0', pg_catalog.clock_timestamp());
COMMENT ON TABLE coord.task_partition IS 'Stored: which partitions of task_finished have something, or are written.';

CREATE FUNCTION coord.purge(older_than interval = NULL) RETURNS jsonb
AS 'MODULE_PATHNAME', 'coord_purge' LANGUAGE C VOLATILE;

COMMENT ON FUNCTION coord.purge(interval) IS
$$Drops what is past its retention now, as the background worker does: finished tasks past their queue's retention or coord.task_retention, events past coord.event_retention, in partitions that are emptied whole. Dead letters stay. For the extension's owner, and roles to which that grants EXECUTE.
older_than: NULL, or drop also whatever task finished, and whatever event was sent, that long ago or longer, row by row where a partition has younger ones too.
Returns how many: task_partitions_emptied, tasks_deleted, event_partitions_emptied, events_deleted. A partition that another transaction is using stays for the next time; so do all in a transaction block, since whoever reads would have to wait for its end. Waits for whoever is delivering or dropping just now, within lock_timeout.
Errors: 22023 older_than is negative or infinite.$$;

COMMENT ON FUNCTION coord.version() IS
$$The version of the loaded library. Takes no arguments.
Returns, for example, 1.1.$$;

-- What is new belongs to whom the rest belongs to.
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		SELECT format('ALTER %s %s OWNER TO %I', o.kind, o.name, pg_get_userbyid(r.relowner))
		FROM pg_class r, (
			SELECT 'TABLE', oid::regclass::text FROM pg_class
			WHERE relnamespace = 'coord'::regnamespace AND relname ~ '^task_(finished|partition)' AND relkind IN ('r', 'p')
			UNION ALL
			SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
			WHERE pronamespace = 'coord'::regnamespace AND proname = 'purge') o (kind, name)
		WHERE r.oid = 'coord.task_live'::regclass
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;

-- Nobody has a right to what is new but the owner, whatever default privileges say.
DO $$
DECLARE
	command text;
BEGIN
	FOR command IN
		WITH object (kind, name, owner, acl) AS (
			SELECT 'TABLE', oid::regclass::text, relowner, coalesce(relacl, acldefault('r', relowner))
			FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relname ~ '^task_(finished|partition)'
				AND relkind IN ('r', 'p')
			UNION ALL
			SELECT 'FUNCTION', oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
			FROM pg_proc WHERE pronamespace = 'coord'::regnamespace AND proname = 'purge'
		)
		SELECT DISTINCT format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
		FROM object o, aclexplode(o.acl) a WHERE a.grantee <> o.owner
	LOOP
		EXECUTE command;
	END LOOP;
END
$$;
