import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type Client, type ClientOptions } from "../src/index.ts";

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: Record<string, string>;
  readonly authorization: string | undefined;
  readonly type: string | undefined;
  readonly body: string;
}

let server: Server;
let home: string;
let asked: Asked[];
let respond: (asked: Asked) => [status: number, body: unknown] | undefined;
let clients: Client[];

const file = { id: "01k", channel: "room:1", name: "a b.txt", type: "text/plain", size: 5, url: "/api/v1/files/01k" };

beforeEach(async () => {
  asked = [];
  clients = [];
  respond = ({ path }) =>
    path.endsWith("/ticket") ? [200, { ticket: `t${asked.length}`, expires_at: Date.now() + 600_000 }] : path.endsWith("/files") ? [201, { file }] : [200, {}];
  server = createServer((request, response) => void take(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  assert.ok(address && typeof address === "object");
  home = `http://127.0.0.1:${address.port}`;
});

afterEach(async () => {
  for (const client of clients) client.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "", home);
  let body = "";
  try {
    for await (const chunk of request) body += chunk;
  } catch {
    return;
  }
  const got = {
    method: request.method ?? "",
    path: decodeURIComponent(url.pathname),
    query: Object.fromEntries(url.searchParams),
    authorization: request.headers.authorization,
    type: request.headers["content-type"],
    body,
  };
  asked.push(got);
  const answer = respond(got);
  if (answer) response.writeHead(answer[0], { "content-type": "application/json" }).end(JSON.stringify(answer[1]));
}

/** A client without a connection. */
function client(options: ClientOptions = {}): Client {
  const made = connect(home, { open: () => ({ request: () => undefined, drop: () => undefined }), ...options });
  clients.push(made);
  return made;
}

test("a file is uploaded as it is, by its own name and type, on behalf of who we are", async () => {
  const progress: number[][] = [];
  const ann = client({ app: "shop", token: async () => "ann's" });
  const options = { onProgress: (...sent: number[]) => progress.push(sent) };
  assert.deepEqual(await ann.upload("room:1", new File(["hello"], "a b.txt", { type: "text/plain" }), options), file);
  assert.deepEqual(asked, [
    { method: "POST", path: "/api/v1/channels/room:1/files", query: { app: "shop", name: "a b.txt" }, authorization: "Bearer ann's", type: "text/plain", body: "hello" },
  ]);
  assert.deepEqual(progress, [[5, 5]]);
  await client({ guest: "a guest's secret", storage: null }).upload("room:1", new Blob(["x"]), { name: "x" });
  assert.deepEqual([asked[1]?.authorization, asked[1]?.query.name, asked[1]?.type], ["Guest a guest's secret", "x", "application/octet-stream"]);
});

test("a refusal is told as the server tells it", async () => {
  respond = () => [413, { error: { code: "too_large", message: "at most 5 bytes", retry: "no" } }];
  await assert.rejects(client().upload("room:1", new Blob(["x"])), { code: "too_large", message: "at most 5 bytes", retry: "no" });
  respond = () => [502, "not ours"];
  await assert.rejects(client().upload("room:1", new Blob(["x"])), { code: "unreachable", retry: "later" });
});

test("an upload is aborted by its signal", async () => {
  respond = () => undefined;
  const abort = new AbortController();
  const upload = client().upload("room:1", new Blob(["x"]), { signal: abort.signal });
  abort.abort(new Error("changed my mind"));
  await assert.rejects(upload, { message: "changed my mind" });
  await assert.rejects(client().upload("room:1", new Blob(["x"]), { signal: AbortSignal.abort(new Error("before")) }), { message: "before" });
});

test("an upload that is aborted while its token is fetched is not sent, in browsers either", async (context) => {
  let sent = 0;
  class FakeRequest {
    readonly upload = {};
    readonly status = 201;
    readonly responseText = JSON.stringify({ file });
    onload?: () => void;
    open(): void {}
    setRequestHeader(): void {}
    send(): void {
      sent += 1;
      this.onload?.();
    }
  }
  Object.assign(globalThis, { XMLHttpRequest: FakeRequest });
  context.after(() => Reflect.deleteProperty(globalThis, "XMLHttpRequest"));
  const abort = new AbortController();
  let connected = false;
  const token = async () => {
    if (connected) abort.abort(new Error("changed my mind"));
    return "t";
  };
  const ann = client({ token });
  connected = true;
  await assert.rejects(ann.upload("room:1", new Blob(["x"]), { signal: abort.signal }), { message: "changed my mind" });
  assert.equal(sent, 0);
});

test("one ticket serves all files of a channel until it is about to end", async (context) => {
  const ann = client();
  const urls = await Promise.all([ann.fileUrl(file), ann.fileUrl({ id: "02k", channel: "room:1" }, { thumbnail: true })]);
  assert.deepEqual(urls, [`${home}/api/v1/files/01k?ticket=t1`, `${home}/api/v1/files/02k/thumbnail?ticket=t1`]);
  assert.equal(asked.length, 1);
  await ann.fileUrl({ id: "03k", channel: "room:2" });
  assert.equal(asked.length, 2);
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 500_000 });
  assert.equal(await ann.fileUrl(file), `${home}/api/v1/files/01k?ticket=t3`);
});

test("a ticket that was refused is asked for again", async () => {
  const ann = client();
  respond = () => [403, { error: { code: "forbidden", message: "no", retry: "no" } }];
  await assert.rejects(ann.fileUrl(file), { code: "forbidden" });
  respond = () => [200, { ticket: "good", expires_at: Date.now() + 600_000 }];
  assert.equal(await ann.fileUrl(file), `${home}/api/v1/files/01k?ticket=good`);
});

test("a file is deleted", async () => {
  await client({ token: "t" }).deleteFile("01k");
  assert.deepEqual([asked[0]?.method, asked[0]?.path, asked[0]?.authorization], ["DELETE", "/api/v1/files/01k", "Bearer t"]);
});
