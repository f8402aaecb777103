#!/usr/bin/env node
// A listener for events of coord, on pg (npm install pg; or Debian's node-pg, found with
// NODE_PATH=/usr/share/nodejs).
//
//   examples/listen.cjs (--channel NAME | --agent ID | --everyone) [--position-file FILE] [postgresql://…]
//
// Prints each event as a line of JSON: those on a channel, to an agent, or to everyone.
// It goes on from the position in its file, without one from the first event that is
// kept.  A lost connection is made again, and no event is missed or handled twice.
// SIGTERM ends it.  Without a URI, the variables PGHOST and so on say where the server is.
"use strict";

const fs = require("node:fs");
const { setTimeout: sleep } = require("node:timers/promises");
const { parseArgs } = require("node:util");
const { Client, DatabaseError } = require("pg");

const BATCH = 100;

const { values: options, positionals: [connectionString, ...others] } = parseArgs({
  options: {
    channel: { type: "string" },
    agent: { type: "string" },
    everyone: { type: "boolean" },
    "position-file": { type: "string" },
  },
  allowPositionals: true,
});
if ([options.channel, options.agent, options.everyone].filter((given) => given !== undefined).length !== 1) {
  console.error("one of --channel, --agent and --everyone says what to listen to");
  process.exit(2);
}
if (others.length > 0 || (connectionString && !/^postgres(ql)?:/.test(connectionString))) {
  console.error("the server is named by one URI, postgresql://…, or by PGHOST and so on");
  process.exit(2);
}
const filter = [options.agent, options.channel];
const positionFile = options["position-file"];

// The work itself: here it prints the event.
async function handle(event) {
  console.log(JSON.stringify(event));
}

// With neither recipient nor channel, event_list gives all that we may read.
function wanted(event) {
  return !options.everyone || (event.recipient_id === null && event.channel === null);
}

if (positionFile) fs.closeSync(fs.openSync(`${positionFile}.new`, "w")); // fails now, not after the first event

// A bigint, which pg gives as a string: not every one fits in a Number.
let position = positionFile && fs.existsSync(positionFile) ? fs.readFileSync(positionFile, "ascii") : null;

// Keeps the position of an event that has been handled.  Killed right before this, we
// handle that event again.  If what handle() does is in the database, keep the position
// there too, in the same transaction.
function keep(handled) {
  position = handled;
  if (!positionFile) return;
  fs.writeFileSync(`${positionFile}.new`, position);
  fs.renameSync(`${positionFile}.new`, positionFile); // never half written
}

// Rung any number of times, it is heard once, also when nobody was waiting.
const bell = {
  rung: false,
  answer() {},
  ring() {
    this.rung = true;
    this.answer();
  },
  async heard() {
    if (!this.rung) await new Promise((resolve) => (this.answer = resolve));
    this.rung = false;
  },
};

const stop = new AbortController();
for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => { stop.abort(); bell.ring(); });

class Lost extends Error {}

// Most that goes wrong with a connection passes.  But what the server says to a query (no
// such agent, no rights) it would say again, unless it is in one of the classes 08
// (connection), 53 (resources) and 57 (shutdown), or is 25006: it is in recovery still.
function lost(error) {
  throw error instanceof DatabaseError && !/^(08|53|57|25006)/.test(error.code) ? error : new Lost(error.message);
}

// Handles what has come since the last position.  A notification is no more than a reason
// to do this: it lacks the payload, and those sent while we were away never come.
async function catchUp(client) {
  let events;
  do {
    ({ rows: events } = await client.query(
      "SELECT * FROM coord.event_list(recipient_id => $1, channel => $2, after => $3, max_events => $4)",
      [...filter, position, BATCH]).catch(lost));
    for (const event of events) {
      if (stop.signal.aborted) return;
      if (wanted(event)) await handle(event);
      keep(event.position);
    }
  } while (events.length === BATCH);
}

// Until SIGTERM; throws when the connection is lost.
async function serve(caughtUp) {
  // Who only waits would not notice that the network has gone: the keepalives do, and the
  // timeout when a query is under way.
  const client = new Client({ connectionString, fallback_application_name: "listen.cjs",
    connectionTimeoutMillis: 10000, keepAlive: true, keepAliveInitialDelayMillis: 10000, query_timeout: 30000 });
  let failure;
  client.on("notification", () => bell.ring());
  client.on("error", (error) => { failure ??= error; bell.ring(); });
  client.on("end", () => { failure ??= new Error("the connection has ended"); bell.ring(); });
  try {
    await client.connect().catch(lost);
    await client.query("SELECT coord.event_listen(recipient_id => $1, channel => $2)", filter).catch(lost);
    // We listen, so what is not in the list by now will be notified.
    while (!stop.signal.aborted) {
      await catchUp(client);
      caughtUp();
      await bell.heard();
      if (failure) lost(failure);
    }
  } finally {
    client.end().catch(() => {});
  }
}

async function main() {
  for (let failures = 0; !stop.signal.aborted; failures++) {
    try {
      await serve(() => (failures = 0));
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      // With jitter, so that not all come at once to a server that is back.
      const pause = (0.5 + Math.random() / 2) * Math.min(30000, 100 * 2 ** failures);
      console.error(`${error.message}; again in ${(pause / 1000).toFixed(1)} s`);
      await sleep(pause, undefined, { signal: stop.signal }).catch(() => {});
    }
  }
}

main();
