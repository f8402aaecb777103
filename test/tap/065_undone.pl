# What was undone by an error is not taken for done: dependency checks whose batches could
# not be committed are looked at again, and an agent whose attachment has failed can be
# attached.  test/tap/failing_query.c lets a query fail.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $place = PostgreSQL::Test::Utils::tempdir_short();
my $library = "$place/failing_query.so";
my $include = `pg_config --includedir-server`;
chomp $include;
my $cc = $ENV{CC} || 'cc';
system("$cc -O1 -shared -fPIC -isystem $include -o $library $FindBin::RealBin/failing_query.c") == 0 or plan skip_all => 'no compiler';

my $node = CoordCluster::new_node('undone');
$node->append_conf('postgresql.conf', "shared_preload_libraries = '$library, coord'\ncoord.max_attached_agents = 1");
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }
sql('CREATE EXTENSION coord');
ok(CoordCluster::has_worker($node, 'postgres'), 'there is a worker');

# ---- batches of checks that cannot be committed

# so many batches in a row that no row is blamed any more, and more checks than are in them
sql(q{
	CREATE SEQUENCE failures;
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF nextval('public.failures') <= 4 THEN
			RAISE EXCEPTION 'the batch is made to fail';
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER fail AFTER DELETE ON coord.dependency_check DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION fail();
	SELECT coord.task_create('first');
	SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object('type', 'next', 'depends_on', jsonb_build_array(t.id)))
		FROM coord.task t, generate_series(1, 4100)))});
ok($node->poll_query_until('postgres', 'SELECT errors >= 4 FROM coord.worker'), 'batches of checks fail');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM coord.dependency_check)'), 'all checks are done in the end');
cmp_ok(sql('SELECT last_value FROM failures'), '>=', 4100, 'each of them by a commit');

# ---- an attachment that fails

# the place of an agent that has been retired is given up when another needs it, which asks for its last heartbeat
my ($old, $new) = map { sql("SELECT id FROM coord.agent_register('$_')") } 'old', 'new';
sql(q{INSERT INTO coord.agent_beat VALUES (gen_random_uuid(), clock_timestamp())});
my $session = $node->background_psql('postgres');
$session->query_safe("SELECT coord.agent_attach('$old')");
sql("SELECT coord.agent_retire('$old')");
$session->query_safe("SET failing_query.text = 'FROM coord.agent_beat WHERE agent_id = '; SET failing_query.id = '$old'");
is($session->query_safe(qq{
	CREATE TEMP TABLE met (message text);
	DO \$\$ BEGIN
		PERFORM coord.agent_attach('$new');
	EXCEPTION WHEN OTHERS THEN
		INSERT INTO met VALUES (SQLERRM);
	END \$\$;
	SELECT message FROM met}), 'the query is made to fail', 'an attachment fails');
$session->query_safe("RESET failing_query.text; SELECT coord.agent_attach('$new')");
is(sql("SELECT attachment > 0 FROM coord.agent_data WHERE id = '$new'"), 't', 'the next one does not');
is(sql("SELECT status FROM coord.agent WHERE id = '$new'"), 'active', 'and the agent is active');
$session->quit;
ok($node->poll_query_until('postgres', "SELECT status = 'inactive' FROM coord.agent WHERE id = '$new'"), 'until the session ends');
$node->stop('fast');

done_testing();
