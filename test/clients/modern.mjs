// Revision 2026-07-28, which has no session: the SDK of that era finds it by itself, and
// each request stands alone.

import { Client, specTypeSchemas } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { at_end, is, ok, done_testing } from "./lib/tap.mjs";
import { new_database } from "./lib/server.mjs";
import { Bridge, parameters } from "./lib/bridge.mjs";

const revision = "2026-07-28";
await new_database();

// ---- the SDK: what it negotiates in each of its modes, and then tools

for (const [mode, wanted] of [["auto", revision], [{ pin: revision }, revision], ["legacy", "2025-11-25"]]) {
  const client = new Client({ name: "modern-client", version: "2.0.0" }, { versionNegotiation: { mode } });
  const errors = [];
  const say = (text) => `${JSON.stringify(mode)}: ${text}`;
  client.onerror = (error) => errors.push(error);
  at_end(() => client.close());
  await client.connect(new StdioClientTransport(parameters()));
  is(client.getNegotiatedProtocolVersion(), wanted, say(`speaks ${wanted}`));
  is(client.getServerVersion()?.name, "coord", say("knows the server"));
  ok(client.getInstructions(), say("has instructions"));
  if (wanted === revision) {
    const discovered = await client.discover();
    ok(discovered.supportedVersions.includes(revision), say("server/discover names the revision"));
    const subscription = await client.listen({ toolsListChanged: true });
    await subscription.close();
    ok(true, say("subscriptions/listen opens and closes"));
  }
  const { tools } = await client.listTools();
  ok(tools.length > 20, say(`tools/list: ${tools.length} tools`));

  const queue = `of ${JSON.stringify(mode)}`;
  const created = await client.callTool({ name: "task_create", arguments: { type: "modern", queue } });
  const claimed = await client.callTool({ name: "task_claim", arguments: { queue } });
  const [task] = claimed.structuredContent.tasks;
  is(task.id, created.structuredContent.id, say("what was created is claimed"));
  const held = { task_id: task.id, fencing_token: task.fencing_token };
  const stale = await client.callTool({ name: "task_complete", arguments: { ...held, fencing_token: 1 } });
  is([stale.isError, stale.structuredContent.code], [true, 1003], say("a stale token is refused"));
  const completed = await client.callTool({ name: "task_complete", arguments: held });
  is(completed.structuredContent.state, "completed", say("it is completed"));
  await client.close();
  is(errors, [], say("the client met no error"));
}

// ---- line by line

const bridge = new Bridge();
const meta = {
  "io.modelcontextprotocol/protocolVersion": revision,
  "io.modelcontextprotocol/clientInfo": { name: "raw", version: "1" },
  "io.modelcontextprotocol/clientCapabilities": {},
};
const request = (method, params = {}, more = {}) => bridge.request(method, { ...params, _meta: { ...meta, ...more } });
const without = (key) => Object.fromEntries(Object.entries(meta).filter(([name]) => !name.endsWith(key)));

function is_valid(type, value, name) {
  const { issues } = specTypeSchemas[type]["~standard"].validate(value);
  ok(!issues, name, issues, value);
}

// A request of any kind may be the first.
const first = await request("tools/call", { name: "task_list", arguments: { queue: "none" } });
is(first.result?.structuredContent, { tasks: [] }, "a tool may be called with no word before");
is_valid("CallToolResult", first.result, "its result");
is(first.result.resultType, "complete", "which is complete");

