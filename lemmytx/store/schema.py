"""
The tables of a store's file.

Whoever changes C{vhosts}, C{members} or C{states}, be it a person with the C{sqlite3} command, raises a revision by
the triggers: so that what has changed is found without reading all of it. A vhost has the revision of its last change;
C{dropped} is that of the last one that went away.

The other tables are what processes tell each other. Nothing in them is missed when it is gone.
"""

from __future__ import annotations

#: Of the file: "lemm", so that the file of another program is not taken for ours.
APPLICATION = 0x6C656D6D

#: Of the tables. A file with a higher one was written by a newer program.
VERSION = 1

#: Not INSERT OR IGNORE: in an INSERT OR REPLACE of a member it would replace the vhost.
_THERE = "INSERT INTO vhosts (name) SELECT NEW.vhost WHERE NOT EXISTS (SELECT 1 FROM vhosts WHERE name = NEW.vhost);"

_TOUCHED = """
    UPDATE revision SET vhosts = vhosts + 1;
    UPDATE vhosts SET revision = (SELECT vhosts FROM revision) WHERE name = {}.{};
"""


def _table(table: str, key: str, /, **columns: str) -> str:
    """
    A table whose columns hold what they are for and nothing else. (STRICT tables came with SQLite 3.37 only.)

    @param key: the columns of its primary key.
    @param columns: name to type, with a default where there is one.
    """
    parts = []
    for column, kind in columns.items():
        wanted = kind.partition(" ")[0].lower()
        parts.append(f"{column} {kind} NOT NULL CHECK (typeof({column}) = '{wanted}')")
    return f"CREATE TABLE {table} ({', '.join(parts)}, PRIMARY KEY ({key})) WITHOUT ROWID"


STATEMENTS = (
    _table("revision", "one", one="INTEGER", vhosts="INTEGER", dropped="INTEGER", states="INTEGER"),
    "INSERT INTO revision VALUES (1, 0, 0, 0)",
    _table("vhosts", "name", name="TEXT", settings="TEXT DEFAULT ''", revision="INTEGER DEFAULT 0"),
    _table(
        "members", "vhost, text",
        vhost="TEXT", text="TEXT", name="TEXT DEFAULT ''", weight="INTEGER DEFAULT 1", capacity="INTEGER DEFAULT 0",
        role="TEXT DEFAULT 'active'",
    ),
    _table(
        "states", "cluster, backend",
        cluster="TEXT", backend="TEXT", state="TEXT", why="TEXT DEFAULT ''", who="TEXT DEFAULT ''", at="REAL DEFAULT 0",
    ),
    _table("processes", "identity", identity="TEXT", beat="INTEGER", at="REAL", about="TEXT"),
    _table("active", "identity, vhost, text", identity="TEXT", vhost="TEXT", text="TEXT", requests="INTEGER"),
    # With AUTOINCREMENT a number is never used again, and that takes a table of the other kind.
    """
    CREATE TABLE hints (
        number INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL, cluster TEXT NOT NULL,
        backend TEXT NOT NULL, outcome TEXT NOT NULL, why TEXT NOT NULL
    )
    """,
    f"CREATE TRIGGER vhost_added AFTER INSERT ON vhosts BEGIN {_TOUCHED.format('NEW', 'name')} END",
    f"CREATE TRIGGER vhost_set AFTER UPDATE OF settings ON vhosts BEGIN {_TOUCHED.format('NEW', 'name')} END",
    f"""
    CREATE TRIGGER vhost_renamed AFTER UPDATE OF name ON vhosts BEGIN
        UPDATE revision SET dropped = vhosts + 1;
        UPDATE members SET vhost = NEW.name WHERE vhost = OLD.name;
        {_TOUCHED.format("NEW", "name")}
    END
    """,
    """
    CREATE TRIGGER vhost_dropped AFTER DELETE ON vhosts BEGIN
        UPDATE revision SET vhosts = vhosts + 1, dropped = vhosts + 1;
        DELETE FROM members WHERE vhost = OLD.name;
    END
    """,
    f"CREATE TRIGGER member_added AFTER INSERT ON members BEGIN {_THERE} {_TOUCHED.format('NEW', 'vhost')} END",
    f"""
    CREATE TRIGGER member_set AFTER UPDATE ON members BEGIN
        {_THERE} {_TOUCHED.format("OLD", "vhost")} {_TOUCHED.format("NEW", "vhost")}
    END
    """,
    f"CREATE TRIGGER member_dropped AFTER DELETE ON members BEGIN {_TOUCHED.format('OLD', 'vhost')} END",
    "CREATE TRIGGER state_added AFTER INSERT ON states BEGIN UPDATE revision SET states = states + 1; END",
    "CREATE TRIGGER state_set AFTER UPDATE ON states BEGIN UPDATE revision SET states = states + 1; END",
    "CREATE TRIGGER state_dropped AFTER DELETE ON states BEGIN UPDATE revision SET states = states + 1; END",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)  # fmt: skip
