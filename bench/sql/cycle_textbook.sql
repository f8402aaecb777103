-- The textbook queue in a steady state: create one, claim the head, complete it.
INSERT INTO bench.job (payload) VALUES ('{"n": 1}');
UPDATE bench.job SET state = 'claimed', claimed_by = :client_id, claimed_at = now()
WHERE id = (SELECT id FROM bench.job WHERE state = 'waiting' ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id \gset
UPDATE bench.job SET state = 'completed', finished_at = now() WHERE id = :id AND state = 'claimed';
