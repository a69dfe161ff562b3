package config

import (
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"emsafe/internal/suggest"
)

// The forms of single values. Each says what is wrong, to be read after the
// key's name, and what would be right.

var (
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)
	regionForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,62}$`)
	classForm  = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,62}$`)
)

func hostOK(s string) (why, hint string) {
	if !hostForm.MatchString(s) {
		return "cannot be " + quoted(s), "letters, digits, dots, - and _"
	}
	return "", ""
}

func regionOK(s string) (why, hint string) {
	if !regionForm.MatchString(s) {
		return "cannot be " + quoted(s), "as in eu-central-1, or auto"
	}
	return "", ""
}

func storageClassOK(s string) (why, hint string) {
	if !classForm.MatchString(s) {
		return "cannot be " + quoted(s), "as in STANDARD or STANDARD_IA, in capitals"
	}
	return "", ""
}

func pathOK(s string) (why, hint string) {
	switch {
	case strings.HasPrefix(s, "~"):
		return "begins with ~, which only a shell understands", "write the whole path; whose home it would be depends on who starts emsafe"
	case strings.Contains(s, "://"):
		return "is a url, and a path belongs here", "as in /srv/app/app.db"
	case !filepath.IsAbs(s):
		return fmt.Sprintf("is not an absolute path: %s", quoted(s)), "begin it with /; what it would be relative to depends on who starts emsafe"
	}
	return "", ""
}

func notRoot(s string) (why, hint string) {
	if filepath.Clean(s) == "/" {
		return "cannot be the root folder", ""
	}
	return "", ""
}

func recipientOK(s string) (why, hint string) {
	switch {
	case identity.MatchString(s), strings.Contains(s, "PRIVATE KEY"):
		return "is a secret identity, not a recipient", "take it out of this file, and treat the key as leaked if anybody else has seen it; the recipient is the public half (age-keygen -y)"
	case strings.HasPrefix(s, "age1"), strings.HasPrefix(s, "ssh-ed25519 "), strings.HasPrefix(s, "ssh-rsa "):
		return "", ""
	case strings.HasPrefix(s, "ssh-"), strings.HasPrefix(s, "ecdsa-"), strings.HasPrefix(s, "sk-"):
		return "is an ssh key of a type that age cannot encrypt to", "ssh-ed25519 and ssh-rsa keys work, and age1… recipients"
	}
	return fmt.Sprintf("is no recipient: %s", quoted(s)), "a recipient begins with age1, ssh-ed25519 or ssh-rsa; files belong under recipients_files"
}

func addressOK(s string) (why, hint string) {
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case filepath.IsAbs(s):
		return "is a path without a scheme", fmt.Sprintf("did you mean file://%s?", s)
	case !ok && strings.HasPrefix(s, "file:/"):
		return "has too few slashes", fmt.Sprintf("did you mean file://%s?", strings.TrimPrefix(s, "file:"))
	case scheme == "http", scheme == "https":
		return "is a web address", "write url: s3://BUCKET/PREFIX, and the server as endpoint:"
	case !ok, scheme != "file" && scheme != "s3":
		return fmt.Sprintf("is not file:///folder or s3://bucket/prefix: %s", quoted(maskText(s))), ""
	case strings.ContainsAny(rest, "?#"):
		return "has a part after ? or #", "region, endpoint and the like are keys of their own; escape the characters in a folder as %3F and %23"
	case scheme == "file":
		return folderOK(s, rest)
	case strings.Contains(rest, "@"):
		return "holds credentials", "name their sources as access_key_id and secret_access_key, and take them out of the url"
	}
	bucket, prefix, _ := strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	switch {
	case !bucketForm.MatchString(bucket):
		return fmt.Sprintf("names no bucket that could be: %s", quoted(bucket)), "s3://BUCKET/PREFIX, where a bucket has 3 to 63 letters, digits, dots and -"
	case prefix != "" && !prefixForm.MatchString(prefix):
		return fmt.Sprintf("has a prefix that cannot be: %s", quoted(prefix)), "letters, digits, . _ - and single slashes"
	case prefix != "" && slices.ContainsFunc(strings.Split(prefix, "/"), func(s string) bool { return s == "." || s == ".." }):
		return "has . or .. in its prefix", "in a bucket these are names like any other, and most tools trip over them"
	}
	return "", ""
}

