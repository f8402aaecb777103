-- What an agent has to read: events to it, on its channels and to everyone, from its
-- acknowledged position on.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT count(coord.event_send('poll.before')) FROM generate_series(1, 3);
SELECT count(*) > 2 AS delivered FROM coord.event_list(type => 'poll.before');
SELECT id AS ann FROM coord.agent_register('poll-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('poll-bob', heartbeat_timeout => '10 min') \gset

-- An agent's events begin with its registration.
SELECT count(*) FROM coord.event_poll(:'ann');

-- Each event once, though it comes by two ways; those of others not at all.
SELECT coord.event_subscribe(:'ann', 'poll-1'), coord.event_subscribe(:'ann', 'poll-1') AS again, coord.event_subscribe(:'ann', 'poll-2');
SELECT count(*) FROM (VALUES
	('poll.to_ann', :'ann'::uuid, NULL), ('poll.to_bob', :'bob', NULL), ('poll.on_1', NULL, 'poll-1'),
	('poll.to_ann_on_1', :'ann', 'poll-1'), ('poll.to_bob_on_2', :'bob', 'poll-2'), ('poll.on_3', NULL, 'poll-3'),
	('poll.to_everyone', NULL, NULL)) v (type, recipient_id, channel),
	LATERAL coord.event_send(v.type, recipient_id => v.recipient_id, channel => v.channel);
SELECT type FROM coord.event_poll(:'ann');
SELECT type FROM coord.event_poll(:'bob');

-- It is in the order of positions, no more than is asked for, and changes nothing.
SELECT string_agg(type, ' ') AS polled, max(position) AS last FROM coord.event_poll(:'ann', 2) \gset
\echo :polled
SELECT string_agg(type, ' ') AS again FROM coord.event_poll(:'ann', max_events => 2);
SELECT (SELECT array_agg(position) FROM coord.event_poll(:'ann')) = (SELECT array_agg(position ORDER BY position) FROM coord.event_poll(:'ann')) AS in_order;

-- What is acknowledged is over; two readers share one position, which never goes back.
SELECT coord.event_ack(:'ann', :last) = :last AS acknowledged;
SELECT type FROM coord.event_poll(:'ann');
SELECT coord.event_ack(:'ann', "position" => :last) = :last AS again_is_no_error;
SELECT format('%s', max(position)) AS end, min(position) AS next FROM coord.event_poll(:'ann') \gset
SELECT coord.event_ack(:'ann', :end) = :end AS acknowledged;
CALL pg_temp.attempt(format('SELECT coord.event_ack(%L, %s)', :'ann', :next));
CALL pg_temp.attempt(format('SELECT coord.event_ack(%L, %s)', :'ann', :end + 1000000));
CALL pg_temp.attempt(format('SELECT coord.event_ack(%L, 0)', :'ann'));
CALL pg_temp.attempt(format('SELECT coord.event_ack(%L, NULL)', :'ann'));
SELECT count(*) FROM coord.event_poll(:'ann');
SELECT count(*) FROM coord.event_poll(:'bob');

-- An acknowledgement that is rolled back was not made.
SELECT (coord.event_send('poll.more', recipient_id => :'ann')).type;
BEGIN;
SELECT coord.event_ack(:'ann', position) IS NOT NULL AS acknowledged FROM coord.event_poll(:'ann');
SELECT count(*) FROM coord.event_poll(:'ann');
ROLLBACK;
SELECT type FROM coord.event_poll(:'ann');

-- Unsubscribed; and subscribed again: what was sent meanwhile is past the position.
SELECT coord.event_unsubscribe(:'ann', 'poll-1'), coord.event_unsubscribe(:'ann', 'poll-1') AS again;
SELECT (coord.event_send('poll.meanwhile', channel => 'poll-1')).type;
SELECT type FROM coord.event_poll(:'ann');
SELECT coord.event_subscribe(:'ann', 'poll-1');
SELECT type FROM coord.event_poll(:'ann');

-- Misuse.
CALL pg_temp.attempt(format('SELECT coord.event_poll(NULL)'));
CALL pg_temp.attempt(format('SELECT coord.event_poll(%L)', '00000000-0000-7000-8000-000000000000'));
CALL pg_temp.attempt(format('SELECT coord.event_poll(%L, 0)', :'ann'));
CALL pg_temp.attempt(format('SELECT coord.event_poll(%L, 10001)', :'ann'));
CALL pg_temp.attempt(format('SELECT coord.event_subscribe(%L, %L)', :'ann', ''));
CALL pg_temp.attempt(format('SELECT coord.event_subscribe(%L, repeat(%L, 513))', :'ann', 'x'));
CALL pg_temp.attempt(format('SELECT coord.event_subscribe(%L, NULL)', :'ann'));
CALL pg_temp.attempt(format('SELECT coord.event_subscribe(%L, %L)', '00000000-0000-7000-8000-000000000000', 'c'));
CALL pg_temp.attempt(format('SELECT coord.event_unsubscribe(%L, %L)', '00000000-0000-7000-8000-000000000000', 'c'));
CALL pg_temp.attempt(format('SELECT coord.event_ack(%L, 1)', '00000000-0000-7000-8000-000000000000'));
