-- Users who are being erased: see log/erasure.rs. The row goes when nothing else is left.
CREATE TABLE erasures (
  app TEXT NOT NULL,
  user TEXT NOT NULL,
  since INTEGER NOT NULL, -- ms since 1970
  at INTEGER NOT NULL,    -- slots up to this one have been looked at
  of INTEGER NOT NULL,    -- slots that there were at the beginning
  looked INTEGER NOT NULL,
  erased INTEGER NOT NULL,
  PRIMARY KEY (app, user)
) STRICT, WITHOUT ROWID;

-- Channels that were taken out, by a digest of their names: should one come again, it has an epoch that it never had.
CREATE TABLE removed_channels (
  name BLOB NOT NULL PRIMARY KEY,
  incarnation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Blocks are listed by whom they are against, too.
UPDATE entries SET owner = second WHERE kind = 6;