func folderOK(s, rest string) (why, hint string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "cannot be read: " + quoted(s), "write % as %25"
	case u.Host != "" || !filepath.IsAbs(u.Path):
		return fmt.Sprintf("takes an absolute folder after file://, not %s", quoted(rest)), fmt.Sprintf("did you mean file:///%s?", strings.TrimLeft(strings.TrimPrefix(rest, "localhost"), "/"))
	case filepath.Clean(u.Path) == "/":
		return "cannot be the root folder", "name a folder, as in file:///srv/backups"
	}
	return "", ""
}

func endpointOK(s string) (why, hint string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "cannot be read as an address", "as in https://s3.example.com"
	case u.User != nil:
		return "holds credentials", "name their sources as access_key_id and secret_access_key, and take them out of the endpoint"
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return fmt.Sprintf("needs https:// or http:// and a host, not %s", quoted(s)), "did you mean https://" + strings.TrimPrefix(s[strings.LastIndexByte(s, '/')+1:], "https:") + "?"
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "has something after the host", "the bucket and its prefix belong in url: s3://BUCKET/PREFIX"
	}
	return "", ""
}

// check looks at what single values cannot tell: whether they go together.
func (p *parse) check() {
	p.checkRecipients()
	p.checkListen()
	urls, files := map[string]string{}, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(p.config.Targets)) {
		t, where := p.config.Targets[name], "targets."+name
		p.checkTarget(where, t)
		p.unique(urls, strings.TrimRight(t.URL, "/"), where, "url", "two targets in one place are one copy, and would fight over the numbers of backups")
		folder, ok := t.Folder()
		if state := p.config.State; ok && state != "" && (within(folder, state) || within(state, folder)) {
			p.add(p.places[where+".url"], where+".url", fmt.Sprintf("the folder of %s and the state folder %s lie in one another", where, state), "backups need a folder of their own, best on another disk")
		}
	}
	if place, ok := p.places["targets"]; ok && len(p.config.Targets) == 0 && len(p.problems) == 0 {
		p.add(place, "targets", "there is no target, so backups have nowhere to go", "add: local: {url: file:///srv/backups}")
	}
	for _, name := range slices.Sorted(maps.Keys(p.config.Databases)) {
		d, where := p.config.Databases[name], "databases."+name
		p.unique(files, d.Path, where, "path", "one database has one name: a chain of backups belongs to it")
		p.checkDrill(where, d)
		for i, item := range d.Targets {
			if _, ok := p.config.Targets[item]; !ok {
				p.noTarget(item, fmt.Sprintf("%s.targets[%d]", where, i))
			}
		}
	}
	p.checkFilesets()
	for _, name := range slices.Sorted(maps.Keys(p.config.Notify)) {
		p.checkChannel("notify." + name)
	}
}

// checkChannel looks at one way to reach somebody: it is one way, and has what
// that takes.
func (p *parse) checkChannel(where string) {
	has := func(key string) bool { _, ok := p.places[join(where, key)]; return ok }
	add := func(key, message, hint string) {
		place, ok := p.places[join(where, key)]
		if !ok {
			place = p.places[where]
		}
		p.add(place, join(where, key), message, hint)
	}
	ways := map[string][]string{"url": {"service", "token", "room"}, "smtp": {"security", "user", "password", "from", "to"}, "command": nil}
	var chosen []string
	for _, way := range []string{"url", "smtp", "command"} {
		if has(way) {
			chosen = append(chosen, way)
		}
	}
	if len(chosen) != 1 {
		p.add(p.places[where], where, where+" needs one of url, smtp and command", "as in: {url: {credential: slack-url}, service: slack}")
		return
	}
	for way, keys := range ways {
		for _, k := range keys {
			if way != chosen[0] && has(k) {
				add(k, k+" goes with "+way+", and this is a "+chosen[0], "take it out")
			}
		}
	}
	switch service := p.config.Notify[strings.TrimPrefix(where, "notify.")].Service; {
	case chosen[0] == "smtp":
		for _, k := range []string{"from", "to"} {
			if !has(k) {
				add(k, "mail needs "+k, "add: "+k+": "+find("notify.*."+k).example)
			}
		}
		if has("user") != has("password") {
			add("user", "user and password go together", "give both, or neither")
		}
	case chosen[0] == "url":
		if (service == "gotify" || service == "telegram" || service == "matrix") && !has("token") {
			add("token", service+" needs a token", "add: token: "+find("notify.*.token").example)
		}
		if (service == "telegram" || service == "matrix") && !has("room") {
			add("room", service+" needs a room", "add: room: "+find("notify.*.room").example)
		}
	}
}

