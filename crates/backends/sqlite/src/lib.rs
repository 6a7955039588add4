//! What must last, in one SQLite file: the message log with its markers, and the directory.
