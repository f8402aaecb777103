// The SDK's client, unmodified, calls every tool, with success and without; its own
// schemas and the tools' accept each answer.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { at_end, is, ok, rejects, done_testing } from "./lib/tap.mjs";
import { connect, new_database, Server } from "./lib/server.mjs";
import { parameters } from "./lib/bridge.mjs";
import { compile, faults } from "./lib/schema.mjs";

// pg_cron keeps the schedules, in a database of its own
await Server.start("shared_preload_libraries = 'coord,pg_cron'\n");
const cron = await connect("postgres");
await cron.query("CREATE EXTENSION pg_cron");
await cron.end();
const database = await new_database();
const client = new Client({ name: "sdk-client", version: "1.0.0" });
const transport = new StdioClientTransport(parameters());
const protocol_errors = [];
client.onerror = (error) => protocol_errors.push(error);
at_end(() => client.close());
await client.connect(transport);
is(client.getServerVersion().name, "coord", "connected");
ok(client.getInstructions(), "with instructions for the model");

const { tools } = await client.listTools();
const schemas = new Map();
for (const tool of tools) {
  try {
    schemas.set(tool.name, { input: compile(tool.inputSchema), output: compile(tool.outputSchema) });
  } catch (error) {
    ok(false, `the schemas of ${tool.name} are valid`, error);
  }
}
is(schemas.size, tools.length, "all schemas are valid, in strict mode");
is(tools.filter((tool) => !/^[a-zA-Z0-9_-]{1,64}$/.test(tool.name)).map((tool) => tool.name), [], "all names suit all clients");
const undescribed = tools.flatMap((tool) =>
  [[tool.name, tool.description], ...Object.entries(tool.inputSchema.properties).map(([name, schema]) => [`${tool.name}.${name}`, schema.description])]
    .filter(([, description]) => !description)
    .map(([name]) => name));
is(undescribed, [], "all tools and arguments are described");

// ---- calls, and what of them is yet to be made

const wanted = new Set(tools.flatMap((tool) => [`${tool.name} succeeds`, `${tool.name} refuses`]));

async function call(name, args) {
  const result = await client.callTool({ name, arguments: args });
  const content = result.structuredContent;
  const wrong = schemas.get(name) ? faults(schemas.get(name).output, content) : "no such tool";
  const text = JSON.parse(result.content[0].text);
  if (wrong || result.content.length !== 1 || JSON.stringify(text) !== JSON.stringify(content))
    ok(false, `the answer of ${name} is as its outputSchema says, and as text the same`, wrong, result);
  return { refused: result.isError === true, content };
}

// What is accepted beyond the inputSchema is given as "also".
async function succeeds(name, args = {}, check = () => true, also = {}) {
  const wrong = schemas.get(name) ? faults(schemas.get(name).input, args) : null;
  args = { ...args, ...also };
  const { refused, content } = await call(name, args);
  wanted.delete(`${name} succeeds`);
  ok(!refused && !wrong && check(content), `${name} ${JSON.stringify(args)}`, wrong, content);
  return content;
}

async function refuses(name, args, code, check = () => true) {
  const { refused, content } = await call(name, args);
  wanted.delete(`${name} refuses`);
  ok(refused && content.code === code && typeof content.retryable === "boolean" && typeof content.message === "string" &&
    /^[0-9A-Z]{5}$/.test(content.sqlstate) && check(content), `${name} ${JSON.stringify(args)}: ${code}`, content);
  return content;
}

const nobody = "00000000-0000-4000-8000-000000000000";
const argument = (name) => (content) => content.argument === name;

// ---- the audit's payload

const agent = { id: "86a8c03d-26cb-4484-a87a-fb5061dfa74a", name: "failure-recovery-agent", type: "resilience-tester" };
const claim = {
  task_id: "798365ca-c85d-498f-ad6c-3417b29a8a44",
  agent_id: agent.id,
  resource_key: "task-798365ca-failure-recovery",
  lease_ttl: 60,
};
await succeeds("agent_register", { ...agent, heartbeat_timeout: 600 }, (row) => row.id === agent.id && row.status === "active");
await succeeds("task_create", { type: "recovery", id: claim.task_id }, (row) => row.id === claim.task_id && row.state === "pending");
const { tasks: [task] } = await succeeds("task_claim", claim, ({ tasks }) => tasks.length === 1);
is([task.id, task.agent_id, task.state, task.resource_key], [claim.task_id, agent.id, "claimed", claim.resource_key],
  "the audit's task.claim");
