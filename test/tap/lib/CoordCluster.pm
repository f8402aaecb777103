# PostgreSQL::Test::Cluster nodes that have coord preloaded from where the
# harness staged it (see test/harness/cluster-session).

package CoordCluster;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

# new_node($name, %params): a new node, initialised (init() gets %params) and
# configured, not started.
sub new_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(%params);
	$node->append_conf('postgresql.conf', slurp_file($ENV{COORD_CONF}));
	return $node;
}

# new_cron_node($name, $database, $preload): the same, with pg_cron, which keeps its jobs in that database.
sub new_cron_node
{
	my ($name, $database, $preload) = @_;
	my $node = new_node($name);

	$node->append_conf('postgresql.conf', join("\n", "shared_preload_libraries = '$preload'", "cron.database_name = '$database'",
		"cron.host = '" . $node->host . "'", "cron.log_min_messages = error", ''));
	return $node;
}

# cron_knows_seconds($node, $database): whether pg_cron's schedules can be of seconds.
sub cron_knows_seconds
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, q{SELECT string_to_array(substring(extversion, '^[0-9.]+'), '.')::int[] >= '{1,5}' FROM pg_extension WHERE extname = 'pg_cron'}) eq 't';
}

# has_worker($node, $db): waits until the database has a worker.
sub has_worker
{
	my ($node, $db) = @_;

	return $node->poll_query_until($db, 'SELECT pid IS NOT NULL FROM coord.worker');
}

# wait_event($node, $name): what pg_stat_activity calls a wait of coord's that has a name.
sub wait_event
{
	my ($node, $name) = @_;

	return $node->pg_version >= 17 ? $name : 'Extension';
}

# stop_worker($node, $db): stops the database's worker where it sleeps, in no transaction and with
# no lock; returns its pid.
sub stop_worker
{
	my ($node, $db) = @_;
	my $pid = $node->safe_psql($db, 'SELECT pid FROM coord.worker');
	my $sleeps = "SELECT wait_event_type = 'Extension' AND xact_start IS NULL FROM pg_stat_activity WHERE pid = $pid";

	for (;;)
	{
		$node->poll_query_until($db, $sleeps);
		kill 'STOP', $pid;
		last if $node->safe_psql($db, $sleeps) eq 't';
		kill 'CONT', $pid;
	}
	return $pid;
}

# session_of($node, $role): a session of a role's.
sub session_of
{
	my ($node, $role) = @_;

	local $ENV{PGUSER} = $role;
	return $node->background_psql('postgres');
}

# slowness(): how many times as long as by Debian's server what takes time may take by this one
# (see test/harness/on-server).
sub slowness
{
	return $ENV{COORD_SLOWNESS} // 1;
}

# seconds($n): an interval of so many seconds, within which a few calls are made; longer for a
# slow server.
sub seconds
{
	my ($n) = @_;

	return $n * slowness() . ' s';
}

# short_lease($node, $db, $ttl, $key): a lease that will run out; returns its id.
sub short_lease
{
	my ($node, $db, $ttl, $key) = @_;

	$ttl = '100 ms' unless defined $ttl;
	$key = defined $key ? "'$key'" : "'short ' || clock_timestamp()";
	return $node->safe_psql($db, qq{
		SELECT l.id FROM coord.agent_register('alive', heartbeat_timeout => '1 h') a,
			LATERAL coord.lease_acquire($key, a.id, '$ttl') l});
}

# announced($node, $db, $lease): waits until the lease's end has been announced,
# which is to be once.
sub announced
{
	my ($node, $db, $lease) = @_;

	return $node->poll_query_until($db, qq{
		SELECT count(*) = 1 FROM coord.event
		WHERE position IS NOT NULL AND type = 'lock.expired' AND payload ->> 'lease_id' = '$lease'});
}

# works($node, $db): the database's worker does its work.
sub works
{
	my ($node, $db) = @_;

	return announced($node, $db, short_lease($node, $db));
}

