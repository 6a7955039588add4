import { useState } from "preact/hooks";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { TextField } from "../../ui/field.tsx";
import * as api from "../api.ts";
import { ask } from "../confirm.tsx";
import type { StoredFile } from "../contract.ts";
import { Loaded } from "../load.tsx";
import { usePages } from "../pages.ts";
import { href } from "../place.ts";
import { me } from "../session.ts";
import type { AppViewProps } from "../shown.tsx";
import { Ago } from "../time.tsx";
import { View } from "../view.tsx";
import { bytes } from "../words.ts";

/** What users have uploaded. */
export function Files({ app }: AppViewProps) {
  return (
    <View title="Files" app={app} lead="What was uploaded into the app's channels.">
      {me.value?.features.includes("files") ? (
        <List app={app} />
      ) : (
        <div class="card">
          <Blank title="This server keeps no files" drawing={<Drawing name="files" />}>
            Uploads are not part of this installation.
          </Blank>
        </div>
      )}
    </View>
  );
}

function List({ app }: { app: string }) {
  const [channel, type] = useState("");
  const pages = usePages<StoredFile>((after, signal) => api.files(app, channel.trim(), after, signal).then(({ files, after }) => [files, after]), [app, channel.trim()]);
  return (
    <>
      <div class="filters">
        <TextField label="Channel" placeholder="all of them" mono value={channel} onChange={type} spellcheck={false} autocapitalize="none" />
      </div>
      <div class="card">
        <Loaded load={pages} what="Files">
          {(files) =>
            files.length === 0 ? (
              <Blank title="No files" drawing={<Drawing name="files" />}>
                Whatever members upload into channels is listed here.
              </Blank>
            ) : (
              <div class="table-frame" tabIndex={0} role="group" aria-label="Files">
                <table class="table">
                  <thead>
                    <tr>
                      <th scope="col">Name</th>
                      <th scope="col" class="spare">
                        Type
                      </th>
                      <th scope="col" class="number">
                        Size
                      </th>
                      <th scope="col">Channel</th>
                      <th scope="col" class="spare">
                        By
                      </th>
                      <th scope="col">When</th>
                      <td />
                    </tr>
                  </thead>
                  <tbody>
                    {files.map((file) => (
                      <tr key={file.file} data-testid="file">
                        <th scope="row" class="cut-cell" title={file.name}>
                          {file.name}
                        </th>
                        <td class="spare">{file.type}</td>
                        <td class="number">{bytes(file.size)}</td>
                        <td>
                          <a href={href("apps", app, "channels", file.channel)}>
                            <code>{file.channel}</code>
                          </a>
                        </td>
                        <td class="spare">{file.by}</td>
                        <td>
                          <Ago at={file.at} />
                        </td>
                        <td class="actions">
                          <Button
                            kind="quiet"
                            small
                            icon="trash"
                            aria-label={`Delete ${file.name}`}
                            onClick={() =>
                              ask({
                                title: `Delete ${file.name}?`,
                                words: "Whoever has a link to it finds nothing any more. This cannot be undone.",
                                yes: "Delete",
                                act: async () => {
                                  await api.deleteFile(app, file.file);
                                  pages.again();
                                },
                              })
                            }
                          />
                        </td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )
          }
        </Loaded>
        {pages.more && (
          <footer class="card-foot">
            <Button busy={pages.busy} onClick={pages.next}>
              More
            </Button>
          </footer>
        )}
      </div>
    </>
  );
}
