-- What the protocol and the executor cost by themselves.
SELECT 1;
