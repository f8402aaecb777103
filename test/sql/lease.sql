-- Leases: one holder at a time, each grant with a new id and a higher token,
-- and an end that comes at its instant whether or not anybody looks.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('lease-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('lease-bob', heartbeat_timeout => '10 min') \gset

-- A free resource is leased at once.
SELECT * FROM coord.lease_acquire('lease-key', :'ann', '10 min') \gset a_
SELECT resource_key, agent_id = :'ann' AS is_anns, task_id, state, ttl, auto_renew, ended_at,
	renewed_at = acquired_at AS not_renewed, expires_at - acquired_at AS lasts,
	clock_timestamp() - acquired_at BETWEEN '0 s' AND '10 s' AS just_now,
	substr(id::text, 15, 1) AS uuid_version
FROM coord.lease WHERE id = :'a_id';

-- Another agent gets no row.
SELECT agent_id FROM coord.lease_acquire('lease-key', :'bob');

-- Its holder renews it by asking again: the same lease, from now on.
SELECT id = :'a_id' AS same_id, fencing_token = :a_fencing_token AS same_token, ttl,
	acquired_at = :'a_acquired_at' AS same_grant, renewed_at > :'a_renewed_at' AS renewed,
	expires_at - renewed_at AS lasts, expires_at > :'a_expires_at' AS longer
FROM coord.lease_acquire('lease-key', :'ann', '20 min');

-- NULL for an argument that has a default is its default; the TTL's is a
-- setting.
SET coord.default_lease_ttl = '7 s';
SELECT ttl, auto_renew, expires_at - acquired_at AS lasts
FROM coord.lease_acquire('lease-null', :'ann', ttl => NULL, auto_renew => NULL, max_hold => NULL);
RESET coord.default_lease_ttl;
SELECT ttl FROM coord.lease_acquire('lease-null-2', :'ann');

-- TTLs count from the call, not from the transaction's start.
BEGIN;
CALL pg_temp.wait_for(now() + '20 ms');
SELECT acquired_at > now() + '20 ms' AS at_the_call FROM coord.lease_acquire('lease-call', :'ann');
COMMIT;

-- A renewal is by the lease's own TTL, or by another, from now.
SELECT id = :'a_id' AS same_id, fencing_token = :a_fencing_token AS same_token, state,
	expires_at - renewed_at AS lasts, acquired_at = :'a_acquired_at' AS same_grant
FROM coord.lease_renew(:'a_id');
SELECT expires_at - renewed_at AS lasts FROM coord.lease_renew(:'a_id', '5 min');
SELECT expires_at - renewed_at AS lasts FROM coord.lease_renew(:'a_id', ttl => '1 hour');

-- Released, it ends at once; ending it again is false.
SELECT coord.lease_release(:'a_id');
SELECT state, ended_at IS NOT NULL AS ended, ended_at < expires_at AS early FROM coord.lease WHERE resource_key = 'lease-key';
SELECT coord.lease_release(:'a_id');
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L)', :'a_id'));

-- The next holder has a new id and a higher token.
SELECT * FROM coord.lease_acquire('lease-key', :'bob', '10 min') \gset b_
SELECT :'b_id' <> :'a_id' AS new_id, :b_fencing_token > :a_fencing_token AS higher_token;
-- The old lease is over for good.
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L)', :'a_id'));
SELECT coord.lease_release(:'a_id');
SELECT state, agent_id = :'bob' AS is_bobs FROM coord.lease WHERE resource_key = 'lease-key';

-- The same agent, too, gets a new id and a higher token after a release.
SELECT coord.lease_release(:'b_id');
SELECT id <> :'b_id' AS new_id, fencing_token > :b_fencing_token AS higher_token
FROM coord.lease_acquire('lease-key', :'bob', '10 min');

-- Tokens grow over all resources, and over claims as well.
SELECT fencing_token AS t1 FROM coord.lease_acquire('lease-order-1', :'ann') \gset
SELECT id AS task FROM coord.task_create('t', queue => 'lease-order') \gset
SELECT fencing_token AS t2 FROM coord.task_claim(:'bob', 'lease-order') \gset
SELECT fencing_token AS t3 FROM coord.lease_acquire('lease-order-2', :'bob') \gset
SELECT :t1 < :t2 AS claim_after_lease, :t2 < :t3 AS lease_after_claim;

