-- Fences of slots, in a table instead of an index: it is filled behind the appends, in sorted parts. See log/fences.rs.
CREATE TABLE known_fences (
  channel INTEGER NOT NULL,
  fence BLOB NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (channel, fence)
) STRICT, WITHOUT ROWID;

INSERT INTO known_fences SELECT slot >> 36, fence, slot & 68719476735 FROM slots ORDER BY 1, 2;
DROP INDEX fences;

-- Slots up to this one have their fences in the table.
ALTER TABLE channels ADD COLUMN fenced INTEGER NOT NULL DEFAULT 0;
UPDATE channels SET fenced = head;
