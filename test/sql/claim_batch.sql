-- What one call has claimed together, and what becomes of it.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('batch-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('batch-bob', heartbeat_timeout => '10 min') \gset
SELECT name FROM coord.queue_set('batch', backoff_base => '0 s');
CREATE TABLE batch_claimed AS SELECT * FROM coord.task LIMIT 0;
CREATE PROCEDURE batch_claim(agent uuid, n integer, ttl interval) LANGUAGE sql AS $$
	TRUNCATE batch_claimed;
	INSERT INTO batch_claimed SELECT * FROM coord.task_claim(agent, 'batch', max_tasks => n, lease_ttl => ttl);
$$;
-- until nothing of the queue has run out that was not given back, and no batch is kept that is due
CREATE PROCEDURE batch_settle() LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM coord.claim_batch WHERE check_at <= clock_timestamp())
		OR EXISTS (SELECT FROM coord.task_live WHERE queue = 'batch' AND state = 'claimed' AND lease_expires_at <= clock_timestamp())
	LOOP
		PERFORM coord.sweep();
		COMMIT;
	END LOOP;
END
$$;
CREATE VIEW batch_tasks AS SELECT payload AS task, state, attempts, error FROM coord.task WHERE queue = 'batch' ORDER BY payload;
SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', 'batch', 'payload', g)) FROM generate_series(1, 6) g));

-- One is completed, one failed, one released, one renewed, and two are left to run out.
CALL batch_claim(:'ann', 6, '1 h');
SELECT count(*) AS batches, (SELECT count(*) FROM coord.claim_deadline d JOIN batch_claimed c ON c.id = d.task_id) AS rows_of_their_own
FROM coord.claim_batch WHERE agent_id = :'ann';
SELECT (coord.task_complete(id, fencing_token)).state FROM batch_claimed WHERE payload = '1';
SELECT (coord.task_fail(id, fencing_token, 'no good')).state FROM batch_claimed WHERE payload = '2';
SELECT (coord.task_release(id, fencing_token)).state FROM batch_claimed WHERE payload = '3';
SELECT (coord.task_renew(id, fencing_token, '1 h')).state FROM batch_claimed WHERE payload = '4';
-- the hour is over
UPDATE coord.task_live SET lease_expires_at = clock_timestamp() WHERE queue = 'batch' AND payload IN ('5', '6') AND state = 'claimed';
UPDATE coord.claim_batch SET check_at = clock_timestamp() WHERE agent_id = :'ann';
SELECT count(*) FROM coord.task WHERE queue = 'batch' AND error = 'lease expired';
CALL batch_settle();
TABLE batch_tasks;
SELECT count(*) AS batches FROM coord.claim_batch WHERE agent_id = :'ann';
SELECT payload AS has_a_row_of_its_own FROM coord.claim_deadline d JOIN batch_claimed c ON c.id = d.task_id;
SELECT (coord.task_complete(id, fencing_token)).state FROM batch_claimed WHERE payload = '4';
SELECT count(*) FROM coord.claim_deadline d JOIN batch_claimed c ON c.id = d.task_id;

-- An end that is earlier than the batch's is kept, too.
CALL batch_claim(:'ann', 6, '1 h');
SELECT count(*) FROM batch_claimed;
SELECT (coord.task_renew(id, fencing_token, '100 ms')).state FROM batch_claimed WHERE payload = '5';
DO $$ BEGIN WHILE EXISTS (SELECT FROM coord.task WHERE queue = 'batch' AND payload = '5' AND state = 'claimed') LOOP END LOOP; END $$;
CALL batch_settle();
TABLE batch_tasks;

-- A claim in a batch that was given back and is claimed by another agent is that one's.
SELECT (coord.task_release(id, fencing_token)).state FROM batch_claimed WHERE payload = '6';
CALL batch_claim(:'bob', 2, '1 h');
SELECT payload FROM batch_claimed ORDER BY payload;
SELECT name, status FROM coord.agent_retire(:'ann');
TABLE batch_tasks;
SELECT (coord.task_complete(id, fencing_token)).state FROM batch_claimed;

-- A claim that is rolled back leaves nothing.
BEGIN;
SAVEPOINT before_claim;
SELECT count(*) FROM coord.task_claim(:'bob', 'batch', max_tasks => 10);
ROLLBACK TO before_claim;
SELECT count(*) AS batches FROM coord.claim_batch WHERE agent_id = :'bob';
COMMIT;
SELECT count(*) FROM coord.task_claim(:'bob', 'batch', max_tasks => 10);
SELECT name, status FROM coord.agent_retire(:'bob');
TABLE batch_tasks;

DROP VIEW batch_tasks;
DROP PROCEDURE batch_settle, batch_claim;
DROP TABLE batch_claimed;
SELECT count(coord.task_cancel(id)) FROM coord.task WHERE queue = 'batch' AND state = 'pending';

-- What a claim had at hand, and found no room for, others get.
SELECT name FROM coord.queue_set('batch', max_claimed => 2);
SELECT id AS cid FROM coord.agent_register('batch-cid', heartbeat_timeout => '10 min') \gset
SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 't', 'queue', 'batch', 'payload', g)) FROM generate_series(11, 15) g));
SELECT jsonb_agg(jsonb_build_object('task_id', id, 'fencing_token', fencing_token)) AS two FROM coord.task_claim(:'cid', 'batch', max_tasks => 5) \gset
SELECT count(*) FROM coord.task_complete_many(:'two');
SELECT payload FROM coord.task_claim(:'cid', 'batch');
SELECT payload FROM coord.task_claim(:'cid', 'batch', max_tasks => 5);
SELECT name, status FROM coord.agent_retire(:'cid');
SELECT count(coord.task_cancel(id)) FROM coord.task WHERE queue = 'batch' AND state = 'pending';
