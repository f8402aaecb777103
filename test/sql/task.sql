-- The way of a task: created, claimed, renewed, and completed, failed, released
-- or cancelled.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('task-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('task-bob', heartbeat_timeout => '10 min') \gset

-- A task needs nothing but a type.
SELECT * FROM coord.task_create('review') \gset d_
SELECT queue, type, payload, priority, state, attempts, max_attempts, agent_id, lease_id, fencing_token, lease_expires_at,
	resource_key, unique_key, depends_on, progress, result, error, claimed_at, finished_at,
	run_at = created_at AS runs_now, clock_timestamp() - created_at BETWEEN '0 s' AND '10 s' AS just_now,
	substr(id::text, 15, 1) AS uuid_version
FROM coord.task WHERE id = :'d_id' \gx
SELECT state FROM coord.task_cancel(:'d_id');

-- NULL for an argument that has a default is its default.
SELECT id, queue, payload, priority, max_attempts, run_at = created_at AS runs_now, unique_key, depends_on, resource_key
FROM coord.task_create('review', payload => NULL, queue => NULL, priority => NULL, run_at => NULL, max_attempts => NULL,
	unique_key => NULL, depends_on => NULL, resource_key => NULL, id => '7a580000-0000-4000-8000-000000000001');
SELECT state FROM coord.task_cancel('7a580000-0000-4000-8000-000000000001');

-- All that a creator can say is kept.
SELECT id, queue, type, payload, priority, state, run_at, attempts, max_attempts, resource_key, unique_key
FROM coord.task_create(type => 'review', payload => '[1, {"a": null}]', queue => 'task-said', priority => -3,
	run_at => '2001-02-03 04:05:06.789+00', max_attempts => 9, unique_key => 'u', resource_key => 'task-said-key',
	id => '7a580000-0000-4000-8000-000000000002');

-- An id that exists is refused, even after the task has finished.
CALL pg_temp.attempt($$SELECT coord.task_create('review', id => '7a580000-0000-4000-8000-000000000002')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('review', id => '7a580000-0000-4000-8000-000000000001')$$);
CALL pg_temp.attempt($$SELECT coord.task_create('review', id => '00000000-0000-0000-0000-000000000000')$$);
CALL pg_temp.attempt($$SELECT coord.task_create_many('[{"type": "review", "id": "00000000-0000-0000-0000-000000000000"}]')$$);
CALL pg_temp.attempt($$SELECT coord.agent_register('task-nil', id => '00000000-0000-0000-0000-000000000000')$$);

-- A task, and the queue that it brings, are undone with their transaction.
BEGIN;
SELECT queue, state FROM coord.task_create('t', queue => 'task-undone');
ROLLBACK;
SELECT count(*) FROM coord.task WHERE queue = 'task-undone';
SELECT count(*) FROM coord.queue WHERE name = 'task-undone';

-- Nothing to claim: no row.
SELECT payload FROM coord.task_claim(:'ann', 'task-none');

-- A claim gives the task with its token, counts an attempt, and lasts for the
-- TTL from the call.
SELECT id FROM coord.task_create('t', '{"n": 1}', 'task-claim') \gset
BEGIN;
CALL pg_temp.wait_for(now() + '20 ms');
SELECT * FROM coord.task_claim(:'ann', 'task-claim', lease_ttl => '5 min') \gset c_
SELECT :'c_claimed_at' > now() + '20 ms' AS at_the_call;
COMMIT;
SELECT type, payload, state, attempts, agent_id = :'ann' AS is_anns, lease_id, fencing_token = :c_fencing_token AS has_token,
	lease_expires_at - claimed_at AS lasts, finished_at
FROM coord.task WHERE id = :'id';

-- Nobody else gets it: a next-claim finds nothing, a named one is told why.
SELECT payload FROM coord.task_claim(:'bob', 'task-claim');
SELECT payload FROM coord.task_claim(:'ann', 'task-claim');
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'bob', :'id'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));

-- A renewal lasts from now, for the claim's own TTL or another one.
SELECT state, attempts, fencing_token = :c_fencing_token AS same_token, progress,
	lease_expires_at > :'c_lease_expires_at' AS longer,
	clock_timestamp() + '5 min' - lease_expires_at BETWEEN '0 s' AND '10 s' AS own_ttl
