-- When a user was last connected, ms since 1970.
CREATE TABLE last_seen (
  app TEXT NOT NULL,
  user TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (app, user)
) STRICT, WITHOUT ROWID;
