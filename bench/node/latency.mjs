// How soon a job starts in a worker that listens and has nothing else to do.
//
//     node latency.mjs coord|graphile|graphile-local-queue|pg-boss JOBS
//
// Prints, of each job, the milliseconds from the call that creates it to its start,
// and from that call's return (its commit, as the client sees it) to its start; the
// latter is 0 when the worker was faster than the answer.

import { migrateGraphile, openClient, openPool, query, registerAgent, sleep, startGraphile, startPgBoss } from "./common.mjs";

const [system, number] = process.argv.slice(2);
const jobs = Number(number);
let started;

function work() {
  started(performance.now());
}

// coord's worker as the README has it: claim until there is nothing, then wait.
async function coord() {
  const producer = await openClient();
  const worker = await openClient();
  const agent = await registerAgent(worker, "latency");
  let told = true;
  let wake = () => {};
  worker.on("notification", () => {
    told = true;
    wake();
  });
  await query(worker, "SELECT coord.queue_listen('latency')");
  (async () => {
    for (;;) {
      told = false;
      const [task] = await query(worker, "SELECT id, fencing_token FROM coord.task_claim($1, 'latency')", [agent]);
      if (task) {
        work();
        await query(worker, "SELECT state FROM coord.task_complete($1, $2)", [task.id, task.fencing_token]);
      } else if (!told) {
        await new Promise((resolve) => (wake = resolve));
      }
    }
  })();
  return () => query(producer, "SELECT state FROM coord.task_create('bench', $1, queue => 'latency')", ['{"n": 1}']);
}

async function graphile(best) {
  const pool = await openPool(10);
  await migrateGraphile(pool);
  await startGraphile(pool, 1, best, { bench: work });
  const producer = await openClient();
  return () => query(producer, "SELECT id FROM graphile_worker.add_job('bench', $1)", ['{"n": 1}']);
}

async function pgBoss() {
  const boss = await startPgBoss(10, { useListenNotify: true });
  await boss.createQueue("bench", { notify: true });
  await boss.work("bench", { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 }, async () => work());
  return () => boss.send("bench", { n: 1 });
}

const systems = { coord, graphile: () => graphile(false), "graphile-local-queue": () => graphile(true), "pg-boss": pgBoss };
const enqueue = await systems[system]();
await sleep(500);
const fromCall = [];
const fromCommit = [];
for (let n = 0; n < jobs + 20; n++) {
  const start = new Promise((resolve) => (started = resolve));
  const called = performance.now();
  await enqueue();
  const committed = performance.now();
  const at = await Promise.race([start, sleep(10000).then(() => { throw new Error("a job did not start within 10 s"); })]);
  if (n >= 20) {                // the first ones warm the caches
    fromCall.push(at - called);
    fromCommit.push(Math.max(0, at - committed));
  }
  await sleep(3 + Math.random() * 5);
}
console.log(JSON.stringify({ fromCall, fromCommit }));
process.exit(0);