// unique reports a value that another name has already. In the order of the
// file the first one is right.
func (p *parse) unique(seen map[string]string, value, where, key, why string) {
	if value == "" {
		return
	}
	first, ok := seen[value]
	if !ok {
		seen[value] = where
		return
	}
	if p.places[where].line < p.places[first].line {
		first, where, seen[value] = where, first, where
	}
	p.add(p.places[where+"."+key], where+"."+key, fmt.Sprintf("%s has the same %s as %s", where, key, first), why)
}

func (p *parse) noTarget(name, path string) {
	known := slices.Sorted(maps.Keys(p.config.Targets))
	hint := "the targets are: " + strings.Join(known, ", ")
	if near := suggest.Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if len(known) == 0 {
		hint = "no target is defined"
	}
	p.add(p.places[path], path, fmt.Sprintf("there is no target %s", quoted(name)), hint)
}

func (p *parse) checkRecipients() {
	_, direct := p.places["recipients"]
	_, files := p.places["recipients_files"]
	if !direct && !files && !p.meant["recipients"] && !p.meant["recipients_files"] {
		p.add(spot{1, 1, 0}, "recipients", "the file names no recipient, and backups are always encrypted", "add: recipients: [age1…]; `emsafe key new` makes a key")
	}
	var first string
	for i, r := range p.config.Recipients {
		quantum := strings.HasPrefix(r, "age1pq1")
		if i == 0 {
			first = r
		} else if path := fmt.Sprintf("recipients[%d]", i); quantum != strings.HasPrefix(first, "age1pq1") {
			p.add(p.places[path], path, "post-quantum and other recipients do not mix", "whoever breaks the weaker key reads everything: use age1pq… keys for all, or for none")
			return
		}
	}
}

// checkTarget looks at one target. Without a file, where is "".
func (p *parse) checkTarget(where string, t Target) {
	add := func(key, message, hint string) {
		place, ok := p.places[join(where, key)]
		if !ok {
			place = p.places[where]
		}
		p.add(place, join(where, key), message, hint)
	}
	if _, file := t.Folder(); file {
		for _, k := range children("targets.*") {
			if _, written := p.places[join(where, k.name())]; k.s3 && (written || isSet(k, at{target: &t})) {
				add(k.name(), k.name()+" is for s3:// targets, and this one is a folder", "take it out")
			}
		}
		return
	}
	if t.URL == "" {
		return
	}
	without := func(key string, s Secret) bool { // as opposed to one that was refused
		_, written := p.places[join(where, key)]
		return !written && s.IsZero()
	}
	switch id, key := without("access_key_id", t.AccessKeyID), without("secret_access_key", t.SecretAccessKey); {
	case id && !key:
		add("secret_access_key", "secret_access_key without access_key_id", "give both, or neither for the standard AWS credential chain")
	case key && !id:
		add("access_key_id", "access_key_id without secret_access_key", "give both, or neither for the standard AWS credential chain")
	case id && key && !without("session_token", t.SessionToken):
		add("session_token", "session_token without access_key_id and secret_access_key", "give all three, or none for the standard AWS credential chain")
	}
	if _, lock := p.places[join(where, "lock")]; lock && t.LockFor == 0 {
		add("lock", "lock needs for: how long", "add: for: 30d")
	}
	if t.LockFor > 0 && (t.Provider == "r2" || t.Provider == "garage") {
		add("lock", t.Provider+" has no Object Lock", "take it out; `emsafe target policy` says what there is instead")
	}
	if t.UploadHours != "" && t.UploadLimit == 0 {
		add("upload_hours", "upload_hours has no effect without upload_limit", "add upload_limit, or take it out")
	}
	if t.KMSKeyID != "" && t.SSE != "aws:kms" {
		add("kms_key_id", "kms_key_id has no effect without sse: aws:kms", "add sse: aws:kms, or take it out")
	}
	if t.Endpoint != "" {
		return
	}
	switch t.Provider {
	case "r2":
		add("provider", "r2 needs an endpoint, which holds your account", "add: endpoint: https://ACCOUNT.r2.cloudflarestorage.com")
	case "garage", "minio":
		add("provider", t.Provider+" needs the endpoint of your server", "add: endpoint: https://…")
	case "b2", "wasabi", "hetzner", "scaleway":
		if t.Region == "" {
			add("provider", t.Provider+" needs a region, or an endpoint", "add: region: "+map[string]string{"b2": "eu-central-003", "wasabi": "eu-central-1", "hetzner": "fsn1", "scaleway": "fr-par"}[t.Provider]+", or wherever the bucket is")
		}
	}
}

