package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"emsafe/internal/finding"
)

func wellKeptTree() map[string]string {
	return map[string]string{
		"app/main.py":               "debug: bool = False\napp = FastAPI(docs_url=None)\n# debug = True\n",
		"pyproject.toml":            "[project]\nname = 'app'\n",
		"uv.lock":                   "x",
		"requirements.txt":          "fastapi==0.1 --hash=sha256:1\n-r other.txt\n",
		".github/workflows/ci.yml":  "jobs:\n  audit:\n    steps:\n    - run: pip-audit\n    - run: cyclonedx-py environment\n",
		".github/dependabot.yml":    "version: 2\n",
		"scripts/backup.sh":         "sqlite3 app.db '.backup copy.db'\ncp copy.db /mnt\n",
		"scripts/restore.sh":        "cp /mnt/copy.db app.db\n",
		"Dockerfile":                "FROM python\nUSER app\n",
		"SECURITY.md":               "call kim",
		".gitignore":                ".env\n*.db\n",
		".env":                      "SECRET=1",
		"app.db":                    "x",
		"tests/test_app.py":         "DEBUG = True\n",
		"node_modules/x/index.js":   "DEBUG = true",
		"tests/fixtures/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----",
	}
}

func auditTree(t *testing.T, files map[string]string) *Report {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Look(t.Context(), Options{Repo: root})
}

func TestWellKeptTree(t *testing.T) {
	t.Parallel()
	r := auditTree(t, wellKeptTree())
	if got := broke(r, finding.Fail, finding.Error); len(got) > 0 {
		t.Errorf("%v\n%s", got, say(r))
	}
	for _, rule := range repoRules {
		if !slices.Contains(broke(r, finding.Pass), rule.ID) {
			t.Errorf("%s did not pass", rule.ID)
		}
	}
}

func TestNeglectedTree(t *testing.T) {
	t.Parallel()
	failed := map[string]bool{}
	for name, c := range map[string]struct{ file, text, found string }{
		"debug":            {"app/main.py", "debug: bool = True\n", "EMS-REPO-001"},
		"debug in yaml":    {"config.yaml", "debug: true\n", "EMS-REPO-001"},
		"environment":      {"app/main.py", "DEBUG = os.environ.get('DEBUG', 'true')\n", "EMS-REPO-001"},
		"origins":          {"app/main.py", "app.add_middleware(CORSMiddleware, allow_origins=['*'])\n", "EMS-REPO-001"},
		"known secret":     {"app/settings.py", "secret_key: str = 'changeme'\n", "EMS-REPO-001"},
		"reload":           {"deploy/app.service", "ExecStart=/usr/bin/uvicorn app:app --reload\n", "EMS-REPO-001"},
		"echo":             {"app/db.py", "engine = create_engine(url, echo=True)\n", "EMS-REPO-001"},
		"proxies":          {"Procfile", "web: uvicorn app:app --forwarded-allow-ips='*'\n", "EMS-REPO-001"},
		"unpinned":         {"requirements.txt", "fastapi>=0.1\nuvicorn\n", "EMS-REPO-002"},
		"no lock":          {"frontend/package.json", "{}", "EMS-REPO-002"},
		"no audit":         {".github/workflows/ci.yml", "jobs:\n  test:\n    steps:\n    - run: cyclonedx-py environment\n# pip-audit\n", "EMS-REPO-003"},
		"no bill":          {".github/workflows/ci.yml", "jobs:\n  test:\n    steps:\n    - run: pip-audit\n", "EMS-REPO-004"},
		"no updates":       {".github/dependabot.yml", "", "EMS-REPO-005"},
		"copied":           {"scripts/nightly.sh", "cp /srv/app/app.db /mnt/backup/\n", "EMS-REPO-006"},
		"copied in Python": {"app/backup.py", "shutil.copy2('app.db', '/mnt/app.db')\n", "EMS-REPO-006"},
		"packed":           {"Makefile", "backup:\n\ttar czf backup.tgz data/app.sqlite3\n", "EMS-REPO-006"},
		"database":         {"data/live.sqlite", "x", "EMS-REPO-007"},
		"key":              {"deploy/tls.key", "-----BEGIN PRIVATE KEY-----\n", "EMS-REPO-007"},
		"root":             {"Dockerfile", "FROM python AS build\nUSER app\nFROM python\nCMD x\n", "EMS-REPO-008"},
		"not written":      {"SECURITY.md", "", "EMS-REPO-009"},
	} {
		failed[c.found] = true
		files := wellKeptTree()
		if files[c.file] = c.text; c.text == "" {
			delete(files, c.file)
		}
		r := auditTree(t, files)
		if got := broke(r, finding.Fail, finding.Error); !slices.Equal(got, []string{c.found}) {
			t.Errorf("%s: found %v, want %s\n%s", name, got, c.found, say(r))
		}
	}
	for _, rule := range repoRules {
		if !failed[rule.ID] {
			t.Errorf("%s is not shown failing", rule.ID)
		}
	}
}

// With git's index it is known what is committed; and no value is told.
func TestCommitted(t *testing.T) {
	t.Parallel()
	for index, want := range map[string]int{"DIRC app/main.py\x00": 0, "DIRC app/main.py\x00 .env\x00": 1} {
		files := wellKeptTree()
		files[".git/index"], files[".env"] = index, "SECRET=hunter2"
		r := auditTree(t, files)
		if got := broke(r, finding.Fail); len(got) != want || strings.Contains(say(r), "hunter2") {
			t.Errorf("%q: %s", index, say(r))
		}
	}
}
