package sqlite

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
)

const (
	walHeaderSize   = 32
	frameHeaderSize = 24
)

// wal is a -wal file, read raw: it carries no locks.
type wal struct {
	file     *os.File
	header   [walHeaderSize]byte
	pageSize int
	order    binary.ByteOrder // of the checksums
}

// openWAL returns nil if there is no WAL, or none with a header: then the main
// file is all there is.
func openWAL(path string) (*wal, error) {
	f, err := openBeside(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pathError(path+"-wal", err)
	}
	w := &wal{file: f, order: binary.LittleEndian}
	if _, err := f.ReadAt(w.header[:], 0); err == io.EOF {
		f.Close()
		return nil, nil
	} else if err != nil {
		f.Close()
		return nil, err
	}
	switch binary.BigEndian.Uint32(w.header[:]) {
	case 0x377f0682:
	case 0x377f0683:
		w.order = binary.BigEndian
	default:
		f.Close()
		return nil, nil // SQLite ignores it as well
	}
	size := binary.BigEndian.Uint32(w.header[8:])
	if size < 512 || size > 65536 || size&(size-1) != 0 {
		f.Close()
		return nil, nil
	}
	w.pageSize = int(size)
	return w, nil
}

func (w *wal) close() {
	if w != nil {
		w.file.Close()
	}
}

// touched returns every page that has a frame with the header's salts. Frames
// are not checked further and may lie behind the reader's mark: a superset is
// what the raw reader needs.
func (w *wal) touched() (map[int64]bool, error) {
	pages := map[int64]bool{}
	if w == nil {
		return pages, nil
	}
	var head [frameHeaderSize]byte
	for at := int64(walHeaderSize); ; at += int64(frameHeaderSize + w.pageSize) {
		_, err := w.file.ReadAt(head[:], at)
		if err == io.EOF {
			return pages, nil
		}
		if err != nil {
			return nil, err
		}
		if string(head[8:16]) != string(w.header[16:24]) {
			return pages, nil
		}
		pages[int64(binary.BigEndian.Uint32(head[:]))] = true
	}
}

// committed walks the valid frames up to the last commit, with their
// checksums, and returns where the newest version of each page lies, and the
// database's size in pages after that commit; 0 if nothing is committed.
func (w *wal) committed() (frames map[int64]int64, pages int64, err error) {
	frames = map[int64]int64{}
	s1, s2 := w.sum(0, 0, w.header[:24])
	if s1 != binary.BigEndian.Uint32(w.header[24:]) || s2 != binary.BigEndian.Uint32(w.header[28:]) {
		return frames, 0, nil
	}
	pending := map[int64]int64{}
	buf := make([]byte, frameHeaderSize+w.pageSize)
	for at := int64(walHeaderSize); ; at += int64(len(buf)) {
		if _, err := w.file.ReadAt(buf, at); err == io.EOF {
			return frames, pages, nil
		} else if err != nil {
			return nil, 0, err
		}
		if string(buf[8:16]) != string(w.header[16:24]) {
			return frames, pages, nil
		}
		s1, s2 = w.sum(s1, s2, buf[:8])
		s1, s2 = w.sum(s1, s2, buf[frameHeaderSize:])
		if s1 != binary.BigEndian.Uint32(buf[16:]) || s2 != binary.BigEndian.Uint32(buf[20:]) {
			return frames, pages, nil
		}
		pending[int64(binary.BigEndian.Uint32(buf))] = at + frameHeaderSize
		if n := binary.BigEndian.Uint32(buf[4:]); n > 0 {
			for page, where := range pending {
				frames[page] = where
			}
			clear(pending)
			pages = int64(n)
		}
	}
}

// sum is the WAL's checksum over a multiple of eight bytes.
func (w *wal) sum(s1, s2 uint32, data []byte) (uint32, uint32) {
	for i := 0; i+8 <= len(data); i += 8 {
		s1 += w.order.Uint32(data[i:]) + s2
		s2 += w.order.Uint32(data[i+4:]) + s1
	}
	return s1, s2
}

// unrestarted reports whether the header on disk is still the one that was
// read. Frames of committed transactions do not change until it does: it is
// written first when a WAL starts over.
func (w *wal) unrestarted() bool {
	var now [walHeaderSize]byte
	_, err := w.file.ReadAt(now[:], 0)
	return err == nil && now == w.header
}

// walSize is the size of the -wal in bytes, 0 if there is none.
func walSize(path string) int64 {
	st, err := os.Stat(path + "-wal")
	if err != nil {
		return 0
	}
	return st.Size()
}
