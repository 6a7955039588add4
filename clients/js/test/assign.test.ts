import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { sessionServer } from "../src/assign.ts";

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
    (home) => sessionServer()(home, "demo", ["chat:a", "chat:b"]),
  );
  assert.equal(url, "http://node");
  assert.deepEqual(asked, ["/api/v1/assign?app=demo&channel=chat%3Aa"]);
});

test("it says which servers it could not reach", async (context) => {
  context.mock.timers.enable({ apis: ["Date"] });
  const asked: string[][] = [];
  await served(
    (request, response) => {
      const not = new URL(request.url ?? "", "http://a").searchParams.getAll("not");
      asked.push(not);
      const node = ["n1", "n2", "n3"].find((node) => !not.includes(node));
      answering({ ok: { channels: [{ channel: "a", url: `http://${node}`, node, reason: "ring" }] } })(request, response);
    },
    async (home) => {
      const assign = sessionServer();
      assert.equal(await assign(home, undefined, ["a"]), "http://n1");
      assert.equal(await assign(home, undefined, ["a"], "http://n1"), "http://n2");
      assert.equal(await assign(home, undefined, ["a"], "http://n2"), "http://n3");
      await assign(home, undefined, ["a"], "http://never-heard-of");
      context.mock.timers.tick(10_000);
      assert.equal(await assign(home, undefined, ["a"]), "http://n1", "it may be back");
    },
  );
  assert.deepEqual(asked, [[], ["n1"], ["n1", "n2"], ["n1", "n2"], []]);
});

test("no address is the one that was asked", async () => {
  const body = { ok: { channels: [{ channel: "a", url: "", node: "n1", reason: "hash" }] } };
  await served(answering(body), async (home) => assert.equal(await sessionServer()(home, undefined, ["a"]), home));
});

test("errors are told as they are, and what is no answer may be tried again", async () => {
  const error = { code: "unknown_app", message: "there is no such app", retry: "no" };
  await served(answering({ error }, 404), (home) => assert.rejects(sessionServer()(home, "x", ["a"]), error));
  const later = { code: "unreachable", retry: "later" };
  await served(answering("nonsense"), (home) => assert.rejects(sessionServer()(home, "x", ["a"]), later));
  await served((_, response) => response.end("<html>"), (home) => assert.rejects(sessionServer()(home, "x", ["a"]), later));
  await assert.rejects(sessionServer()("http://127.0.0.1:9", "x", []), later);
});
