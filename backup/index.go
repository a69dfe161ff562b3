package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"emsafe/storage/seal"
	"emsafe/storage/sqlite"
)

// The page index is a cache in the state folder: the hash of every page as the
// last backup has it, and the generation in which it last changed. It begins
// with a head of headSize bytes; page i has entrySize bytes from headSize +
// (i-1)*entrySize on, its SHA-256 and its generation (little-endian). It is
// written without fsync: what the head says of the entries is held against
// them before they are believed, so that a torn one is found and the next
// backup is a full one.
const (
	headSize  = 16 << 10
	entrySize = 36
	groupSize = seal.GroupPages * entrySize
)

// IndexFile is where a database's page index lies in the state folder.
func IndexFile(state, database string) string { return filepath.Join(state, database+".pages") }

// DropIndex forgets the page index: the next backup is a full one.
func DropIndex(state, database string) error {
	if err := os.Remove(IndexFile(state, database)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// indexHead says what the entries are.
type indexHead struct {
	ID      string       `json:"id"` // of the backup that they describe
	Lineage string       `json:"lineage"`
	Opens   seal.Digest  `json:"opens"`   // of the recipients that everything since the full backup is sealed to
	Content seal.Content `json:"content"` // its digest vouches for the hashes
	Entries seal.Digest  `json:"entries"` // SHA-256 over the SHA-256 of every 1,024 entries
	Ladder  ladder       `json:"ladder"`
	Mark    *sqlite.Mark `json:"mark"`
}

// index is an open page index, whole and verified. Its memory is 64 bytes for
// 1,024 pages.
type index struct {
	indexHead
	file   *os.File
	groups []byte // digests of the hashes, by group
	sums   []byte // digests of the entries, by group
}

// openIndex verifies the index; the error says why there is none to use.
func openIndex(file string) (*index, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is no page index")
	}
	if err != nil {
		return nil, err
	}
	x := &index{file: f}
	if err := x.load(); err != nil {
		f.Close()
		return nil, fmt.Errorf("the page index is damaged: %w", err)
	}
	return x, nil
}

func (x *index) close() { x.file.Close() }

func (x *index) load() error {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(x.file, head); err != nil {
		return err
	}
	sum, text, ok := bytes.Cut(bytes.TrimRight(head, "\x00"), []byte("\n"))
	if !ok || string(sum) != seal.Sum(text).String() {
		return errors.New("its head is torn")
	}
	if err := json.Unmarshal(text, &x.indexHead); err != nil {
		return err
	}
	if err := x.Content.Check(); err != nil {
		return err
	}
	r := bufio.NewReaderSize(x.file, 4*groupSize)
	group, hashes := make([]byte, groupSize), make([]byte, 0, seal.GroupPages*32)
	for left := x.Content.Pages; left > 0; left -= seal.GroupPages {
		g := group[:min(left, seal.GroupPages)*entrySize]
		if _, err := io.ReadFull(r, g); err != nil {
			return err
		}
		x.fold(g, hashes)
	}
	if seal.ContentOf(x.Content.PageSize, x.Content.Pages, x.groups) != x.Content || seal.Sum(x.sums) != x.Entries {
		return errors.New("its entries are not those that its head speaks of")
	}
	return nil
}

// fold appends the digests of a group's entries.
func (x *index) fold(entries, hashes []byte) {
	x.groups, x.sums = appendGroup(x.groups, x.sums, entries, hashes)
}

func appendGroup(groups, sums, entries, hashes []byte) (g, s []byte) {
	hashes = hashes[:0]
	for e := entries; len(e) > 0; e = e[entrySize:] {
		hashes = append(hashes, e[:32]...)
	}
	digest := seal.GroupDigest(hashes)
	sum := sha256.Sum256(entries)
	return append(groups, digest[:]...), append(sums, sum[:]...)
}

// entries reads the entries of count pages from first on; fewer where the
// index ends.
func (x *index) entries(first, count int64, buf []byte) ([]byte, error) {
	count = max(0, min(count, x.Content.Pages-first+1))
	buf = buf[:count*entrySize]
	_, err := x.file.ReadAt(buf, headSize+(first-1)*entrySize)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if count == 0 {
		err = nil
	}
	return buf, err
}

func generation(entry []byte) uint32 { return binary.LittleEndian.Uint32(entry[32:]) }

// changedSince lists the pages, up to pages, of a later generation than gen.
func (x *index) changedSince(gen uint32, pages int64) ([]int64, error) {
	var list []int64
	buf := make([]byte, groupSize)
	for first := int64(1); first <= min(pages, x.Content.Pages); first += seal.GroupPages {
		entries, err := x.entries(first, seal.GroupPages, buf)
		if err != nil {
			return nil, err
		}
		for i := int64(0); len(entries) > 0; i, entries = i+1, entries[entrySize:] {
			if first+i <= pages && generation(entries) > gen {
				list = append(list, first+i)
			}
		}
	}
	return list, nil
}

// change is a page that is not as the index has it.
type change struct {
	page int64
	hash seal.Digest
}

// put writes the entry that the change makes.
func (c change) put(entry []byte, gen uint32) {
	copy(entry, c.hash[:])
	binary.LittleEndian.PutUint32(entry[32:], gen)
}

// update is what becomes of the index when changes, ascending, are taken in:
// computed first, because the manifest needs the digest, and written when the
// backup is durable.
type update struct {
	content seal.Content
	groups  []byte
	sums    []byte
	changes []change
	gen     uint32
}

// prepare computes the update to a database of so many pages.
func (x *index) prepare(changes []change, pages int64, gen uint32) (*update, error) {
	count := (pages + seal.GroupPages - 1) / seal.GroupPages
	u := &update{groups: make([]byte, 0, count*32), sums: make([]byte, 0, count*32), changes: changes, gen: gen}
	buf, hashes := make([]byte, groupSize), make([]byte, 0, seal.GroupPages*32)
	for g := range count {
		first := g*seal.GroupPages + 1
		last := min(first+seal.GroupPages-1, pages)
		n := sort.Search(len(changes), func(i int) bool { return changes[i].page > last })
		mine := changes[:n]
		changes = changes[n:]
		same := last <= x.Content.Pages && (last == first+seal.GroupPages-1 || last == x.Content.Pages)
		if len(mine) == 0 && same {
			u.groups = append(u.groups, x.groups[g*32:g*32+32]...)
			u.sums = append(u.sums, x.sums[g*32:g*32+32]...)
			continue
		}
		entries, err := x.entries(first, last-first+1, buf)
		if err != nil {
			return nil, err
		}
		known := int64(len(entries)) / entrySize
		fresh := int64(0)
		entries = buf[:(last-first+1)*entrySize]
		clear(entries[known*entrySize:])
		for _, c := range mine {
			c.put(entries[(c.page-first)*entrySize:], gen)
			if c.page >= first+known {
				fresh++
			}
		}
		if known+fresh != last-first+1 {
			return nil, fmt.Errorf("pages %d to %d are new, and %d were read", first+known, last, fresh)
		}
		u.groups, u.sums = appendGroup(u.groups, u.sums, entries, hashes)
	}
	u.content = seal.ContentOf(x.Content.PageSize, pages, u.groups)
	return u, nil
}

// apply writes a prepared update: the entries first, then the head that they
// agree with.
func (x *index) apply(u *update, head indexHead) error {
	var run []byte
	for i, c := range u.changes {
		run = append(run, make([]byte, entrySize)...)
		c.put(run[len(run)-entrySize:], u.gen)
		if i+1 < len(u.changes) && u.changes[i+1].page == c.page+1 && len(run) < groupSize {
			continue
		}
		end := headSize + c.page*entrySize
		if _, err := x.file.WriteAt(run, end-int64(len(run))); err != nil {
			return err
		}
		run = run[:0]
	}
	head.Content, head.Entries = u.content, seal.Sum(u.sums)
	x.groups, x.sums = u.groups, u.sums
	return x.setHead(head)
}

func (x *index) setHead(head indexHead) error {
	x.indexHead = head
	return writeHead(x.file, head)
}

func writeHead(f *os.File, head indexHead) error {
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	page := append([]byte(seal.Sum(text).String()+"\n"), text...)
	if len(page) > headSize {
		return errors.New("the page index's head does not fit")
	}
	_, err = f.WriteAt(append(page, make([]byte, headSize-len(page))...), 0)
	return err
}

// indexBuilder writes a new index beside the old one, while a full backup
// hands it the hashes of all pages.
type indexBuilder struct {
	file   *os.File
	w      *bufio.Writer
	gen    uint32
	group  []byte
	hashes []byte
	groups []byte
	sums   []byte
	err    error
}

func buildIndex(file string, gen uint32) (*indexBuilder, error) {
	f, err := os.OpenFile(file+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(headSize, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return &indexBuilder{file: f, w: bufio.NewWriterSize(f, 256<<10), gen: gen, group: make([]byte, 0, groupSize), hashes: make([]byte, 0, seal.GroupPages*32)}, nil
}

// add takes the next pages' hashes. An error shows at the end.
func (b *indexBuilder) add(hashes []seal.Digest) {
	for i := range hashes {
		b.group = append(b.group, hashes[i][:]...)
		b.group = binary.LittleEndian.AppendUint32(b.group, b.gen)
		if len(b.group) == groupSize {
			b.flush()
		}
	}
}

func (b *indexBuilder) flush() {
	if len(b.group) == 0 {
		return
	}
	b.groups, b.sums = appendGroup(b.groups, b.sums, b.group, b.hashes)
	if _, err := b.w.Write(b.group); err != nil && b.err == nil {
		b.err = err
	}
	b.group = b.group[:0]
}

// finish puts the new index in the old one's place.
func (b *indexBuilder) finish(head indexHead) error {
	defer b.file.Close()
	b.flush()
	head.Entries = seal.Sum(b.sums)
	err := errors.Join(b.err, b.w.Flush())
	if err == nil {
		err = writeHead(b.file, head)
	}
	if err == nil {
		name := b.file.Name()
		err = os.Rename(name, name[:len(name)-len(".new")])
	}
	return err
}

// drop forgets a new index that came to nothing.
func (b *indexBuilder) drop() {
	b.file.Close()
	os.Remove(b.file.Name())
}
