import { Snippet as Lines } from "../ui/snippet.tsx";
import { Tabs } from "../ui/tabs.tsx";

const TERMINAL = "Command for the terminal";

interface Snippet {
  key: string;
  label: string;
  /** What to type into a terminal first. */
  install?: string;
  /** Where to save the text, and how to run it. */
  file?: { name: string; run: string };
  text: string;
}

/** Three clients that are not ours, each in the lobby after a copy and a paste. */
export function Snippets({ origin }: { origin: string }) {
  return (
    <section class="snippets" id="snippets" aria-labelledby="snippets-title">
      <div class="snippets-words">
        <h2 id="snippets-title">Bring your own client</h2>
        <p>
          Nothing to install on this side: any Socket.IO client works unchanged, and <code>curl</code> is enough to listen. Run
          one of these and look at the lobby above.
        </p>
      </div>
      <div class="card snippets-card">
        <Tabs
          label="Language"
          tabs={snippets(origin).map((snippet) => ({
            key: snippet.key,
            label: snippet.label,
            content: <SnippetPanel snippet={snippet} />,
          }))}
        />
      </div>
    </section>
  );
}

function SnippetPanel({ snippet: { install, file, text } }: { snippet: Snippet }) {
  return (
    <>
      {install && <Lines name="Terminal" text={install} what="the command" label={TERMINAL} testId="snippet-install" />}
      <Lines
        name={file?.name ?? "Terminal"}
        text={text}
        what={file?.name ?? "the command"}
        label={file?.name ?? TERMINAL}
        testId="snippet"
        copyTestId="snippet-copy"
      />
      {file && (
        <p class="snippet-run">
          Save it and run <code>{file.run}</code>.
        </p>
      )}
    </>
  );
}

function snippets(origin: string): Snippet[] {
  return [
    {
      key: "javascript",
      label: "JavaScript",
      install: "npm install socket.io-client",
      file: { name: "chat.mjs", run: "node chat.mjs" },
      text: `import { io } from "socket.io-client";

const socket = io("${origin}", { auth: { name: "Node" } });
const channel = "chat:lobby";

socket.on("message", (m) => console.log(m.from.name, m.data));

socket.on("connect", async () => {
  await socket.emitWithAck("subscribe", { channel });
  await socket.emitWithAck("publish", { channel, data: { text: "Hello from Node" } });
});
`,
    },
    {
      key: "python",
      label: "Python",
      install: 'pip install "python-socketio[client]"',
      file: { name: "chat.py", run: "python chat.py" },
      text: `import socketio

sio = socketio.Client()
channel = "chat:lobby"

@sio.on("message")
def message(m):
    print(m["from"].get("name"), m["data"])

sio.connect("${origin}", auth={"name": "Python"})
sio.call("subscribe", {"channel": channel})
sio.call("publish", {"channel": channel, "data": {"text": "Hello from Python"}})
sio.wait()
`,
    },
    {
      key: "curl",
      label: "curl",
      text: `curl -N '${origin}/sse?channel=chat:lobby'`,
    },
  ];
}
