-- INSERT of an event and NOTIFY, in one transaction.  The notification carries when it
-- was sent.
BEGIN;
INSERT INTO bench.event (type, channel, payload) VALUES ('bench', 'bench', '{"n": 1}');
SELECT pg_notify('bench', format('{"sent_at": %s, "n": "%s"}', extract(epoch FROM clock_timestamp()), txid_current()));
COMMIT;
