import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { askSessionServer } from "../src/assign.ts";

async function served<T>(listener: RequestListener, use: (home: string) => Promise<T>): Promise<T> {
  const server = createServer(listener);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

function answering(body: unknown, status = 200): RequestListener {
  return (_, response) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

test("it asks for the first channel's server", async () => {
  const asked: (string | undefined)[] = [];
  const url = await served(
    (request, response) => {
      asked.push(request.url);
      const channel = { channel: "chat:a", url: "http://node", node: "n1", reason: "ring" };
      answering({ ok: { channels: [channel] } })(request, response);
    },
    (home) => askSessionServer(home, "demo", ["chat:a", "chat:b"]),
  );
  assert.equal(url, "http://node");
  assert.deepEqual(asked, ["/api/v1/assign?app=demo&channel=chat%3Aa"]);
});

test("where nobody answered it does not go again, if there is another server", async () => {
  const answers = (urls: string[]) => answering({ ok: { channels: urls.map((url) => ({ channel: "a", url, node: "n", reason: "ring" })) } });
  const dead = "http://dead";
  await served(answers([dead, dead, "http://alive"]), async (home) => assert.equal(await askSessionServer(home, undefined, ["a"], dead), "http://alive"));
  await served(answers([dead, dead]), async (home) => assert.equal(await askSessionServer(home, undefined, ["a"], dead), dead));
  const asked: number[] = [];
  await served(
    (request, response) => {
      asked.push(new URL(request.url ?? "", "http://a").searchParams.getAll("channel").length);
      answers([dead])(request, response);
    },
    async (home) => {
      await askSessionServer(home, undefined, ["a"]);
      await askSessionServer(home, undefined, ["a"], dead);
    },
  );
  assert.deepEqual(asked, [1, 9]);
});

test("no address is the one that was asked", async () => {
  const body = { ok: { channels: [{ channel: "a", url: "", node: "n1", reason: "hash" }] } };
  await served(answering(body), async (home) => assert.equal(await askSessionServer(home, undefined, ["a"]), home));
});

test("errors are told as they are, and what is no answer may be tried again", async () => {
  const error = { code: "unknown_app", message: "there is no such app", retry: "no" };
  await served(answering({ error }, 404), (home) => assert.rejects(askSessionServer(home, "x", ["a"]), error));
  const later = { code: "unreachable", retry: "later" };
  await served(answering("nonsense"), (home) => assert.rejects(askSessionServer(home, "x", ["a"]), later));
  await served((_, response) => response.end("<html>"), (home) => assert.rejects(askSessionServer(home, "x", ["a"]), later));
  await assert.rejects(askSessionServer("http://127.0.0.1:9", "x", []), later);
});
