# A stock application: so many commits a second, each acknowledged with a line
# "NUMBER BEGUN TOOK OUTCOME" (seconds since 1970, seconds, ok or busy) that is
# written when the commit has returned and not before.
import os
import random
import sqlite3
import sys
import threading
import time

# It does not outlive the benchmark.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()

path, rate, mode = sys.argv[1], float(sys.argv[2]), sys.argv[3]
db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
if db.execute("PRAGMA journal_mode=" + mode).fetchone()[0] != mode:
    sys.exit("journal mode " + mode + " is not to be had")
db.execute("CREATE TABLE IF NOT EXISTS acknowledged (n INTEGER PRIMARY KEY, at REAL NOT NULL)")
last = db.execute("SELECT max(id) FROM messages").fetchone()[0]
r = random.Random(7)


def commit(n):
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO acknowledged VALUES (?, ?)", (n, time.time()))
    db.execute("INSERT INTO messages (at, author, token, body) VALUES (?, ?, ?, ?)",
               ("2026-11-23T12:00:00Z", "writer%02d" % r.randrange(50), "%032x" % r.getrandbits(128), "order shipped " * r.randrange(5, 40)))
    db.execute("UPDATE messages SET at=at WHERE id=?", (r.randrange(1, last + 1),))
    db.execute("COMMIT")


n, due = 1, time.monotonic()
while True:
    begun, clock = time.time(), time.monotonic()
    try:
        commit(n)
        outcome = "ok"
    except sqlite3.OperationalError as e:
        if "locked" not in str(e):
            raise
        outcome = "busy"
        if db.in_transaction:
            db.execute("ROLLBACK")
    os.write(1, b"%d %.6f %.6f %s\n" % (n, begun, time.monotonic() - clock, outcome.encode()))
    if outcome == "ok":
        n += 1
    due += 1 / rate
    behind = time.monotonic() - due
    if behind < 0:
        time.sleep(-behind)
    elif behind > 1:
        due += behind  # what was not to be done in time is not done in a burst
