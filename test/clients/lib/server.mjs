// A database with coord for the test at hand, and a server of its own where it needs one.

import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import pg from "pg";
import { at_end } from "./tap.mjs";

// A bigint is a number, as in coord's own JSON.
pg.types.setTypeParser(20, Number);

export async function connect(database = process.env.PGDATABASE) {
  const client = new pg.Client({ database });
  client.on("error", () => {}); // a lost connection shows in the next query
  await client.connect();
  return client;
}

// Makes the database, the default for all that this process starts, and a session in it.
export async function new_database() {
  const name = `clients_${path.basename(process.argv[1], ".mjs").replace(/\W/g, "_")}`;
  const postgres = await connect("postgres");
  await postgres.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  await postgres.query(`CREATE DATABASE ${name}`);
  await postgres.end();
  process.env.PGDATABASE = name;
  const client = await connect();
  at_end(() => client.end());
  await client.query("CREATE EXTENSION coord");
  return client;
}

// run(program, …): to its end; its output, if it ends well.
export function run(program, ...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let errors = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (errors += data));
    child.on("error", reject);
    child.on("exit", (code) => {
      // not on "close": a server that pg_ctl starts keeps the pipes open
      if (code === 0) resolve(output);
      else reject(new Error(`${program} ${args.join(" ")}: ${errors}${output}`));
    });
  });
}

// A server that this test may stop and start; the default from now on.
export class Server {
  static async start(more_settings = "") {
    const server = new Server();
    server.directory = fs.mkdtempSync(path.join(process.env.COORD_WORK, "server."));
    server.data = path.join(server.directory, "data");
    await run("initdb", "-D", server.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync");
    const settings = `listen_addresses = ''\nunix_socket_directories = '${server.directory}'\n`;
    fs.appendFileSync(path.join(server.data, "postgresql.conf"), settings + fs.readFileSync(process.env.COORD_CONF) + more_settings);
    Object.assign(process.env, { PGHOST: server.directory, PGPORT: "5432", PGUSER: "postgres", PGDATABASE: "postgres" });
    at_end(() => run("pg_ctl", "-s", "-D", server.data, "-m", "immediate", "stop"));
    await server.again();
    return server;
  }

  again() {
    return run("pg_ctl", "-s", "-w", "-D", this.data, "-l", path.join(this.directory, "log"), "start");
  }

  crash() {
    return run("pg_ctl", "-s", "-w", "-D", this.data, "-m", "immediate", "stop");
  }
}
