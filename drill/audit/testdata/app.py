"""A small service with SQLite: app.py sloppy|shell|sound FOLDER. It prints its port.

sloppy has every fault that the audit looks for; shell is sloppy's twin as a
single-page application, which answers every unknown path with its index page;
sound has none that an application can do without.
"""
import http.cookies
import http.server
import json
import os
import sqlite3
import sys
import traceback
import urllib.parse

kind, folder = sys.argv[1:]
sound = kind == "sound"
path = os.path.join(folder, "app.db")
db = sqlite3.connect(path, check_same_thread=False)
db.executescript("PRAGMA journal_mode=delete; CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY, name TEXT)")
if not db.execute("SELECT count(*) FROM items").fetchone()[0]:
    db.executemany("INSERT INTO items (name) VALUES (?)", [("a name %d" % i,) for i in range(40)])
db.commit()
log = open(os.path.join(folder, "app.log"), "a", buffering=1)

number = {"name": "limit", "in": "query", "schema": {"type": "integer"}}
word = {"name": "search", "in": "query", "schema": {"type": "string"}}
key = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
openapi = {"openapi": "3.1.0", "info": {"title": "app", "version": "1"}, "paths": {
    "/health": {"get": {}},
    "/items": {"get": {"parameters": [number, word]}, "post": {"requestBody": {}}, "delete": {}},
    "/items/{id}": {"get": {"parameters": [key]}, "put": {"parameters": [key], "requestBody": {}}, "delete": {"parameters": [key]}},
}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5 if sound else None

    def version_string(self):
        return "app" if sound else super().version_string()

    def log_message(self, form, *args):
        line = urllib.parse.urlsplit(self.path).path
        if not sound:
            line = "%s key=%s" % (self.path, self.headers.get("X-API-Key"))
        print(self.command, line, file=log)

    def say(self, status, body, kind="application/json", headers=()):
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        if not sound:
            origin = self.headers.get("Origin")
            if origin:
                self.send_header("Access-Control-Allow-Origin", origin if self.headers.get("Cookie") else "*")
                self.send_header("Access-Control-Allow-Credentials", "true")
                self.send_header("Access-Control-Allow-Methods", "GET, POST, DELETE")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(min(length, 1 << 26))
        try:
            self.route()
        except Exception:
            self.say(500, "internal error" if sound else traceback.format_exc(), "text/plain")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = handle_any

    def route(self):
        url = urllib.parse.urlsplit(self.path)
        q = dict(urllib.parse.parse_qsl(url.query))
        parts = url.path.strip("/").split("/")
        if self.command == "TRACE":
            return self.say(405, "") if sound else self.say(200, str(self.headers), "message/http")
        if self.command == "OPTIONS":
            return self.say(200, "")
        if url.path == "/":
            cookie = "__Host-session=1; Path=/; Secure; HttpOnly; SameSite=Lax" if sound else "session=1; Path=/"
            return self.say(200, "<!doctype html><title>app</title><p>The items, and what can be done with them, are on this page.", "text/html", [("Set-Cookie", cookie)])
        if url.path == "/health":
            return self.say(200, {"status": "ok"} if sound else {"status": "ok", "database": path, "python": sys.version})
        if url.path == "/.well-known/security.txt" and sound:
            return self.say(200, "Contact: mailto:security@example.org\nExpires: 2099-01-01T00:00:00Z\n", "text/plain")
        if not sound:
            if url.path == "/docs":
                return self.say(200, "<div id=swagger-ui></div>", "text/html")
            if url.path == "/openapi.json":
                return self.say(200, openapi)
            if url.path == "/metrics":
                return self.say(200, "# HELP items x\n# TYPE items gauge\nitems 1\n", "text/plain")
            if url.path == "/app.db":
                return self.say(200, open(path, "rb").read(), "application/octet-stream")
            if url.path.endswith("/"):
                return self.say(307, "", headers=[("Location", "http://%s%s" % (self.headers.get("Host"), url.path.rstrip("/")))])
        if parts[0] == "items":
            return self.items(parts[1:], q)
        if kind == "shell":
            return self.say(200, "<!doctype html><title>app</title><p>The single page of an application that finds its way in the browser alone.", "text/html")
        self.say(404, {"detail": "not found"})

    def items(self, rest, q):
        if sound and self.headers.get("X-API-Key") != "right":
            return self.say(401, {"detail": "who are you?"}, headers=[("WWW-Authenticate", "Basic")])
        if self.command in ("POST", "PUT"):
            try:
                name = str(json.loads(self.body)["name"])
            except Exception:
                return self.say(422, {"detail": "no JSON"})
            db.execute("INSERT INTO items (name) VALUES (?)", (name,))
            db.commit()
            return self.say(201, {})
        if self.command == "DELETE":
            if rest:
                db.execute("DELETE FROM items WHERE id = ?", (rest[0],))
            else:
                db.execute("DELETE FROM items")
            db.commit()
            return self.say(204, "")
        if rest:
            row = db.execute("SELECT id, name FROM items WHERE id = ?", (rest[0],)).fetchone()
            return self.say(200, row) if row else self.say(404, {"detail": "not found"})
        if sound:
            try:
                limit = int(q.get("limit", 20))
            except ValueError:
                limit = 0
            if not 1 <= limit <= 100:
                return self.say(422, {"detail": "limit is 1 to 100"})
        else:
            limit = int(q.get("limit", 20))
            if "search" in q:
                limit = -1
        rows = db.execute("SELECT id, name FROM items WHERE name LIKE ? LIMIT ?", ("%" + q.get("search", "") + "%", limit)).fetchall()
        self.say(200, rows)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
