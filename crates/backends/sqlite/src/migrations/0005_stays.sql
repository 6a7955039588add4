-- As what a user was there when that was noted: 0 not any more, 1 away, 2 online. Who is there when nobody counts any more is left over.
ALTER TABLE last_seen ADD COLUMN present INTEGER NOT NULL DEFAULT 0;
CREATE INDEX stays ON last_seen (present) WHERE present > 0;
