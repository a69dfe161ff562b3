package seal

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// fetchAhead is how many parts are fetched at once: enough to hide a round
// trip, few enough to keep memory at three parts.
const fetchAhead = 2

// partReader gives out sealed bytes whose part hash has been checked. Parts
// are fetched ahead, and in parallel.
type partReader struct {
	queue chan chan part
	cur   []byte
	whole []byte // the buffer that cur is a rest of
	free  chan []byte
	err   error // sticky; io.EOF at the end
	ended func() error
	group sync.WaitGroup
}

type part struct {
	data []byte
	err  error
}

func newPartReader(ctx context.Context, fetch Fetch, s Sealed) *partReader {
	p := &partReader{queue: make(chan chan part, fetchAhead-1), free: make(chan []byte, fetchAhead+2), ended: ctx.Err}
	p.group.Go(func() {
		defer close(p.queue)
		for i := range s.Parts {
			result := make(chan part, 1)
			select {
			case p.queue <- result:
			case <-ctx.Done():
				return
			}
			p.group.Go(func() {
				data, err := p.fetch(ctx, fetch, s, i)
				result <- part{data, err}
			})
		}
	})
	return p
}

func (p *partReader) fetch(ctx context.Context, fetch Fetch, s Sealed, i int) ([]byte, error) {
	offset := int64(i) * s.PartSize
	length := min(s.PartSize, s.Size-offset)
	var buf []byte
	select {
	case buf = <-p.free:
	default:
		buf = make([]byte, min(s.PartSize, s.Size))
	}
	buf = buf[:length]
	r, err := fetch(ctx, offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := io.ReadFull(r, buf); err != nil {
		return nil, fmt.Errorf("read part %d: %w", i+1, err)
	}
	return buf, s.matches(i, buf)
}

func (p *partReader) Read(b []byte) (int, error) {
	for len(p.cur) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		if p.whole != nil {
			p.free <- p.whole[:cap(p.whole)]
			p.whole = nil
		}
		result, ok := <-p.queue
		if !ok {
			// The queue also closes when the context ends: that is no end
			// of the payload.
			if p.err = p.ended(); p.err == nil {
				p.err = io.EOF
			}
			continue
		}
		got := <-result
		p.cur, p.whole, p.err = got.data, got.data, got.err
	}
	n := copy(b, p.cur)
	p.cur = p.cur[n:]
	return n, nil
}

// blame prefers the error of a part over what it led to further up: age and
// zstd only see a stream that broke off.
func (p *partReader) blame(err error) error {
	if err != nil && p.err != nil && p.err != io.EOF {
		return p.err
	}
	return err
}

// wait returns when no fetch is running any more. The context must have ended.
func (p *partReader) wait() {
	go func() {
		for range p.queue { //nolint:revive // drain, so that the producer ends
		}
	}()
	p.group.Wait()
}

// Compare reads a whole sealed payload and holds it against the signed part
// hashes, without any key.
func (s Sealed) Compare(r io.Reader, progress func(done int64)) error {
	if err := s.Check(); err != nil {
		return damaged("%v", err)
	}
	buf := make([]byte, min(s.PartSize, s.Size))
	for i := range s.Parts {
		offset := int64(i) * s.PartSize
		part := buf[:min(s.PartSize, s.Size-offset)]
		if _, err := io.ReadFull(r, part); err != nil {
			return fmt.Errorf("read part %d: %w", i+1, err)
		}
		if err := s.matches(i, part); err != nil {
			return err
		}
		progress(offset + int64(len(part)))
	}
	return nil
}

// matches holds one part against its signed hash.
func (s Sealed) matches(i int, part []byte) error {
	if Sum(part) == s.Parts[i] {
		return nil
	}
	offset := int64(i) * s.PartSize
	return damaged("part %d of %d (bytes %d to %d) does not match its signed hash", i+1, len(s.Parts), offset, offset+int64(len(part)))
}