FROM coord.task_renew(:'id', :c_fencing_token);
SELECT clock_timestamp() + '20 min' - lease_expires_at BETWEEN '0 s' AND '10 s' AS given_ttl
FROM coord.task_renew(:'id', :c_fencing_token, '20 min');
SELECT clock_timestamp() + '1 min' - lease_expires_at BETWEEN '0 s' AND '10 s' AS shorter_ttl
FROM coord.task_renew(:'id', :c_fencing_token, lease_ttl => '1 min');

-- It may say how far the work is, which stays until it says otherwise.
SELECT progress FROM coord.task_renew(:'id', :c_fencing_token, progress => '{"done": 50}');
SELECT progress FROM coord.task_renew(:'id', :c_fencing_token);

-- Only the claim's token does anything.
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s)', :'id', :c_fencing_token - 1));
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :c_fencing_token - 1));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s)', :'id', :c_fencing_token - 1));
CALL pg_temp.attempt(format('SELECT coord.task_release(%L, %s)', :'id', :c_fencing_token + 1));

-- Completed, the task keeps what is known of it.
SELECT type, payload, state, attempts, agent_id = :'ann' AS is_anns, fencing_token = :c_fencing_token AS has_token,
	progress, result, error, claimed_at = :'c_claimed_at' AS same_claim, finished_at > claimed_at AS finished_after
FROM coord.task_complete(:'id', :c_fencing_token, '{"ok": true}');

-- Completing it again changes nothing and is no error; any other end is.
SELECT finished_at FROM coord.task WHERE id = :'id' \gset
SELECT state, result, finished_at = :'finished_at' AS same_end
FROM coord.task_complete(:'id', :c_fencing_token, '{"ok": false}');
SELECT state, result FROM coord.task_complete(:'id', :c_fencing_token);
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :c_fencing_token - 1));
CALL pg_temp.attempt(format('SELECT coord.task_renew(%L, %s)', :'id', :c_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.task_fail(%L, %s)', :'id', :c_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.task_release(%L, %s)', :'id', :c_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.task_cancel(%L)', :'id'));
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));

-- A result is not needed.
SELECT id FROM coord.task_create('t', queue => 'task-claim') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-claim') \gset
SELECT state, result FROM coord.task_complete(:'id', :token);

-- Failed, it is pending again after its backoff.
SELECT backoff_base FROM coord.queue_set('task-fail', backoff_base => '1 min');
SELECT id FROM coord.task_create('t', queue => 'task-fail') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-fail') \gset
SELECT state, attempts, agent_id, fencing_token, lease_expires_at, claimed_at, finished_at, error,
	run_at > clock_timestamp() AS later
FROM coord.task_fail(:'id', :token, 'no such host');
-- Until then a named claim is refused, and a next-claim finds nothing.
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));
SELECT payload FROM coord.task_claim(:'ann', 'task-fail');
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :token));

-- The worker may say when; an error text is not needed.
SELECT id FROM coord.task_create('t', queue => 'task-fail-in') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-fail-in') \gset
SELECT state, error, run_at <= clock_timestamp() AS at_once FROM coord.task_fail(:'id', :token, retry_in => '0 s');
SELECT attempts, error, fencing_token > :token AS higher_token, fencing_token AS token
FROM coord.task_claim(:'ann', 'task-fail-in') \gset
\echo attempts :attempts, error :error, higher token :higher_token
SELECT state, error, run_at - clock_timestamp() BETWEEN '59 min' AND '1 hour' AS in_an_hour
FROM coord.task_fail(:'id', :token, 'later', '1 hour');

-- Released, it is given back at once, the attempt not counted.
SELECT id, run_at FROM coord.task_create('t', queue => 'task-release') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-release') \gset
SELECT state, attempts, agent_id, fencing_token, error, run_at = :'run_at' AS same_run_at
FROM coord.task_release(:'id', :token);
CALL pg_temp.attempt(format('SELECT coord.task_release(%L, %s)', :'id', :token));
SELECT id = :'id' AS same_task, attempts, fencing_token > :token AS higher_token FROM coord.task_claim(:'bob', 'task-release');

-- Cancelled, it is claimed by nobody; again is no error.
SELECT id FROM coord.task_create('t', queue => 'task-cancel') \gset
SELECT state, attempts, error, finished_at IS NOT NULL AS finished FROM coord.task_cancel(:'id');
SELECT state FROM coord.task_cancel(:'id');
SELECT payload FROM coord.task_claim(:'ann', 'task-cancel');
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));