const seconds = (Date.parse(task.lease_expires_at) - Date.parse(task.claimed_at)) / 1000;
is(seconds, 60, "its lease_ttl is in seconds");
ok(Number.isSafeInteger(task.fencing_token), "its token is a number");
const held = { task_id: task.id, fencing_token: task.fencing_token };

// ---- tasks

const other = (await succeeds("agent_register", { name: "other", heartbeat_timeout: 600 })).id;
await refuses("agent_register", { type: "worker" }, -32602, argument("name"));
await refuses("task_claim", { task_id: task.id, agent_id: other }, 1002,
  (content) => content.holder === agent.id && content.expires_at === task.lease_expires_at && content.retry_after > 50);
await refuses("task_create", { type: "a", colour: "red" }, -32602, argument("colour"));
await succeeds("task_renew", { ...held, lease_ttl: 120, progress: { done: 1 } }, (row) => row.progress.done === 1);
await refuses("task_renew", { ...held, fencing_token: held.fencing_token - 1 }, 1003);
await refuses("task_complete", { ...held, fencing_token: held.fencing_token - 1 }, 1003);
await succeeds("task_complete", { ...held, result: { answer: 42 } }, (row) => row.state === "completed" && row.result.answer === 42);
await succeeds("task_complete", { ...held, result: { answer: 42 } }, (row) => row.state === "completed",
  { fencing_token: String(held.fencing_token) });
await refuses("task_cancel", { task_id: nobody }, 1001);
await refuses("task_create_many", { tasks: [{ type: "a" }, { queue: "many" }] }, -32602);
const { ids } = await succeeds("task_create_many",
  { tasks: ["a", "b", "c", "d", "e"].map((type) => ({ type, queue: "many", max_attempts: 1 })) }, ({ ids }) => ids.length === 5);
await succeeds("task_cancel", { task_id: ids[4] }, (row) => row.state === "cancelled");
const many = (await succeeds("task_claim", { queue: "many", max_tasks: 10 }, ({ tasks }) => tasks.length === 4)).tasks
  .map((row) => ({ task_id: row.id, fencing_token: row.fencing_token }));
await succeeds("task_claim", { queue: "many" }, ({ tasks }) => tasks.length === 0);
await succeeds("task_complete_many", { tasks: many.slice(0, 1) }, ({ tasks }) => tasks[0].state === "completed");
await refuses("task_complete_many", { tasks: "all" }, -32602, argument("tasks"));
await succeeds("task_release", many[1], (row) => row.state === "pending" && row.attempts === 0);
await refuses("task_release", many[1], 1003);
await succeeds("task_fail", { ...many[2], error: "broken" }, (row) => row.state === "dead" && row.error === "broken");
await refuses("task_fail", { ...many[2], error: "broken again" }, 1003);
await succeeds("task_redrive", { queue: "many" }, ({ redriven }) => redriven === 1);
await refuses("task_redrive", { task_id: nobody }, 1001);
await succeeds("task_blocked_by", { task_id: ids[4] }, ({ reasons }) => reasons.startsWith("It was cancelled at "));
await refuses("task_blocked_by", { task_id: nobody }, 1001);
await succeeds("task_history", { task_id: ids[4] }, ({ entries }) => entries.map((entry) => entry.what).join() === "created,cancelled");
await refuses("task_history", { task_id: nobody }, 1001);
await succeeds("queue_stats", { name: "many" }, ({ queues }) => queues[0].completed === 1 && queues[0].cancelled === 1);
await refuses("queue_stats", { name: "none such" }, 1001);
await succeeds("task_schedule", { name: "nightly", schedule: "0 3 * * *", type: "report", payload: { a: [1] } }, ({ job_id }) => job_id > 0);
await refuses("task_schedule", { name: "nightly", schedule: "tonight", type: "report" }, -32602, argument("schedule"));
await succeeds("task_unschedule", { name: "nightly" }, ({ unscheduled }) => unscheduled === true);
await refuses("task_unschedule", {}, -32602, argument("name"));
await succeeds("task_list", { queue: "many", state: "pending" }, ({ tasks }) => tasks.length === 2);
await refuses("task_list", { limit: "all" }, -32602, argument("limit"));

// ---- locks

const lock = await succeeds("lock_acquire", { resource_key: "test-lock-ttl-1", ttl: 60 },
  (row) => row.state === "active" && row.resource_key === "test-lock-ttl-1");
await succeeds("lock_acquire", { resource_key: "test-lock-ttl-1", ttl: 60 },
  (row) => row.id === lock.id && row.fencing_token === lock.fencing_token);
await refuses("lock_acquire", { resource_key: "test-lock-ttl-1", agent_id: other }, 1002,
  (content) => content.holder === lock.agent_id && content.expires_at && content.retry_after > 0);
