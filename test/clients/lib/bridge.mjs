// The bridge coord-mcp, as a process that is spoken to line by line.

import { spawn } from "node:child_process";
import path from "node:path";
import { at_end } from "./tap.mjs";
import { run } from "./server.mjs";

// COORD_MCP names another program to be tested.
export const program =
  process.env.COORD_MCP ??
  path.join(process.env.COORD_STAGE, (await run("pg_config", "--bindir")).trim(), "coord-mcp");

// What an SDK starts it with; by themselves they pass on few variables.
export function parameters(...args) {
  return { command: program, args, env: { ...process.env }, stderr: "ignore" };
}

export class Bridge {
  constructor(...args) {
    this.messages = []; // what came, parsed, in order
    this.garbage = []; // lines that are not JSON
    this.errors = "";
    this.waiting = new Set();
    this.next_id = 1;
    this.child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.child.stdin.on("error", () => {}); // it may have ended
    this.child.stderr.on("data", (data) => (this.errors = (this.errors + data).slice(-20000)));
    let rest = "";
    this.child.stdout.setEncoding("utf8").on("data", (data) => {
      const lines = (rest + data).split("\n"); // readline would split at U+2028 too
      rest = lines.pop();
      lines.forEach((line) => this.receive(line));
    });
    this.ended = new Promise((resolve) => this.child.on("close", (code, signal) => resolve(signal ?? code)));
    this.ended.then((status) => {
      this.status = status;
      [...this.waiting].forEach((check) => check());
    });
    at_end(() => this.child.kill("SIGKILL"));
  }

  receive(line) {
    try {
      this.messages.push(JSON.parse(line));
    } catch {
      this.garbage.push(line);
    }
    [...this.waiting].forEach((check) => check());
  }

  send(message) {
    this.child.stdin.write(`${typeof message === "string" ? message : JSON.stringify(message)}\n`);
  }

  // The answer with an id, the last one of that id.
  answer(id, seconds = 30) {
    const find = () => this.messages.findLast((message) => message.id === id && message.method === undefined);
    return new Promise((resolve, reject) => {
      const check = () => {
        const found = find();
        if (!found && this.status === undefined) return;
        clearTimeout(timer);
        this.waiting.delete(check);
        if (found) resolve(found);
        else reject(new Error(`the bridge has ended (${this.status}): ${this.errors}`));
      };
      const timer = setTimeout(() => {
        this.waiting.delete(check);
        reject(new Error(`no answer to ${JSON.stringify(id)} in ${seconds} s: ${this.errors}`));
      }, seconds * 1000);
      this.waiting.add(check);
      check();
    });
  }

  request(method, params, seconds = 30) {
    const id = `test ${this.next_id++}`;
    this.send({ jsonrpc: "2.0", id, method, params });
    return this.answer(id, seconds);
  }

  // What comes for one message, up to the answer of a ping that follows it.
  async exchange(message) {
    const before = this.messages.length;
    this.send(message);
    const id = `after ${this.next_id++}`;
    this.send({ jsonrpc: "2.0", id, method: "ping" });
    await this.answer(id);
    return this.messages.slice(before).filter((each) => each.id !== id && each.method === undefined);
  }

  async initialize(revision = "2025-11-25", name = "test") {
    const answer = await this.request("initialize", {
      protocolVersion: revision,
      capabilities: {},
      clientInfo: { name, version: "1" },
    });
    this.send({ jsonrpc: "2.0", method: "notifications/initialized" });
    return answer.result;
  }

  // The result of a tool; refusals too have one.
  async call(name, args = {}, seconds = 90) {
    const answer = await this.request("tools/call", { name, arguments: args }, seconds);
    if (answer.error) throw Object.assign(new Error(answer.error.message), answer.error);
    return answer.result;
  }

  async close() {
    this.child.stdin.end();
    return this.ended;
  }

  async kill(signal = "SIGKILL") {
    this.child.kill(signal);
    return this.ended;
  }
}
