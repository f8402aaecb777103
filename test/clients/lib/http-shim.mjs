// Streamable HTTP, as far as a test needs it: each POST is handed to coord.mcp as it is.
// coord itself has no HTTP; the conformance suite speaks nothing else.

import http from "node:http";
import { at_end } from "./tap.mjs";

// What the transport of 2026-07-28 wants of a request beside its body.
function mismatch(message, headers) {
  const version = message?.params?._meta?.["io.modelcontextprotocol/protocolVersion"];
  if (version === undefined) return null;
  const wanted = { "mcp-protocol-version": version, "mcp-method": message.method };
  if (message.method === "tools/call") wanted["mcp-name"] = message.params.name;
  return Object.keys(wanted).find((name) => headers[name]?.trim() !== wanted[name]) ?? null;
}

function status(message, answer) {
  if (answer === null) return 202;
  const modern = message?.params?._meta?.["io.modelcontextprotocol/protocolVersion"] !== undefined;
  if (!modern || !answer.error) return answer.error && answer.id === undefined ? 400 : 200;
  return answer.error.code === -32601 ? 404 : 400;
}

// serve(database): its URL.  One query at a time, which is enough.
export async function serve(database) {
  let queue = Promise.resolve();
  const query = (...args) => (queue = queue.then(() => database.query(...args)));
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const reply = (code, body) => {
      response.writeHead(code, body === null ? {} : { "content-type": "application/json" });
      response.end(body === null ? "" : JSON.stringify(body));
    };
    const local = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;
    const { host, origin } = request.headers;
    if (!local.test(host) || (origin && !local.test(origin.replace(/^https?:\/\//, "")))) return reply(403, null);
    if (request.method !== "POST") return reply(405, null);
    const text = Buffer.concat(chunks).toString();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      // coord.mcp says what is wrong with it
    }
    const wrong = mismatch(message, request.headers);
    if (wrong)
      return reply(400, { jsonrpc: "2.0", id: message.id, error: { code: -32020, message: `header ${wrong} does not match the body` } });
    // Such a body is of the old era, were it not for the header.
    const version = message?.params?._meta?.["io.modelcontextprotocol/protocolVersion"];
    if (request.headers["mcp-protocol-version"] === "2026-07-28" && message?.id !== undefined && version === undefined)
      return reply(400, { jsonrpc: "2.0", id: message.id, error: { code: -32602, message: "params._meta has no protocolVersion" } });
    const { rows: [{ answer }] } = await query("SELECT coord.mcp($1) AS answer", [text]);
    reply(status(message, answer), answer);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  at_end(() => server.close());
  at_end(() => server.closeAllConnections());
  return `http://127.0.0.1:${server.address().port}/mcp`;
}
