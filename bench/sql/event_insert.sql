-- One INSERT of an event.
INSERT INTO bench.event (type, channel, payload) VALUES ('bench', 'bench', '{"n": 1}');
