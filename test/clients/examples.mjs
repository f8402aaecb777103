// The play of two agents in examples/ goes as README shows it, but for ids and tokens.

import fs from "node:fs";
import { is, ok, done_testing } from "./lib/tap.mjs";
import { new_database, run } from "./lib/server.mjs";
import { program } from "./lib/bridge.mjs";

await new_database();

// Each id and each token by the order in which they come: which is which still counts.
function normalised(transcript) {
  const seen = [];
  return transcript.replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9]{15,}\b/g, (word) => {
    if (!seen.includes(word)) seen.push(word);
    return `<${seen.indexOf(word)}>`;
  });
}

const readme = fs.readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const [, shown] = readme.match(/```\n(bob → [^`]*)```/);
const play = await run("/usr/bin/python3", "examples/two_agents.py", "--coord-mcp", program);
is(normalised(play), normalised(shown), "examples/two_agents.py goes as README shows it");
is(normalised(await run("/usr/bin/python3", "examples/two_agents.py", "--coord-mcp", program)), normalised(shown), "and again");

// The configurations that README shows are JSON that starts coord-mcp.
const section = readme.match(/### Give it to an agent\n([^]*?)\n## /)[1];
const configurations = [...section.matchAll(/```json\n([^`]*)```/g)].map(([, text]) => JSON.parse(text));
ok(configurations.length >= 2, "README has configurations of clients");
is(configurations.map((each) => Object.values(each)[0].coord.command), configurations.map(() => "coord-mcp"), "which start coord-mcp");
await done_testing();
