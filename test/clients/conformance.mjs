// The conformance suite of the protocol's own project, for both eras.  coord has tools and
// nothing else, and none of the tools that the suite wants to be there for it, so what has
// to fail is known: conformance-expected.txt.  A pass that was not expected is told too.

import fs from "node:fs";
import path from "node:path";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { is, ok, done_testing } from "./lib/tap.mjs";
import { new_database } from "./lib/server.mjs";
import { serve } from "./lib/http-shim.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const expected = fs.readFileSync(path.join(here, "conformance-expected.txt"), "utf8").split("\n").filter((line) => /^[^#]/.test(line));
const suite = path.join(here, "node_modules/@modelcontextprotocol/conformance/dist/index.js");
const url = await serve(await new_database());

const failed = new Set();
for (const revision of ["2025-11-25", "2026-07-28"]) {
  const results = fs.mkdtempSync(path.join(process.env.COORD_WORK, "conformance."));
  const args = [suite, "server", "--url", url, "--suite", "all", "--spec-version", revision, "--output-dir", results];
  await new Promise((resolve, reject) => spawn(process.execPath, args, { stdio: "ignore" }).on("close", resolve).on("error", reject));
  let passed = 0;
  for (const directory of fs.readdirSync(results)) {
    const scenario = directory.match(/^server-(.*)-\d{4}-\d\d-\d\dT/)[1];
    for (const { id, status } of JSON.parse(fs.readFileSync(path.join(results, directory, "checks.json"), "utf8"))) {
      if (status === "FAILURE") failed.add(`${revision} ${scenario} ${id}`);
      else if (status === "SUCCESS") passed += 1;
    }
  }
  ok(passed > 10, `${revision}: ${passed} checks are passed`);
  fs.rmSync(results, { recursive: true });
}
is([...failed].filter((check) => !expected.includes(check)), [], "no check fails but those that must");
is(expected.filter((check) => !failed.has(check)), [], `and those do, all ${expected.length}`);
await done_testing();
