package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

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

// maxSegment allows for manifests of some size in each.
const maxSegment = 256 << 20

func segmentKey(database string, number uint64) string {
	return fmt.Sprintf("databases/%s/segments/%020d", database, number)
}

func segmentOf(sequence uint64) uint64 { return (sequence + SegmentSize - 1) / SegmentSize }

// AddSegment stores a segment, if objects is exactly one. It is no error if it
// is there already.
func (ch *Chain) AddSegment(ctx context.Context, number uint64, objects []byte) error {
	found, err := ch.split(objects, number)
	if err != nil || len(found) != SegmentSize {
		return fmt.Errorf("%d manifests do not make segment %d: %w", len(found), number, err)
	}
	err = create(ctx, ch.Bucket, segmentKey(ch.Database, number), objects)
	if errors.Is(err, storage.ErrExists) {
		return nil
	}
	return err
}

// objectEnd ends every signed object; JSON escapes newlines, so that it occurs
// nowhere else.
var objectEnd = []byte("\n-----END SSH SIGNATURE-----\n")

// split cuts concatenated manifests apart, up to the first that is not the
// next one of the segment.
func (ch *Chain) split(objects []byte, number uint64) (map[uint64]*Entry, error) {
	found := map[uint64]*Entry{}
	for n := (number-1)*SegmentSize + 1; len(objects) > 0; n++ {
		end := bytes.Index(objects, objectEnd)
		if end < 0 {
			return found, errors.New("a manifest is cut off")
		}
		end += len(objectEnd)
		e, err := ch.parse(objects[:end], n)
		if err != nil {
			return found, err
		}
		found[n] = e
		objects = objects[end:]
	}
	return found, nil
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
		objects, err := storage.ReadAll(ctx, ch.Bucket, segmentKey(ch.Database, number), maxSegment)
		if err != nil {
			continue
		}
		found, _ := ch.split(objects, number)
		for n, e := range found {
			all[n] = e
		}
	}
	return all
}
