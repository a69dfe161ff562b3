package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"sync"
)

// Scratch keeps chunks of plaintext on disk, encrypted (AES-256-GCM) under a
// key that exists only in this process's memory: pages copied ahead of a lock
// can wait in the spool folder, and a thief or a crash leaves nothing to read.
// The file has no name. Methods are safe for concurrent use.
type Scratch struct {
	file  *os.File
	gcm   cipher.AEAD
	mu    sync.Mutex
	nonce uint64
	sizes map[int64]int
}

const scratchSlot = 12 + FrameSize + 16

// NewScratch makes a scratch file in dir.
func NewScratch(dir string) (*Scratch, error) {
	var key [32]byte
	rand.Read(key[:]) //nolint:errcheck // never fails since Go 1.24
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "scratch-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &Scratch{file: f, gcm: gcm, sizes: map[int64]int{}}, nil
}

// Put keeps data, at most FrameSize bytes, as chunk i, replacing what was there.
func (s *Scratch) Put(i int64, data []byte) error {
	if len(data) > FrameSize {
		return fmt.Errorf("scratch: chunk of %d bytes", len(data))
	}
	s.mu.Lock()
	s.nonce++ // a nonce is never used twice, also not for the same chunk
	n := s.nonce
	s.mu.Unlock()
	var slot [12]byte
	binary.BigEndian.PutUint64(slot[4:], n)
	sealed := s.gcm.Seal(slot[:], slot[:], data, chunkName(i))
	if _, err := s.file.WriteAt(sealed, i*scratchSlot); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	s.mu.Lock()
	s.sizes[i] = len(data)
	s.mu.Unlock()
	return nil
}

// Read returns chunk i, using buf's memory where it suffices.
func (s *Scratch) Read(i int64, buf []byte) ([]byte, error) {
	s.mu.Lock()
	size, ok := s.sizes[i]
	s.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("scratch: chunk %d was never put", i)
	}
	sealed := make([]byte, 12+size+s.gcm.Overhead())
	if _, err := s.file.ReadAt(sealed, i*scratchSlot); err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	data, err := s.gcm.Open(buf[:0], sealed[:12], sealed[12:], chunkName(i))
	if err != nil {
		return nil, fmt.Errorf("scratch: chunk %d: %w", i, err)
	}
	return data, nil
}

func chunkName(i int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// Reset forgets all chunks.
func (s *Scratch) Reset() error {
	s.mu.Lock()
	clear(s.sizes)
	s.mu.Unlock()
	return s.file.Truncate(0)
}

// Close gives the space back.
func (s *Scratch) Close() error { return s.file.Close() }
