"""A FastAPI service with SQLite and every fault that the audit looks for:
api.py FOLDER PORT."""
import os
import sqlite3
import sys

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse
from pydantic import BaseModel

folder, port = sys.argv[1:]
path = os.path.join(folder, "app.db")
db = sqlite3.connect(path, check_same_thread=False)
db.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)")
db.executemany("INSERT INTO items (name) VALUES (?)", [("a name %d" % i,) for i in range(40)])
db.commit()
log = open(os.path.join(folder, "app.log"), "a", buffering=1)

app = FastAPI(debug=True)
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"])


class Item(BaseModel):
    name: str


@app.middleware("http")
async def logged(request: Request, call):
    print(request.method, request.url, request.headers.get("X-API-Key"), file=log)
    return await call(request)


@app.get("/", response_class=HTMLResponse, include_in_schema=False)
def home(response: Response):
    response = HTMLResponse("<!doctype html><title>app</title><p>The items, and what can be done with them, are on this page.")
    response.set_cookie("session", "1", samesite="none")
    return response


@app.get("/health")
def health():
    return {"status": "ok", "database": path}


@app.get("/metrics", response_class=PlainTextResponse)
def metrics():
    return "# HELP items x\n# TYPE items gauge\nitems 1\n"


@app.get("/app.db", include_in_schema=False)
def whole():
    return FileResponse(path)


@app.get("/items")
def items(limit: int = 20, search: str = ""):
    if search:
        limit = -1
    return db.execute("SELECT id, name FROM items WHERE name LIKE ? LIMIT ?", ("%" + search + "%", limit)).fetchall()


@app.post("/items", status_code=201)
def add(item: Item):
    db.execute("INSERT INTO items (name) VALUES (?)", (item.name,))
    db.commit()


@app.get("/items/{id}")
def one(id: str):
    return db.execute("SELECT id, name FROM items WHERE id = ?", (id,)).fetchone()


@app.put("/items/{id}")
def rename(id: str, item: Item):
    db.execute("INSERT OR REPLACE INTO items (id, name) VALUES (?, ?)", (id, item.name))
    db.commit()


@app.delete("/items/{id}", status_code=204)
def remove(id: str):
    db.execute("DELETE FROM items WHERE id = ?", (id,))
    db.commit()


@app.delete("/items", status_code=204)
def empty():
    db.execute("DELETE FROM items")
    db.commit()


uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", proxy_headers=True, forwarded_allow_ips="*")