const discovered = (await request("server/discover")).result;
is_valid("DiscoverResult", discovered, "server/discover");
const list = (await request("tools/list")).result;
is_valid("ListToolsResult", list, "tools/list");
for (const [name, result] of Object.entries({ "server/discover": discovered, "tools/list": list })) {
  is(result.resultType, "complete", `${name}: resultType`);
  ok(Number.isInteger(result.ttlMs) && result.ttlMs >= 0, `${name}: ttlMs`, result.ttlMs);
  ok(["private", "public"].includes(result.cacheScope), `${name}: cacheScope`, result.cacheScope);
  is(result._meta?.["io.modelcontextprotocol/serverInfo"]?.name, "coord", `${name}: serverInfo`);
}
ok(!("cacheScope" in first.result), "the result of a call is not to be cached");
is(list.tools.map((tool) => tool.name), (await request("tools/list")).result.tools.map((tool) => tool.name), "the tools come in one order");
const minimal = await bridge.request("tools/list", { _meta: without("clientInfo") });
ok(minimal.result?.tools, "clientInfo may be left out", minimal.error);

const refusal = (await request("tools/call", { name: "task_complete", arguments: { task_id: "x", fencing_token: 1 } })).result;
is([refusal.isError, refusal.structuredContent.code, refusal.resultType], [true, -32602, "complete"], "a refusal is complete too");

const refused = [
  ["no protocolVersion", await bridge.request("tools/list", { _meta: without("protocolVersion") }), -32602],
  ["no clientCapabilities", await bridge.request("tools/list", { _meta: without("clientCapabilities") }), -32602],
  ["capabilities that are no object", await request("tools/list", {}, { "io.modelcontextprotocol/clientCapabilities": 1 }), -32602],
  ["a protocolVersion that is no string", await request("tools/list", {}, { "io.modelcontextprotocol/protocolVersion": 20260728 }), -32602],
  ["server/discover without _meta", await bridge.request("server/discover"), -32602],
  ["server/discover without params._meta", await bridge.request("server/discover", {}), -32602],
  ["subscriptions/listen without _meta", await bridge.request("subscriptions/listen", { notifications: {} }), -32602],
  ["an unknown tool", await request("tools/call", { name: "task_steal" }), -32602],
  ["ping", await request("ping"), -32601],
  ["initialize", await request("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "x", version: "1" } }), -32601],
  ["logging/setLevel", await request("logging/setLevel", { level: "info" }), -32601],
  ["resources/list", await request("resources/list"), -32601],
];
for (const [name, answer, code] of refused) {
  is(answer.error?.code, code, `${name}: ${code}`);
  is_valid("JSONRPCErrorResponse", answer, `${name}: a valid error`);
}
for (const version of ["2099-01-01", "2025-11-25", "1900-01-01", ""])
  for (const method of ["server/discover", "tools/list", "tools/call", "subscriptions/listen"]) {
    const { error } = await request(method, { name: "task_list", notifications: {} }, { "io.modelcontextprotocol/protocolVersion": version });
    is([error?.code, error?.data?.supported?.includes(revision), error?.data?.requested], [-32022, true, version],
      `${method} in revision "${version}": -32022`);
  }

is((await bridge.exchange({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 1, _meta: meta } })), [],
  "a notification has no answer");
const batch = await bridge.exchange([{ jsonrpc: "2.0", id: 1, method: "tools/list", params: { _meta: meta } }]);
is([batch.length, batch[0]?.error?.code], [1, -32600], "there are no batches");
for (const id of [null, 1.5]) {
  const answers = await bridge.exchange({ jsonrpc: "2.0", id, method: "tools/list", params: { _meta: meta } });
  is([answers.length, answers[0]?.error?.code, "id" in answers[0]], [1, -32600, false], `id ${id} is refused, without an id`);
}

// Both eras in one process: an old client's session does not change what a request of the new era means.
const initialized = await bridge.initialize("2025-06-18");
is(initialized.protocolVersion, "2025-06-18", "initialize of the old era, in the same process");
ok(!("resultType" in initialized), "has a result of the old era");
is((await request("tools/list")).result.resultType, "complete", "a request of the new era is still one");
ok(!("resultType" in (await bridge.request("tools/list")).result), "and one of the old era is one of that");
is(bridge.garbage, [], "nothing but JSON on stdout");
is(await bridge.close(), 0, "the end");
await done_testing();
