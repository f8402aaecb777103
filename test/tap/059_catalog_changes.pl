# What coord tells from the catalog stays whole while the catalog changes beneath it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use CoordCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CoordCluster::new_node('catalog');
$node->append_conf('postgresql.conf', "log_statement = none\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coord;
	CREATE ROLE reader;
	CREATE TABLE is_over ();

	-- each makes all sessions forget what they know of the relation and of its rows' type
	CREATE PROCEDURE changes() LANGUAGE plpgsql AS $$
	DECLARE
		relation regclass;
	BEGIN
		WHILE NOT EXISTS (SELECT FROM is_over) LOOP
			FOR relation IN SELECT oid FROM pg_class WHERE relnamespace = 'coord'::regnamespace AND relkind = 'v' LOOP
				EXECUTE format('GRANT SELECT ON %s TO reader', relation);
				COMMIT;
				EXECUTE format('REVOKE SELECT ON %s FROM reader', relation);
				COMMIT;
			END LOOP;
		END LOOP;
	END $$;

	CREATE FUNCTION told(OUT tools text, OUT called text) LANGUAGE sql AS $$
		SELECT coord.mcp('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}')::text,
			coord.rpc('{"jsonrpc": "2.0", "id": 1, "method": "queue.list"}')::text
	$$;

	CREATE PROCEDURE lists(until timestamptz, INOUT times integer = 0, INOUT answers jsonb = '{}') LANGUAGE plpgsql AS $$
	DECLARE
		once record;
	BEGIN
		WHILE clock_timestamp() < until OR times < 30 LOOP
			once := told();
			answers := answers || jsonb_build_object(md5(once.tools), 'tools', md5(once.called), 'called');
			times := times + 1;
			COMMIT;
		END LOOP;
	END $$});

my $errors = '';
my $changes = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'CALL changes()' ], '>&', \$errors);
my ($times, $answers) = split /\|/, $node->safe_psql('postgres', "CALL lists(clock_timestamp() + interval '3 s')");
$node->safe_psql('postgres', 'INSERT INTO is_over DEFAULT VALUES');
$changes->finish;
is($errors, '', 'the catalog changed all the while');
cmp_ok($times, '>=', 30, 'tools/list was asked for again and again');
is($node->safe_psql('postgres', "SELECT string_agg(value, ' ' ORDER BY value) FROM jsonb_each_text('$answers')"), 'called tools',
	'each time it was the same');

$node->stop('fast');
done_testing();
