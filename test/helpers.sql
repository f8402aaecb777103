-- What the files under test/sql share: telling an error without its ids and
-- times, and waiting for a known instant or for something that the worker does.
-- Everything is in pg_temp, so each file has its own.  Echoes nothing.

-- A text without what differs from run to run.
CREATE FUNCTION pg_temp.mask(said text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(replace(nullif(said, ''), '"' || session_user || '"', '<user>'),
		'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g'),
		'\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( ?[A-Z]+|[+-][\d:]+)?', '<time>', 'g'),
		'\m\d{13,}\M', '<token>', 'g')
$$;

-- Runs a command and prints the error that it raises, which undoes it.
CREATE PROCEDURE pg_temp.attempt(command text) LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	RAISE INFO 'no error';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	message := state || ' ' || pg_temp.mask(message);
	detail := pg_temp.mask(detail);
	IF detail <> '' AND hint <> '' THEN
		RAISE INFO '%', message USING DETAIL = detail, HINT = hint;
	ELSIF detail <> '' THEN
		RAISE INFO '%', message USING DETAIL = detail;
	ELSIF hint <> '' THEN
		RAISE INFO '%', message USING HINT = hint;
	ELSE
		RAISE INFO '%', message;
	END IF;
END
$$;

-- Returns when the instant has passed.
CREATE PROCEDURE pg_temp.wait_for(instant timestamptz) LANGUAGE plpgsql AS $$
BEGIN
	IF instant > clock_timestamp() + interval '1 min' OR instant IS NULL THEN
		RAISE EXCEPTION 'nobody should wait for %', instant;
	END IF;
	WHILE clock_timestamp() <= instant LOOP
	END LOOP;
END
$$;

-- Returns when the condition, an expression, has become true.
CREATE PROCEDURE pg_temp.wait_until(condition text) LANGUAGE plpgsql AS $$
DECLARE
	met boolean;
	give_up timestamptz := clock_timestamp() + interval '2 min';
BEGIN
	LOOP
		EXECUTE 'SELECT ' || condition INTO met;
		EXIT WHEN met;
		IF clock_timestamp() > give_up THEN
			RAISE EXCEPTION 'this has not become true: %', condition;
		END IF;
	END LOOP;
END
$$;

\set ECHO all