-- A lease that has run out is expired for whoever looks, from its expires_at
-- on.  The open transaction keeps the sweep away.
BEGIN;
SELECT * FROM coord.lease_acquire('lease-brief', :'ann', '100 ms') \gset c_
SELECT :'c_state' AS state_when_acquired;
CALL pg_temp.wait_for(:'c_expires_at');
SELECT state, ended_at - acquired_at AS lasted, ended_at = expires_at AS on_time FROM coord.lease WHERE id = :'c_id';
CALL pg_temp.attempt(format('SELECT coord.lease_renew(%L)', :'c_id'));
SELECT coord.lease_release(:'c_id');
-- Anybody acquires it again; so does the one that had it, as a new lease.
SELECT id <> :'c_id' AS new_id, fencing_token > :c_fencing_token AS higher_token, agent_id = :'bob' AS is_bobs
FROM coord.lease_acquire('lease-brief', :'bob', '10 min');
SELECT * FROM coord.lease_acquire('lease-brief-2', :'ann', '100 ms') \gset d_
CALL pg_temp.wait_for(:'d_expires_at');
SELECT id <> :'d_id' AS new_id, fencing_token > :d_fencing_token AS higher_token, acquired_at >= :'d_expires_at' AS afterwards
FROM coord.lease_acquire('lease-brief-2', :'ann', '10 min');
COMMIT;

-- Its end is told to its holder, once.
SELECT type, channel,
	(SELECT array_agg(key ORDER BY key) FROM jsonb_object_keys(payload) key) AS members,
	payload->>'resource_key' AS resource_key, payload->>'lease_id' = :'c_id' AS of_lease,
	payload->>'agent_id' = :'ann' AS of_agent, (payload->>'fencing_token')::bigint = :c_fencing_token AS of_token,
	(payload->>'expires_at')::timestamptz = :'c_expires_at' AS same_end
FROM coord.event_list(recipient_id => :'ann', type => 'lock.expired') WHERE payload->>'resource_key' = 'lease-brief';

-- So it is when nobody wants the resource: the sweep sees it.
SELECT * FROM coord.lease_acquire('lease-swept', :'ann', '100 ms') \gset e_
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload->>%L = %L)',
	'lock.expired', 'lease_id', :'e_id'));
SELECT state, ended_at = expires_at AS on_time, expires_at = :'e_expires_at' AS same_end FROM coord.lease WHERE id = :'e_id';
SELECT count(*) FROM coord.event_list(channel => 'coord.locks', max_events => 10000) WHERE payload->>'lease_id' = :'e_id';

-- A release is announced to nobody.
SELECT count(*) FROM coord.event_list(channel => 'coord.locks', max_events => 10000) WHERE payload->>'resource_key' = 'lease-key';

-- What is undone with its transaction has never been; but its token is not
-- given again.
BEGIN;
SELECT fencing_token AS undone_token FROM coord.lease_acquire('lease-undone', :'ann') \gset
ROLLBACK;
SELECT count(*) FROM coord.lease WHERE resource_key = 'lease-undone';
SELECT fencing_token > :undone_token AS higher_token FROM coord.lease_acquire('lease-undone', :'bob');
BEGIN;
SELECT id FROM coord.lease WHERE resource_key = 'lease-undone' \gset
SELECT coord.lease_release(:'id');
ROLLBACK;
SELECT state FROM coord.lease WHERE id = :'id';

-- lease_assert lets the holder's token pass, and no other.
SELECT * FROM coord.lease_acquire('lease-assert', :'ann', '10 min') \gset f_
SELECT coord.lease_assert('lease-assert', :f_fencing_token);
CALL pg_temp.attempt(format('SELECT coord.lease_assert(%L, %s)', 'lease-assert', :b_fencing_token));
CALL pg_temp.attempt(format('SELECT coord.lease_assert(%L, %s)', 'lease-never', :f_fencing_token));
SELECT coord.lease_release(:'f_id');
CALL pg_temp.attempt(format('SELECT coord.lease_assert(%L, %s)', 'lease-assert', :f_fencing_token));
BEGIN;
SELECT * FROM coord.lease_acquire('lease-assert', :'bob', '100 ms') \gset g_
CALL pg_temp.attempt(format('SELECT coord.lease_assert(%L, %s)', 'lease-assert', :f_fencing_token));
CALL pg_temp.wait_for(:'g_expires_at');
CALL pg_temp.attempt(format('SELECT coord.lease_assert(%L, %s)', 'lease-assert', :g_fencing_token));
COMMIT;

