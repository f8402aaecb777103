// Each revision of the old era, spoken line by line: what is negotiated, how each kind of
// id and of nonsense is answered; and the SDK's schemas accept every line that comes.

import * as sdk from "@modelcontextprotocol/sdk/types.js";
import { is, ok, until, done_testing } from "./lib/tap.mjs";
import { new_database } from "./lib/server.mjs";
import { Bridge } from "./lib/bridge.mjs";

await new_database();

// What the SDK says against a message; a batch is taken apart.
function faults(messages) {
  return messages.flat().flatMap((message) => {
    const parsed = sdk.JSONRPCMessageSchema.safeParse(message);
    return parsed.success ? [] : [{ message, error: parsed.error.issues }];
  });
}

function is_valid(schema, value, name) {
  const parsed = schema.safeParse(value);
  return ok(parsed.success, name, value, parsed.error?.issues);
}

const error_code = (messages) => messages.map((message) => message.error?.code);

for (const revision of ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "1999-01-01"]) {
  const bridge = new Bridge();
  const say = (text) => `${revision}: ${text}`;
  const known = revision !== "1999-01-01";

  // ---- negotiation
  bridge.send({ jsonrpc: "2.0", id: "early", method: "server/discover" });
  is((await bridge.answer("early")).error?.code !== undefined, true, say("server/discover without _meta is an error"));
  const initialized = await bridge.initialize(revision);
  is(initialized.protocolVersion, known ? revision : "2025-11-25", say("the revision, or the newest"));
  is_valid(sdk.InitializeResultSchema, initialized, say("the result of initialize"));

  // ---- requests
  const pong = await bridge.request("ping");
  is(pong, { jsonrpc: "2.0", id: pong.id, result: {} }, say("ping answers with nothing else"));
  const list = await bridge.request("tools/list");
  is_valid(sdk.ListToolsResultSchema, list.result, say("tools/list"));
  ok(!("nextCursor" in list.result), say("there is no nextCursor"));
  is(list.result.tools.filter((tool) => tool.inputSchema.type !== "object" || tool.outputSchema.type !== "object" ||
      Object.values(tool).includes(null)).map((tool) => tool.name), [], say("schemas of objects, and nothing null"));
  const called = await bridge.request("tools/call", { name: "task_list" });
  is_valid(sdk.CallToolResultSchema, called.result, say("tools/call without arguments"));
  is(called.result.structuredContent, { tasks: [] }, say("its structuredContent is an object"));
  const wrong = await bridge.request("tools/call", { name: "task_list", arguments: { limit: "x" } });
  is([wrong.result.isError, wrong.result.structuredContent.code], [true, -32602], say("a bad argument is a result of the tool"));
  const level = await bridge.request("logging/setLevel", { level: "warning" });
  is(level.result, {}, say("logging/setLevel"));
  is((await bridge.request("resources/list")).error.code, -32601, say("there are no resources"));
  is((await bridge.request("server/discover")).error?.code !== undefined, true, say("server/discover is an error then too"));
  is((await bridge.request("tools/call", { name: "nothing" })).error.code, -32602, say("an unknown tool"));
  is((await bridge.request("tools/call", [])).error.code, -32602, say("params that are a list"));
  is((await bridge.request("tools/call", { name: "task_list", arguments: 5 })).error.code, -32602, say("arguments that are no object"));

  // ---- ids
  for (const id of [0, "", -7, 9007199254740991, "0", "\u2028 \"\\ é 😀"])
    is(await bridge.exchange({ jsonrpc: "2.0", id, method: "ping" }), [{ jsonrpc: "2.0", id, result: {} }],
      say(`id ${JSON.stringify(id)}`));
  for (const id of [null, 1.5, true, {}, [1]]) {
    const answers = await bridge.exchange({ jsonrpc: "2.0", id, method: "ping" });
    is([error_code(answers), answers.some((answer) => "id" in answer)], [[-32600], false],
      say(`id ${JSON.stringify(id)} is refused, without an id`));
  }

  // ---- what has no answer, and what is none
  const silent = [
    { jsonrpc: "2.0", method: "notifications/initialized" },
    { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 99, reason: "none" } },
    { jsonrpc: "2.0", method: "notifications/unheard_of", params: {} },
    { jsonrpc: "2.0", method: "tools/list" },
    { jsonrpc: "2.0", id: 5, result: {} },
    { jsonrpc: "2.0", id: 6, error: { code: -1, message: "x" } },
  ];
  for (const message of silent) is(await bridge.exchange(message), [], say(`no answer to ${JSON.stringify(message)}`));
  const refused = [
    ["{", -32700], ['{"jsonrpc": "2.0", "id": 1, "method": "ping"', -32700], ["hello", -32700], ['"hello"', -32600], ["17", -32600],
    ["null", -32600], ["{}", -32600], ['{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600], ['{"jsonrpc": "2.0", "id": 1}', -32600],
    ['{"jsonrpc": "2.0", "id": 1, "method": 5}', -32600], ['{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": "x"}', -32600],
    ["\xff\xfe", -32700], ["[]", -32600],
  ];
  for (const [line, code] of refused) is(error_code(await bridge.exchange(line)), [code], say(`${line.slice(0, 70)}: ${code}`));

  // ---- batches
  const batch = [
    { jsonrpc: "2.0", id: 1, method: "ping" },
    { jsonrpc: "2.0", method: "notifications/initialized" },
    { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "task_list" } },
    { jsonrpc: "2.0", id: 3, method: "unheard_of" },
  ];
  const answers = await bridge.exchange(batch);
  if (revision === "2025-03-26")
    is([answers.length, answers[0].map?.((answer) => [answer.id, answer.error?.code])], [1, [[1, undefined], [2, undefined], [3, -32601]]],
      say("a batch is answered by a batch"));
  else is([answers.length, answers[0]?.error?.code], [1, -32600], say("a batch is refused as one"));
  const notifications = await bridge.exchange([{ jsonrpc: "2.0", method: "notifications/initialized" }]);
  is(error_code(notifications), revision === "2025-03-26" ? [] : [-32600], say("a batch of notifications"));

  // ---- all that came
  is(bridge.garbage, [], say("nothing but JSON on stdout"));
  is(faults(bridge.messages), [], say(`the SDK accepts all ${bridge.messages.length} messages`));
  is(bridge.messages.flat().filter((message) => message.id === null), [], say("none has the id null"));
  is(await bridge.close(), 0, say("the end of stdin is the end, with status 0"));
}

