//! The tables, and how a file of an older version becomes one of this version.
//!
//! A released step is never changed; a new version adds one at the end.

/// Marks the file as ours: `FRRY`.
pub(crate) const APPLICATION_ID: i32 = 0x4652_5259;

/// Step N brings a file from version N to N + 1.
pub(crate) const STEPS: &[&str] = &[
    "
    CREATE TABLE host (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE definition (
        uuid TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        xml TEXT NOT NULL,
        autostart INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE guest (
        uuid TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        id INTEGER NOT NULL,
        launch_id TEXT NOT NULL,
        pid INTEGER NOT NULL,
        start_ticks INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        run_dir TEXT NOT NULL,
        xml TEXT NOT NULL,
        state INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        transient INTEGER NOT NULL,
        next_node INTEGER NOT NULL,
        driver TEXT NOT NULL
    ) STRICT;

    CREATE TABLE epoch (
        domain TEXT PRIMARY KEY,
        last INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE journal (
        sequence INTEGER PRIMARY KEY,
        migration TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        role TEXT NOT NULL,
        domain TEXT NOT NULL,
        kind TEXT NOT NULL,
        body TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE history (
        migration TEXT PRIMARY KEY,
        domain TEXT NOT NULL,
        name TEXT NOT NULL,
        direction TEXT NOT NULL,
        peer TEXT NOT NULL,
        started_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        result TEXT NOT NULL,
        guarantee TEXT NOT NULL,
        statistics TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_by_time ON history (started_ms);
",
    "
    CREATE TABLE snapshot (
        sequence INTEGER PRIMARY KEY,
        domain TEXT NOT NULL,
        name TEXT NOT NULL,
        parent TEXT,
        is_current INTEGER NOT NULL,
        xml TEXT NOT NULL,
        UNIQUE (domain, name)
    ) STRICT;
",
    "
    CREATE TABLE secret (
        uuid TEXT PRIMARY KEY,
        xml TEXT NOT NULL,
        value BLOB
    ) STRICT;
",
];
