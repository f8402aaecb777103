-- The textbook queue: claim the head, complete it, each in its own transaction.
UPDATE bench.job SET state = 'claimed', claimed_by = :client_id, claimed_at = now()
WHERE id = (SELECT id FROM bench.job WHERE state = 'waiting' ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id \gset
UPDATE bench.job SET state = 'completed', finished_at = now() WHERE id = :id AND state = 'claimed';
