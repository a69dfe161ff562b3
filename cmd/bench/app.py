# An application that has a database open and changes it when told to.
import random
import sqlite3
import sys

db = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint=0")  # the bench says when
last = db.execute("SELECT max(id) FROM messages").fetchone()[0]


def change(seed, rows):
    """Shuffles the words of random rows: each changes one page in place."""
    r = random.Random(seed)
    ids = r.sample(range(1, last + 1), rows)
    for i in range(0, rows, 100):
        db.execute("BEGIN IMMEDIATE")
        for row in ids[i : i + 100]:
            (body,) = db.execute("SELECT body FROM messages WHERE id=?", (row,)).fetchone()
            words = body.split(" ")
            r.shuffle(words)
            db.execute("UPDATE messages SET body=? WHERE id=?", (" ".join(words), row))
        db.execute("COMMIT")


for line in sys.stdin:
    order, *args = line.split()
    if order == "change":
        change(*map(int, args))
    elif order == "restart":
        # All is copied into the database, and what is written next starts the WAL over.
        if db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] != 0:
            sys.exit("a reader is in the way of the checkpoint")
    print("ok", flush=True)
db.close()
