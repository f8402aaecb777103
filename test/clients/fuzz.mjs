// Mutated requests, to coord.rpc and coord.mcp and to the bridge's stdin: each has one
// valid answer, or none if it is a notification, and nothing crashes.
//
//   SEED= COUNT=   the same again, or more of it: make fuzz-rpc

import fs from "node:fs";
import { is, ok, until, diag, done_testing } from "./lib/tap.mjs";
import { new_database, connect } from "./lib/server.mjs";
import { Bridge } from "./lib/bridge.mjs";

const seed = Number(process.env.SEED || Math.floor(Math.random() * 2 ** 31));
const count = Number(process.env.COUNT || 3000);
diag(`SEED=${seed} COUNT=${count}`);

// ---- what is sent

let state = seed | 1;
function random(n) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}
const pick = (list) => list[random(list.length)];

const database = await new_database();
const { tools } = (await database.query("SELECT coord.mcp($1, '{}') -> 'result' AS r", ['{"jsonrpc":"2.0","id":1,"method":"tools/list"}'])).rows[0].r;
const ids = ["86a8c03d-26cb-4484-a87a-fb5061dfa74a", "798365ca-c85d-498f-ad6c-3417b29a8a44", "00000000-0000-0000-0000-000000000000"];
await database.query("SELECT coord.agent_register('fuzz', id => $1, heartbeat_timeout => '1 h')", [ids[0]]);
await database.query("SELECT coord.task_create('fuzz', id => $1)", [ids[1]]);

const odd = [
  null, true, false, 0, -1, 1, 1.5, 1e308, -1e-308, 9007199254740993n, 2n ** 63n, -(2n ** 63n), 10n ** 40n, "", " ", "x", "\u0000", "\ud800", "é😀\u2028",
  "a".repeat(600), "'; DROP TABLE x; --", "%s%n", "-1", "NaN", "Infinity", "2026-02-30T25:61:00Z", "infinity", "epoch", [], [[]], {}, { a: {} },
  [null], "{}", "2311762744832118", ...ids,
];

