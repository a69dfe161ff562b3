package seal

import (
	"bufio"
	"encoding/binary"
	"io"
)

// The zstd frame grammar that the reader walks; see RFC 8878 §3.1 and the
// "zstd seekable format" in zstd's contrib folder.
const (
	frameMagic     = 0xFD2FB528
	skippableMagic = 0x184D2A50 // low nibble free
	seekMagic      = 0x184D2A5E
	seekFooter     = 0x8F92EAB1

	// maxPacked bounds one compressed frame: zstd stores incompressible data
	// raw, with three bytes a block and a short header.
	maxPacked = FrameSize + 1<<14
)

// seekTable is the zstd seekable format's list of frames: compressed and
// decompressed size of each, little-endian.
type seekTable struct{ entries []byte }

func (t *seekTable) add(packed, plain int) {
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(packed))
	t.entries = binary.LittleEndian.AppendUint32(t.entries, uint32(plain))
}

func (t *seekTable) marshal() []byte {
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, seekMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.entries)+9))
	b = append(b, t.entries...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(t.entries)/8))
	b = append(b, 0)
	return binary.LittleEndian.AppendUint32(b, seekFooter)
}

// frameReader cuts a decrypted stream into zstd frames without decompressing
// it, so that decompression can run in parallel. Skippable frames are passed
// over, wherever they stand; the last seek table met is kept.
type frameReader struct {
	r    *bufio.Reader
	seek []byte // body of the last seek table, nil before one was met
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 256<<10)}
}

// next appends the next data frame to buf; io.EOF at a clean end.
func (f *frameReader) next(buf []byte) ([]byte, error) {
	for {
		head, err := f.r.Peek(4)
		if err == io.EOF && len(head) == 0 {
			return nil, io.EOF
		}
		if err != nil {
			return nil, truncated(err)
		}
		magic := binary.LittleEndian.Uint32(head)
		if magic == frameMagic {
			return f.data(buf)
		}
		if magic&^0xF != skippableMagic {
			return nil, damaged("no zstd frame where one must start")
		}
		if err := f.skip(magic == seekMagic); err != nil {
			return nil, err
		}
	}
}

func (f *frameReader) skip(isSeek bool) error {
	var head [8]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return truncated(err)
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if !isSeek {
		_, err := io.CopyN(io.Discard, f.r, int64(n))
		return truncated(err)
	}
	// 8 bytes for each of SQLite's at most 2^32 pages of 64 KiB in 1 MiB
	// frames would be 2 GiB; a table beyond 64 MiB (8 TiB of data) is not ours.
	if n > 64<<20 {
		return damaged("seek table of %d bytes", n)
	}
	f.seek = make([]byte, n)
	_, err := io.ReadFull(f.r, f.seek)
	return truncated(err)
}

// data copies one frame by walking its header and its blocks.
func (f *frameReader) data(buf []byte) ([]byte, error) {
	take := func(n int) ([]byte, error) {
		if len(buf)+n > maxPacked {
			return nil, damaged("zstd frame larger than %d bytes", maxPacked)
		}
		at := len(buf)
		buf = append(buf, make([]byte, n)...)
		_, err := io.ReadFull(f.r, buf[at:])
		return buf[at:], truncated(err)
	}
	head, err := take(5)
	if err != nil {
		return nil, err
	}
	descriptor := head[4]
	single, checksum := descriptor>>5&1 == 1, descriptor>>2&1 == 1
	rest := [4]int{0, 1, 2, 4}[descriptor&3] + [4]int{0, 2, 4, 8}[descriptor>>6]
	if single && descriptor>>6 == 0 {
		rest++
	}
	if !single {
		rest++
	}
	if _, err := take(rest); err != nil {
		return nil, err
	}
	for last := false; !last; {
		b, err := take(3)
		if err != nil {
			return nil, err
		}
		block := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last = block&1 == 1
		size := int(block >> 3)
		switch block >> 1 & 3 {
		case 1:
			size = 1
		case 3:
			return nil, damaged("reserved zstd block type")
		}
		if _, err := take(size); err != nil {
			return nil, err
		}
	}
	if checksum {
		if _, err := take(4); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// truncated turns an end of stream inside a frame into damage.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged("the zstd stream ends inside a frame")
	}
	return err
}
