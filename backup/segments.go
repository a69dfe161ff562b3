package backup

import (
	"context"
	"os"
	"path/filepath"

	"emsafe/storage/catalog"
)

// segmentFile is where the manifests that were committed to one target wait to
// become a segment of the chain.
func segmentFile(state, database, target string) string {
	return filepath.Join(state, "segments", database, target)
}

// collect keeps a manifest that was committed, and stores the segment that it
// completes. A segment only spares requests: what goes wrong here costs that
// and nothing else.
func (s *shipper) collect(ctx context.Context, e *catalog.Entry) {
	file := segmentFile(s.job.State, s.job.Database, s.target)
	if os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if e.Sequence%catalog.SegmentSize == 1 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(file, flags, 0o600)
	if err != nil {
		return
	}
	f.Write(e.Object) //nolint:errcheck // a segment that is not whole is not stored
	f.Close()
	if e.Sequence%catalog.SegmentSize != 0 {
		return
	}
	if objects, err := os.ReadFile(file); err == nil {
		s.chain.AddSegment(ctx, e.Sequence/catalog.SegmentSize, objects) //nolint:errcheck // manifests can be read one by one
	}
	os.Remove(file)
}
