package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"emsafe/storage/catalog"
	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// sealFull snapshots and seals into the spool, and makes a new page index; the
// feed carries the sealed bytes on to the targets meanwhile.
func (k *keeper) sealFull(ctx context.Context, feed *feed, out *Outcome) (*spooled, error) {
	s := &sealing{spool: k.spool, id: newID(k.job.Now()), index: IndexFile(k.job.State, k.job.Database), gen: 1}
	if k.index != nil {
		s.gen = k.index.Ladder.Gen + 1
	}
	item, mark, err := k.seal(ctx, s, feed, out)
	if err != nil {
		return nil, err
	}
	k.reindex(s, indexHead{
		ID: s.id, Lineage: k.memory.lineage(), Opens: k.job.opens(), Content: item.Content, Mark: mark,
		Ladder: afterFull(s.id, s.gen, item.Sealed.Size, item.SnapshotAt),
	})
	return item, nil
}

// sealBeside seals a full backup that leaves the page index to the deltas,
// which go on meanwhile.
func (k *keeper) sealBeside(ctx context.Context, gen uint32, out *Outcome) (*spooled, error) {
	streams := newFeed()
	defer streams.close()
	item, _, err := k.seal(ctx, &sealing{spool: k.spool, id: newID(k.job.Now()), gen: gen}, streams, out)
	return item, err
}

func (k *keeper) seal(ctx context.Context, s *sealing, feed *feed, out *Outcome) (*spooled, *sqlite.Mark, error) {
	job, sp := k.job, k.spool
	scratch, err := sp.scratch()
	if err != nil {
		return nil, nil, err
	}
	defer scratch.Close()
	opt := job.Snapshot
	opt.Ahead = scratch

	sound := false
	defer func() {
		if !sound {
			s.giveUp()
		}
	}()
	image, err := sqlite.Snapshot(ctx, job.Path, opt, func(image sqlite.Image) (io.Writer, error) {
		s.giveUp()
		w, err := s.start(image, feed, job)
		if err != nil {
			return nil, err
		}
		return &meter{w: w, total: int64(image.PageSize) * image.Pages, report: job.Progress}, nil
	})
	if err != nil {
		return nil, nil, spoolError(err, sp.dir)
	}
	sealed, content, err := s.close()
	if err == nil && content.Size != int64(image.PageSize)*image.Pages {
		err = fmt.Errorf("the snapshot gave %d bytes for %d pages", content.Size, image.Pages)
	}
	if err != nil {
		return nil, nil, spoolError(err, sp.dir)
	}
	out.took(image, s.id, content, sealed)
	item := s.spool.item(s.id, catalog.KindFull, job, image, sealed, content)
	description, err := json.Marshal(item)
	if err != nil {
		return nil, nil, err
	}
	// The targets get the end of the stream now and its description with it;
	// the spool is made durable while they finish.
	feed.finish(item)
	if err := sp.keep(s.id, description, s.file); err != nil {
		return nil, nil, spoolError(err, sp.dir)
	}
	sound = true
	return item, image.Mark, nil
}

// reindex puts the index of a full backup in place. Without it the next one is
// full again, and nothing else is lost.
func (k *keeper) reindex(s *sealing, head indexHead) {
	k.dropIndex("the page index could not be written")
	err := s.builder.finish(head)
	s.builder = nil
	if err == nil {
		k.index, err = openIndex(s.index)
	}
	if err != nil {
		k.why = err.Error()
	}
}

func (o *Outcome) took(image sqlite.Image, id string, content seal.Content, sealed seal.Sealed) {
	o.Unestablished = image.Unestablished
	o.ID, o.Content, o.Sealed, o.At, o.Held, o.Method, o.Proven = id, content, sealed.Size, image.At, image.Held, image.Method, image.Proven
}

// sealing is a full backup on its way into the spool.
type sealing struct {
	spool   *spool
	id      string
	index   string // "": none is made
	gen     uint32
	w       *seal.Writer
	file    *os.File
	builder *indexBuilder
}

func (s *sealing) start(image sqlite.Image, feed *feed, job Job) (io.Writer, error) {
	var err error
	if s.file, err = s.spool.create(s.id); err != nil {
		return nil, err
	}
	options := seal.Options{Recipients: job.Recipients, PageSize: image.PageSize, Level: job.Level}
	if s.index != "" {
		if s.builder, err = buildIndex(s.index, s.gen); err != nil {
			return nil, err
		}
		options.Hashes = s.builder.add
	}
	stream, err := feed.start(s.file)
	if err != nil {
		return nil, err
	}
	s.w, err = seal.NewWriter(&guarded{Writer: stream, guard: guard{dir: s.spool.dir}}, options)
	return s.w, err
}

func (s *sealing) close() (seal.Sealed, seal.Content, error) {
	w := s.w
	s.w = nil
	return w.Close()
}

// giveUp removes what was made so far, and may be called at any time.
func (s *sealing) giveUp() {
	if s.w != nil {
		s.w.Abort()
	}
	if s.file != nil {
		s.file.Close()
		os.Remove(s.file.Name())
	}
	if s.builder != nil {
		s.builder.drop()
	}
	s.w, s.file, s.builder = nil, nil, nil
}

// meter counts plaintext for the progress display.
type meter struct {
	w           io.Writer
	done, total int64
	report      func(done, total int64)
}

func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
	return n, err
}
