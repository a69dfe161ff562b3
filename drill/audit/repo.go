package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	treeFiles = 20_000
	textLimit = 512 << 10 // bytes of a file that are read
)

// tree is the application's source, as far as the rules look at it.
type tree struct {
	root    string
	names   []string          // all files, below root
	text    map[string][]byte // of those that are read
	ignored []string          // patterns of .gitignore
	tracked []byte            // git's index; nil if there is none
}

// skipped are folders of others' code.
var skipped = []string{".git", "node_modules", ".venv", "venv", "vendor", "__pycache__", ".tox", "dist", "build", ".mypy_cache", "site-packages", ".cache"}

var readTypes = regexp.MustCompile(`(?i)(\.(py|js|ts|go|rb|php|sh|bash|ya?ml|toml|cfg|ini|service|md|conf|txt|json)|(^|/)(dockerfile[^/]*|makefile|crontab|procfile|\.env[^/]*))$`)

// source looks at the tree.
func (a *audit) source() {
	t, err := readTree(a.Repo)
	if err != nil {
		for _, r := range repoRules {
			a.failed(r.ID, "", err)
		}
		return
	}
	a.defaults(t)
	a.locks(t)
	a.ci(t)
	a.copies(t)
	a.committed(t)
	a.container(t)
	a.written(t)
}

var errTooMany = fmt.Errorf("the tree has more than %d files: name the application's own folder", treeFiles)

