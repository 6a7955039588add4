-- What is true of the file as a whole.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- `store`: which installation's file this is. `epoch`: what epochs are made from; a restore changes it. `clock`: see log/clock.rs.
INSERT INTO meta VALUES ('store', random()), ('epoch', random()), ('clock', 0);
