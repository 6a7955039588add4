import { useState } from "preact/hooks";
import { Blank } from "../../ui/blank.tsx";
import { Button } from "../../ui/button.tsx";
import { Drawing } from "../../ui/drawing.tsx";
import { SelectField, TextField } from "../../ui/field.tsx";
import { Icon } from "../../ui/icon.tsx";
import { Table, type Column } from "../../ui/table.tsx";
import * as api from "../api.ts";
import { ask } from "../confirm.tsx";
import type { StoredFile } from "../contract.ts";
import { Loaded } from "../load.tsx";
import { More } from "../more.tsx";
import { usePages } from "../pages.ts";
import { href } from "../place.ts";
import { me } from "../session.ts";
import type { AppViewProps } from "../shown.tsx";
import { Ago } from "../time.tsx";
import { View } from "../view.tsx";
import { bytes, moment } from "../words.ts";

/** What users have uploaded. */
export function Files({ app }: AppViewProps) {
  return (
    <View title="Files" app={app} lead="What was uploaded into the app's channels, the newest first.">
      {me.value?.features.includes("files") ? (
        <List app={app} />
      ) : (
        <div class="card">
          <Blank title="This server keeps no files" drawing={<Drawing name="files" />}>
            Several servers need a bucket or a folder that all of them have: see “Files” in the documentation.
          </Blank>
        </div>
      )}
    </View>
  );
}

const TYPES = [
  ["", "All of them"],
  ["image", "Images"],
  ["video", "Videos"],
  ["audio", "Sound"],
  ["text", "Text"],
  ["application", "Documents and others"],
] as const;

function List({ app }: { app: string }) {
  const [name, setName] = useState("");
  const [channel, setChannel] = useState("");
  const [user, setUser] = useState("");
  const [type, setType] = useState<(typeof TYPES)[number][0]>("");
  const filter = { name: name.trim(), channel: channel.trim(), user: user.trim(), type };
  const filtered = Object.values(filter).some(Boolean);
  const pages = usePages<StoredFile>((after, signal) => api.files(app, filter, after, signal).then(({ files, after }) => [files, after]), [app, ...Object.values(filter)]);
  return (
    <>
      <div class="filters">
        <TextField label="Name" placeholder="a part of it" value={name} onChange={setName} spellcheck={false} autocapitalize="none" testId="file-name" />
        <SelectField label="Type" value={type} options={TYPES} onChange={setType} testId="file-type" />
        <TextField label="Channel" placeholder="all of them" mono value={channel} onChange={setChannel} spellcheck={false} autocapitalize="none" testId="file-channel" />
        <TextField label="By" placeholder="anybody" mono value={user} onChange={setUser} spellcheck={false} autocapitalize="none" testId="file-user" />
      </div>
      <div class="card">
        <Loaded load={pages} what="Files">
          {(files) =>
            files.length === 0 && !pages.more ? (
              <Blank title={filtered ? "No file is like that" : "No files"} drawing={<Drawing name="files" />}>
                {filtered ? "All that is filled in must fit." : "Whatever users upload into channels is listed here. Which files are taken say the rules for files: by default none."}
              </Blank>
            ) : (
              <Table label="Files" columns={columns(app, pages.again)} items={files} keyOf={({ file }) => file} testId="file" />
            )
          }
        </Loaded>
        <More pages={pages} />
      </div>
    </>
  );
}

function columns(app: string, again: () => void): readonly Column<StoredFile>[] {
  return [
    { name: "Name", cell: (file) => <Named app={app} file={file} /> },
    { name: "Type", cell: ({ type }) => type, spare: true },
    { name: "Size", cell: ({ size }) => bytes(size), kind: "number" },
    {
      name: "Channel",
      cell: ({ channel }) => (
        <a href={href("apps", app, "channels", channel)} title={channel}>
          <code>{channel}</code>
        </a>
      ),
      kind: "cut",
      spare: true,
    },
    {
      name: "By",
      cell: ({ by }) => (
        <a href={href("apps", app, "users", by)} title={by}>
          <code>{by}</code>
        </a>
      ),
      kind: "cut",
      spare: true,
    },
    { name: "When", cell: ({ at }) => <Ago at={at} />, spare: true },
    { name: "", cell: (file) => <Actions app={app} file={file} again={again} />, kind: "actions" },
  ];
}

function Named({ app, file }: { app: string; file: StoredFile }) {
  return (
    <div class="file-cell">
      <span class="file-face">{file.thumbnail ? <img src={api.fileUrl(app, file.file, "thumbnail")} alt="" loading="lazy" /> : <Icon name="file" />}</span>
      <span class="two-lines">
        <span class="cut-cell file-name" title={file.name}>
          {file.name}
        </span>
        <small class="soft tight cut-cell">
          <code>{file.channel}</code> · <Ago at={file.at} />
        </small>
        {file.expires_at && (
          <small class="soft" title={moment(file.expires_at)}>
            goes <Ago at={file.expires_at} />
          </small>
        )}
      </span>
    </div>
  );
}

function Actions({ app, file, again }: { app: string; file: StoredFile; again(): void }) {
  const remove = () =>
    ask({
      title: `Delete ${file.name}?`,
      words: `It was uploaded by ${file.by} into ${file.channel}. Whoever has a link to it finds nothing any more. This cannot be undone.`,
      yes: "Delete",
      act: async () => {
        await api.deleteFile(app, file.file);
        again();
      },
    });
  const download = `Download ${file.name}`;
  return (
    <>
      <a class="button quiet small square" href={api.fileUrl(app, file.file, "content")} download={file.name} aria-label={download} title={download} data-testid="file-download">
        <Icon name="download" />
      </a>
      <Button kind="quiet" small icon="trash" aria-label={`Delete ${file.name}`} onClick={remove} testId="file-delete" />
    </>
  );
}
