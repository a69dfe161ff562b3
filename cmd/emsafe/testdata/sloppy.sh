#!/bin/sh
# Builds a deliberately sloppy installation of a small service below $1, or, with
# "hardened" as $2, its twin with none of the faults.
set -eu
root=$1 twin=${2-} bind=0.0.0.0
if [ "$twin" ]; then bind=127.0.0.1; fi
umask 022
mkdir -p "$root/srv/app/data" "$root/systemd"
db="$root/srv/app/data/app.db"
sqlite3 "$db" "CREATE TABLE rolls (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO rolls (name) VALUES ('first'), ('second');"
cat > "$root/systemd/app.service" <<UNIT
[Unit]
Description=A small service
[Service]
ExecStart=/usr/bin/python3 -m http.server --bind $bind 8000
WorkingDirectory=$root/srv/app
UNIT
if [ "$twin" ]; then
	chmod 700 "$root" "$root/srv" "$root/srv/app" "$root/srv/app/data"
	chmod 600 "$db"
	sqlite3 "$db" 'PRAGMA journal_mode=wal' > /dev/null
	exit
fi
chmod 644 "$db"                                  # anybody reads it
chmod 777 "$root/srv/app/data"                   # anybody replaces it
cp "$db" "$root/srv/app/data/app.db.bak"         # a copy from before the last deploy
cp "$db" "$root/srv/app/data/app-old.db"         # and another
sqlite3 "$db" .dump > "$root/srv/app/data/dump.sql"
mkdir "$root/srv/app/.git"                       # deployed by git pull
