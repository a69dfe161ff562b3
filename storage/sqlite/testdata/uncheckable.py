# Makes databases that need what only their application has, as applications do:
# with functions and collations of Python's sqlite3. Usage: uncheckable.py FOLDER
import os, sqlite3, sys

folder = sys.argv[1]


def make(name, sql="", *then, rows=("f", 2)):
    c = sqlite3.connect(os.path.join(folder, name))
    c.create_function("slug", 1, lambda s: str(s).lower(), deterministic=True)
    c.create_collation("unicase", lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()))
    c.executescript("CREATE TABLE plain (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX pv ON plain(v);" + sql)
    c.executemany("INSERT INTO plain (v) VALUES (?)", [("plain-%05d" % (i * 7 % 500) + "x" * 80,) for i in range(500)])
    if sql and rows:
        table, n = rows
        names = [r[1] for r in c.execute("PRAGMA table_info(%s)" % table)][:n]
        c.executemany("INSERT INTO %s (%s) VALUES (%s)" % (table, ",".join(names), ",".join("?" * n)),
                      [tuple("Val-%05d-%d" % (i * 7 % 300, k) + "y" * 60 for k in range(n)) for i in range(300)])
    c.commit()
    c.execute("PRAGMA writable_schema = 1")
    for statement in then:
        c.execute(statement)
    c.commit()
    c.close()


def schema(name, sql):
    return "UPDATE sqlite_schema SET sql = '%s' WHERE name = '%s'" % (sql.replace("'", "''"), name)


def module(name, sql):
    return "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES ('table', '%s', '%s', 0, '%s')" % (name, name, sql)


make("collation-key", "CREATE TABLE f (tag TEXT NOT NULL PRIMARY KEY COLLATE unicase, usn TEXT) WITHOUT ROWID; CREATE INDEX fu ON f(usn);")
make("collation-index", "CREATE TABLE f (a TEXT, b TEXT); CREATE INDEX fa ON f(a COLLATE unicase);")
make("collation-column", "CREATE TABLE f (a TEXT COLLATE unicase UNIQUE, b TEXT);")
make("function-index", "CREATE TABLE f (a TEXT, b TEXT); CREATE INDEX fa ON f(slug(a)); CREATE INDEX fb ON f(b);")
make("function-partial", "CREATE TABLE f (a TEXT, b TEXT); CREATE INDEX fa ON f(a) WHERE slug(b) > 'val';")
make("function-generated", "CREATE TABLE f (a TEXT, b TEXT, g AS (slug(a)), s AS (slug(b)) STORED NOT NULL); CREATE INDEX fg ON f(g);")
make("function-check", "CREATE TABLE f (a TEXT CHECK (slug(a) <> ')'), b TEXT);")
make("function-strict", "CREATE TABLE f (a TEXT, b TEXT PRIMARY KEY, CHECK (a <> '(' AND slug(a) <> '')) STRICT, WITHOUT ROWID;")
make("function-view", "CREATE TABLE f (a TEXT, b TEXT); CREATE VIEW v AS SELECT slug(a) AS x FROM f; CREATE TRIGGER t AFTER INSERT ON plain BEGIN SELECT slug(new.v); END;", rows=None)
make("module", "CREATE TABLE f (a TEXT, b TEXT);", module("vec", "CREATE VIRTUAL TABLE vec USING vec0(x)"))
make("tokenizer", "CREATE VIRTUAL TABLE f USING fts5(x, y);", schema("f", "CREATE VIRTUAL TABLE f USING fts5(x, y, tokenize='snowball english')"))
make("fts4", "CREATE VIRTUAL TABLE f USING fts4(x, y);")
make("spatialite", "CREATE VIRTUAL TABLE r USING rtree(id, a, b, c, d); INSERT INTO r VALUES (1, 0, 1, 0, 1); CREATE TABLE f (g BLOB, n TEXT); "
     "CREATE TRIGGER gi BEFORE INSERT ON plain BEGIN SELECT raise(ABORT, 'no') WHERE GeometryType(new.v) IS NULL; END; CREATE VIEW w AS SELECT ST_Area(g) FROM f;".replace("BEFORE INSERT", "BEFORE DELETE"),
     module("SpatialIndex", "CREATE VIRTUAL TABLE SpatialIndex USING VirtualSpatialIndex()"))
make("future-option", "CREATE TABLE f (a TEXT, b TEXT);", schema("f", "CREATE TABLE f (a TEXT, b TEXT) FUTURE"))
make("future-syntax", "CREATE TABLE f (a TEXT, b TEXT);", schema("f", "CREATE TABLE f (a TEXT, b TEXT) PARTITION BY (a)"))
make("future-column", "CREATE TABLE f (a TEXT, b TEXT);", schema("f", "CREATE TABLE f (a TEXT, b TEXT, c AS (new.x))"))
make("future-format", "CREATE TABLE f (a TEXT, b TEXT);")
with open(os.path.join(folder, "future-format"), "r+b") as file:
    file.seek(44)
    file.write(b"\0\0\0\5")

make("damaged-rootpage", "CREATE TABLE f (a TEXT, b TEXT);", "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'f'")
make("damaged-orphan", "CREATE TABLE f (a TEXT, b TEXT); CREATE INDEX fi ON f(a);", "DELETE FROM sqlite_schema WHERE name = 'f'")
make("damaged-schema", "CREATE TABLE f (a TEXT, b TEXT);", "UPDATE sqlite_schema SET sql = CAST(x'4352454154452007ff0103' AS TEXT) WHERE name = 'f'")
make("sound", "CREATE TABLE f (a TEXT, b TEXT, CHECK (length(a) > 1)); CREATE INDEX fa ON f(lower(a));")
