// What the Node benches share: the connection that the environment names, and the
// three systems under one roof: coord, graphile-worker, pg-boss.

import pg from "pg";
import { run as runGraphile, makeWorkerUtils, Logger } from "graphile-worker";

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A pool whose connections are open already: opening them is not what is measured.
export async function openPool(max) {
  const pool = new pg.Pool({ max, idleTimeoutMillis: 0 });
  const clients = await Promise.all(Array.from({ length: max }, () => pool.connect()));
  clients.forEach((client) => client.release());
  return pool;
}

export async function openClient() {
  const client = new pg.Client();
  await client.connect();
  return client;
}

export async function query(client, text, values) {
  return (await client.query({ name: values ? text.slice(0, 60) : undefined, text, values })).rows;
}

const quiet = new Logger(() => (level, message) => {
  if (level === "error") console.error(message);
});

export async function migrateGraphile(pool) {
  const utils = await makeWorkerUtils({ pgPool: pool, logger: quiet });
  await utils.migrate();
  await utils.release();
}

// Its documentation's fastest configuration (worker.graphile.org/docs/performance),
// when "best"; its defaults otherwise.
export function startGraphile(pool, concurrentJobs, best, taskList) {
  const worker = { concurrentJobs };
  if (best) Object.assign(worker, { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
  return runGraphile({ pgPool: pool, preset: { worker }, logger: quiet, noHandleSignals: true, taskList });
}

export async function startPgBoss(max, options = {}) {
  const { PgBoss } = await import("pg-boss");
  const boss = new PgBoss({
    host: process.env.PGHOST, port: Number(process.env.PGPORT ?? 5432), user: process.env.PGUSER,
    database: process.env.PGDATABASE, max, supervise: false, schedule: false, ...options,
  });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

export async function registerAgent(client, name) {
  return (await query(client, "SELECT id FROM coord.agent_register($1, heartbeat_timeout => '1 h')", [name]))[0].id;
}
