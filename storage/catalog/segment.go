package catalog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"emsafe/storage"
)

// SegmentSize is how many manifests a segment holds: number k holds those
// from (k-1)*SegmentSize+1 to k*SegmentSize, byte for byte, one after the
// other. It spares a reader of a long chain a request for each; every manifest
// in it is signed as it is alone, and whoever mistrusts a segment reads those.
const SegmentSize = 1000

// segmentWorth is how many manifests of a segment must be wanted before it is
// read instead of them.
const segmentWorth = 16

// maxInSegment is how large a manifest may be that is read from a segment: that
// of a payload of some 100 GiB. Larger ones are read alone.
const maxInSegment = 1 << 20

func segmentKey(database string, number uint64) string {
	return fmt.Sprintf("databases/%s/segments/%020d", database, number)
}

func segmentOf(sequence uint64) uint64 { return (sequence + SegmentSize - 1) / SegmentSize }

// AddSegment stores a segment, if objects is exactly one. It is no error if it
// is there already.
func (ch *Chain) AddSegment(ctx context.Context, number uint64, objects []byte) error {
	found, err := ch.split(bytes.NewReader(objects), number)
	if err != nil || len(found) != SegmentSize {
		return fmt.Errorf("%d manifests do not make segment %d: %w", len(found), number, err)
	}
	err = create(ctx, ch.Bucket, segmentKey(ch.Database, number), objects)
	if errors.Is(err, storage.ErrExists) {
		return nil
	}
	return err
}

// objectEnd is the last line of every signed object; JSON escapes newlines, so
// that it occurs nowhere else.
var objectEnd = []byte("-----END SSH SIGNATURE-----\n")

// split cuts concatenated manifests apart, up to the first that is not the
// next one of the segment. It holds one at a time that was not verified.
func (ch *Chain) split(objects io.Reader, number uint64) (map[uint64]*Entry, error) {
	found := map[uint64]*Entry{}
	lines := bufio.NewReader(objects)
	for n := (number-1)*SegmentSize + 1; n <= number*SegmentSize; n++ {
		object, err := nextObject(lines)
		if err != nil || object == nil {
			return found, err
		}
		e, err := ch.parse(object, n)
		if err != nil {
			return found, err
		}
		found[n] = e
	}
	switch _, err := lines.ReadByte(); {
	case err == nil:
		return found, errors.New("something follows the last manifest")
	case err != io.EOF:
		return found, fmt.Errorf("read behind the last manifest: %w", err)
	}
	return found, nil
}

// nextObject reads up to the end of a signed object; nil at the end.
func nextObject(r *bufio.Reader) ([]byte, error) {
	var object []byte
	for newLine := true; ; {
		piece, err := r.ReadSlice('\n')
		whole := newLine
		newLine = err == nil
		object = append(object, piece...)
		switch {
		case err == io.EOF && len(object) == 0:
			return nil, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("a manifest is cut off: %w", err)
		case len(object) > maxInSegment:
			return nil, fmt.Errorf("a manifest has more than %d bytes", maxInSegment)
		case whole && bytes.Equal(piece, objectEnd):
			return object, nil
		}
	}
}

// segments reads those that spare requests for the sequences. What is missing
// or damaged is left to be read alone.
func (ch *Chain) segments(ctx context.Context, sequences []uint64) map[uint64]*Entry {
	if ch.Alone {
		return nil
	}
	wanted := map[uint64]int{}
	for _, n := range sequences {
		wanted[segmentOf(n)]++
	}
	all := map[uint64]*Entry{}
	for number, count := range wanted {
		if count < segmentWorth || ctx.Err() != nil {
			continue
		}
		r, err := ch.Bucket.Open(ctx, segmentKey(ch.Database, number), 0, -1)
		if err != nil {
			continue
		}
		found, _ := ch.split(r, number) //nolint:errcheck // what is not found is read alone
		r.Close()
		for n, e := range found {
			all[n] = e
		}
	}
	return all
}
