export interface Lines {
  name: string;
  text: string;
}

interface Language {
  key: string;
  label: string;
  files: readonly Lines[];
}

export interface Place {
  url: string;
  app: string;
  channel: string;
  guests: boolean;
  /** An API key, as long as it is known. */
  key?: string;
}

const TERMINAL = "Terminal";

/** Clients that are in the app after a copy and a paste. */
export function clients({ url, app, channel, guests }: Place): Language[] {
  const auth = guests ? `{ app: "${app}", name: "Ann" }` : `{ app: "${app}", token: await (await fetch("/my-token")).text() }`;
  const python = guests ? `{"app": "${app}", "name": "Ann"}` : `{"app": "${app}", "token": token}`;
  return [
    {
      key: "javascript",
      label: "JavaScript",
      files: [
        { name: TERMINAL, text: "npm install socket.io-client" },
        {
          name: "client.mjs",
          text: `import { io } from "socket.io-client";

const socket = io("${url}", { auth: ${auth} });
const channel = "${channel}";

socket.on("message", (m) => console.log(m.from.name ?? m.from.user, m.data));

socket.on("connect", async () => {
  await socket.emitWithAck("subscribe", { channel });
  await socket.emitWithAck("publish", { channel, data: { text: "Hello from my client" } });
});
`,
        },
      ],
    },
    {
      key: "page",
      label: "Web page",
      files: [
        {
          name: "index.html",
          text: `<script type="module">
  import { io } from "https://cdn.socket.io/4.8.1/socket.io.esm.min.js";

  const socket = io("${url}", { auth: ${auth} });
  const channel = "${channel}";

  socket.on("message", (m) => document.body.append(JSON.stringify(m.data), "\\n"));
  socket.on("connect", () => socket.emit("subscribe", { channel }));
</script>
`,
        },
      ],
    },
    {
      key: "python-client",
      label: "Python",
      files: [
        { name: TERMINAL, text: 'pip install "python-socketio[client]"' },
        {
          name: "client.py",
          text: `import socketio

sio = socketio.Client()

@sio.on("message")
def message(m):
    print(m["from"].get("name"), m["data"])

sio.connect("${url}", auth=${python})
sio.call("subscribe", {"channel": "${channel}"})
sio.wait()
`,
        },
      ],
    },
    {
      key: "listen",
      label: "curl",
      files: [{ name: TERMINAL, text: guests ? `curl -N '${url}/sse?app=${app}&channel=${channel}'` : `curl -N '${url}/sse?app=${app}&channel=${channel}' -H "authorization: Bearer $TOKEN"` }],
    },
  ];
}

/** Back ends that publish into the app. */
export function backEnds({ url, app, channel, key }: Place): Language[] {
  return [
    {
      key: "curl",
      label: "curl",
      files: [
        {
          name: TERMINAL,
          text: `${key ? `XPUSH_KEY='${key}'\n` : ""}curl '${url}/api/v1/messages' \\
  -H "authorization: Bearer $XPUSH_KEY" \\
  -H 'content-type: application/json' \\
  -d '{"channel": "${channel}", "data": {"text": "Hello from my back end"}}'
`,
        },
      ],
    },
    {
      key: "node",
      label: "Node",
      files: [
        {
          name: "server.mjs",
          text: `const response = await fetch("${url}/api/v1/messages", {
  method: "POST",
  headers: {
    authorization: \`Bearer \${process.env.XPUSH_KEY}\`,
    "content-type": "application/json",
    "idempotency-key": crypto.randomUUID(), // the same again for a retry
  },
  body: JSON.stringify({ channel: "${channel}", data: { text: "Hello from Node" } }),
});
console.log(response.status, await response.json());
`,
        },
        ...(key ? [{ name: TERMINAL, text: `XPUSH_KEY='${key}' node server.mjs` }] : []),
      ],
    },
    {
      key: "python",
      label: "Python",
      files: [
        {
          name: "server.py",
          text: `import os, requests

answer = requests.post(
    "${url}/api/v1/messages",
    headers={"authorization": "Bearer " + os.environ["XPUSH_KEY"]},
    json={"channel": "${channel}", "data": {"text": "Hello from Python"}},
)
print(answer.status_code, answer.json())
`,
        },
        ...(key ? [{ name: TERMINAL, text: `XPUSH_KEY='${key}' python server.py` }] : []),
      ],
    },
    {
      key: "tokens",
      label: "Users' tokens",
      files: [
        {
          name: "token.mjs",
          text: `import jwt from "jsonwebtoken"; // npm install jsonwebtoken

// With one of the app's signing keys; short-lived: the client comes back for the next one.
export const tokenOf = (user) =>
  jwt.sign({ sub: user.id, name: user.name, app: "${app}" }, process.env.XPUSH_SIGNING_KEY, {
    algorithm: "HS256",
    keyid: "main",
    expiresIn: "10m",
  });
`,
        },
      ],
    },
  ];
}
