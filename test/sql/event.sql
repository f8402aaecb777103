-- Events: sent within a transaction, delivered after its commit, listed in the
-- order of their positions to whoever goes on from the last one it saw.
\set ECHO none
\getenv test PG_ABS_SRCDIR
\set helpers :test /helpers.sql
\i :helpers

SELECT id AS ann FROM coord.agent_register('event-ann', heartbeat_timeout => '10 min') \gset
SELECT id AS bob FROM coord.agent_register('event-bob', heartbeat_timeout => '10 min') \gset

-- An event needs nothing but a type; then it is for everyone.  It has no
-- position before it is delivered.
SELECT id, position, type, severity, sender_id, recipient_id, channel, payload,
	clock_timestamp() - created_at BETWEEN '0 s' AND '10 s' AS just_now, substr(id::text, 15, 1) AS uuid_version
FROM coord.event_send('event.plain') \gset e_
\echo :e_type :e_severity :e_payload :e_just_now :e_uuid_version
\echo has a position: :{?e_position}
SELECT id = :'e_id' AS same_id, position IS NOT NULL AS delivered, type, severity, sender_id, recipient_id, channel, payload
FROM coord.event_list(type => 'event.plain');

-- All that a sender says is kept, in the view as well as in the list.
SELECT id FROM coord.event_send('event.said', '{"a": [1, null]}', recipient_id => :'bob', channel => 'event-said',
	severity => 'critical', sender_id => :'ann') \gset
SELECT position IS NOT NULL AS delivered, type, severity, sender_id = :'ann' AS from_ann, recipient_id = :'bob' AS to_bob, channel, payload
FROM coord.event_list(recipient_id => :'bob', channel => 'event-said');
SELECT (SELECT e FROM coord.event e WHERE id = :'id')::text = (SELECT e FROM coord.event_list(channel => 'event-said') e)::text AS same_row;

-- NULL for an argument that has a default is its default; a payload is any JSON.
SELECT severity, payload FROM coord.event_send('event.null', NULL, NULL, NULL, NULL, NULL);
SELECT payload FROM coord.event_send('event.null', '[1, "two"]');
SELECT payload FROM coord.event_send('event.null', 'null');
SELECT severity FROM unnest('{debug, info, warning, error, critical}'::text[]) s, coord.event_send('event.null', severity => s);

-- Without a recipient, the agent that payload.to names is the one.
SELECT recipient_id = :'bob' AS to_bob FROM coord.event_send('event.to', '{"to": "event-bob"}', channel => 'event-to');
SELECT recipient_id = :'ann' AS to_ann FROM coord.event_send('event.to', '{"to": "event-bob"}', recipient_id => :'ann', channel => 'event-to');
-- A name that nobody has, and what is no name, is nobody.
SELECT recipient_id FROM coord.event_send('event.to', '{"to": "event-nobody"}', channel => 'event-to');
SELECT recipient_id FROM coord.event_send('event.to', '{"to": 7}', channel => 'event-to');
SELECT recipient_id FROM coord.event_send('event.to', '["to", "event-bob"]', channel => 'event-to');
SELECT recipient_id FROM coord.event_send('event.to', '{"deeper": {"to": "event-bob"}}', channel => 'event-to');

-- None of an aborted transaction is delivered, and none before the commit.
BEGIN;
SELECT type FROM coord.event_send('event.undone', channel => 'event-undone');
SELECT type, position FROM coord.event WHERE channel = 'event-undone';
SELECT type FROM coord.event_list(channel => 'event-undone');
ROLLBACK;
SELECT type FROM coord.event_list(channel => 'event-undone');
SELECT count(*) FROM coord.event WHERE channel = 'event-undone';

-- Events of one transaction keep the order in which they were sent, and all
-- positions grow from transaction to transaction.
BEGIN;
SELECT count(coord.event_send('event.order', to_jsonb(n), channel => 'event-order')) FROM generate_series(1, 20) n;
COMMIT;
SELECT count(position) FROM coord.event_list(channel => 'event-order');
SELECT payload FROM coord.event_send('event.order', '21', channel => 'event-order');
SELECT array_agg(payload ORDER BY position) AS in_order, count(DISTINCT position) FROM coord.event_list(channel => 'event-order');
SELECT array_agg(position) = array_agg(position ORDER BY position) AS sorted FROM coord.event_list(channel => 'event-order');

