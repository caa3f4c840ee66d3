// A made-up cluster for working on the page without a scheduler: `npm run build && node dev/mock.mjs [--port N] [--rects N]`.
// Not shipped. Speaks the feed's protocol well enough to look at every page and to measure the task stream.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { appliance } from "./mock-appliance.mjs";
import { answers, block, snapshot } from "./mock-data.mjs";

const option = (name, fallback) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const rects = option("rects", 20_000);
const dist = join(import.meta.dirname, "../dist");
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
};
const POLICY =
  "default-src 'self'; img-src 'self' data:; style-src 'self'; connect-src 'self' ws: wss:; frame-ancestors *";

const server = createServer(async (request, response) => {
  const url = new URL(request.url ?? "/", "http://x");
  const path = url.pathname.replace(/^\/clusters\/[^/]+/, "");
  if (await appliance(request, response, url)) return;
  // At the root it is the appliance; below /clusters/NAME/ and for plain page names a cluster.
  if (url.pathname === "/api/where")
    return void response
      .writeHead(200, { "Content-Type": "application/json" })
      .end('{"kind":"appliance","version":"0.1.0"}');
  const answer = answers(path.slice(1), url.searchParams, rects);
  if (answer instanceof Uint8Array)
    return void response.writeHead(200, { "Content-Type": "application/octet-stream" }).end(answer);
  if (answer !== undefined)
    return void response
      .writeHead(answer === null ? 404 : 200, { "Content-Type": "application/json" })
      .end(JSON.stringify(answer ?? { error: "not found", remedy: "" }));
  const file = extname(path) !== "" && path.startsWith("/assets") ? normalize(path) : "/index.html";
  const body = await readFile(join(dist, file)).catch(() => null);
  if (!body) return void response.writeHead(404).end();
  response.writeHead(200, {
    "Content-Type": TYPES[extname(file)] ?? "text/plain",
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
  });
  const up = "../".repeat(Math.max(0, path.split("/").length - 2)) || "./"; // of a page two levels down: ../../
  response.end(file === "/index.html" ? String(body).replace("<head>", `<head><base href="${up}">`) : body);
});

/** One frame to the page. */
function frame(opcode, body) {
  const length = body.length;
  const head =
    length < 126
      ? Buffer.from([0x80 | opcode, length])
      : length < 65_536
        ? Buffer.from([0x80 | opcode, 126, length >> 8, length & 255])
        : Buffer.alloc(10);
  if (length >= 65_536) {
    head[0] = 0x80 | opcode;
    head[1] = 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  return Buffer.concat([head, body]);
}

/** Text frames of the page, which are short and come whole. */
function* texts(chunk) {
  let at = 0;
  while (at + 6 <= chunk.length) {
    const opcode = chunk[at] & 15;
    let length = chunk[at + 1] & 127;
    let skip = 2;
    if (length === 126) {
      length = chunk.readUInt16BE(at + 2);
      skip = 4;
    }
    const mask = chunk.subarray(at + skip, at + skip + 4);
    const body = Buffer.from(chunk.subarray(at + skip + 4, at + skip + 4 + length));
    for (let i = 0; i < body.length; i += 1) body[i] ^= mask[i % 4];
    if (opcode === 8) yield null;
    if (opcode === 1) yield body.toString();
    at += skip + 4 + length;
  }
}

server.on("upgrade", (request, socket) => {
  const accept = createHash("sha1")
    .update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let wants = [];
  let sent = 0;
  let seq = 0;
  const send = () => {
    if (socket.destroyed) return;
    seq += 1;
    const topics = Object.fromEntries(wants.flatMap((name) => Object.entries(snapshot(name))));
    socket.write(
      frame(
        2,
        Buffer.concat([
          Buffer.from([1]),
          Buffer.from(JSON.stringify({ epoch: "mock", seq, t: Date.now() / 1000, topics })),
        ]),
      ),
    );
    if (!wants.includes("stream")) return;
    socket.write(frame(2, Buffer.from(block(sent === 0 ? rects : 40, sent === 0, sent))));
    sent += sent === 0 ? rects : 40;
  };
  const timer = setInterval(send, 500);
  socket.on("data", (chunk) => {
    for (const text of texts(chunk)) {
      if (text === null) return void socket.end(frame(8, Buffer.alloc(0)));
      const wish = JSON.parse(text);
      if (!wish.want.includes("stream")) sent = 0;
      wants = wish.want;
      send();
    }
  });
  socket.on("close", () => clearInterval(timer));
  socket.on("error", () => clearInterval(timer));
});

server.listen(option("port", 8799), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/status`));
