-- The schema is the contract's: its relations with their columns in order, its
-- functions with their argument names, defaults and results, its settings.
BEGIN;
SELECT plan(126);

-- The columns of a relation, as the contract writes them.
CREATE FUNCTION pg_temp.columns(relation text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(attname || ' ' || replace(format_type(atttypid, atttypmod), 'timestamp with time zone', 'timestamptz'),
		', ' ORDER BY attnum)
	FROM pg_attribute
	WHERE attrelid = ('coord.' || quote_ident(relation))::regclass AND attnum > 0 AND NOT attisdropped
$$;

-- The arguments of a function, likewise.
CREATE FUNCTION pg_temp.arguments(function text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(replace(pg_get_function_arguments(oid), 'timestamp with time zone', 'timestamptz'),
		' DEFAULT ([^,]*?)(::[a-z\[\]]+)?(?=,|$)', ' = \1', 'g')
	FROM pg_proc WHERE pronamespace = 'coord'::regnamespace AND proname = function
$$;
CREATE FUNCTION pg_temp.result(function text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_get_function_result(oid) FROM pg_proc WHERE pronamespace = 'coord'::regnamespace AND proname = function
$$;

-- Columns may be added at the end, so only the beginning is looked at.

SELECT has_view('coord', 'agent', 'coord.agent is there');
SELECT is(left(pg_temp.columns('agent'), 184),
	'id uuid, name text, type text, status text, owner name, metadata jsonb, heartbeat_timeout interval, '
	'last_heartbeat_at timestamptz, registered_at timestamptz, inactive_since timestamptz',
	'coord.agent has its columns');
SELECT has_view('coord', 'lease', 'coord.lease is there');
SELECT is(left(pg_temp.columns('lease'), 218),
	'id uuid, resource_key text, agent_id uuid, task_id uuid, state text, fencing_token bigint, ttl '
	'interval, auto_renew boolean, acquired_at timestamptz, renewed_at timestamptz, expires_at '
	'timestamptz, ended_at timestamptz',
	'coord.lease has its columns');
SELECT has_view('coord', 'task', 'coord.task is there');
SELECT is(left(pg_temp.columns('task'), 387),
	'id uuid, queue text, type text, payload jsonb, priority integer, state text, run_at timestamptz, '
	'attempts integer, max_attempts integer, agent_id uuid, lease_id uuid, fencing_token bigint, '
	'lease_expires_at timestamptz, resource_key text, unique_key text, depends_on uuid[], progress jsonb, '
	'result jsonb, error text, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz',
	'coord.task has its columns');
SELECT has_view('coord', 'dead_letter', 'coord.dead_letter is there');
SELECT is(left(pg_temp.columns('dead_letter'), 387),
	'id uuid, queue text, type text, payload jsonb, priority integer, state text, run_at timestamptz, '
	'attempts integer, max_attempts integer, agent_id uuid, lease_id uuid, fencing_token bigint, '
	'lease_expires_at timestamptz, resource_key text, unique_key text, depends_on uuid[], progress jsonb, '
	'result jsonb, error text, created_at timestamptz, claimed_at timestamptz, finished_at timestamptz',
	'coord.dead_letter has its columns');
SELECT has_view('coord', 'event', 'coord.event is there');
SELECT is(left(pg_temp.columns('event'), 138),
	'id uuid, position bigint, type text, severity text, sender_id uuid, recipient_id uuid, channel text, '
	'payload jsonb, created_at timestamptz',
	'coord.event has its columns');
SELECT has_view('coord', 'queue', 'coord.queue is there');
SELECT is(left(pg_temp.columns('queue'), 261),
	'name text, paused boolean, max_attempts integer, lease_ttl interval, backoff_base interval, '
	'backoff_max interval, max_claimed integer, retention interval, pending bigint, scheduled bigint, '
	'blocked bigint, claimed bigint, dead bigint, oldest_pending_age interval',
	'coord.queue has its columns');
SELECT has_view('coord', 'worker', 'coord.worker is there');
SELECT is(left(pg_temp.columns('worker'), 249),
	'pid integer, database name, started_at timestamptz, last_wakeup_at timestamptz, next_deadline_at '
	'timestamptz, leases_expired bigint, agents_expired bigint, tasks_requeued bigint, leases_renewed '
	'bigint, events_delivered bigint, sweep_lag_max interval',
	'coord.worker has its columns');
SELECT is(count(*)::int, 1, 'coord.worker has one row') FROM coord.worker;

SELECT is(pg_temp.arguments('agent_register'),
	'name text, type text = ''worker'', heartbeat_timeout interval = NULL, metadata jsonb = ''{}'', id uuid = '
	'NULL',
	'agent_register has its arguments');
SELECT is(pg_temp.result('agent_register'), 'coord.agent', 'agent_register has its result');
SELECT is(pg_temp.arguments('agent_heartbeat'),
	'agent_id uuid',
	'agent_heartbeat has its arguments');
SELECT is(pg_temp.result('agent_heartbeat'), 'coord.agent', 'agent_heartbeat has its result');
SELECT is(pg_temp.arguments('agent_attach'), 'agent_id uuid', 'agent_attach has its arguments');
SELECT is(pg_temp.result('agent_attach'), 'coord.agent', 'agent_attach has its result');
SELECT is(pg_temp.arguments('queue_listen'), 'queue text = ''default''', 'queue_listen has its arguments');
SELECT is(pg_temp.result('queue_listen'), 'text', 'queue_listen has its result');
SELECT is(pg_temp.arguments('queue_wait'), 'IN queue text = ''default'', IN timeout interval = ''00:00:30''', 'queue_wait has its arguments');
SELECT is(pg_temp.result('queue_wait'), NULL, 'queue_wait has no result');
SELECT is(prokind, 'p', 'queue_wait is a procedure') FROM pg_proc WHERE oid = 'coord.queue_wait'::regproc;
SELECT is(pg_temp.arguments('agent_retire'),
	'agent_id uuid',
	'agent_retire has its arguments');
SELECT is(pg_temp.result('agent_retire'), 'coord.agent', 'agent_retire has its result');
SELECT is(pg_temp.arguments('agent_list'),
	'status text = NULL, type text = NULL, name text = NULL, agent_id uuid = NULL, after uuid = NULL, '
	'"limit" integer = 100',
	'agent_list has its arguments');
SELECT is(pg_temp.result('agent_list'), 'SETOF coord.agent', 'agent_list has its result');
SELECT is(pg_temp.arguments('lease_acquire'),
	'resource_key text, agent_id uuid, ttl interval = NULL, auto_renew boolean = false, wait interval = '
	'''00:00:00'', max_hold interval = NULL',
	'lease_acquire has its arguments');
SELECT is(pg_temp.result('lease_acquire'), 'SETOF coord.lease', 'lease_acquire has its result');
SELECT is(pg_temp.arguments('lease_renew'),
	'lease_id uuid, ttl interval = NULL',
	'lease_renew has its arguments');
SELECT is(pg_temp.result('lease_renew'), 'coord.lease', 'lease_renew has its result');
SELECT is(pg_temp.arguments('lease_release'),
	'lease_id uuid',
	'lease_release has its arguments');
SELECT is(pg_temp.result('lease_release'), 'boolean', 'lease_release has its result');
SELECT is(pg_temp.arguments('lease_assert'),
	'resource_key text, fencing_token bigint',
	'lease_assert has its arguments');
SELECT is(pg_temp.result('lease_assert'), 'void', 'lease_assert has its result');
SELECT is(pg_temp.arguments('lease_list'),
	'resource_key text = NULL, agent_id uuid = NULL, state text = NULL, after text = NULL, "limit" '
	'integer = 100',
	'lease_list has its arguments');
SELECT is(pg_temp.result('lease_list'), 'SETOF coord.lease', 'lease_list has its result');
SELECT is(pg_temp.arguments('task_create'),
	'type text, payload jsonb = ''{}'', queue text = ''default'', priority integer = 0, run_at timestamptz = '
	'NULL, max_attempts integer = NULL, unique_key text = NULL, depends_on uuid[] = NULL, resource_key '
	'text = NULL, id uuid = NULL',
	'task_create has its arguments');
SELECT is(pg_temp.result('task_create'), 'coord.task', 'task_create has its result');
SELECT is(pg_temp.arguments('task_create_many'),
	'tasks jsonb',
	'task_create_many has its arguments');
SELECT is(pg_temp.result('task_create_many'), 'SETOF uuid', 'task_create_many has its result');
SELECT is(pg_temp.arguments('task_claim'),
	'agent_id uuid, queue text = ''default'', task_id uuid = NULL, resource_key text = NULL, lease_ttl '
	'interval = NULL, max_tasks integer = 1',
	'task_claim has its arguments');
SELECT is(pg_temp.result('task_claim'), 'SETOF coord.task', 'task_claim has its result');
SELECT is(pg_temp.arguments('task_renew'),
	'task_id uuid, fencing_token bigint, lease_ttl interval = NULL, progress jsonb = NULL',
	'task_renew has its arguments');
SELECT is(pg_temp.result('task_renew'), 'coord.task', 'task_renew has its result');
SELECT is(pg_temp.arguments('task_complete'),
	'task_id uuid, fencing_token bigint, result jsonb = NULL',
	'task_complete has its arguments');
SELECT is(pg_temp.result('task_complete'), 'coord.task', 'task_complete has its result');
SELECT is(pg_temp.arguments('task_complete_many'), 'tasks jsonb', 'task_complete_many has its arguments');
SELECT is(pg_temp.result('task_complete_many'), 'SETOF coord.task', 'task_complete_many has its result');
SELECT is(pg_temp.arguments('task_fail'),
	'task_id uuid, fencing_token bigint, error text = NULL, retry_in interval = NULL',
	'task_fail has its arguments');
SELECT is(pg_temp.result('task_fail'), 'coord.task', 'task_fail has its result');
SELECT is(pg_temp.arguments('task_release'),
	'task_id uuid, fencing_token bigint',
	'task_release has its arguments');
SELECT is(pg_temp.result('task_release'), 'coord.task', 'task_release has its result');
SELECT is(pg_temp.arguments('task_cancel'),
	'task_id uuid',
	'task_cancel has its arguments');
SELECT is(pg_temp.result('task_cancel'), 'coord.task', 'task_cancel has its result');
SELECT is(pg_temp.arguments('task_redrive'),
	'task_id uuid = NULL, queue text = NULL',
	'task_redrive has its arguments');
SELECT is(pg_temp.result('task_redrive'), 'bigint', 'task_redrive has its result');
SELECT is(pg_temp.arguments('task_list'),
	'queue text = NULL, state text = NULL, type text = NULL, agent_id uuid = NULL, resource_key text = NULL, '
	'task_id uuid = NULL, after uuid = NULL, "limit" integer = 100',
	'task_list has its arguments');
SELECT is(pg_temp.result('task_list'), 'SETOF coord.task', 'task_list has its result');
SELECT is(pg_temp.arguments('task_schedule'),
	'name text, schedule text, type text, payload jsonb = ''{}'', queue text = ''default'', priority integer = 0, '
	'max_attempts integer = NULL, resource_key text = NULL, overlap boolean = false',
	'task_schedule has its arguments');
SELECT is(pg_temp.result('task_schedule'), 'bigint', 'task_schedule has its result');
SELECT is(pg_temp.arguments('task_unschedule'), 'name text', 'task_unschedule has its arguments');
SELECT is(pg_temp.result('task_unschedule'), 'boolean', 'task_unschedule has its result');
SELECT is(pg_temp.arguments('queue_set'),
	'name text, paused boolean = NULL, max_attempts integer = NULL, lease_ttl interval = NULL, '
	'backoff_base interval = NULL, backoff_max interval = NULL, max_claimed integer = NULL, retention '
	'interval = NULL',
	'queue_set has its arguments');
SELECT is(pg_temp.result('queue_set'), 'coord.queue', 'queue_set has its result');
SELECT is(pg_temp.arguments('queue_pause'),
	'name text',
	'queue_pause has its arguments');
SELECT is(pg_temp.result('queue_pause'), 'coord.queue', 'queue_pause has its result');
SELECT is(pg_temp.arguments('queue_resume'),
	'name text',
	'queue_resume has its arguments');
SELECT is(pg_temp.result('queue_resume'), 'coord.queue', 'queue_resume has its result');
SELECT is(pg_temp.arguments('queue_list'),
	'name text = NULL, paused boolean = NULL, after text = NULL, "limit" integer = 100',
	'queue_list has its arguments');
SELECT is(pg_temp.result('queue_list'), 'SETOF coord.queue', 'queue_list has its result');
SELECT is(pg_temp.arguments('event_send'),
	'type text, payload jsonb = ''{}'', recipient_id uuid = NULL, channel text = NULL, severity text = '
	'''info'', sender_id uuid = NULL',
	'event_send has its arguments');
SELECT is(pg_temp.result('event_send'), 'coord.event', 'event_send has its result');
SELECT is(pg_temp.arguments('event_listen'),
	'recipient_id uuid = NULL, channel text = NULL',
	'event_listen has its arguments');
SELECT is(pg_temp.result('event_listen'), 'text', 'event_listen has its result');
SELECT is(pg_temp.arguments('event_unlisten'),
	'recipient_id uuid = NULL, channel text = NULL',
	'event_unlisten has its arguments');
SELECT is(pg_temp.result('event_unlisten'), 'text', 'event_unlisten has its result');
SELECT is(pg_temp.arguments('listen_name'),
	'recipient_id uuid = NULL, channel text = NULL',
	'listen_name has its arguments');
SELECT is(pg_temp.result('listen_name'), 'text', 'listen_name has its result');
SELECT is(pg_temp.arguments('event_list'),
	'recipient_id uuid = NULL, channel text = NULL, type text = NULL, after bigint = NULL, max_events '
	'integer = 100',
	'event_list has its arguments');
SELECT is(pg_temp.result('event_list'), 'SETOF coord.event', 'event_list has its result');
SELECT is(pg_temp.arguments('event_subscribe'), 'agent_id uuid, channel text', 'event_subscribe has its arguments');
SELECT is(pg_temp.result('event_subscribe'), 'boolean', 'event_subscribe has its result');
SELECT is(pg_temp.arguments('event_unsubscribe'), 'agent_id uuid, channel text', 'event_unsubscribe has its arguments');
SELECT is(pg_temp.result('event_unsubscribe'), 'boolean', 'event_unsubscribe has its result');
SELECT is(pg_temp.arguments('event_poll'), 'agent_id uuid, max_events integer = 100', 'event_poll has its arguments');
SELECT is(pg_temp.result('event_poll'), 'SETOF coord.event', 'event_poll has its result');
SELECT is(pg_temp.arguments('event_ack'), 'agent_id uuid, "position" bigint', 'event_ack has its arguments');
SELECT is(pg_temp.result('event_ack'), 'bigint', 'event_ack has its result');
SELECT is(pg_temp.arguments('inbox'), 'agent_id uuid, ack bigint = NULL, max_events integer = 20', 'inbox has its arguments');
SELECT is(pg_temp.result('inbox'), 'SETOF coord.event', 'inbox has its result');
SELECT is(pg_temp.arguments('queue_stats'), 'name text = NULL, since timestamptz = NULL', 'queue_stats has its arguments');
SELECT is(pg_temp.result('queue_stats'), 'SETOF coord.queue_stat', 'queue_stats has its result');
SELECT is(pg_temp.arguments('blocked_by'), 'task_id uuid', 'blocked_by has its arguments');
SELECT is(pg_temp.result('blocked_by'), 'text', 'blocked_by has its result');
SELECT is(pg_temp.arguments('history'), 'task_id uuid', 'history has its arguments');
SELECT is(pg_temp.result('history'), 'SETOF coord.history_entry', 'history has its result');
SELECT is(pg_temp.arguments('cron_install'),
	'sweep_schedule text = NULL, purge_schedule text = NULL',
	'cron_install has its arguments');
SELECT is(pg_temp.result('cron_install'), 'jsonb', 'cron_install has its result');
SELECT is(pg_temp.arguments('cron_remove'), '', 'cron_remove has its arguments');
SELECT is(pg_temp.result('cron_remove'), 'integer', 'cron_remove has its result');
SELECT is(pg_temp.arguments('dashboard'), '', 'dashboard has no arguments');
SELECT is(pg_temp.result('dashboard'), 'text', 'dashboard has its result');
SELECT is(pg_temp.arguments('purge'),
	'older_than interval = NULL',
	'purge has its arguments');
SELECT is(pg_temp.result('purge'), 'jsonb', 'purge has its result');
SELECT is(pg_temp.arguments('sweep'),
	'',
	'sweep has its arguments');
SELECT is(pg_temp.result('sweep'), 'jsonb', 'sweep has its result');
SELECT is(pg_temp.arguments('grant_agent'),
	'role name, queue text = NULL, can_create boolean = true, can_claim boolean = true',
	'grant_agent has its arguments');
SELECT is(pg_temp.result('grant_agent'), 'void', 'grant_agent has its result');
SELECT is(pg_temp.arguments('grant_monitor'),
	'role name, payloads boolean = false',
	'grant_monitor has its arguments');
SELECT is(pg_temp.result('grant_monitor'), 'void', 'grant_monitor has its result');
SELECT is(pg_temp.arguments('revoke_all'),
	'role name',
	'revoke_all has its arguments');
SELECT is(pg_temp.result('revoke_all'), 'void', 'revoke_all has its result');
SELECT is(pg_temp.arguments('version'),
	'',
	'version has its arguments');
SELECT is(pg_temp.result('version'), 'text', 'version has its result');

-- Settings have their defaults.
SELECT is(current_setting('coord.default_lease_ttl')::interval, '30 s', 'coord.default_lease_ttl has its default');
SELECT is(current_setting('coord.min_lease_ttl')::interval, '100 ms', 'coord.min_lease_ttl has its default');
SELECT is(current_setting('coord.max_lease_ttl')::interval, '24 h', 'coord.max_lease_ttl has its default');
SELECT is(current_setting('coord.heartbeat_timeout')::interval, '30 s', 'coord.heartbeat_timeout has its default');
SELECT is(current_setting('coord.event_retention')::interval, '7 days', 'coord.event_retention has its default');
SELECT is(current_setting('coord.task_retention')::interval, '7 days', 'coord.task_retention has its default');
SELECT is(current_setting('coord.agent_retention')::interval, '7 days', 'coord.agent_retention has its default');

SELECT is(coord.version(), (SELECT extversion FROM pg_extension WHERE extname = 'coord'), 'the library is of the version of the extension');

SELECT * FROM finish();
ROLLBACK;
