#!/usr/bin/python3
"""Writes docs/reference.md to stdout, from the comments in the catalog and from pg_settings.  The
server is that of libpq's variables; it must have coord in shared_preload_libraries, as some
settings exist only then.

A function's comment is a sentence, then its arguments ("name: what it is."), then what comes
back ("Returns ..."), then its errors ("Errors: SQLSTATE why; ..."); test/pgtap/comments.sql
holds it to that.  What a comment calls internal or stored has a list of its own at the end.
"""

import re

import psycopg2

HEAD = """# Reference

All functions, relations and settings, as the catalog describes them: this page is made of the
comments there, by `make docs`, and `test/tap/055_reference.pl` fails when they differ. In psql
`\\df+ coord.*` and `\\d+ coord.*` show the same. What belongs together, and how to use it, is in
the [README](../README.md), the [tutorial](tutorial.md) and the [recipes](recipes.md).

Arguments can be given by name (`lease_ttl => '1 min'`); NULL for one that has a default means its
default, unless it says otherwise. Times are those of the server's clock at the call.
"""

# Which functions belong together, by the first pattern that fits.
GROUPS = (
    ("Agents", r"agent_"),
    ("Leases", r"lease_|fence$"),
    ("Tasks", r"task_"),
    ("Queues", r"queue_"),
    ("Events", r"event_|inbox$|listen_name$"),
    ("JSON-RPC and MCP", r"rpc$|mcp$"),
    ("Rights", r"grant_|revoke_"),
    ("Upkeep", r""),
)

FUNCTIONS = """
SELECT p.proname, p.prokind = 'p', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
    coalesce(p.proargnames, '{}'), p.proargmodes::text[], obj_description(p.oid, 'pg_proc')
FROM pg_proc p WHERE p.pronamespace = 'coord'::regnamespace
ORDER BY p.proname COLLATE "C", p.oid
"""

RELATIONS = """
SELECT c.oid, c.relname, obj_description(c.oid, 'pg_class'), c.relkind
FROM pg_class c WHERE c.relnamespace = 'coord'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT c.relispartition
ORDER BY c.relname COLLATE "C"
"""

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(a.attrelid, a.attnum)
FROM pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

SETTINGS = """
SELECT name, vartype, unit, boot_val, min_val, max_val, context, short_desc, extra_desc
FROM pg_settings WHERE name LIKE 'coord.%' ORDER BY name COLLATE "C"
"""

CONTEXTS = {
    "user": "anybody, in a session",
    "superuser": "a superuser, or who was granted SET on it",
    "sighup": "the configuration, reloaded",
    "postmaster": "the configuration, at the server's start",
}


def short(text):
    """Types and defaults as one would write them."""
    text = text.replace("timestamp with time zone", "timestamptz")
    return re.sub(r"::[a-z_.]+(\[\])?", "", text)


