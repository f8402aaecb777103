// The Node that runs these tests is the pinned one, and finds the packages and coord.

import { is, ok, done_testing } from "./lib/tap.mjs";
import { new_database } from "./lib/server.mjs";
import { Client } from "@modelcontextprotocol/client";

const client = await new_database();
is((await client.query("SELECT coord.version()")).rows.length, 1, "coord answers");
ok(Client, "clients");
ok(Number(process.versions.node.split(".")[0]) >= 22, process.version);
await done_testing();
