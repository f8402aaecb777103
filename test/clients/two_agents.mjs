// Two agents share work through a bridge each.  Then, in the middle of claims, bridges are
// killed, clients go away and the server crashes: work goes on, every task is completed,
// and none by two holders of good tokens.

import { is, ok, until, diag, done_testing } from "./lib/tap.mjs";
import { Server, connect } from "./lib/server.mjs";
import { Bridge } from "./lib/bridge.mjs";

const server = await Server.start();
let database = await connect();
await database.query("CREATE EXTENSION coord");
const one = async (query, ...args) => Object.values((await database.query(query, args)).rows[0])[0];
const count = (queue, state) => one("SELECT count(*) FROM coord.task WHERE queue = $1 AND state = $2", queue, state);

// The result of a call that is repeated for as long as the server is away.  What stands
// in its way must say that it may be repeated.
const odd = [];
let repeated = 0;
async function definite(bridge, name, args) {
  for (;;) {
    const result = await bridge.call(name, args).catch((error) => {
      if (!error.data) throw error;
      return { isError: true, structuredContent: error.data };
    });
    if (!result.isError || !result.structuredContent.retryable) return result;
    if (!/^(57P0[123]|08...|40...)$/.test(result.structuredContent.sqlstate)) odd.push(result.structuredContent);
    repeated += 1;
  }
}

// An agent at work until it is told to stop: what it has claimed and completed.
function work(name, queue, options) {
  const worker = { name, bridge: new Bridge("--name", name, ...options), claimed: [], completed: [], refused: [], stopped: false };
  async function loop() {
    await worker.bridge.initialize();
    while (!worker.stopped) {
      const { isError, structuredContent } = await definite(worker.bridge, "task_claim", { queue, wait: 60 });
      if (isError) throw new Error(JSON.stringify(structuredContent));
      for (const { id, fencing_token } of structuredContent.tasks) {
        worker.claimed.push(id);
        const end = await definite(worker.bridge, "task_complete", { task_id: id, fencing_token, result: { by: name } });
        if (end.isError) worker.refused.push(end.structuredContent.code);
        else worker.completed.push(id);
      }
    }
  }
  worker.done = loop().catch((error) => {
    if (!worker.stopped) worker.error = error;
  });
  return worker;
}

// Stop while it waits: its claim has an answer, and no task is taken along.
async function stop(worker) {
  worker.stopped = true;
  is(await worker.bridge.close(), 0, `${worker.name} ends at the end of its stdin, though it waits`);
  await worker.done;
  is(worker.error, undefined, `${worker.name} met no error`);
}

async function create(bridge, queue, numbers) {
  const tasks = numbers.map((number) => ({ type: "share", queue, payload: { number } }));
  const result = await definite(bridge, "task_create_many", { tasks });
  return result.structuredContent.ids;
}

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);
const boss = new Bridge("--name", "boss");
await boss.initialize();

// ---- two agents, 200 tasks, which come while they wait

const pair = ["ann", "bob"].map((name) => work(name, "shared", []));
await until(async () => (await one("SELECT count(*) FROM coord.agent WHERE name IN ('ann', 'bob')")) === 2, "both have registered");
const shared = [];
for (let i = 0; i < 20; i++) {
  shared.push(...(await create(boss, "shared", range(i * 10, i * 10 + 10))));
  if (i % 5 === 4) await until(async () => (await count("shared", "completed")) === shared.length, "they are at rest");
}
const completed = pair.flatMap((worker) => worker.completed);
await until(() => pair.flatMap((worker) => worker.completed).length === 200, "both have heard of their last");
is(pair.flatMap((worker) => worker.completed).sort(), [...shared].sort(), "200 tasks are done, each once");
is(pair.flatMap((worker) => worker.claimed).length, 200, "and were claimed once");
ok(pair.every((worker) => worker.completed.length > 20), "by both", pair.map((worker) => worker.completed.length));
const began = Date.now();
const [quick] = await create(boss, "shared", [200]);
await until(() => pair.some((worker) => worker.completed.includes(quick)), "a task for those who wait");
// who is not woken asks again when the wait of a minute is over
ok(Date.now() - began < 2000, `who waits gets a new task at once (${Date.now() - began} ms)`);
await Promise.all(pair.map(stop));
is(await one("SELECT count(*) FROM coord.agent WHERE name IN ('ann', 'bob') AND status = 'retired'"), 2, "both agents are retired");

