-- Files that were uploaded, and those on their way. Their contents are elsewhere.
CREATE TABLE files (
  -- It begins with the time.
  id TEXT PRIMARY KEY,
  app TEXT NOT NULL,
  channel TEXT NOT NULL,
  owner TEXT NOT NULL,
  size INTEGER NOT NULL,
  -- Ms since 1970.
  created INTEGER NOT NULL,
  expires INTEGER,
  -- All of it, as JSON.
  body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_app ON files (app, id);
CREATE INDEX files_by_channel ON files (app, channel, id);
CREATE INDEX files_by_owner ON files (app, owner, id);
CREATE INDEX files_by_end ON files (expires) WHERE expires IS NOT NULL;
