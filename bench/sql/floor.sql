-- The floor: one single-row UPDATE by primary key.
\set id random(1, 10000)
UPDATE bench.counter SET n = n + 1 WHERE id = :id;
