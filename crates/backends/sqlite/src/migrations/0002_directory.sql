-- The directory: see directory.rs. `first` and `second` are the parts of a key within its app; `owner` is whose entry it is, where that is listed.
CREATE TABLE entries (
  kind INTEGER NOT NULL,
  app TEXT NOT NULL,
  first TEXT NOT NULL,
  second TEXT NOT NULL,
  owner TEXT,
  revision INTEGER NOT NULL,
  form INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (kind, app, first, second)
) STRICT, WITHOUT ROWID;

CREATE INDEX entries_by_owner ON entries (kind, app, owner, first, second) WHERE owner IS NOT NULL;

-- What was changed, in order; `seq` is the entry's revision after it. The newest row is never removed, so no seq is used twice.
CREATE TABLE changes (
  seq INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  app TEXT NOT NULL,
  first TEXT NOT NULL,
  second TEXT NOT NULL
) STRICT;
