import { Top } from "../ui/frame.tsx";
import { Icon } from "../ui/icon.tsx";
import type { Connection } from "./connection.ts";
import { ConnectionBar, ConnectionCard, ConnectionPill } from "./connection_view.tsx";
import type { Experiment } from "./experiment.ts";
import { ExperimentCard } from "./experiment_view.tsx";
import type { Lobby } from "./lobby.ts";
import { LobbyCard } from "./lobby_view.tsx";
import { Snippets } from "./snippets.tsx";

export interface AppProps {
  connection: Connection;
  lobby: Lobby;
  experiment: Experiment;
}

export function App({ connection, lobby, experiment }: AppProps) {
  return (
    <>
      <Top below={<ConnectionBar connection={connection} experiment={experiment} lobby={lobby} />}>
        <ConnectionPill connection={connection} experiment={experiment} />
      </Top>

      <main class="page">
        <section class="hero">
          <div class="hero-words">
            <h1>
              The <span class="whole">real-time</span> platform <em>in one binary</em>
            </h1>
            <p>
              Channels, presence and history for everything that speaks Socket.IO, WebSocket or server-sent events. It is
              running: this page is talking to it now.
            </p>
            <div class="hero-actions">
              <a class="button primary" href="/" target="_blank" rel="noopener">
                Open a second window
                <Icon name="external" />
              </a>
              <a class="button outline" href="#snippets">
                Connect your own client
              </a>
            </div>
          </div>
          <ConnectionCard connection={connection} />
        </section>

        <div class="demos">
          <LobbyCard connection={connection} lobby={lobby} />
          <ExperimentCard experiment={experiment} connection={connection} />
        </div>

        <Snippets origin={location.origin} />
      </main>

      <footer class="foot">
        <p>
          Where to go on: the <a href="/docs/">documentation</a> for everything that can be sent and asked for; in the repository{" "}
          <code>ARCHITECTURE.md</code> for a message's journey, <code>clients/js</code> for the client that this page uses.
        </p>
      </footer>
    </>
  );
}