def escape(text):
    """For a cell of a table; and * and _ are no markup here."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def arguments(text, names):
    """What stands before the first argument, and a list of (names, description)."""
    if not names:
        return text, []
    name = "(?:" + "|".join(map(re.escape, names)) + ")"
    parts = re.split(rf"(?:^|(?<=\. ))({name}(?:, {name})*): ", text)
    return parts[0].strip(), [(parts[i], parts[i + 1].strip()) for i in range(1, len(parts), 2)]


def function_entry(name, is_procedure, signature, result, names, modes, comment):
    given = [n for i, n in enumerate(names) if not modes or modes[i] in ("i", "b", "v")]
    summary, *lines = comment.split("\n")
    about, listed, returns, errors = [], [], [], []
    for line in lines:
        if line.startswith("Returns "):
            returns.append(line)
        elif line.startswith("Errors: "):
            errors.append(line.removeprefix("Errors: ").rstrip("."))
        else:
            before, described = arguments(line, given)
            about += [before] if before else []
            listed += described
    signature = short(re.sub(r"\bIN ", "", signature))
    returned = "" if is_procedure else f" → {short(result)}"
    call = "CALL " if is_procedure else ""
    yield f"```\n{call}coord.{name}({signature}){returned}\n```\n"
    yield escape(" ".join([summary] + about)) + "\n"
    yield from (f"- `{n}`: {escape(text)}" for n, text in listed)
    if listed:
        yield ""
    yield from (f"**Returns** {escape(text.removeprefix('Returns '))}\n" for text in returns)
    for text in errors:
        yield f"**Errors:** {escape(text)}.\n"


def functions(rows):
    for title, pattern in GROUPS:
        group = [row for row in rows if next(t for t, p in GROUPS if re.match(p, row[0])) == title]
        if not group:
            continue
        yield f"### {title}\n"
        last = None
        for row in group:
            if row[0] != last:
                yield f"#### {row[0]}\n"
            last = row[0]
            yield from function_entry(*row)


def duration(value, unit):
    """A value of a setting, in the largest unit that divides it."""
    if unit not in ("ms", "s") or value in (None, "0"):
        return value
    number = int(value) * (1 if unit == "ms" else 1000)
    for name, size in (("days", 86400000), ("h", 3600000), ("min", 60000), ("s", 1000)):
        if number % size == 0:
            return f"{number // size} {name}".replace("1 days", "1 day")
    return f"{number} ms"


def settings(rows):
    yield "| setting | type | default | range | who sets it | |\n| --- | --- | --- | --- | --- | --- |"
    for name, kind, unit, default, low, high, context, text, more in rows:
        kind = f"{kind} ({unit})" if unit else kind
        limits = "" if low is None else f"{duration(low, unit)} … {high if not unit else high + ' ' + unit}"
        yield (f"| `{name}` | {kind} | {duration(default, unit)} | {limits} | {CONTEXTS[context]} "
               f"| {escape(' '.join(filter(None, [text, more])))} |")
    yield ""


def main():
    connection = psycopg2.connect("")
    cursor = connection.cursor()

    def rows(query, *parameters):
        cursor.execute(query, parameters or None)
        return cursor.fetchall()

    # in a transaction that is never committed
    cursor.execute("CREATE EXTENSION IF NOT EXISTS coord; SET search_path = pg_catalog")
    procedures = rows(FUNCTIONS)
    internal = [row for row in procedures if row[-1].startswith("Internal:")]
    relations = rows(RELATIONS)
    hidden = [row for row in relations if re.match("Internal:|Stored:", row[2]) or row[3] == "S"]
    print(HEAD)
    print("## Functions\n")
    for line in functions([row for row in procedures if row not in internal]):
        print(line)
    print("## Relations\n\nTo be read, never written. A row is true at the instant of reading, swept or not; a role sees of them\n"
          "what its grants let it see.\n")
    for row in relations:
        if row in hidden:
            continue
        oid, name, comment, _ = row
        print(f"### coord.{name}\n\n{escape(comment)}\n")
        columns = rows(COLUMNS, oid)
        if not any(text for _, _, text in columns):
            continue
        print("| column | type | |\n| --- | --- | --- |")
        for column, kind, text in columns:
            print(f"| `{column}` | {short(kind)} | {escape(text or '')} |")
        print()
    print("## Settings\n")
    for line in settings(rows(SETTINGS)):
        print(line)
    print("## Not for users\n\nWhat coord has for itself, and may change with any version: relations that are written by its functions\n"
          "alone, and functions that it calls.\n")
    for _, name, comment, _ in hidden:
        print(f"- `coord.{name}`: {escape(re.sub('^(Internal|Stored): ', '', comment))}")
    for row in internal:
        print(f"- `coord.{row[0]}({short(row[2])})`: {escape(row[-1].split(chr(10))[0].removeprefix('Internal: '))}")


if __name__ == "__main__":
    main()
