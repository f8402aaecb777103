// How fast one Node process, 16-way, works off trivial jobs that are waiting already.
//
//     node throughput.mjs coord|graphile|graphile-local-queue|pg-boss JOBS
//
// Prints {"jobs", "seconds"}.  The clock starts when the connections are open, and
// stops when the database has all the jobs as done.

import { migrateGraphile, openPool, query, registerAgent, sleep, startGraphile, startPgBoss } from "./common.mjs";

const WAYS = 16;
const BATCH = 100;
const [system, number] = process.argv.slice(2);
const jobs = Number(number);
let done = 0;

function work() {
  done++;
}

async function each(ways, loop) {
  const start = performance.now();
  await Promise.all(Array.from({ length: ways }, (_, way) => loop(way)));
  return performance.now() - start;
}

async function coord() {
  const pool = await openPool(WAYS);
  await query(pool, `SELECT count(*) FROM coord.task_create_many((SELECT jsonb_agg(jsonb_build_object(
    'type', 'bench', 'queue', 'node', 'payload', jsonb_build_object('n', n))) FROM generate_series(1, $1::int) n))`, [jobs]);
  const clients = await Promise.all(Array.from({ length: WAYS }, () => pool.connect()));
  const agents = await Promise.all(clients.map((client, way) => registerAgent(client, `node ${way}`)));

  function complete(client, tasks) {
    return query(client, "SELECT count(*) FROM coord.task_complete_many($1)", [JSON.stringify(
      tasks.map((task) => ({ task_id: task.id, fencing_token: task.fencing_token })))]);
  }

  const time = await each(WAYS, async (way) => {
    for (;;) {
      const tasks = await query(clients[way], "SELECT id, fencing_token FROM coord.task_claim($1, 'node', lease_ttl => '10 min', max_tasks => $2)",
        [agents[way], BATCH]);
      if (tasks.length === 0) return;
      tasks.forEach(work);
      await complete(clients[way], tasks);
    }
  });
  clients.forEach((client) => client.release());
  await pool.end();
  return time;
}

async function graphile(best) {
  const pool = await openPool(WAYS + 1);
  await migrateGraphile(pool);
  await query(pool, "SELECT count(graphile_worker.add_job('bench', json_build_object('n', n))) FROM generate_series(1, $1::int) n", [jobs]);
  const start = performance.now();
  const runner = await startGraphile(pool, WAYS, best, { bench: work });
  while (done < jobs) await sleep(1);
  while ((await query(pool, "SELECT count(*)::int AS left FROM graphile_worker._private_jobs"))[0].left > 0) await sleep(1);
  const time = performance.now() - start;
  await runner.stop();
  await pool.end();
  return time;
}

async function pgBoss() {
  const boss = await startPgBoss(WAYS);
  await boss.createQueue("bench");
  for (let n = 0; n < jobs; n += 1000)
    await boss.insert("bench", Array.from({ length: Math.min(1000, jobs - n) }, (_, i) => ({ data: { n: n + i } })));
  const time = await each(WAYS, async () => {
    for (;;) {
      const batch = await boss.fetch("bench", { batchSize: BATCH });
      if (!batch || batch.length === 0) return;
      batch.forEach(work);
      await boss.complete("bench", batch.map((job) => job.id));
    }
  });
  await boss.stop({ graceful: false });
  return time;
}

const systems = { coord, graphile: () => graphile(false), "graphile-local-queue": () => graphile(true), "pg-boss": pgBoss };
const time = await systems[system]();
if (done !== jobs) throw new Error(`${done} jobs were worked on instead of ${jobs}`);
console.log(JSON.stringify({ jobs, seconds: time / 1000 }));
process.exit(0);
