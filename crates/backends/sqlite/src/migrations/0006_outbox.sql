-- Work that is to be done, by queue and key.
CREATE TABLE outbox_queues (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  -- Items that wait.
  waiting INTEGER NOT NULL
) STRICT;

-- Keys that have items.
CREATE TABLE outbox_keys (
  id INTEGER PRIMARY KEY,
  queue INTEGER NOT NULL,
  name TEXT NOT NULL,
  -- When they can be claimed, by the ledger's clock; while they are claimed, when that ends.
  due INTEGER NOT NULL,
  -- The claim that holds; 0 without any.
  lease INTEGER NOT NULL,
  UNIQUE (queue, name)
) STRICT;
CREATE INDEX outbox_keys_by_due ON outbox_keys (queue, due);

CREATE TABLE outbox_items (
  -- Never used again.
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  -- Ms since 1970.
  put_at INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_items_by_key ON outbox_items (key, id);

-- What was given up; of each queue the last ones.
CREATE TABLE outbox_dead (
  id INTEGER PRIMARY KEY,
  queue INTEGER NOT NULL,
  key TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  put_at INTEGER NOT NULL,
  died_at INTEGER NOT NULL,
  why TEXT NOT NULL
) STRICT;
CREATE INDEX outbox_dead_by_queue ON outbox_dead (queue, id);
