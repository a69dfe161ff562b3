package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/seal"
)

const (
	reportPrefix = "reports/"
	maxReport    = 16 << 20 // bytes; a report has some tens of thousands
)

// Open verifies a signed report against the pinned keys and reads it. One that
// was signed for something else, or says what this emsafe does not know, is
// refused.
func Open(object []byte, signers seal.Signers) (Signed, error) {
	s := Signed{Object: object}
	text, signer, err := signers.Verify(seal.NamespaceReport, object, func(text []byte) (time.Time, error) {
		if err := json.Unmarshal(text, &s.Report); err != nil {
			return time.Time{}, fmt.Errorf("%w: %w", seal.ErrForged, err)
		}
		return s.Report.Ended, nil
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
	known map[string]Signed // by bucket and key
}

// Read gives the reports of all drills in a target. What cannot be verified is
// left out, and is a problem each; err is that the target could not be read.
func (l *Library) Read(ctx context.Context, b storage.Bucket, signers seal.Signers) (reports []Signed, problems []error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[string]Signed{}
	}
	for info, err := range b.List(ctx, reportPrefix, "") {
		if err != nil {
			return nil, nil, err
		}
		at := b.String() + " " + info.Key
		s, ok := l.known[at]
		if !ok {
			object, err := storage.ReadAll(ctx, b, info.Key, maxReport)
			if err != nil {
				return nil, nil, err
			}
			if s, err = Open(object, signers); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", info.Key, err))
				continue
			}
			l.known[at] = s
		}
		reports = append(reports, s)
	}
	return reports, problems, nil
}
