-- What the search index is still to take out, because it was erased: a message's slot, or the slot 0 of a channel that is gone. Noted as soon as there is an index (`search` in
-- meta is 1 then), in the step that erases.
CREATE TABLE search_removals (
  slot INTEGER PRIMARY KEY
) STRICT;
INSERT INTO meta VALUES ('search', 0);