-- A lease that a claim took is its task's: it is renewed, but not released, by
-- its id, and asking for it again as an agent gives the same.
SELECT id AS task FROM coord.task_create('t', queue => 'lease-claim', resource_key => 'lease-claimed') \gset
SELECT fencing_token AS token, lease_id FROM coord.task_claim(:'ann', 'lease-claim', lease_ttl => '5 min') \gset
SELECT task_id = :'task' AS of_task, agent_id = :'ann' AS is_anns, state, fencing_token = :token AS of_claim, ttl
FROM coord.lease WHERE resource_key = 'lease-claimed';
SELECT state FROM coord.lease_renew(:'lease_id');
CALL pg_temp.attempt(format('SELECT coord.lease_release(%L)', :'lease_id'));
SELECT id = :'lease_id' AS same_id, fencing_token = :token AS same_token, task_id = :'task' AS of_task
FROM coord.lease_acquire('lease-claimed', :'ann', '5 min');
SELECT agent_id FROM coord.lease_acquire('lease-claimed', :'bob');
SELECT state FROM coord.task_complete(:'task', :token);
SELECT state FROM coord.lease WHERE id = :'lease_id';

-- The server renews a lease that wants it, at a third of its TTL, under the
-- same id and token.
SELECT * FROM coord.lease_acquire('lease-auto', :'ann', '6 s', auto_renew => true) \gset h_
CALL pg_temp.wait_until(format('(SELECT renewed_at > %L FROM coord.lease WHERE resource_key = %L)',
	:'h_expires_at', 'lease-auto'));
SELECT id = :'h_id' AS same_id, fencing_token = :h_fencing_token AS same_token, state, auto_renew,
	acquired_at = :'h_acquired_at' AS same_grant, expires_at - renewed_at AS lasts
FROM coord.lease WHERE resource_key = 'lease-auto';
SELECT agent_id FROM coord.lease_acquire('lease-auto', :'bob');

-- The server renews no longer when max_hold has passed since the grant: the
-- lease runs out by itself.
SELECT * FROM coord.lease_acquire('lease-hold', :'ann', '300 ms', auto_renew => true, max_hold => '450 ms') \gset i_
CALL pg_temp.wait_until(format('(SELECT state = %L FROM coord.lease WHERE resource_key = %L)', 'expired', 'lease-hold'));
SELECT id = :'i_id' AS same_id, renewed_at < acquired_at + '450 ms' AS renewed_in_time,
	ended_at = expires_at AS on_time, expires_at - renewed_at AS lasts
FROM coord.lease WHERE resource_key = 'lease-hold';

-- Nor when the agent is inactive.
SELECT id AS tom FROM coord.agent_register('lease-tom', heartbeat_timeout => '10 min') \gset
SELECT * FROM coord.lease_acquire('lease-tom', :'tom', '300 ms', auto_renew => true) \gset j_
SELECT last_heartbeat_at + heartbeat_timeout AS lapsed_at FROM coord.agent_register('lease-tom', heartbeat_timeout => '100 ms') \gset
CALL pg_temp.wait_until(format('(SELECT state = %L FROM coord.lease WHERE resource_key = %L)', 'expired', 'lease-tom'));
SELECT id = :'j_id' AS same_id, renewed_at < :'lapsed_at' AS renewed_in_time, ended_at = expires_at AS on_time
FROM coord.lease WHERE resource_key = 'lease-tom';
-- An expiry is told to an inactive agent as well.
CALL pg_temp.wait_until(format('EXISTS (SELECT FROM coord.event WHERE type = %L AND payload->>%L = %L)',
	'lock.expired', 'lease_id', :'j_id'));
SELECT type FROM coord.event_list(recipient_id => :'tom');
