// Assertions that print TAP as they are made, for prove.  A test ends with done_testing();
// one that throws, or that has nothing more to wait for before that, has failed.

import { isDeepStrictEqual, inspect } from "node:util";

let count = 0;
let failed = 0;
let done = false;
const cleanups = [];

export function ok(condition, name, ...details) {
  count += 1;
  if (!condition) failed += 1;
  console.log(`${condition ? "ok" : "not ok"} ${count} - ${name.replace(/[#\n]/g, " ")}`);
  if (!condition) details.forEach((detail) => diag(typeof detail === "string" ? detail : inspect(detail, { depth: 9 })));
  return Boolean(condition);
}

export function is(got, wanted, name) {
  return ok(isDeepStrictEqual(got, wanted), name, "got:", got ?? String(got), "wanted:", wanted ?? String(wanted));
}

// The rejection of a promise, which must come.
export async function rejects(promise, name) {
  try {
    const value = await promise;
    ok(false, name, "not rejected, but:", value);
    return {};
  } catch (error) {
    ok(true, name);
    return error;
  }
}

export function diag(text) {
  console.log(text.replace(/^/gm, "# "));
}

// What is to be ended or closed when the test is over, however it is; the last first.
export function at_end(cleanup) {
  cleanups.push(cleanup);
}

export async function until(condition, what, seconds = 30) {
  const give_up = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > give_up) throw new Error(`in vain for ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function finish(status) {
  for (const cleanup of cleanups.reverse()) {
    try {
      await cleanup();
    } catch (error) {
      diag(`while cleaning up: ${error.stack}`);
    }
  }
  process.exit(status);
}

export async function done_testing() {
  done = true;
  console.log(`1..${count}`);
  await finish(failed ? 1 : 0);
}

async function die(error) {
  if (done) return;
  done = true;
  ok(false, "the test itself", error.stack ?? error);
  await finish(1);
}

process.on("uncaughtException", die);
process.on("unhandledRejection", die);
process.on("SIGTERM", () => die(new Error("SIGTERM")));
process.on("beforeExit", () => die(new Error("nothing more to wait for")));