// ---- kills

await boss.call("queue_set", { name: "rough", lease_ttl: 3, max_attempts: 1000, backoff_base: 0.05, backoff_max: 0.2 });
const rough = await create(boss, "rough", range(0, 60));
const steady = ["eve", "fay"].map((name) => work(name, "rough", ["--heartbeat-timeout", "10"]));
const lost = []; // the claims of those that were killed

// A client that claims as fast as it can, and then is gone.
async function victim(name, answers, end) {
  const bridge = new Bridge("--name", name, "--heartbeat-timeout", "3");
  await bridge.initialize();
  const ids = range(0, 8).map((i) => `claim ${i}`);
  const tasks = () => bridge.messages.filter((message) => ids.includes(message.id)).flatMap((message) => message.result?.structuredContent?.tasks ?? []);
  for (const id of ids)
    bridge.send({ jsonrpc: "2.0", id, method: "tools/call", params: { name: "task_claim", arguments: { queue: "rough", wait: 60 } } });
  await until(() => tasks().length >= answers, `${answers} claims of ${name}`);
  await end(bridge);
  lost.push(...tasks());
}

for (let round = 0; round < 4; round++) {
  rough.push(...(await create(boss, "rough", range(0, 25))));
  await victim(`killed bridge ${round}`, round % 3, (bridge) => bridge.kill());
  rough.push(...(await create(boss, "rough", range(0, 25))));
  await victim(`gone client ${round}`, round % 3, async (bridge) =>
    is(await bridge.close(), 0, `a client that goes away in the middle of claims, with ${round % 3} answered`));
  is(await one("SELECT count(*) FROM coord.task t JOIN coord.agent a ON a.id = t.agent_id WHERE a.name = $1 AND t.state = 'claimed'",
    `gone client ${round}`), 0, "leaves no claim behind");
}
const before = await Promise.all(steady.map((worker) => definite(worker.bridge, "agent_heartbeat", {})));
for (let round = 0; round < 3; round++) {
  const completions = () => steady.reduce((sum, { completed, error }) => {
    if (error) throw error;
    return sum + completed.length;
  }, 0);
  const enough = completions() + 7 * round;
  rough.push(...(await create(boss, "rough", range(0, 40))));
  await until(() => completions() >= enough, "some work");
  await server.crash();
  await server.again();
}
database = await connect();
await until(async () => (await count("rough", "completed")) === rough.length, "all tasks are completed", 60);
await until(() => steady.every((worker) => worker.error || worker.claimed.length === worker.completed.length + worker.refused.length),
  "all answers are there");
const after = await Promise.all(steady.map((worker) => definite(worker.bridge, "agent_heartbeat", {})));
is(after.map((result) => result.structuredContent.id), before.map((result) => result.structuredContent.id),
  "after three crashes of the server, both are the same agents");
ok(true, `${rough.length} tasks are completed, in spite of all`);
const done = steady.flatMap((worker) => worker.completed);
is(done.length, new Set(done).size, "none twice");
is(await one("SELECT count(*) FROM coord.task WHERE queue = 'rough' AND result->>'by' NOT IN ('eve', 'fay')"), 0, "and by nobody else");
ok(lost.length > 0, `${lost.length} claims were lost`);
const codes = [];
for (const { id, fencing_token } of lost)
  codes.push((await boss.call("task_complete", { task_id: id, fencing_token, result: { by: "the dead" } })).structuredContent.code);
is([...new Set(codes)], [1003], "the tokens of those claims are refused");
ok(repeated > 0, `${repeated} calls had to be repeated`);
is(odd, [], "all that was to be repeated was due to the lost connection");
await Promise.all(steady.map(stop));
diag(`completed by eve and fay: ${steady.map((worker) => worker.completed.length)}; refused: ${steady.flatMap((worker) => worker.refused)}`);
is([...steady, ...pair].flatMap((worker) => worker.bridge.garbage), [], "nothing but JSON on stdout");
await database.end();
await done_testing();
