#!/usr/bin/env node
// The ten steps on pg (npm install pg).
//
//   examples/clients/ten_steps_pg.cjs [postgresql://… [postgresql://… for LISTEN]]
//
// A bigint comes as a string, and goes back as it came: a Number would round it.  A
// timestamptz comes as a Date, which has milliseconds only: where more matters, leave it a
// string, too.  pg prepares only queries that are given a name, so any pooler will do.

"use strict";

const { randomUUID } = require("node:crypto");
const { once } = require("node:events");
const { isDeepStrictEqual } = require("node:util");
const pg = require("pg");

const VALUE = { deep: { er: '"\\' }, name: "Zoë ☃", parts: [1, 2.5, null, true] };

pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, (text) => text);

async function connect(connectionString) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  return client;
}

const same = (got, wanted, yes, no) =>
  (isDeepStrictEqual(got, wanted) ? yes : `${no} (${JSON.stringify(got)})`);
const given = (value) => same(value, VALUE, "as given", "not as given");
// Of a number of ours, and what the server writes for it.
const exact = (number, text) =>
  same(number, text, BigInt(number) > 2n ** 53n ? "past 2^53 and exact" : "short", "rounded");
const seconds = ({ hours = 0, minutes = 0, seconds = 0, milliseconds = 0 }) =>
  hours * 3600 + minutes * 60 + seconds + milliseconds / 1000;
// Of a timestamptz as text.
const utc = (text) =>
  new Date(text).toISOString().slice(0, 23).replace("T", " ") + /\.\d{3}(\d*)/.exec(text)[1];

const [connectionString, forListening] = process.argv.slice(2);
let client, listener;
const name = `ten steps ${randomUUID()}`; // of the agent, its queue, a resource, a channel

const all = async (query, ...values) => (await client.query(query, values)).rows;
const one = async (query, ...values) => (await all(query, ...values))[0];

async function agent() {
  const me = await one("SELECT * FROM coord.agent_register($1, heartbeat_timeout => $2, metadata => $3)",
    name, "1 hour 30 minutes 250 milliseconds", VALUE);
  console.log(`1 agent_register: ${me.status}, timeout ${seconds(me.heartbeat_timeout)} s, ` +
    `metadata ${given(me.metadata)}`);
  return me;
}

async function task(me) {
  const id = randomUUID();
  let row = await one("SELECT * FROM coord.task_create('resize', $1, queue => $2, run_at => $3, id => $4)",
    VALUE, name, "2024-02-29T12:34:56.789012+02:00", id);
  console.log(`2 task_create: ${row.state}, id ${same(row.id, id, "as given", "not as given")}, ` +
    `run_at ${utc(row.run_at)} UTC, payload ${given(row.payload)}`);

  const claim = await one("SELECT *, fencing_token::text AS digits FROM coord.task_claim($1, $2, lease_ttl => $3)",
    me.id, name, "1 minute");
  console.log(`3 task_claim: ${claim.state}, attempt ${claim.attempts}, ` +
    `token ${exact(claim.fencing_token, claim.digits)}`);

  const held = [claim.id, claim.fencing_token];
  row = await one("SELECT *, lease_expires_at > $5 AS later FROM coord.task_renew($1, $2, $3, progress => $4)",
    ...held, "2 minutes", VALUE, claim.lease_expires_at);
  console.log(`4 task_renew: ${row.state}, progress ${given(row.progress)}, ` +
    `until ${row.later ? "later" : "no later"} than before`);

  row = await one("SELECT * FROM coord.task_complete($1, $2, $3)", ...held, VALUE);
  const again = await one("SELECT * FROM coord.task_complete($1, $2, $3)", ...held, VALUE);
  console.log(`5 task_complete: ${row.state}, result ${given(row.result)}; again: ${again.state}`);
  return claim.fencing_token;
}

async function lease(me) {
  const row = await one("SELECT * FROM coord.lease_acquire($1, $2, $3)", name, me.id, "1 minute");
  const again = await one("SELECT *, expires_at > $3 AS later FROM coord.lease_renew($1, $2)",
    row.id, "2 minutes", row.expires_at);
  const token = same(again.fencing_token, row.fencing_token, "the same", "another");
  const released = [];
  for (let i = 0; i < 2; i++) released.push((await one("SELECT coord.lease_release($1)", row.id)).lease_release);
  console.log(`6 lease: ${row.state}, renewed until ${again.later ? "later" : "no later"} with ${token} token, ` +
    `released ${released[0]}, again ${released[1]}`);
}

async function event() {
  const notification = once(listener, "notification");
  await listener.query("SELECT coord.event_listen(channel => $1)", [name]);
  const sent = await one("SELECT * FROM coord.event_send('report', $1, channel => $2)", VALUE, name);
  const heard = JSON.parse((await notification)[0].payload);
  const row = await one("SELECT *, position::text AS digits FROM coord.event_list(channel => $1)", name);
  console.log(`7 event_send: notified, id ${same(heard.id, sent.id, "as sent", "of another")}, ` +
    `position ${exact(String(heard.position), row.digits)}`);

  const rest = await all("SELECT * FROM coord.event_list(channel => $1, after => $2)", name, heard.position);
  console.log(`8 event_list: ${row.type}, payload ${given(row.payload)}; ` +
    `after its position: ${rest.length} events`);
}

async function refused(me, staleToken) {
  await one("SELECT * FROM coord.task_create('again', queue => $1)", name);
  await client.query("BEGIN");
  let row = await one("SELECT * FROM coord.task_claim($1, $2)", me.id, name);
  const claimed = `${row.state}, attempt ${row.attempts}`;
  await one("SELECT * FROM coord.task_complete($1, $2)", row.id, staleToken)
    .catch((error) => console.log(`9 task_complete with a stale token: ${error.code}`));
  await client.query("ROLLBACK");
  row = await one("SELECT * FROM coord.task WHERE id = $1", row.id);
  console.log(`10 rolled back: ${claimed}; then ${row.state}, attempt ${row.attempts}`);
  await one("SELECT * FROM coord.task_cancel($1)", row.id);
}

async function main() {
  client = await connect(connectionString);
  listener = forListening ? await connect(forListening) : client;
  const me = await agent();
  const staleToken = await task(me);
  await lease(me);
  await event();
  await refused(me, staleToken);
  await one("SELECT * FROM coord.agent_retire($1)", me.id);
  await client.end();
  if (listener !== client) await listener.end();
}

main();
