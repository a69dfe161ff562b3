package sqlite

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"emsafe/storage/sqlite/sqlitetest"
)

// Beyond 1 GiB there is a page that SQLite never uses.
func TestAcrossTheLockBytePage(t *testing.T) {
	t.Parallel()
	specimens := []sqlitetest.Specimen{
		sqlitetest.Sparse(t, "wal", 4096),
	}
	if soak {
		specimens = append(specimens, sqlitetest.Sparse(t, "delete", 65536), sqlitetest.Sparse(t, "delete", 4096), sqlitetest.Sparse(t, "wal", 65536), sqlitetest.Sparse(t, "wal", 512), sqlitetest.Sparse(t, "delete", 512), large(t, 4096), large(t, 65536))
	}
	for _, s := range specimens {
		t.Run(s.Name, func(t *testing.T) {
			f, err := os.Open(s.Path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			st, _ := f.Stat()
			var c *sqlitetest.Comparison
			image, err := Snapshot(t.Context(), s.Path, Options{Ahead: stillAhead{f}}, func(image Image) (io.Writer, error) {
				c = &sqlitetest.Comparison{File: f, PageSize: image.PageSize}
				return c, nil
			})
			if err != nil {
				t.Fatalf("%+v: %v", image, err)
			}
			if c.At != st.Size() || c.At <= 1<<30 {
				t.Errorf("%d of %d bytes", c.At, st.Size())
			}
		})
	}
}

func TestBlank(t *testing.T) {
	t.Parallel()
	for _, size := range []int{512, 4096, 65536} {
		s := &source{}
		s.setImage(Image{PageSize: size})
		const lockChunk = 1 << 30 / chunkSize
		for i := int64(lockChunk - 1); i <= lockChunk+1; i++ {
			data := bytes.Repeat([]byte{1}, chunkSize)
			s.blank(i, data)
			zeros := 0
			if i == lockChunk {
				zeros = size
			}
			if bytes.Count(data, []byte{0}) != zeros || bytes.Count(data[:zeros], []byte{0}) != zeros {
				t.Errorf("pages of %d, chunk %d: %d zeros", size, i, bytes.Count(data, []byte{0}))
			}
		}
	}
}

// large is a gigabyte that SQLite wrote itself.
func large(t testing.TB, pageSize int) sqlitetest.Specimen {
	db := filepath.Join(t.TempDir(), "large.db")
	shell(t, db, fmt.Sprintf("PRAGMA page_size=%d; PRAGMA journal_mode=off; PRAGMA synchronous=off; CREATE TABLE b (x); INSERT INTO b VALUES (zeroblob(700000000)), (zeroblob(420000000)); CREATE TABLE after (v); INSERT INTO after VALUES (hex(randomblob(3000)));", pageSize))
	return sqlitetest.Specimen{Name: fmt.Sprintf("large-%d", pageSize), Path: db}
}

// stillAhead reads back from the file, which nobody writes: a gigabyte stays
// out of memory.
type stillAhead struct{ file *os.File }

func (stillAhead) Put(int64, []byte) error { return nil }
func (stillAhead) Reset() error            { return nil }
func (a stillAhead) Read(i int64, buf []byte) ([]byte, error) {
	n, err := a.file.ReadAt(buf[:chunkSize], i*chunkSize)
	if err == io.EOF {
		err = nil
	}
	return buf[:n], err
}
