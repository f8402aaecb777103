#!/usr/bin/env bash
#
# The ten steps in a shell script, by psql.
#
#   examples/clients/ten_steps.sh [conninfo [conninfo for LISTEN]]
#
# Each psql gets a script and reads values into variables of its own (\gset), which go into
# queries quoted, as :'name'.  A psql of its own listens: psql tells of notifications only
# after a query.  psql prepares nothing, so any pooler will do.

set -euo pipefail

conninfo=${1:-}
name="ten steps $(cat /proc/sys/kernel/random/uuid)" # of the agent, its queue, a resource, a channel
value='{"deep": {"er": "\"\\"}, "name": "Zoë ☃", "parts": [1, 2.5, null, true]}'

# run [option]...: a script, as psql reads it from stdin; it ends at the first error.
run()
{
	PGCLIENTENCODING=UTF8 psql -XAtq -v ON_ERROR_STOP=1 -v name="$name" -v value="$value" "$@"
}

# In messages of ours, what a boolean says.
given()
{
	echo "CASE WHEN $1 = :'value'::jsonb THEN 'as given' ELSE 'not as given (' || $1::text || ')' END"
}

run -d "$conninfo" <<END
SELECT * FROM coord.agent_register(:'name', heartbeat_timeout => '1 hour 30 minutes 250 milliseconds', metadata => :'value') \gset
SELECT format('1 agent_register: %s, timeout %s s, metadata %s', :'status',
	trim_scale(extract(epoch FROM interval :'heartbeat_timeout')), $(given ":'metadata'::jsonb"));

SELECT gen_random_uuid() AS given_id, :'id' AS me \gset
SELECT * FROM coord.task_create('resize', :'value', queue => :'name', run_at => '2024-02-29 12:34:56.789012+02', id => :'given_id') \gset
SELECT format('2 task_create: %s, id %s, run_at %s UTC, payload %s', :'state',
	CASE WHEN :'id' = :'given_id' THEN 'as given' ELSE :'id' END,
	to_char(timestamptz :'run_at' AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), $(given ":'payload'::jsonb"));

SELECT * FROM coord.task_claim(:'me', :'name', lease_ttl => '1 minute') \gset
SELECT format('3 task_claim: %s, attempt %s, token %s', :'state', :'attempts',
	CASE WHEN fencing_token > 2::numeric ^ 53 AND fencing_token::text = :'fencing_token' THEN 'past 2^53 and exact' ELSE 'rounded' END)
FROM coord.task WHERE id = :'id';

\set claimed_until :lease_expires_at
SELECT * FROM coord.task_renew(:'id', :fencing_token, '2 minutes', progress => :'value') \gset
SELECT format('4 task_renew: %s, progress %s, until %s than before', :'state', $(given ":'progress'::jsonb"),
	CASE WHEN timestamptz :'lease_expires_at' > :'claimed_until' THEN 'later' ELSE 'no later' END);

SELECT * FROM coord.task_complete(:'id', :fencing_token, :'value') \gset
SELECT state AS again FROM coord.task_complete(:'id', :fencing_token, :'value') \gset
SELECT format('5 task_complete: %s, result %s; again: %s', :'state', $(given ":'result'::jsonb"), :'again');

SELECT * FROM coord.lease_acquire(:'name', :'me', '1 minute') \gset
SELECT expires_at > :'expires_at' AS later, fencing_token = :fencing_token AS same FROM coord.lease_renew(:'id', '2 minutes') \gset
SELECT coord.lease_release(:'id') AS released \gset
SELECT format('6 lease: %s, renewed until %s with %s token, released %s, again %s', :'state',
	CASE WHEN :'later' THEN 'later' ELSE 'no later' END, CASE WHEN :'same' THEN 'the same' ELSE 'another' END,
	bool(:'released')::text, coord.lease_release(:'id')::text);
END

# The listener writes the name that it listens to; then we ask again and again, by a query
# without rows, what it has heard.
coproc listener { run -d "${2:-$conninfo}" 2>&1; }
echo "SELECT coord.event_listen(channel => :'name');" >&"${listener[1]}"
IFS= read -r _ <&"${listener[0]}"
sent=$(run -d "$conninfo" <<<"SELECT id FROM coord.event_send('report', :'value', channel => :'name');")
heard=
while [ -z "$heard" ]; do
	sleep 0.1
	printf 'SELECT WHERE false;\n\\echo asked\n' >&"${listener[1]}"
	while IFS= read -r line <&"${listener[0]}" && [ "$line" != asked ]; do
		heard=$line
	done
done
[[ $heard =~ '"id": "'([^\"]+)'", "position": '\"?([0-9]+) ]]
id=${BASH_REMATCH[1]}
position=${BASH_REMATCH[2]}

run -d "$conninfo" -v id="$id" -v sent="$sent" -v position="$position" <<END
SELECT * FROM coord.event_list(channel => :'name') \gset event_
SELECT format('7 event_send: notified, id %s, position %s', CASE WHEN :'id' = :'sent' THEN 'as sent' ELSE 'of another' END,
	CASE WHEN :event_position > 2::numeric ^ 53 AND :'event_position' = :'position' THEN 'past 2^53 and exact' ELSE 'rounded' END);
SELECT format('8 event_list: %s, payload %s; after its position: %s events', :'event_type', $(given ":'event_payload'::jsonb"),
	(SELECT count(*) FROM coord.event_list(channel => :'name', after => :position)));

SELECT fencing_token AS stale_token FROM coord.task WHERE queue = :'name' \gset
SELECT id AS me FROM coord.agent WHERE name = :'name' \gset
SELECT FROM coord.task_create('again', queue => :'name') \g /dev/null
BEGIN;
SELECT * FROM coord.task_claim(:'me', :'name') \gset
\set ON_ERROR_STOP off
\set VERBOSITY sqlstate
SELECT * FROM coord.task_complete(:'id', :stale_token);
\echo 9 task_complete with a stale token: :SQLSTATE
\set ON_ERROR_STOP on
ROLLBACK;
SELECT format('10 rolled back: %s, attempt %s; then %s, attempt %s', :'state', :'attempts', state, attempts) FROM coord.task WHERE id = :'id';
SELECT FROM coord.task_cancel(:'id'), coord.agent_retire(:'me') \g /dev/null
END
