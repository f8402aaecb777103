// The MCP Inspector's command line lists the tools and calls some, in both eras.

import fs from "node:fs";
import path from "node:path";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { ok, done_testing } from "./lib/tap.mjs";
import { new_database } from "./lib/server.mjs";
import { program } from "./lib/bridge.mjs";

await new_database();
const manifest = fileURLToPath(import.meta.resolve("@modelcontextprotocol/inspector/package.json"));
const inspector = path.join(path.dirname(manifest), JSON.parse(fs.readFileSync(manifest)).bin["mcp-inspector"]);
const passed_on = ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE"].flatMap((name) => ["-e", `${name}=${process.env[name]}`]);

// Each run is a bridge of its own; --name makes them one agent.
function inspect(era, ...options) {
  return new Promise((resolve, reject) => {
    const args = [inspector, "--cli", ...passed_on, "--protocol-era", era, ...options, "--", program, "--name", `inspector ${era}`];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let errors = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (errors += data));
    child.on("error", reject);
    child.on("close", (status) => {
      try {
        resolve({ status, errors, result: output === "" ? null : JSON.parse(output) });
      } catch {
        reject(new Error(`no JSON: ${output}${errors}`));
      }
    });
  });
}

const call = (era, tool, args) =>
  inspect(era, "--method", "tools/call", "--tool-name", tool, "--tool-args-json", JSON.stringify(args));

async function story(era) {
  const results = [];
  const test = (...assertion) => results.push(assertion);

  const list = await inspect(era, "--method", "tools/list", "--strict");
  test(list.status === 0, `${era}: tools/list --strict, which finds no fault in the schemas`, list.errors);
  test(list.result?.tools?.some((tool) => tool.name === "task_claim"), `${era}: task_claim is there`, list);

  const agent = era === "modern" ? {} :
    (await call(era, "agent_register", { name: "worker", heartbeat_timeout: 600 })).result?.structuredContent;
  if (era !== "modern") test(agent?.status === "active", `${era}: agent_register`, agent);

  // Typed by hand, the arguments get the types of the inputSchema.
  const create = await inspect(era, "--method", "tools/call", "--tool-name", "task_create",
    "--tool-arg", "type=inspect", `queue=${era}`, "priority=7", 'payload={"a": [1]}');
  const task = create.result?.structuredContent;
  test(task?.state === "pending" && task.priority === 7 && task.payload.a[0] === 1, `${era}: task_create`, create);
  const claim = await call(era, "task_claim", { agent_id: agent?.id, queue: era, lease_ttl: 60 });
  const [claimed] = claim.result?.structuredContent?.tasks ?? [];
  test(claimed?.id === task?.id && claimed?.state === "claimed", `${era}: task_claim`, claim);
  const held = { task_id: claimed?.id, fencing_token: claimed?.fencing_token };
  const refused = await call(era, "task_complete", { ...held, fencing_token: 1 });
  test(refused.result?.isError === true && refused.result.structuredContent.code === 1003,
    `${era}: task_complete with a stale token is refused`, refused);
  if (era === "modern") return results; // where the claim has ended with its bridge
  const completed = await call(era, "task_complete", { ...held, result: { done: true } });
  test(completed.status === 0 && completed.result?.structuredContent?.state === "completed", `${era}: task_complete`, completed);
  const wrong = await call(era, "task_claim", { task_id: "many" });
  test(wrong.result?.isError === true && wrong.result.structuredContent.argument === "task_id", `${era}: a bad argument is named`, wrong);
  return results;
}

for (const results of await Promise.all([story("legacy"), story("modern")])) results.forEach((assertion) => ok(...assertion));
await done_testing();