// ---- lines that are hard to read

const bridge = new Bridge();
await bridge.initialize();
const long = await bridge.exchange(JSON.stringify({ jsonrpc: "2.0", id: "long", method: "tools/call",
  params: { name: "task_create", arguments: { type: "x".repeat(10_000_000) } } }));
ok(long.length === 1 && (long[0].error || long[0].result?.isError), "a line of 10 MB has one answer, an error", JSON.stringify(long).slice(0, 300));
for (const message of ["", "   ", "\r"]) is(await bridge.exchange(message), [], `no answer to the line ${JSON.stringify(message)}`);
is(await bridge.exchange('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\r'), [{ jsonrpc: "2.0", id: 1, result: {} }], "a line may end in CR LF");
const deep = "[".repeat(100_000) + "]".repeat(100_000);
is((await bridge.exchange(`{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": ${deep}}}`)).length, 1, "deep nesting has one answer");
const nul = await bridge.exchange('{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "task_create", "arguments": {"type": "a\\u0000b"}}}');
ok(nul.length === 1 && (nul[0].error || nul[0].result.isError), "a string with NUL, which PostgreSQL cannot hold, is refused", nul);
bridge.child.stdin.write('{"jsonrpc": "2.0", "id": "slow", ');
await until(() => bridge.child.stdin.writableLength === 0, "the first half is written");
bridge.send('"method": "ping"}');
is((await bridge.answer("slow")).result, {}, "a line may come in pieces");
for (let i = 0; i < 500; i++) bridge.send({ jsonrpc: "2.0", id: i, method: "tools/call", params: { name: "queue_list", arguments: {} } });
await bridge.answer(499);
is(bridge.messages.filter((message) => typeof message.id === "number" && message.id < 500 && message.result?.structuredContent).length, 500,
  "500 calls at once have 500 answers");
is(faults(bridge.messages), [], "the SDK accepts all of these");
bridge.send({ jsonrpc: "2.0", id: "last", method: "tools/call", params: { name: "queue_list", arguments: {} } });
is(await bridge.close(), 0, "the end of stdin right after a request");
ok(bridge.messages.some((message) => message.id === "last"), "which is answered nevertheless");
await done_testing();
