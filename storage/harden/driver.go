package harden

import (
	"debug/buildinfo"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"emsafe/storage/sqlite"
)

// Driver is a way by which applications use SQLite, and the lines that set up its
// connections. Settings of connections belong to the application: nobody else can
// set them, and few can be seen from outside.
type Driver struct {
	Name  string `json:"driver"`
	Where string `json:"where"` // the lines belong
	Lines string `json:"lines"`
}

// Advice is what the lines set, and why; the same for all drivers.
const Advice = `journal_mode=WAL       readers and writers do not wait for each other; stays in the file
synchronous=NORMAL     in WAL mode: whole after a crash, but a power cut may take the last commits; FULL takes none and costs an fsync each
busy_timeout=5000      wait for the write lock instead of failing at once
foreign_keys=ON        SQLite does not enforce them otherwise
journal_size_limit     gives back the space of a log that was large once
secure_delete=FAST     deleted rows are overwritten where that costs no more writes
trusted_schema=OFF     a schema that was tampered with runs no functions
mmap_size=0            as it is: mapped, a truncated file is a crash instead of an error
wal_autocheckpoint     1000 pages, as it is: more makes the log longer, less the commits slower
BEGIN IMMEDIATE        for transactions that write: one that begins to read cannot wait for the lock later`

// Drivers are those with lines, in the order in which they are shown.
var Drivers = []Driver{
	{"sqlalchemy", "where the engine is made (FastAPI, Flask)", `from sqlalchemy import create_engine, event

engine = create_engine("sqlite:///app.db", connect_args={"timeout": 5})

@event.listens_for(engine, "connect")
def settings(connection, _):
    connection.isolation_level = None          # BEGIN is ours, below
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON",
                   "journal_size_limit=67108864", "secure_delete=FAST", "trusted_schema=OFF"):
        connection.execute(f"PRAGMA {pragma}")

@event.listens_for(engine, "begin")
def begin(connection):
    connection.exec_driver_sql("BEGIN IMMEDIATE")
`},
	{"django", "settings.py, Django 5.1 or newer; foreign_keys is on already", `DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": BASE_DIR / "app.db",
    "OPTIONS": {
        "timeout": 5,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                        "PRAGMA journal_size_limit=67108864; PRAGMA secure_delete=FAST; PRAGMA trusted_schema=OFF;",
    },
}}
`},
	{"python", "where the standard library's sqlite3 connects", `connection = sqlite3.connect("app.db", timeout=5, isolation_level=None)
for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON",
               "journal_size_limit=67108864", "secure_delete=FAST", "trusted_schema=OFF"):
    connection.execute(f"PRAGMA {pragma}")
# and BEGIN IMMEDIATE before what writes
`},
	{"rails", "config/database.yml; Rails 7.1 and newer have WAL, NORMAL and foreign_keys already, 8.0 begins with IMMEDIATE", `production:
  adapter: sqlite3
  database: storage/production.sqlite3
  timeout: 5000
  default_transaction_mode: IMMEDIATE
  pragmas:
    journal_mode: wal
    synchronous: normal
    foreign_keys: on
    journal_size_limit: 67108864
    secure_delete: fast
    trusted_schema: off
`},
	{"better-sqlite3", "where the database is opened (Node.js)", `const db = new Database("app.db", { timeout: 5000 });
for (const pragma of ["journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON",
    "journal_size_limit = 67108864", "secure_delete = FAST", "trusted_schema = OFF"]) db.pragma(pragma);
// db.transaction(work).immediate() for what writes
`},
	{"mattn", "the data source name (Go, github.com/mattn/go-sqlite3); the other pragmas in a ConnectHook", `db, err := sql.Open("sqlite3", "file:app.db?_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=5000&_foreign_keys=on&_secure_delete=fast&_txlock=immediate")
`},
	{"modernc", "the data source name (Go, modernc.org/sqlite)", `db, err := sql.Open("sqlite", "file:app.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=foreign_keys(1)&_pragma=journal_size_limit(67108864)&_pragma=secure_delete(FAST)&_pragma=trusted_schema(0)&_txlock=immediate")
`},
	{"php-pdo", "where PDO connects", `$db = new PDO('sqlite:/var/lib/app/app.db', null, null, [PDO::ATTR_TIMEOUT => 5, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
foreach (['journal_mode=WAL', 'synchronous=NORMAL', 'foreign_keys=ON', 'journal_size_limit=67108864', 'secure_delete=FAST', 'trusted_schema=OFF'] as $pragma) {
    $db->exec("PRAGMA $pragma");
}
// $db->exec('BEGIN IMMEDIATE') before what writes
`},
}

// mapped are files whose being mapped into a process shows its driver.
var mapped = []struct {
	file    *regexp.Regexp
	drivers []string
}{
	{regexp.MustCompile(`/better_sqlite3\.node$`), []string{"better-sqlite3"}},
	{regexp.MustCompile(`/sqlite3_native\.so$`), []string{"rails"}},
	{regexp.MustCompile(`/pdo_sqlite\.so$`), []string{"php-pdo"}},
	{regexp.MustCompile(`/_sqlite3[^/]*\.so$`), []string{"python"}},
}

// DriversOf are the drivers of the processes that have a database open, as far as
// can be seen from outside: a library that is mapped, the modules of a Go program,
// the packages of a Python one.
func DriversOf(database string) []string {
	holders, _, err := sqlite.Holders(database)
	if err != nil {
		return nil
	}
	var found []string
	for _, h := range holders {
		for _, d := range driversOf(h.PID) {
			if !slices.Contains(found, d) {
				found = append(found, d)
			}
		}
	}
	return found
}

func driversOf(pid int) []string {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if info, err := buildinfo.ReadFile(filepath.Join(proc, "exe")); err == nil {
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/mattn/go-sqlite3":
				return []string{"mattn"}
			case "modernc.org/sqlite":
				return []string{"modernc"}
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(proc, "maps"))
	if err != nil {
		return nil
	}
	var found []string
	all := string(text)
	for line := range strings.Lines(all) {
		fields := strings.Fields(line)
		if len(fields) < 6 {
			continue
		}
		for _, m := range mapped {
			if m.file.MatchString(fields[5]) && !slices.Contains(found, m.drivers[0]) {
				found = append(found, m.drivers...)
			}
		}
	}
	if !slices.Contains(found, "python") {
		return found
	}
	// What sits on top of Python's module shows only by compiled parts, by how the
	// process was started, and by what lies in its folder.
	command, _ := os.ReadFile(filepath.Join(proc, "cmdline")) //nolint:errcheck // then it tells nothing
	said := strings.ReplaceAll(string(command), "\x00", " ")
	_, err = os.Stat(filepath.Join(proc, "cwd", "manage.py"))
	switch {
	case strings.Contains(said, "manage.py") || err == nil:
		return append([]string{"django"}, found...)
	case strings.Contains(all, "/sqlalchemy/") || strings.Contains(all, "/greenlet/") || strings.Contains(said, "uvicorn") || strings.Contains(said, "fastapi"):
		return append([]string{"sqlalchemy"}, found...)
	}
	return found
}
