-- What is true of the file as a whole.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- `store`: which installation's file this is. `epoch`: what epochs are made from; a restore changes it. `clock`: see log/clock.rs.
INSERT INTO meta VALUES ('store', random()), ('epoch', random()), ('clock', 0);

CREATE TABLE channels (
    id          INTEGER PRIMARY KEY,
    app         TEXT NOT NULL,
    name        TEXT NOT NULL,
    incarnation INTEGER NOT NULL DEFAULT 0,
    -- The newest slot, and what all slots up to it came to, those that are gone included.
    head        INTEGER NOT NULL DEFAULT 0,
    counted     INTEGER NOT NULL DEFAULT 0, -- messages that count as unread
    bytes       INTEGER NOT NULL DEFAULT 0, -- as retention counts them
    placed      INTEGER NOT NULL DEFAULT 0, -- by the ledger's clock
    active      INTEGER NOT NULL DEFAULT 0, -- by the wall clock
    newest      INTEGER NOT NULL DEFAULT 0, -- the newest slot that is a message; 0: none
    moves       INTEGER NOT NULL DEFAULT 0, -- of markers
    -- Retention: oldest <= blanked <= first <= head (+ 1 when nothing was written yet).
    age         INTEGER NOT NULL DEFAULT 9223372036854775807, -- what is older than so many ms may not be read
    first       INTEGER NOT NULL DEFAULT 1, -- the smallest slot that may be read, age apart
    blanked     INTEGER NOT NULL DEFAULT 1, -- slots before have no body any more
    oldest      INTEGER NOT NULL DEFAULT 1, -- slots before are gone
    UNIQUE (app, name)
);

CREATE TABLE slots (
    slot        INTEGER PRIMARY KEY, -- channel << 36 | seq: a (channel, seq) is given once
    placed      INTEGER NOT NULL,    -- by the ledger's clock; never less than the slot before
    counted     INTEGER NOT NULL,    -- the channel's `counted` and `bytes` before this slot
    bytes       INTEGER NOT NULL,
    kind        INTEGER NOT NULL,    -- 0 message, 1 silent, 2 edit, 3 delete
    target      INTEGER,             -- of an edit or delete: the slot that it changes
    revised     INTEGER,             -- of a message: the slot of its newest edit, or of its deletion
    withdrawn   INTEGER,             -- of a deleted message: 1 when it was counted, else 0
    fence       BLOB NOT NULL,       -- digest of the sender and its id for the message
    user        TEXT NOT NULL,
    id          TEXT NOT NULL,
    at          INTEGER NOT NULL,
    -- The body, NULL when retention has blanked it. The data of an edited message are those of its newest edit; a deleted one has none.
    event       TEXT,
    display     TEXT,
    json        BLOB,
    attachments BLOB
);

-- A sender's message of one id has one slot.
CREATE UNIQUE INDEX fences ON slots (slot >> 36, fence);
CREATE INDEX edits ON slots (target) WHERE target IS NOT NULL;
CREATE INDEX withdrawals ON slots (withdrawn) WHERE withdrawn = 1;

CREATE TABLE markers (
    channel   INTEGER NOT NULL,
    user      TEXT NOT NULL,
    app       TEXT NOT NULL,
    delivered INTEGER NOT NULL,
    read      INTEGER NOT NULL,
    moved     INTEGER NOT NULL, -- the channel's `moves` when it moved last
    made      INTEGER NOT NULL, -- by the wall clock
    PRIMARY KEY (channel, user)
) WITHOUT ROWID;

CREATE INDEX conversations ON markers (app, user);
CREATE INDEX receipts ON markers (channel, moved);
