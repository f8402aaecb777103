-- The textbook lease: acquire by upsert; if granted, release.  The CTE gives a row when
-- it is refused, which \gset needs.
\set key random(1, :keys)
WITH granted AS (
	INSERT INTO bench.lease AS l (key, owner, token, expires_at)
	VALUES ('key ' || :key, :client_id, 1, clock_timestamp() + interval '1 min')
	ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, token = l.token + 1, expires_at = excluded.expires_at
	WHERE l.expires_at <= clock_timestamp()
	RETURNING token
) SELECT coalesce(max(token), 0) AS token FROM granted \gset
\if :token > 0
UPDATE bench.lease SET expires_at = '-infinity' WHERE key = 'key ' || :key AND token = :token;
\endif
