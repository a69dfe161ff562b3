package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The scripts of docs/format.md are the way out when emsafe is not at hand.
// Whoever may write to the target must not get another database past them
// than emsafe itself would restore, and must not keep them from restoring.
func TestByHandUnderAttack(t *testing.T) {
	t.Parallel()
	r := newReader(t)
	r.must("init", "--scan", r.path("srv"), "--target", "file://"+r.path("mnt/backup"), "--recovery-key-out", r.path("media/usb/recovery.key"), "--state", r.path("var"))
	for i := range 4 {
		sqlite3(r.path("srv/app/app.db"), fmt.Sprintf("INSERT INTO t VALUES ('%d');", i))
		r.must("backup")
	}
	python := blocks(t, "docs/format.md", "python")
	for i, name := range []string{"digest.py", "signed.py", "restore.py"} {
		r.write("tmp/"+name, python[i])
	}
	const manifests = "databases/app/manifests/"
	manifest := func(n int) string { return fmt.Sprintf("%s%020d", manifests, n) }
	newest := backupID(t, text(t, r.path("mnt/backup/"+manifest(4))))
	// sign makes an object of the host, as somebody does who has its key.
	const sign = `sign emsafe-manifest`
	// ssh-keygen wraps at 70 columns, and the format has 64.
	const signer = `sign() {
  ssh-keygen -q -Y sign -f etc/emsafe/signing_key -n "$1" x 2>/dev/null
  { cat x; head -n 1 x.sig; sed '1d;$d' x.sig | tr -d '\n' | fold -w 64; echo; tail -n 1 x.sig; } > "$T/$2"
}`
	for _, c := range []struct {
		name, attack string
		id           string // asked for; "" is the newest
		want         string // printed; or
		refused      string
	}{
		{"untouched", "true", "", newest, ""},
		{"junk above the newest", `echo junk > "$T/` + manifest(5) + `"`, "", newest, ""},
		{"binary junk above the newest", `head -c 4096 /dev/urandom > "$T/` + manifest(1<<40) + `"`, "", newest, ""},
		{"deep junk", `python3 -c 'print("[" * 200000)' > "$T/` + manifest(5) + `"`, "", newest, ""},
		{"unsigned copy of the newest's text over an older number", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" | sed 's/"sequence": 4/"sequence": 5/' > "$T/` + manifest(5) + `"`, "", newest, ""},
		{"the newest's id in an unsigned text", `sed '/^-----BEGIN/,$d' "$T/` + manifest(1) + `" | sed 's/"id": "[^"]*"/"id": "` + newest + `"/' > "$T/` + manifest(5) + `"`, newest, newest, ""},
		{"an older one as the newest", `cp "$T/` + manifest(1) + `" "$T/` + manifest(5) + `"`, "", newest, ""},
		{"two swapped", `mv "$T/` + manifest(3) + `" k; mv "$T/` + manifest(4) + `" "$T/` + manifest(3) + `"; mv k "$T/` + manifest(4) + `"`, "", backupIDOf(r, manifest(2)), ""},
		{"one replaced by another", `cp "$T/` + manifest(2) + `" "$T/` + manifest(3) + `"`, backupIDOf(r, manifest(1)), "", "does not follow"},
		{"one removed", `rm "$T/` + manifest(3) + `"`, backupIDOf(r, manifest(2)), "", "does not follow"},
		{"under another name", `cp -r "$T/databases/app" "$T/databases/shop"; NAME=shop`, "", "", "no such backup"},
		{"a payload of another backup", `cd "$T/databases/app/payloads"; set -- *; cp "$1" "$2"; cp "$1" "$3"; cp "$1" "$4"`, "", "", "is damaged"},
		{"another repository", `sed '/^-----BEGIN/,$d' "$T/repository.json" > x; sed -i 's/"repository": "./"repository": "0/; s/"repository": "0\(.\)/"repository": "1\1/' x; sign emsafe-repository repository.json`, "", "", "no such backup"},
		{"signed again", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" > x; ` + sign + ` ` + manifest(4), "", newest, ""},
		{"a newer format, signed", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" | sed 's/"format": 1/"format": 2/' > x; ` + sign + ` ` + manifest(4), "", "", "number 3"},
		{"critical, signed", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" | sed 's/"format": 1,/"format": 1, "critical": ["x"],/' > x; ` + sign + ` ` + manifest(4), "", "", "number 3"},
		{"a key twice, signed", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" | sed 's/"format": 1,/"format": 1, "id": "x",/' > x; ` + sign + ` ` + manifest(4), "", "", "number 3"},
		{"bytes behind the signature", `echo >> "$T/` + manifest(4) + `"`, "", "", "number 3"},
		{"another host, signed", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" | sed 's/"host": "/"host": "x/' > x; ` + sign + ` ` + manifest(4), "", "", "number 3"},
		{"a way out of the target, signed", `sed '/^-----BEGIN/,$d' "$T/` + manifest(4) + `" | sed 's,"key": "databases/app/payloads/,&../../,' > x; ` + sign + ` ` + manifest(4), "", "", "number 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			script := fmt.Sprintf(`cd '%s'
cp -r '%s' target; cp -r '%s' etc; cp '%s'/*.py .
T=$PWD/target NAME=app; chmod -R u+w target
%s
(%s); case %q in *NAME=shop*) NAME=shop;; esac
cd '%s'
python3 restore.py "$T" "$NAME" etc/emsafe/allowed_signers '%s' out.db %s
sqlite3 out.db 'SELECT count(*) FROM t'`, dir, r.path("mnt/backup"), r.path("etc"), r.path("tmp"), signer, c.attack, c.attack, dir, r.path("media/usb/recovery.key"), c.id)
			said, err := exec.Command("sh", "-ec", script).CombinedOutput()
			out := "\n" + string(said)
			switch {
			case c.want != "" && (err != nil || !strings.Contains(out, "\n"+c.want+": ")):
				t.Errorf("%v\n%s", err, out)
			case c.refused == "number 3": // what is not valid is passed over, aloud
				if err != nil || !strings.Contains(out, "passed over number 4") || !strings.Contains(out, "\n"+backupIDOf(r, manifest(3))+": ") {
					t.Errorf("%v\n%s", err, out)
				}
			case c.refused != "":
				if _, serr := os.Stat(filepath.Join(dir, "out.db")); err == nil || !strings.Contains(out, c.refused) || serr == nil {
					t.Errorf("%v\n%s", err, out)
				}
			}
		})
	}
}

func backupIDOf(r *reader, manifest string) string {
	return backupID(r.t, text(r.t, r.path("mnt/backup/"+manifest)))
}

func backupID(t testing.TB, manifest string) string {
	t.Helper()
	_, rest, _ := strings.Cut(manifest, `"id": "`)
	id, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("no id in %s", manifest)
	}
	return id
}
