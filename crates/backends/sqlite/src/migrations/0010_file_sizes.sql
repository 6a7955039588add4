-- The bytes of all of an app's files are added up from this index alone.
CREATE INDEX files_by_size ON files (app, size);