-- A reader goes on from the last position that it saw.
SELECT array_agg(payload ORDER BY position), max(position) AS last
FROM coord.event_list(channel => 'event-order', max_events => 8) \gset
\echo :array_agg
SELECT array_agg(payload ORDER BY position), max(position) AS last
FROM coord.event_list(channel => 'event-order', max_events => 8, after => :last) \gset
\echo :array_agg
SELECT array_agg(payload ORDER BY position), max(position) AS last
FROM coord.event_list(channel => 'event-order', max_events => 8, after => :last) \gset
\echo :array_agg
SELECT payload FROM coord.event_list(channel => 'event-order', after => :last);
SELECT payload FROM coord.event_send('event.order', '22', channel => 'event-order');
SELECT payload FROM coord.event_list(channel => 'event-order', after => :last);

-- 100 are given unless the reader says how many.
SELECT count(coord.event_send('event.many', channel => 'event-many')) FROM generate_series(1, 105);
SELECT count(*) FROM coord.event_list(channel => 'event-many');
SELECT count(*) FROM coord.event_list(channel => 'event-many', max_events => NULL);
SELECT count(*) FROM coord.event_list(channel => 'event-many', max_events => 10000);

-- Recipient, channel and type choose, each by itself and together.
SELECT count(coord.event_send('event.' || t, channel => c, recipient_id => r)) FROM unnest('{x, y}'::text[]) t,
	unnest('{event-c1, event-c2, NULL}'::text[]) c, unnest(ARRAY[:'ann', :'bob', NULL]::uuid[]) r;
SELECT count(*) AS channel FROM coord.event_list(channel => 'event-c1');
SELECT count(*) AS channel_and_type FROM coord.event_list(channel => 'event-c1', type => 'event.x');
SELECT count(*) AS recipient_and_type FROM coord.event_list(recipient_id => :'ann', type => 'event.x');
SELECT count(*) AS recipient_and_channel FROM coord.event_list(recipient_id => :'ann', channel => 'event-c1');
SELECT count(*) AS all_three FROM coord.event_list(recipient_id => :'ann', channel => 'event-c1', type => 'event.x');
SELECT count(*) AS type FROM coord.event_list(type => 'event.x');
SELECT count(*) FILTER (WHERE type IN ('event.x', 'event.y')) AS all_of_them FROM coord.event_list(max_events => 10000);
SELECT count(*) FROM coord.event_list(channel => 'event-C1');

-- The NOTIFY channel's name, for a client that does LISTEN by itself: what would
-- be too long is hashed.
SELECT coord.listen_name(), coord.listen_name(NULL, NULL) AS the_same;
SELECT coord.listen_name('0c0a7000-0000-4000-8000-000000000001'), coord.listen_name(channel => 'builds/main');
SELECT n, length(coord.listen_name(channel => repeat('x', n))) FROM unnest('{49, 50, 512}'::int[]) n;
SELECT coord.listen_name(channel => repeat('x', 50));
SELECT coord.listen_name(channel => repeat('x', 50)) = 'coord:sha256:' ||
	translate(encode(sha256(repeat('x', 50)::bytea), 'base64'), '+/=', '-_') AS is_base64url;
SELECT count(DISTINCT coord.listen_name(channel => repeat('x', n))) FROM generate_series(1, 512) n;

-- Listening is that of the connection, under the same names.
SELECT coord.event_listen(channel => 'event-silent') = coord.listen_name(channel => 'event-silent') AS same_name;
SELECT coord.event_listen(:'ann') = coord.listen_name(:'ann') AS same_name;
SELECT count(*) FROM pg_listening_channels();
SELECT coord.event_unlisten(channel => 'event-silent') = coord.listen_name(channel => 'event-silent') AS same_name;
SELECT coord.event_unlisten(recipient_id => :'ann') = coord.listen_name(:'ann') AS same_name;
SELECT count(*) FROM pg_listening_channels();
-- It is undone with its transaction.
BEGIN;
SELECT coord.event_listen(channel => 'event-silent');
ROLLBACK;
SELECT count(*) FROM pg_listening_channels();
