package sqlite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Backlog is how far the checkpoints of a database in WAL mode have come: the
// frames in its log, and how many of them are in the main file already. It
// copies nothing itself. Ask it only while somebody else has the database open:
// who is alone with it makes files.
func Backlog(ctx context.Context, path string) (frames, copied int64, err error) {
	c, err := connect(ctx, path, "mode=ro", time.Second)
	if err != nil {
		return 0, 0, err
	}
	defer c.close() //nolint:errcheck // nothing was written
	var busy int64
	if err := c.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &copied); err != nil {
		return 0, 0, sqliteError(c.path, err)
	}
	return max(frames, 0), max(copied, 0), nil
}

// The bytes of a -shm that readers of a WAL database lock, one a reader's mark.
const (
	firstReadLock = 123
	lastReadLock  = 127
)

// ReadLocks are the processes that are reading a WAL database at this moment, as
// "process 12, mark 3", by the locks that the kernel lists. Nothing is opened.
// Where the kernel lists none, as on systems other than Linux, it is empty.
func ReadLocks(path string) ([]string, error) {
	info, err := os.Stat(path + "-shm")
	if err != nil {
		return nil, nil //nolint:nilerr // nobody reads what is not open
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	text, err := os.ReadFile("/proc/locks")
	if err != nil || !ok {
		return nil, nil //nolint:nilerr // as above
	}
	inode := ":" + strconv.FormatUint(uint64(st.Ino), 10) //nolint:unconvert // of another type elsewhere
	var list []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 || f[3] != "READ" || !strings.HasSuffix(f[5], inode) {
			continue
		}
		first, err1 := strconv.Atoi(f[6])
		last, err2 := strconv.Atoi(f[7])
		if err1 != nil || err2 != nil {
			continue
		}
		for b := max(first, firstReadLock); b <= min(last, lastReadLock); b++ {
			list = append(list, fmt.Sprintf("process %s, mark %d", f[4], b-firstReadLock))
		}
	}
	return list, lines.Err()
}

// OldContent counts how many free pages of a file still hold what was in them
// before, of those looked at, at most most. It reads bytes, takes no lock, and may
// count a page that is just being used.
func OldContent(path string, most int) (old, looked int, err error) {
	f, err := openRegular(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	head := make([]byte, 100)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0, 0, err
	}
	size := int64(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 65536
	}
	if size < 512 {
		return 0, 0, nil
	}
	page, zero := make([]byte, size), make([]byte, size)
	read := func(n uint32) bool {
		_, err := f.ReadAt(page, int64(n-1)*size)
		return n > 0 && err == nil
	}
	trunk := binary.BigEndian.Uint32(head[32:])
	for trunks := 0; looked < most && trunks < most && trunk != 0 && read(trunk); trunks++ {
		trunk = binary.BigEndian.Uint32(page)
		count := min(int64(binary.BigEndian.Uint32(page[4:])), size/4-2)
		leaves := bytes.Clone(page[8 : 8+4*count])
		for ; len(leaves) > 0 && looked < most; leaves = leaves[4:] {
			if !read(binary.BigEndian.Uint32(leaves)) {
				continue
			}
			if looked++; !bytes.Equal(page, zero) {
				old++
			}
		}
	}
	return old, looked, nil
}