// isSet reports whether a key's field has a value.
func isSet(k *key, a at) bool {
	if k.field == nil {
		return false // a group
	}
	switch f := k.field(a).(type) {
	case *string:
		return *f != ""
	case **bool:
		return *f != nil
	case *int64:
		return *f != 0
	case *Secret:
		return !f.IsZero()
	}
	return false
}

// within reports whether path is folder or lies in it.
func within(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

var scheduleForm = regexp.MustCompile(`^(every:? *[0-9]+(m|h|d|w)([0-9]+(m|h))*|[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+)$`)

var everySeconds = regexp.MustCompile(`^every:? *[0-9.]+(ms|s)$`)

// scheduleOK looks at the form; what the fields say is read by the daemon.
func scheduleOK(s string) (why, hint string) {
	if !scheduleForm.MatchString(s) {
		if everySeconds.MatchString(s) {
			return "is too often: " + quoted(s) + "; the shortest is every 1m", "for less than a minute, set `continuous: true` with an `interval`"
		}
		return "is no schedule: " + quoted(s), `write five fields (minute hour day month weekday), as in "17 3 * * *", or: every 15m`
	}
	return "", ""
}

var windowForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$`)

func windowOK(s string) (why, hint string) {
	if from, to, _ := strings.Cut(s, "-"); !windowForm.MatchString(s) || from == to {
		return "is no part of a day: " + quoted(s), `write two times that differ, as in "08:00-18:00"`
	}
	return "", ""
}

func hostPort(s string) (why, hint string) {
	if why, _ := hostPortOK(s); why != "" {
		return why, "as in 127.0.0.1:9464"
	}
	return "", ""
}

// checkListen refuses what others could reach without a password.
func (p *parse) checkListen() {
	d := p.config.Daemon
	host, _, err := net.SplitHostPort(d.Listen)
	if err != nil || !d.Token.IsZero() || host == "localhost" {
		return // not said, or told already
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		p.add(p.places["daemon.listen"], "daemon.listen", "listen can be reached by other machines: "+quoted(d.Listen),
			"give daemon.token, which is then asked for, or listen on 127.0.0.1 or [::1]")
	}
}

func hostPortOK(s string) (why, hint string) {
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " /@") {
		return "is not a host and a port: " + quoted(s), "as in mail.example.org:587"
	}
	return "", ""
}

func mailOK(s string) (why, hint string) {
	if _, err := mail.ParseAddress(s); err != nil {
		return "is no mail address: " + quoted(s), "as in ops@example.org"
	}
	return "", ""
}

func zoneOK(s string) (why, hint string) {
	if _, err := time.LoadLocation(s); err != nil || s == "Local" {
		return "is no time zone: " + quoted(s), "write an IANA name, as in Europe/Berlin, or UTC"
	}
	return "", ""
}
