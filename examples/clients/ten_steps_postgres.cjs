#!/usr/bin/env node
// The ten steps on postgres, also known as postgres.js (npm install postgres).
//
//   examples/clients/ten_steps_postgres.cjs [postgresql://… [postgresql://… for LISTEN]]
//
// A bigint becomes a BigInt, since we say so; by default it is a string, which is as good.
// A timestamptz would become a Date, which has milliseconds only: we leave it a string.
// prepare: false is for a pooler in transaction mode: postgres would prepare every query,
// on a connection that is another one next time.  It listens on a connection of its own.

"use strict";

const { randomUUID } = require("node:crypto");
const { isDeepStrictEqual } = require("node:util");
const postgres = require("postgres");

const VALUE = { deep: { er: '"\\' }, name: "Zoë ☃", parts: [1, 2.5, null, true] };

const asText = { to: 1184, from: [1184], serialize: (text) => text, parse: (text) => text };

function connect(url) {
  return postgres(url, { prepare: false, max: 1, types: { bigint: postgres.BigInt, date: asText } });
}

const same = (got, wanted, yes, no) =>
  (isDeepStrictEqual(got, wanted) ? yes : `${no} (${got})`);
const given = (value) => same(value, VALUE, "as given", "not as given");
// Of a BigInt, and what the server writes for it.
const exact = (number, text) =>
  same(String(number), text, number > 2n ** 53n ? "past 2^53 and exact" : "short", "rounded");
// Of an interval as text, of hours and less.
const seconds = (text) => text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
// Of a timestamptz as text.
const utc = (text) =>
  new Date(text).toISOString().slice(0, 23).replace("T", " ") + /\.\d{3}(\d*)/.exec(text)[1];

const [url, forListening] = process.argv.slice(2);
const sql = connect(url);
const listener = forListening ? connect(forListening) : sql;
const name = `ten steps ${randomUUID()}`; // of the agent, its queue, a resource, a channel

async function agent() {
  const [me] = await sql`SELECT * FROM coord.agent_register(${name},
    heartbeat_timeout => ${"1 hour 30 minutes 250 milliseconds"}, metadata => ${sql.json(VALUE)})`;
  console.log(`1 agent_register: ${me.status}, timeout ${seconds(me.heartbeat_timeout)} s, ` +
    `metadata ${given(me.metadata)}`);
  return me;
}

async function task(me) {
  const id = randomUUID();
  const [created] = await sql`SELECT * FROM coord.task_create('resize', ${sql.json(VALUE)}, queue => ${name},
    run_at => ${"2024-02-29T12:34:56.789012+02:00"}, id => ${id})`;
  console.log(`2 task_create: ${created.state}, id ${same(created.id, id, "as given", "not as given")}, ` +
    `run_at ${utc(created.run_at)} UTC, payload ${given(created.payload)}`);

  const [claim] = await sql`SELECT *, fencing_token::text AS digits
    FROM coord.task_claim(${me.id}, ${name}, lease_ttl => ${"1 minute"})`;
  const token = claim.fencing_token;
  console.log(`3 task_claim: ${claim.state}, attempt ${claim.attempts}, token ${exact(token, claim.digits)}`);

  const [renewed] = await sql`SELECT *, lease_expires_at > ${claim.lease_expires_at} AS later
    FROM coord.task_renew(${id}, ${token}, ${"2 minutes"}, progress => ${sql.json(VALUE)})`;
  console.log(`4 task_renew: ${renewed.state}, progress ${given(renewed.progress)}, ` +
    `until ${renewed.later ? "later" : "no later"} than before`);

  const [done] = await sql`SELECT * FROM coord.task_complete(${id}, ${token}, ${sql.json(VALUE)})`;
  const [again] = await sql`SELECT * FROM coord.task_complete(${id}, ${token}, ${sql.json(VALUE)})`;
  console.log(`5 task_complete: ${done.state}, result ${given(done.result)}; again: ${again.state}`);
  return token;
}

async function lease(me) {
  const [row] = await sql`SELECT * FROM coord.lease_acquire(${name}, ${me.id}, ${"1 minute"})`;
  const [again] = await sql`SELECT *, expires_at > ${row.expires_at} AS later
    FROM coord.lease_renew(${row.id}, ${"2 minutes"})`;
  const token = same(again.fencing_token, row.fencing_token, "the same", "another");
  const released = [];
  for (let i = 0; i < 2; i++) released.push((await sql`SELECT coord.lease_release(${row.id}) AS done`)[0].done);
  console.log(`6 lease: ${row.state}, renewed until ${again.later ? "later" : "no later"} with ${token} token, ` +
    `released ${released[0]}, again ${released[1]}`);
}

async function event() {
  const { promise: notification, resolve } = Promise.withResolvers();
  const [{ channel }] = await sql`SELECT coord.listen_name(channel => ${name}) AS channel`;
  await listener.listen(channel, resolve); // LISTENs again after a lost connection
  const [sent] = await sql`SELECT * FROM coord.event_send('report', ${sql.json(VALUE)}, channel => ${name})`;
  const heard = JSON.parse(await notification);
  const [row] = await sql`SELECT *, position::text AS digits FROM coord.event_list(channel => ${name})`;
  console.log(`7 event_send: notified, id ${same(heard.id, sent.id, "as sent", "of another")}, ` +
    `position ${exact(BigInt(heard.position), row.digits)}`);

  const rest = await sql`SELECT * FROM coord.event_list(channel => ${name}, after => ${heard.position})`;
  console.log(`8 event_list: ${row.type}, payload ${given(row.payload)}; ` +
    `after its position: ${rest.length} events`);
}

async function refused(me, staleToken) {
  await sql`SELECT * FROM coord.task_create('again', queue => ${name})`;
  let task, claimed;
  await sql.begin(async (sql) => {
    [task] = await sql`SELECT * FROM coord.task_claim(${me.id}, ${name})`;
    claimed = `${task.state}, attempt ${task.attempts}`;
    await sql`SELECT * FROM coord.task_complete(${task.id}, ${staleToken})`;
  }).catch((error) => console.log(`9 task_complete with a stale token: ${error.code}`));
  [task] = await sql`SELECT * FROM coord.task WHERE id = ${task.id}`;
  console.log(`10 rolled back: ${claimed}; then ${task.state}, attempt ${task.attempts}`);
  await sql`SELECT * FROM coord.task_cancel(${task.id})`;
}

async function main() {
  const me = await agent();
  const staleToken = await task(me);
  await lease(me);
  await event();
  await refused(me, staleToken);
  await sql`SELECT * FROM coord.agent_retire(${me.id})`;
  await sql.end();
  if (listener !== sql) await listener.end();
}

main();
