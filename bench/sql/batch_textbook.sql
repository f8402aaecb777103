-- The textbook queue in batches: claim 50.
UPDATE bench.job SET state = 'claimed', claimed_by = :client_id, claimed_at = now()
WHERE id IN (SELECT id FROM bench.job WHERE state = 'waiting' ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 50)
RETURNING id;
