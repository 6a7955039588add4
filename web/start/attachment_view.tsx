import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Client } from "@xpush/client";
import { Icon } from "../ui/icon.tsx";
import { sizeText, type Attachment, type Attachments, type SentFile } from "./attachments.ts";

/** A file in the timeline: an image by its thumbnail, anything else by its name. */
export function FileView({ client, file }: { client: Client; file: SentFile }) {
  const [gone, setGone] = useState(false);

  async function open(): Promise<void> {
    try {
      // A fresh one: the page may have been open for hours.
      window.open(await client.fileUrl(file), "_blank", "noopener");
    } catch {
      setGone(true);
    }
  }

  if (gone) return <p class="line-text gone">{file.name} is no longer here</p>;
  return file.thumbnail ? (
    <button type="button" class="file-image" data-testid="file-image" aria-label={`Open ${file.name}`} onClick={open}>
      <Thumbnail client={client} file={file} onGone={() => setGone(true)} />
    </button>
  ) : (
    <button type="button" class="file-card" data-testid="file-card" onClick={open}>
      <Icon name="file" />
      <span class="file-name" dir="auto">
        {file.name}
      </span>
      <span class="file-size figures">{sizeText(file.size)}</span>
    </button>
  );
}

function Thumbnail({ client, file, onGone }: { client: Client; file: SentFile; onGone: () => void }) {
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    let here = true;
    client
      .fileUrl(file, { thumbnail: true })
      .then((url) => here && setUrl(url))
      .catch(() => here && onGone());
    return () => void (here = false);
  }, [file.id]);
  const { width = 320, height = 200 } = file.thumbnail ?? {};
  // Its place is kept while it loads, so that nothing jumps.
  return <img src={url} width={width} height={height} alt={file.name} loading="lazy" decoding="async" onError={() => url && onGone()} />;
}

/** What is on its way, above the field to write in. */
export function Uploads({ attachments }: { attachments: Attachments }) {
  const list = attachments.list.value;
  if (list.length === 0) return null;
  return (
    <ul class="uploads" aria-label="Files on their way">
      {list.map((attachment) => (
        <Upload key={attachment.key} attachment={attachment} attachments={attachments} />
      ))}
    </ul>
  );
}

function Upload({ attachment, attachments }: { attachment: Attachment; attachments: Attachments }) {
  const { file, sent, error } = attachment;
  const percent = Math.round(sent * 100);
  return (
    <li class={error ? "upload failed" : "upload"} data-testid="upload">
      <Icon name={error ? "alert" : "file"} />
      <span class="file-name" dir="auto">
        {file.name}
      </span>
      {error ? (
        <span class="upload-error" role="alert">
          {error}
        </span>
      ) : (
        <span class="file-size figures">{sent < 1 ? `${percent} %` : "nearly there"}</span>
      )}
      {error && (
        <button type="button" class="button quiet small" onClick={() => attachments.retry(attachment)}>
          Try again
        </button>
      )}
      <button type="button" class="button quiet small" aria-label={`Do not send ${file.name}`} onClick={() => attachments.remove(attachment)}>
        <Icon name="close" />
      </button>
      {!error && <progress value={sent} max={1} aria-label={`${file.name}: sent`} data-testid="upload-progress" />}
    </li>
  );
}

/** Chooses files. */
export function AttachButton({ attachments }: { attachments: Attachments }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <button type="button" class="button outline attach" aria-label="Attach files" data-testid="attach" onClick={() => input.current?.click()}>
        <Icon name="attach" />
      </button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        data-testid="attach-input"
        onChange={({ currentTarget }) => {
          attachments.add(currentTarget.files ?? []);
          currentTarget.value = "";
        }}
      />
    </>
  );
}

/** Takes files that are dropped on what is in it, and shows that it does. */
export function DropTarget({ attachments, children }: { attachments: Attachments; children: ComponentChildren }) {
  const [depth, setDepth] = useState(0);
  const holdsFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") === true;
  return (
    <div
      class="drop-target"
      onDragEnter={(event) => holdsFiles(event) && (event.preventDefault(), setDepth((depth) => depth + 1))}
      onDragLeave={(event) => holdsFiles(event) && setDepth((depth) => Math.max(0, depth - 1))}
      onDragOver={(event) => holdsFiles(event) && event.preventDefault()}
      onDrop={(event) => {
        if (!holdsFiles(event)) return;
        event.preventDefault();
        setDepth(0);
        attachments.add(event.dataTransfer?.files ?? []);
      }}
    >
      {children}
      {depth > 0 && (
        <div class="drop-here" aria-hidden="true">
          <Icon name="attach" />
          Drop to send
        </div>
      )}
    </div>
  );
}
