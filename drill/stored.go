package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

const (
	reportPrefix = "reports/"
	maxReport    = 16 << 20 // bytes; a report has some tens of thousands

	inTargets = reportPrefix + "drills/" // DATABASE/HOST/NUMBER
	inState   = "drills"                 // DATABASE/NUMBER
)

// Open verifies a signed report against the pinned keys and reads it. One that
// was signed for something else, or says what this emsafe does not know, is
// refused.
func Open(object []byte, signers seal.Signers) (Signed, error) {
	s := Signed{Object: object}
	text, signer, err := signers.Verify(seal.NamespaceReport, object, func(text []byte) (seal.Claim, error) {
		if err := seal.Decode(text, &s.Report); err != nil {
			return seal.Claim{}, fmt.Errorf("%w: %w", seal.ErrForged, err)
		}
		return seal.Claim{At: s.Report.Ended, Host: s.Report.Host, Database: s.Report.Database}, nil
	})
	if err != nil {
		return Signed{}, fault.New(fault.Forged, "report: %w", err)
	}
	s.Signer = signer
	switch r := s.Report; {
	case r.Format > Format:
		return Signed{}, fault.New(fault.Unsupported, "the report is of format %d, and this emsafe knows %d", r.Format, Format)
	case len(r.Critical) > 0:
		return Signed{}, fault.New(fault.Unsupported, "the report needs %q, which this emsafe does not know", r.Critical)
	case r.Format < 1 || r.Database == "" || r.Started.IsZero():
		return Signed{}, fault.New(fault.Damaged, "the report is no report of a drill: %d bytes of JSON", len(text))
	}
	return s, nil
}

// Library is the reports of targets, each read and verified once: they never
// change. The zero value is empty; its methods are safe for concurrent use.
type Library struct {
	mu    sync.Mutex
	known map[string]Signed // by where it lies
}

// read gives one report, from memory if it was read before. place is where a
// report of its kind belongs: one that lies elsewhere was copied there.
func (l *Library) read(at string, signers seal.Signers, place func(Report) string, object func() ([]byte, error)) (Signed, error) {
	if s, ok := l.known[at]; ok {
		return s, nil
	}
	data, err := object()
	if err != nil {
		return Signed{}, err
	}
	s, err := Open(data, signers)
	if err != nil {
		return Signed{}, fmt.Errorf("%s: %w", at, err)
	}
	if !strings.HasSuffix(at, place(s.Report)) {
		return Signed{}, fault.New(fault.Forged, "%s: the report is signed, but for %s: it was copied there", at, place(s.Report))
	}
	if l.known == nil {
		l.known = map[string]Signed{}
	}
	l.known[at] = s
	return s, nil
}

// Local gives the reports of the drills that this host held, from its own
// state folder. Problems are as in [Library.Read].
func (l *Library) Local(state string, signers seal.Signers) (reports []Signed, problems []error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(state, inState, "*", "[0-9]*"))
	if err != nil {
		return nil, nil, err
	}
	for _, file := range files {
		s, err := l.read(file, signers, func(r Report) string { return fmt.Sprintf("/%s/%s/%020d", inState, r.Database, r.Number) }, func() ([]byte, error) { return os.ReadFile(file) })
		if err != nil {
			problems = append(problems, err)
			continue
		}
		reports = append(reports, s)
	}
	return reports, problems, nil
}

// inTarget is the end of where a report lies in a target.
func inTarget(r Report) string { return " " + reportsOf(r.Database, r.Host) + reportName(r.Number) }

// ofObject tells an error that belongs to one object from one of its target.
func ofObject(err error) bool {
	return errors.Is(err, fault.Forged) || errors.Is(err, fault.Unsupported) || errors.Is(err, fault.Damaged)
}

// Read gives the reports of all drills in a target, also what somebody deleted or
// overwrote in a bucket that keeps versions. What cannot be verified is left out,
// and is a problem each; err is that the target could not be read.
func (l *Library) Read(ctx context.Context, b storage.Bucket, signers seal.Signers) (reports []Signed, problems []error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b = storage.Past(b)
	for info, err := range b.List(ctx, inTargets, "") {
		if err != nil {
			return nil, nil, err
		}
		s, err := l.read(b.String()+" "+info.Key, signers, inTarget, func() ([]byte, error) { return fetch(ctx, b, info.Key, signers) })
		switch {
		case ofObject(err):
			problems = append(problems, err)
		case err != nil:
			return nil, nil, err
		default:
			reports = append(reports, s)
		}
	}
	return reports, problems, nil
}

// fetch reads the object of a report; of several versions the oldest that is a
// report.
func fetch(ctx context.Context, b storage.Bucket, key string, signers seal.Signers) (data []byte, err error) {
	err = storage.ReadVersions(ctx, b, key, maxReport, func(object []byte) error {
		data = object
		_, err := Open(object, signers)
		return err
	})
	if errors.Is(err, fault.Forged) {
		return nil, fmt.Errorf("%s %s: %w", b, key, err)
	}
	return data, err
}
