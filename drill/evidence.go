package drill

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	_ "embed" // the README
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/template"
	"time"

	"emsafe/storage/seal"
)

// Evidence is what one archive holds for somebody who was not there.
type Evidence struct {
	Quarter   Quarterly
	Reports   []Signed       // those of the quarter, with their objects
	Manifests []SignedObject // of the backups that they restored
	Signers   []byte         // allowed_signers, as pinned
	Config    []byte         // the configuration in effect, without its secrets
	Gone      int            // manifests that the reports name and no target has any more
}

// SignedObject is a manifest as it lies in a target.
type SignedObject struct {
	Target, Database string
	Sequence         uint64
	Object           []byte
}

//go:embed evidence.md
var evidenceText string

var evidenceReadme = template.Must(template.New("evidence").Parse(evidenceText))

// file is one file of the archive.
type file struct {
	name string
	data []byte
}

// WriteEvidence writes the archive, a tar.gz with one folder. The same evidence
// gives the same bytes. Its README verifies it with stock commands alone.
func WriteEvidence(w io.Writer, e Evidence) error {
	files, err := e.files()
	if err != nil {
		return err
	}
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	folder := e.Folder()
	for _, f := range files {
		h := &tar.Header{Name: folder + "/" + f.name, Mode: 0o644, Size: int64(len(f.data)), ModTime: e.Quarter.Made.Truncate(time.Second), Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

// Folder is the name of the folder in the archive.
func (e Evidence) Folder() string { return "emsafe-evidence-" + e.Quarter.Period }

func (e Evidence) files() ([]file, error) {
	var files []file
	add := func(name string, data []byte) { files = append(files, file{name, data}) }
	for _, format := range Formats {
		var b bytes.Buffer
		if err := e.Quarter.Write(&b, format); err != nil {
			return nil, err
		}
		add("quarter."+format, b.Bytes())
	}
	unsigned := 0
	for _, s := range e.Reports {
		if !s.Report.within(e.Quarter) {
			continue
		}
		if len(s.Object) == 0 {
			unsigned++
			continue
		}
		name := fmt.Sprintf("reports/%s/%s-%06d-%s", safe(s.Report.Database), safe(s.Report.Host), s.Report.Number, safe(s.Report.ID))
		var page bytes.Buffer
		if err := s.WriteHTML(&page); err != nil {
			return nil, err
		}
		add(name+".signed", s.Object)
		add(name+".html", page.Bytes())
	}
	for _, m := range e.Manifests {
		add(fmt.Sprintf("manifests/%s/%s/%020d.signed", safe(m.Target), safe(m.Database), m.Sequence), m.Object)
	}
	add("allowed_signers", e.Signers)
	add("configuration.yaml", e.Config)
	add("report.schema.json", Schema())
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	files = slices.CompactFunc(files, func(a, b file) bool { return a.name == b.name && bytes.Equal(a.data, b.data) })
	var readme bytes.Buffer
	if err := evidenceReadme.Execute(&readme, map[string]any{
		"Period": e.Quarter.Period, "Host": e.Quarter.Host, "Finding": e.Quarter.Finding, "Folder": e.Folder(), "Unsigned": unsigned, "Gone": e.Gone,
		"Reports": count(files, "reports/", ".signed"), "Manifests": count(files, "manifests/", ".signed"), "Namespace": seal.NamespaceReport,
		"ManifestNamespace": seal.NamespaceManifest,
	}); err != nil {
		return nil, err
	}
	files = append([]file{{"README.md", readme.Bytes()}}, files...)
	var sums bytes.Buffer
	for i, f := range files {
		if i > 0 && f.name == files[i-1].name {
			return nil, fmt.Errorf("evidence: two files are called %s", f.name)
		}
		fmt.Fprintf(&sums, "%s  %s\n", seal.Sum(f.data), f.name)
	}
	return append(files, file{"SHA256SUMS", sums.Bytes()}), nil
}

func (r Report) within(q Quarterly) bool {
	return !r.Started.Before(q.From) && r.Started.Before(q.To)
}

func count(files []file, prefix, suffix string) int {
	n := 0
	for _, f := range files {
		if strings.HasPrefix(f.name, prefix) && path.Ext(f.name) == suffix {
			n++
		}
	}
	return n
}

// safe makes a name that is one plain component of a path.
func safe(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, s)
	if strings.Trim(s, ".") == "" || strings.HasPrefix(s, "-") {
		return "_" + s
	}
	return s
}