func readTree(root string) (*tree, error) {
	t := &tree{root: root, text: map[string][]byte{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && slices.Contains(skipped, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if len(t.names) == treeFiles {
			return errTooMany
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		t.names = append(t.names, name)
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if readTypes.MatchString(name) && info.Size() <= textLimit {
			t.text[name], err = os.ReadFile(path)
		}
		return err
	})
	if ignore, err := os.ReadFile(filepath.Join(root, ".gitignore")); err == nil {
		for line := range strings.Lines(string(ignore)) {
			t.ignored = append(t.ignored, strings.TrimSpace(line))
		}
	}
	t.tracked, _ = os.ReadFile(filepath.Join(root, ".git/index"))
	return t, err
}

// committed reports whether a file is the repository's: git's index says so,
// or, without one, no pattern of .gitignore keeps it out.
func (t *tree) committed(name string) bool {
	if t.tracked != nil {
		return bytes.Contains(t.tracked, append([]byte(name), 0))
	}
	out := false
	for _, p := range t.ignored {
		p, not := strings.CutPrefix(p, "!")
		p = strings.TrimSuffix(strings.TrimPrefix(p, "/"), "/")
		whole, _ := filepath.Match(p, name)
		base, _ := filepath.Match(p, filepath.Base(name))
		if p != "" && p[0] != '#' && (whole || base || strings.HasPrefix(name, p+"/")) {
			out = !not
		}
	}
	return !out
}

// lines visits the lines of files that a form fits, comments left out, tests
// and documents not looked at.
func (t *tree) lines(form *regexp.Regexp, visit func(name string, n int, line string)) {
	for _, name := range t.names {
		text, ok := t.text[name]
		if !ok || !form.MatchString(name) || isTest.MatchString(name) {
			continue
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' || strings.HasPrefix(line, "//") {
				continue
			}
			visit(name, n, line)
		}
	}
}

var (
	isTest  = regexp.MustCompile(`(?i)(^|/)(tests?|testdata|fixtures|examples?|docs?)/|(^|/)test_|_test\.|\.test\.|conftest`)
	code    = regexp.MustCompile(`(?i)\.(py|js|ts|rb|php|go|toml|cfg|ini|ya?ml|service|sh|conf)$|(^|/)(dockerfile[^/]*|procfile|\.env[^/]*)$`)
	dangers = []danger{
		{regexp.MustCompile(`(?i)\bdebug\s*(:\s*bool)?\s*[=:]\s*(true|1)\b|['"]DEBUG['"]\s*,\s*['"]?(true|1)|\bapp\.run\(.*debug\s*=\s*True`), "debug mode"},
		{regexp.MustCompile(`(?i)allow_origins\s*=\s*\[\s*['"]\*['"]|CORS_ORIGINS?['"]?\s*[,:=].*['"]\*['"]|CORS_ALLOW_ALL_ORIGINS\s*=\s*True|origin:\s*['"]\*['"]`), "every origin"},
		{regexp.MustCompile(`(?i)(secret|secret_key|api_key|password|jwt_secret|token)['"]?\s*(:\s*str\s*)?[=:,]\s*['"](changeme|change-me|secret|password|admin|test|default|insecure[^'"]*|dev[^'"]*|123[^'"]*)['"]`), "a secret that everybody knows"},
		{regexp.MustCompile(`(?i)\buvicorn\b.*--reload\b|\breload\s*=\s*True`), "reload, a tool of development"},
		{regexp.MustCompile(`(?i)verify\s*=\s*False|InsecureSkipVerify:\s*true|rejectUnauthorized:\s*false|NODE_TLS_REJECT_UNAUTHORIZED\s*=\s*['"]?0`), "certificates are not verified"},
		{regexp.MustCompile(`(?i)\becho\s*=\s*True\b`), "SQL echo"},
		{regexp.MustCompile(`--forwarded-allow-ips[= ]['"]?\*|ALLOWED_HOSTS\s*=\s*\[\s*['"]\*['"]`), "everybody is a proxy, or a host"},
	}
)

// decided marks a line that somebody has looked at and let stand.
var decided = regexp.MustCompile(`\b(nolint|nosec|noqa|nosemgrep)\b`)

type danger struct {
	form *regexp.Regexp
	what string
}

func (a *audit) defaults(t *tree) {
	var found []string
	t.lines(code, func(name string, n int, line string) {
		for _, d := range dangers {
			// The value of a secret stays where it is.
			if d.form.MatchString(line) && !decided.MatchString(line) {
				found = append(found, fmt.Sprintf("%s:%d: %s", name, n, d.what))
			}
		}
	})
	a.verdict("EMS-REPO-001", "none of those that are known", "what is dangerous is on unless somebody switches it off", found)
}

// manifest is a list of dependencies, and the lock files that pin them.
type manifest struct {
	name  string
	locks []string
}

var manifests = []manifest{
	{"pyproject.toml", []string{"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml", "requirements.lock", "requirements.txt"}},
	{"Pipfile", []string{"Pipfile.lock"}},
	{"package.json", []string{"package-lock.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "npm-shrinkwrap.json"}},
	{"go.mod", []string{"go.sum"}},
	{"Gemfile", []string{"Gemfile.lock"}},
	{"Cargo.toml", []string{"Cargo.lock"}},
	{"composer.json", []string{"composer.lock"}},
}

var requirement = regexp.MustCompile(`^[A-Za-z0-9][\w.\-\[\],]*\s*([<>=!~]=?[^;#]*)?`)

func (a *audit) locks(t *tree) {
	var loose, pinned []string
	for _, name := range t.names {
		dir, base := filepath.Split(name)
		if isTest.MatchString(name) {
			continue
		}
		if strings.HasPrefix(base, "requirements") && strings.HasSuffix(base, ".txt") {
			free := 0
			for line := range strings.Lines(string(t.text[name])) {
				line = strings.TrimSpace(line)
				if requirement.MatchString(line) && !strings.Contains(line, "==") && !strings.Contains(line, " @ ") {
					free++
				}
			}
			if free > 0 {
				loose = append(loose, fmt.Sprintf("%s: %d requirements without ==", name, free))
			} else {
				pinned = append(pinned, name)
			}
			continue
		}
		i := slices.IndexFunc(manifests, func(m manifest) bool { return m.name == base })
		if i < 0 || base == "go.mod" && !bytes.Contains(t.text[name], []byte("require")) && t.text[name] != nil {
			continue
		}
		lock := ""
		for _, l := range manifests[i].locks {
			for _, at := range []string{dir + l, l} { // of a workspace it lies at the top
				if lock == "" && slices.Contains(t.names, at) {
					lock = at
				}
			}
		}
		if lock == "" {
			loose = append(loose, name+": no lock file beside it")
		} else {
			pinned = append(pinned, lock)
		}
	}
	if len(loose)+len(pinned) == 0 {
		a.skip("EMS-REPO-002", "no list of dependencies was found")
		return
	}
	a.verdict("EMS-REPO-002", strings.Join(pinned, ", "), "every build takes what it finds", loose)
}

var (
	pipelines = regexp.MustCompile(`(^|/)(\.github/workflows/[^/]+\.ya?ml|\.gitlab-ci\.ya?ml|\.woodpecker(/[^/]+)?\.ya?ml|\.forgejo/workflows/[^/]+\.ya?ml|\.gitea/workflows/[^/]+\.ya?ml|\.drone\.ya?ml|\.circleci/config\.yml|azure-pipelines\.yml|Jenkinsfile|bitbucket-pipelines\.yml)$`)
	auditors  = regexp.MustCompile(`(?i)pip-audit|npm audit|yarn audit|pnpm audit|govulncheck|osv-scanner|trivy|grype|cargo audit|bundler-audit|composer audit|safety check|dependency-review|snyk`)
	inventory = regexp.MustCompile(`(?i)cyclonedx|syft|sbom|spdx`)
	updaters  = regexp.MustCompile(`(?i)(^|/)(\.github/dependabot\.ya?ml|renovate\.json5?|\.renovaterc(\.json)?|\.github/renovate\.json5?)$`)
)

func (a *audit) ci(t *tree) {
	var runs, audits, bills, updates []string
	for _, name := range t.names {
		if updaters.MatchString(name) {
			updates = append(updates, name)
		}
		if !pipelines.MatchString(name) {
			continue
		}
		runs = append(runs, name)
		text, ok := t.text[name]
		if !ok {
			text, _ = os.ReadFile(filepath.Join(t.root, name))
		}
		plain := uncommented(string(text))
		if m := auditors.FindString(plain); m != "" {
			audits = append(audits, name+": "+m)
		}
		if m := inventory.FindString(plain); m != "" {
			bills = append(bills, name+": "+m)
		}
		if strings.Contains(plain, "renovate") {
			updates = append(updates, name)
		}
	}
	for id, found := range map[string][]string{"EMS-REPO-003": audits, "EMS-REPO-004": bills} {
		switch {
		case len(found) > 0:
			a.pass(id, "", "found", found...)
		case len(runs) == 0:
			a.fail(id, "", "there is no CI")
		default:
			a.fail(id, "", "no job does", slices.Clone(runs)...)
		}
	}
	if len(updates) > 0 {
		a.pass("EMS-REPO-005", "", "found", updates...)
	} else {
		a.fail("EMS-REPO-005", "", "neither Dependabot nor Renovate is set up")
	}
}

var (
	scripts  = regexp.MustCompile(`(?i)(\.(sh|bash|py|ya?ml|service)|(^|/)(makefile|crontab|dockerfile[^/]*))$`)
	dbName   = `[\w./$\{\}~"'-]*\.(db|sqlite3?|db3)\b`
	liveCopy = regexp.MustCompile(`(?i)(^|[\s;&|])(cp|rsync|scp|mv|install)\s[^|;&]*` + dbName + `|\b(tar|zip|gzip|7z)\s[^|;&]*` + dbName + `|shutil\.(copy\w*|make_archive)\([^)]*` + dbName + `|\b(aws s3|rclone|s3cmd|restic)\s+(cp|copy|sync|put|backup)\s[^|;&]*` + dbName)
	sqlCopy  = regexp.MustCompile(`(?i)\.backup\b|VACUUM INTO|sqlite3_backup|\.backup\(|emsafe|litestream|sqlite3_rsync`)
	restores = regexp.MustCompile(`(?i)restore`)
)

// copies looks for a live database that is copied as a file. A script that lets
// SQLite make the copy first may do with it what it wants.
func (a *audit) copies(t *tree) {
	safe := map[string]bool{}
	for name, text := range t.text {
		safe[name] = sqlCopy.Match(text)
	}
	var found []string
	t.lines(scripts, func(name string, n int, line string) {
		if !safe[name] && liveCopy.MatchString(line) && !restores.MatchString(name) && !strings.HasPrefix(strings.ToUpper(line), "COPY ") {
			found = append(found, fmt.Sprintf("%s:%d: %s", name, n, clip(line, 120)))
		}
	})
	a.verdict("EMS-REPO-006", "none was found", "a copy of a live database is torn", found)
}

var (
	secretName = regexp.MustCompile(`(?i)(^|/)(\.env(\.(prod|production|local|live))?|id_rsa|id_ed25519|[^/]+\.(db|sqlite|sqlite3|db-wal)|credentials\.json|service-account[^/]*\.json)$`)
	privateKey = regexp.MustCompile(`-----BEGIN ([A-Z]+ )*PRIVATE KEY-----|AGE-SECRET-KEY-1[0-9A-Z]{20}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[bp]-[0-9A-Za-z-]{20}`)
)

// committed looks for secrets and databases in the repository. What a secret is
// stays where it is.
func (a *audit) committed(t *tree) {
	var found []string
	for _, name := range t.names {
		if isTest.MatchString(name) || !t.committed(name) {
			continue
		}
		if secretName.MatchString(name) {
			found = append(found, name)
			continue
		}
		text, read := t.text[name]
		if ext := filepath.Ext(name); !read && (ext == ".pem" || ext == ".key") {
			text, _ = os.ReadFile(filepath.Join(t.root, name))
		}
		if privateKey.Match(text) {
			found = append(found, name+": a private key or a token")
		}
	}
	a.verdict("EMS-REPO-007", "none was found", "whoever has the source has them", found)
}

func (a *audit) container(t *tree) {
	var bad []string
	seen := 0
	for name, text := range t.text {
		if !regexp.MustCompile(`(?i)(^|/)(dockerfile|containerfile)[^/]*$`).MatchString(name) || isTest.MatchString(name) {
			continue
		}
		seen++
		user := ""
		for _, m := range regexp.MustCompile(`(?mi)^\s*(USER\s+(\S+)|FROM\s+(\S+))`).FindAllStringSubmatch(string(text), -1) {
			if user = m[2]; strings.Contains(m[3], "nonroot") {
				user = "nonroot"
			}
		}
		if user == "" || user == "root" || strings.HasPrefix(user, "0") {
			bad = append(bad, name+": USER "+user)
		}
	}
	if seen == 0 {
		a.skip("EMS-REPO-008", "there is no Dockerfile")
		return
	}
	a.verdict("EMS-REPO-008", "USER is set", "it runs as root", bad)
}

func (a *audit) written(t *tree) {
	form := regexp.MustCompile(`(?i)(^|/)(security|runbooks?|incident[^/]*|playbooks?|operations?|on-?call|disaster[^/]*)(\.md|\.rst|\.txt|/[^/]+\.(md|rst|txt))$`)
	for _, name := range t.names {
		if form.MatchString(name) {
			a.pass("EMS-REPO-009", "", "found", name)
			return
		}
	}
	a.fail("EMS-REPO-009", "", "no runbook and no SECURITY.md")
}