-- So may a claimed one be: its holder is told by its token.
SELECT id FROM coord.task_create('t', queue => 'task-cancel', resource_key => 'task-cancel-key') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-cancel') \gset
SELECT state FROM coord.task_cancel(:'id');
CALL pg_temp.attempt(format('SELECT coord.task_complete(%L, %s)', :'id', :token));
SELECT state FROM coord.lease WHERE resource_key = 'task-cancel-key';

-- A claim by id takes that task and no other, whatever queue is said.
SELECT id FROM coord.task_create('t', '1', queue => 'task-named') \gset
SELECT id AS second FROM coord.task_create('t', '2', queue => 'task-named') \gset
SELECT payload, state FROM coord.task_claim(:'ann', task_id => :'second');
SELECT payload, state FROM coord.task_claim(:'ann', queue => 'task-elsewhere', task_id => :'id');

-- Up to max_tasks are claimed at once, each with a token of its own.
SELECT count(coord.task_create('t', to_jsonb(n), 'task-many')) FROM generate_series(1, 5) n;
SELECT array_agg(payload) AS first_three, count(DISTINCT fencing_token) AS tokens
FROM coord.task_claim(:'ann', 'task-many', max_tasks => 3);
SELECT array_agg(payload) AS the_others FROM coord.task_claim(:'bob', 'task-many', max_tasks => 10000);

-- How long a claim lasts is said by the call, or else by the queue, or else by
-- the setting.
SELECT count(coord.task_create('t', to_jsonb(n), 'task-ttl')) FROM generate_series(1, 3) n;
SET coord.default_lease_ttl = '7 s';
SELECT lease_expires_at - claimed_at AS by_setting FROM coord.task_claim(:'ann', 'task-ttl');
SELECT lease_ttl FROM coord.queue_set('task-ttl', lease_ttl => '3 min');
SELECT lease_expires_at - claimed_at AS by_queue FROM coord.task_claim(:'ann', 'task-ttl');
SELECT lease_expires_at - claimed_at AS by_call FROM coord.task_claim(:'ann', 'task-ttl', lease_ttl => '2 min');
RESET coord.default_lease_ttl;

-- A task's own resource comes with its claim: a lease with the claim's token,
-- that ends with the claim.
SELECT id FROM coord.task_create('t', queue => 'task-resource', resource_key => 'task-key') \gset
SELECT * FROM coord.task_claim(:'ann', 'task-resource', lease_ttl => '5 min') \gset r_
SELECT l.id = :'r_lease_id' AS same_lease, l.state, l.agent_id = :'ann' AS is_anns, l.task_id = :'id' AS of_task,
	l.fencing_token = :r_fencing_token AS same_token, l.ttl, l.expires_at = :'r_lease_expires_at' AS same_end
FROM coord.lease l WHERE resource_key = 'task-key';
SELECT lease_expires_at AS renewed_to FROM coord.task_renew(:'id', :r_fencing_token, '9 min') \gset
SELECT state, expires_at = :'renewed_to' AS same_end FROM coord.lease WHERE id = :'r_lease_id';
SELECT state FROM coord.task_complete(:'id', :r_fencing_token);
SELECT state FROM coord.lease WHERE id = :'r_lease_id';

-- It ends when the task fails or is released, too.
SELECT id FROM coord.task_create('t', queue => 'task-resource', resource_key => 'task-key') \gset
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-resource') \gset
SELECT state FROM coord.task_release(:'id', :token);
SELECT state FROM coord.lease WHERE resource_key = 'task-key';
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-resource') \gset
SELECT state FROM coord.task_fail(:'id', :token, retry_in => '1 hour');
SELECT state FROM coord.lease WHERE resource_key = 'task-key';

-- Both or neither: a resource that is held refuses a named claim, which then
-- counts no attempt, and a next-claim passes over its task.
SELECT id AS hold FROM coord.lease_acquire('task-held', :'bob', '10 min') \gset
SELECT id FROM coord.task_create('t', '"held"', 'task-both', priority => 1, resource_key => 'task-held') \gset
SELECT id AS free FROM coord.task_create('t', '"free"', 'task-both') \gset
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L)', :'ann', :'id'));
SELECT state, attempts FROM coord.task WHERE id = :'id';
SELECT payload FROM coord.task_claim(:'ann', 'task-both', max_tasks => 10);
-- Once it is free, the task is claimed.
SELECT coord.lease_release(:'hold');
SELECT payload, attempts FROM coord.task_claim(:'ann', 'task-both', max_tasks => 10);