# fill($node, $db): something of each kind in a database that has the extension,
# nothing of which runs out soon.  Events get their positions, by a worker or not.
sub fill
{
	my ($node, $db) = @_;

	$node->safe_psql($db, q{
		SELECT coord.agent_register('keeper', heartbeat_timeout => '1 h', metadata => '{"a": 1}');
		SELECT coord.agent_retire(id) FROM coord.agent_register('retired');
		SELECT coord.queue_set('limited', max_claimed => 2, backoff_base => '7 s');
		SELECT coord.lease_acquire('held', id, '1 h') FROM coord.agent WHERE name = 'keeper';
		SELECT coord.lease_release(l.id) FROM coord.agent a, coord.lease_acquire('released', a.id) l WHERE name = 'keeper';
		SELECT coord.task_create('claimed', queue => 'limited', resource_key => 'resource');
		SELECT coord.task_claim(id, 'limited', lease_ttl => '1 h') FROM coord.agent WHERE name = 'keeper';
		SELECT coord.task_create('pending', unique_key => 'u', run_at => now() + interval '1 day');
		SELECT coord.task_create('blocked', depends_on => ARRAY(SELECT id FROM coord.task WHERE type = 'claimed'));
		SELECT coord.task_create('dead', queue => 'd', max_attempts => 1);
		SELECT coord.task_fail(t.id, t.fencing_token, 'broken') FROM coord.agent a, coord.task_claim(a.id, 'd') t WHERE name = 'keeper';
		SELECT coord.task_create('done', queue => 'd');
		SELECT coord.task_complete(t.id, t.fencing_token, '{"ok": true}') FROM coord.agent a, coord.task_claim(a.id, 'd') t WHERE name = 'keeper';
		SELECT coord.event_send('sent', to_jsonb(g), channel => 'c') FROM generate_series(1, 10) g;
		-- writes the heartbeat, which is only noted in memory otherwise
		SELECT coord.agent_register('keeper', heartbeat_timeout => '1 h', metadata => '{"a": 1}')});
	return $node->poll_query_until($db, 'SELECT coord.sweep() IS NOT NULL AND NOT EXISTS (SELECT FROM coord.event WHERE position IS NULL)');
}

# rows($node, $db): all that users read there, but for what is measured or runs.
sub rows
{
	my ($node, $db) = @_;

	return $node->safe_psql($db,
		join(' UNION ALL ', map { "SELECT '$_', r::text FROM coord.$_ r" } qw(agent lease task dead_letter event))
		. q{ UNION ALL SELECT 'queue', (r.name, r.max_claimed, r.backoff_base, r.pending, r.claimed, r.dead)::text FROM coord.queue r ORDER BY 1, 2});
}

# catalog($node, $db): all that the extension consists of there, a line each.
sub catalog
{
	my ($node, $db) = @_;

	return split /\n/, $node->safe_psql($db, q{
		WITH member AS (
			SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid
			WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'coord'
		), relation AS (
			SELECT c.* FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
		), line (line) AS (
			SELECT concat_ws(' ', (pg_identify_object(classid, objid, 0)).type, (pg_identify_object(classid, objid, 0)).identity,
				'comment', obj_description(objid, classid::regclass::name)) FROM member
			UNION ALL
			SELECT concat_ws(' ', 'relation', oid::regclass, relkind, relpersistence, relreplident, pg_get_userbyid(relowner), relacl, reloptions,
				pg_get_expr(relpartbound, oid), pg_get_partkeydef(oid), CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) END) FROM relation
			UNION ALL
			SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod), attcollation::regcollation,
				attnotnull, attstorage, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
			FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
			WHERE attnum > 0
			UNION ALL
			SELECT concat_ws(' ', 'index', indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid, indisprimary, inhparent::regclass)
			FROM relation r JOIN pg_index i ON i.indrelid = r.oid LEFT JOIN pg_inherits ON inhrelid = indexrelid
			UNION ALL
			SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(k.oid))
			FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid WHERE contype <> 'n'	-- NOT NULL: the columns say so
			UNION ALL
			SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid)) FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid
			UNION ALL
			SELECT concat_ws(' ', 'function', pg_get_functiondef(p.oid), pg_get_userbyid(proowner), proacl)
			FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
			UNION ALL
			SELECT concat_ws(' ', 'extension', extversion, nspname, extrelocatable) FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace
			WHERE extname = 'coord'
			UNION ALL
			SELECT concat_ws(' ', 'dumped', c.oid::regclass, c.condition)
			FROM pg_extension e, unnest(e.extconfig, e.extcondition) c (oid, condition) WHERE extname = 'coord'
		)
		SELECT regexp_replace(line, '\\n', ' ', 'g') FROM line ORDER BY 1});
}

# last_token($node, $db): the greatest fencing token that was given.
sub last_token
{
	my ($node, $db) = @_;

	return $node->safe_psql($db, q{
		SELECT greatest((SELECT max(fencing_token) FROM coord.lease), (SELECT max(fencing_token) FROM coord.task))});
}

# logged($node, $pattern, $offset): the lines of the server's log that match, since
# the log had the length $offset.
sub logged
{
	my ($node, $pattern, $offset) = @_;

	return grep { /$pattern/ } split /\n/, slurp_file($node->logfile, $offset);
}

# has_postgres($node): the superuser of a node is named as who runs the test; now one is named postgres.
sub has_postgres
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{DO $$ BEGIN
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres') THEN
			CREATE ROLE postgres SUPERUSER LOGIN;
		END IF; END $$});
	return;
}

# pages($node, $query): the pages that a query looks at, once the session's caches are filled.
sub pages
{
	my ($node, $query) = @_;
	my $plan = $node->safe_psql('postgres',
		"$query; EXPLAIN (ANALYZE, BUFFERS, COSTS off, TIMING off, SUMMARY off) $query");

	$plan =~ /^ *Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?/m or die $plan;
	return ($1 // 0) + ($2 // 0);
}

1;