// JSON of a value that may hold bigints and broken surrogates.
function json(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(json).join()}]`;
  if (value !== null && typeof value === "object")
    return `{${Object.entries(value).map(([key, member]) => `${JSON.stringify(key)}:${json(member)}`).join()}}`;
  return JSON.stringify(value === undefined ? null : value);
}

function plausible(schema, name) {
  if (random(6) === 0) return pick(odd);
  if (/(^|_)id$/.test(name)) return pick(ids);
  switch ([schema.type].flat()[0]) {
    case "integer": return random(5);
    case "number": return pick([0.1, 1, 30, 0.15]);
    case "boolean": return random(2) === 1;
    case "array": return Array.from({ length: random(4) }, () => pick([{ type: "many" }, ids[1], pick(odd)]));
    case "object": return pick([{}, { to: "fuzz" }, { a: [1, { b: null }] }]);
    default: return pick(["default", "fuzz", "info", "pending", "fuzz", "2026-02-23T00:33:12.813830+00:00"]);
  }
}

function request(id) {
  const tool = pick(tools);
  const args = {};
  for (const [name, schema] of Object.entries(tool.inputSchema.properties))
    if (tool.inputSchema.required?.includes(name) ? random(12) > 0 : random(3) === 0) args[name] = plausible(schema, name);
  if (tool.name === "lock_acquire" || tool.name === "task_claim") delete args.wait; // time is short
  if (random(10) === 0) args[pick(["", "colour", "agent_id", "_meta", "limit"])] = pick(odd);
  const direct = random(2) === 0;
  const message = {
    jsonrpc: "2.0",
    id,
    method: direct ? pick([tool.name.replace("_", "."), tool.name.replace("_", "."), "ping", "tools/list", "initialize", "server/discover", "nothing"]) : "tools/call",
    params: direct ? args : { name: random(8) === 0 ? tool.name.replace("_", ".") : tool.name, arguments: args },
  };
  if (random(6) === 0)
    message.params._meta = {
      "io.modelcontextprotocol/protocolVersion": pick(["2026-07-28", "2026-07-28", "2025-11-25", pick(odd)]),
      "io.modelcontextprotocol/clientCapabilities": pick([{}, {}, pick(odd)]),
      "io.modelcontextprotocol/clientInfo": pick([{ name: "fuzz", version: "1" }, pick(odd)]),
    };
  switch (random(14)) {
    case 0: delete message[pick(Object.keys(message))]; break;
    case 1: message[pick(["jsonrpc", "id", "method", "params", "more"])] = pick(odd); break;
    case 2: message.params[pick(["name", "arguments", "cursor", "_meta"])] = pick(odd); break;
    case 3: delete message.id; break;
  }
  return message;
}

// One line: a request, a batch, or one that was damaged.  None has a newline in it.
function line(number) {
  const of = (i) => (random(20) === 0 ? pick(odd) : request(pick([number, number, `${number}.${i}`, -number])));
  let text = json(random(12) === 0 ? Array.from({ length: random(5) }, (_, i) => of(i)) : of(0));
  const damages = random(6) === 0 ? 1 + random(3) : 0;
  for (let i = 0; i < damages; i++) {
    const at = random(text.length + 1);
    switch (random(6)) {
      case 0: text = text.slice(0, at) + text.slice(at + 1 + random(5)); break;
      case 1: text = text.slice(0, at) + pick(['"', "\\", "{", "}", "[", "]", ",", ":", "\t", "\u007f", "\ufeff", "1e9", "\\u0000", "-"]) + text.slice(at); break;
      case 2: text = text.slice(0, at); break;
      case 3: text = text.slice(0, at) + text.slice(at - random(20)); break;
      case 4: text = `${"[".repeat(random(2000))}${text}`; break;
      case 5: text = text.replace(/[0-9]+/, pick(["1e400", "00", "-0", "0.1e-5", "99999999999999999999"])); break;
    }
  }
  return text.replace(/[\n\r]/g, " ");
}

// ---- what is valid

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const is_object = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const is_response = (message) => is_object(message) && !("method" in message) && ("result" in message || "error" in message);
const is_notification = (message) =>
  is_object(message) && typeof message.method === "string" && message.jsonrpc === "2.0" &&
  (message.params === undefined || typeof message.params === "object") &&
  !("id" in message);

// What is wrong with the answer to one message (undefined: not even JSON), or nothing.
function fault(message, answer, mcp) {
  if (is_notification(message) || (mcp && is_response(message))) return answer === null ? undefined : "an answer to a notification";
  if (answer === null) return "no answer";
  if (!is_object(answer)) return "no object";
  const keys = Object.keys(answer).sort().join();
  if (!["error,id,jsonrpc", "id,jsonrpc,result", ...(mcp ? ["error,jsonrpc"] : [])].includes(keys)) return `members ${keys}`;
  if (answer.jsonrpc !== "2.0") return "jsonrpc";
  if (mcp && answer.id === null) return "id null";
  if ("result" in answer && !is_object(answer.result)) return "a result that is no object";
  if (is_object(message) && (typeof message.id === "string" || Number.isSafeInteger(message.id)) && "id" in answer && answer.id !== null &&
      answer.id !== message.id) return "another id";
  if ("result" in answer && answer.id === undefined) return "a result without id";
  if ("error" in answer) {
    const { code, message: text, data } = answer.error;
    if (!Number.isInteger(code) || typeof text !== "string" || typeof data?.sqlstate !== "string" || typeof data.retryable !== "boolean") return "error";
    if (code === -32603 || data.sqlstate.startsWith("XX")) return "an internal error";
  }
  const content = answer.result?.structuredContent;
  if (content && (content.code === -32603 || String(content.sqlstate).startsWith("XX"))) return "an internal error";
  return undefined;
}

// JSON.parse reads what jsonb does not, such as \u0000: of what PostgreSQL refuses as a
// whole, a batch or a notification too, only the form of the answer is checked.
function fault_of(text, answer, mcp) {
  const message = parsed(text);
  const unread = [-32700, -32600].includes(answer?.error?.code) && (answer.id ?? null) === null;
  if (message === undefined || unread)
    return answer === null ? fault(message, answer, mcp) : fault({}, answer, mcp);
  if (Array.isArray(message) && message.length > 0) {
    const wanted = message.filter((each) => !is_notification(each) && !(mcp && is_response(each)));
    if (wanted.length === 0) return answer === null ? undefined : "an answer to a batch of notifications";
    if (!Array.isArray(answer)) return "no batch";
    if (answer.length !== wanted.length) return `${answer.length} answers to ${wanted.length}`;
    return wanted.map((each, i) => fault(each, answer[i], mcp)).find(Boolean);
  }
  return fault(message, answer, mcp);
}

const faults = [];
function note(what, text, answer) {
  if (what) faults.push({ what, text: text.slice(0, 1500), answer: JSON.stringify(answer)?.slice(0, 1500) });
}

// ---- the functions

const backend = (await database.query("SELECT pg_backend_pid() AS pid")).rows[0].pid;
await database.query("SET lock_timeout = '5s'");
let sent = 0;
for (const mcp of [false, true]) {
  faults.length = 0;
  for (let number = 1; number <= count / 2; number++) {
    const text = line(number);
    sent += 1;
    const query = mcp ? "SELECT coord.mcp($1, $2) AS a" : "SELECT coord.rpc($1) AS a";
    try {
      const { rows: [{ a }] } = await database.query(query, mcp ? [text, { agent_id: ids[0], sender_id: ids[0] }] : [text]);
      note(fault_of(text, a, mcp), text, a);
    } catch (error) {
      note(`raised: ${error.code} ${error.message}`, text);
      if (error.code === undefined) throw error;
    }
  }
  is(faults.slice(0, 5), [], `coord.${mcp ? "mcp" : "rpc"}: valid answers to ${Math.floor(count / 2)} lines (SEED=${seed} COUNT=${count})`);
}
is((await database.query("SELECT pg_backend_pid() AS pid")).rows[0].pid, backend, "in one session all along");

// ---- the bridge

faults.length = 0;
const bridge = new Bridge("--name", "fuzzed");
await bridge.initialize("2025-03-26");
const resident = () => Number(fs.readFileSync(`/proc/${bridge.child.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1]);
// AddressSanitizer does so for long
const keeps_what_is_freed = fs.readFileSync(`/proc/${bridge.child.pid}/maps`, "utf8").includes("libasan");
let grown = resident();
for (let number = 1; number <= count; number++) {
  const text = line(number);
  const before = bridge.messages.length;
  bridge.send(text);
  bridge.send({ jsonrpc: "2.0", id: `mark ${number}`, method: "ping" });
  await bridge.answer(`mark ${number}`);
  const answers = bridge.messages.slice(before).filter((each) => each.id !== `mark ${number}` && each.method === undefined);
  if (answers.length > 1) note(`${answers.length} answers`, text, answers);
  else if (text.trim() !== "") note(parsed(text)?.method === "subscriptions/listen" ? undefined : fault_of(text, answers[0] ?? null, true), text, answers[0] ?? null);
  bridge.messages.length = 0;
  if (number === Math.floor(count / 2)) grown = resident();
}
grown = resident() - grown;
is(faults.slice(0, 5), [], `coord-mcp: valid answers to ${count} lines (SEED=${seed} COUNT=${count})`);
is(bridge.garbage, [], "nothing but JSON on stdout");
ok(grown < 2000 + count / 20 || keeps_what_is_freed, `its memory grew by ${grown} kB over the second half`);

// Bytes that are no text, and lines that end nowhere.
for (let i = 0; i < 200; i++) {
  const bytes = Buffer.from(Array.from({ length: random(300) }, () => random(256)).filter((byte) => byte !== 10 && byte !== 13));
  bridge.child.stdin.write(Buffer.concat([bytes, Buffer.from("\n")]));
}
is((await bridge.request("ping")).result, {}, "it goes on after 200 lines of any bytes");
is(bridge.messages.filter((each) => each.id !== undefined || !each.error).length, 1, "which had only errors");
is(await bridge.close(), 0, "and ends well");
is((await database.query("SELECT 1 AS one")).rows[0].one, 1, "so does the server");
await done_testing();