-- Two tasks with one resource are not worked on at once, by one agent either.
SELECT count(coord.task_create('t', to_jsonb(n), 'task-turns', resource_key => 'task-turn')) FROM generate_series(1, 2) n;
SELECT payload, id AS first, fencing_token AS token FROM coord.task_claim(:'ann', 'task-turns', max_tasks => 10) \gset
\echo :payload
SELECT payload FROM coord.task_claim(:'ann', 'task-turns');
SELECT state FROM coord.task_complete(:'first', :token);
SELECT payload FROM coord.task_claim(:'bob', 'task-turns', max_tasks => 10);

-- The claimant may bring a resource to a task that has none.
SELECT id FROM coord.task_create('t', queue => 'task-brought') \gset
SELECT resource_key, lease_id IS NOT NULL AS leased, fencing_token AS token
FROM coord.task_claim(:'ann', 'task-brought', resource_key => 'task-brought-key') \gset
\echo :resource_key :leased
SELECT state, task_id = :'id' AS of_task, fencing_token = :token AS same_token FROM coord.lease WHERE resource_key = 'task-brought-key';
-- When the claim is over the task has none again.
SELECT state, resource_key FROM coord.task_release(:'id', :token);
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-brought') \gset
SELECT resource_key, lease_id FROM coord.task WHERE id = :'id';
SELECT state FROM coord.task_complete(:'id', :token);
-- To a task that has its own, only that one.
SELECT id FROM coord.task_create('t', queue => 'task-brought', resource_key => 'task-own-key') \gset
CALL pg_temp.attempt(format('SELECT coord.task_claim(%L, task_id => %L, resource_key => %L)', :'ann', :'id', 'task-other-key'));
SELECT payload FROM coord.task_claim(:'ann', 'task-brought', resource_key => 'task-other-key');
SELECT resource_key FROM coord.task_claim(:'ann', task_id => :'id', resource_key => 'task-own-key');

-- A lease that the agent holds by itself serves its claim, one at a time, and survives it.
SELECT * FROM coord.lease_acquire('task-kept', :'ann', '1 min') \gset k_
SELECT id FROM coord.task_create('t', queue => 'task-kept', resource_key => 'task-kept') \gset
SELECT lease_id = :'k_id' AS same_lease, fencing_token AS token, fencing_token > :k_fencing_token AS higher_token, lease_expires_at
FROM coord.task_claim(:'ann', 'task-kept', lease_ttl => '5 min') \gset
\echo :same_lease :higher_token
-- It lasts as long as the claim does.
SELECT state, task_id = :'id' AS serves_claim, fencing_token = :k_fencing_token AS own_token, expires_at >= :'lease_expires_at' AS long_enough
FROM coord.lease WHERE id = :'k_id';
SELECT type FROM coord.task_create('second', queue => 'task-kept', resource_key => 'task-kept');
SELECT count(*) FROM coord.task_claim(:'ann', 'task-kept');
CALL pg_temp.attempt(format('SELECT coord.lease_release(%L)', :'k_id'));
SELECT state FROM coord.task_complete(:'id', :token);
SELECT state, task_id, fencing_token = :k_fencing_token AS own_token FROM coord.lease WHERE id = :'k_id';

-- A claim and each of its ends are undone with their transaction.
SELECT id FROM coord.task_create('t', queue => 'task-back', resource_key => 'task-back-key') \gset
BEGIN;
SELECT state FROM coord.task_claim(:'ann', 'task-back');
ROLLBACK;
SELECT state, attempts FROM coord.task WHERE id = :'id';
SELECT count(*) FROM coord.lease WHERE resource_key = 'task-back-key';
SELECT fencing_token AS token FROM coord.task_claim(:'ann', 'task-back') \gset
BEGIN;
SELECT state FROM coord.task_complete(:'id', :token);
ROLLBACK;
BEGIN;
SELECT state FROM coord.task_fail(:'id', :token);
ROLLBACK;
BEGIN;
SELECT state FROM coord.task_release(:'id', :token);
ROLLBACK;
BEGIN;
SELECT state FROM coord.task_cancel(:'id');
ROLLBACK;
SELECT state, attempts, fencing_token = :token AS same_token FROM coord.task WHERE id = :'id';
SELECT state FROM coord.lease WHERE resource_key = 'task-back-key';
SELECT state FROM coord.task_complete(:'id', :token);