await succeeds("lock_list", { state: "active" }, ({ locks }) => locks.some((row) => row.id === lock.id));
await refuses("lock_list", { after: 5 }, -32602, argument("after"));
await succeeds("lock_assert", { resource_key: "test-lock-ttl-1", fencing_token: lock.fencing_token });
await refuses("lock_assert", { resource_key: "test-lock-ttl-1", fencing_token: lock.fencing_token - 1 }, 1003);
await succeeds("lock_renew", { lease_id: lock.id, ttl: 90 },
  (row) => Date.parse(row.expires_at) - Date.parse(row.renewed_at) === 90_000);
await succeeds("lock_release", { lease_id: lock.id }, ({ released }) => released === true);
await succeeds("lock_release", { lease_id: lock.id }, ({ released }) => released === false);
await refuses("lock_release", { lease_id: "test-lock-ttl-1" }, -32602, argument("lease_id"));
await refuses("lock_renew", { lease_id: lock.id }, 1003);

// ---- events

const event = {
  type: "recovery.alert",
  severity: "warning",
  recipient_id: agent.id,
  channel: "recovery-alerts",
  payload: { from: "failure-recovery-agent", to: "qwen-reviewer", subject: "Lock Expiry Confirmed" },
};
await succeeds("event_subscribe", { channel: "recovery-alerts" }, ({ subscribed }) => subscribed === true);
await refuses("event_subscribe", { channel: "recovery-alerts", agent_id: nobody }, 1001);
const sent = await succeeds("event_send", event, (row) => row.recipient_id === agent.id && row.channel === "recovery-alerts");
await refuses("event_send", { ...event, severity: "terrible" }, -32602);
await database.query("SELECT coord.sweep()");
await succeeds("event_list", { recipient_id: agent.id, type: "recovery.alert" }, ({ events }) => events[0]?.id === sent.id);
await refuses("event_list", { after: "yesterday" }, -32602, argument("after"));
const polled = await succeeds("event_poll", {}, ({ events }) => events.some((row) => row.id === sent.id));
await refuses("event_poll", { agent_id: nobody }, 1001);
const position = polled.events.find((row) => row.id === sent.id).position;
await succeeds("inbox", { max_events: 5 }, ({ events }) => events.some((row) => row.id === sent.id));
await succeeds("inbox", { ack: position }, ({ events }) => !events.some((row) => row.id === sent.id));
await refuses("inbox", { agent_id: nobody }, 1001);
await succeeds("event_ack", { position }, () => true, { position: String(position) });
await refuses("event_ack", { position: 1.5 }, -32602, argument("position"));
await succeeds("event_unsubscribe", { channel: "recovery-alerts" }, ({ unsubscribed }) => unsubscribed === true);
await refuses("event_unsubscribe", {}, -32602, argument("channel"));

// ---- agents and queues

await succeeds("agent_heartbeat", { agent_id: other }, (row) => row.status === "active");
await succeeds("agent_heartbeat", {}, (row) => row.status === "active");
await refuses("agent_heartbeat", { agent_id: nobody }, 1001);
await succeeds("agent_list", { name: "sdk-client" }, ({ agents }) => agents.length <= 1);
await refuses("agent_list", { status: 7 }, -32602, argument("status"));
await succeeds("agent_retire", { agent_id: other }, (row) => row.status === "retired");
await refuses("agent_retire", { agent_id: nobody }, 1001);
await succeeds("queue_set", { name: "many", lease_ttl: 45.5, max_claimed: 3 }, (row) => row.lease_ttl === 45.5 && row.max_claimed === 3);
await refuses("queue_set", { name: "many", lease_ttl: -1 }, -32602);
await succeeds("queue_pause", { name: "many" }, (row) => row.paused === true);
await refuses("queue_pause", {}, -32602, argument("name"));
await succeeds("queue_resume", { name: "many" }, (row) => row.paused === false);
await refuses("queue_resume", { name: 1 }, -32602, argument("name"));
await succeeds("queue_list", { name: "many" }, ({ queues }) => queues[0].pending === 2);
await refuses("queue_list", { limit: -1 }, -32602);

is([...wanted], [], "every tool was called, with success and without");

// ---- other ways to be wrong

await succeeds("task_list", { limit: 1 });
is((await client.callTool({ name: "task.list", arguments: { limit: 1 } })).isError ?? false, false, "a dotted name is accepted");
const unknown = await rejects(client.callTool({ name: "task_steal", arguments: {} }), "an unknown tool is a protocol error");
is(unknown.code, -32602, "whose code is -32602");
await client.ping();
await client.close();
is(protocol_errors, [], "the client met no error");
await done_testing();
