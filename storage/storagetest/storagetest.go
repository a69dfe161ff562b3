// Package storagetest holds every storage.Bucket to its promises and lends
// tests the buckets they need.
//
// Start with [Conformance], which a bucket's own tests call with a function
// that makes an empty one. [Memory] is a bucket in RAM that passes it;
// [Faulty] wraps any bucket and makes it fail to a script; [VersityGW] and
// [StartVersityGW] run a real S3 server on loopback. The package promises
// that everything it starts is gone when the test, or the caller's Close, has
// ended, and that nothing listens beyond 127.0.0.1.
package storagetest

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"emsafe/storage"
)

const mib = 1 << 20

// Conformance runs the whole suite. open must give an empty bucket each time
// it is called and may register its own cleanup on t.
func Conformance(t *testing.T, open func(t *testing.T) storage.Bucket) {
	t.Helper()
	run := func(name string, check func(t *testing.T, b storage.Bucket)) {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
	run("Sizes", sizes)
	run("Ranges", ranges)
	run("OpenMissing", openMissing)
	run("CreateOnce", createOnce)
	run("SixteenRacers", racers)
	run("ReaderError", readerError)
	run("SizeMismatch", sizeMismatch)
	run("Cancelled", cancelled)
	run("GrowingReader", growingReader)
	run("BadKeys", badKeys)
	run("ListOrder", listOrder)
	run("ListPrefixAndAfter", listPrefixAndAfter)
	run("ListThousands", listThousands)
	run("ListStopsEarly", listStopsEarly)
	run("Delete", deleting)
	run("Concurrent", concurrent)
	run("Address", address)
}

// block is what noise repeats: the race detector makes a random generator too
// slow for tens of megabytes.
var block = func() []byte {
	data := make([]byte, mib)
	rand.NewChaCha8([32]byte{}).Read(data)
	return data
}()

// noise gives n bytes that are the same for the same seed and tell seed and
// place every 4 KiB, so that swapped and repeated pieces show.
func noise(seed uint64, n int) []byte {
	data := make([]byte, n)
	for at := 0; at < n; at += copy(data[at:], block) {
	}
	var stamp [16]byte
	for at := 0; at < n; at += 4096 {
		binary.BigEndian.PutUint64(stamp[:], seed)
		binary.BigEndian.PutUint64(stamp[8:], uint64(at))
		copy(data[at:], stamp[:])
	}
	return data
}

// plain hides every method but Read, as a pipe or a growing spool would.
func plain(r io.Reader) io.Reader { return struct{ io.Reader }{r} }

// broken gives data, then err.
func broken(data io.Reader, err error) io.Reader {
	return io.MultiReader(data, iotest.ErrReader(err))
}

func keys(t *testing.T, b storage.Bucket, prefix, after string) []string {
	t.Helper()
	var got []string
	for info, err := range b.List(context.Background(), prefix, after) {
		if err != nil {
			t.Fatalf("list %q after %q: %v", prefix, after, err)
		}
		got = append(got, info.Key)
	}
	return got
}

// absent fails the test unless key can be neither listed nor opened.
func absent(t *testing.T, b storage.Bucket, key string) {
	t.Helper()
	for _, k := range keys(t, b, "", "") {
		if k == key {
			t.Errorf("%s is listed", key)
		}
	}
	if _, err := storage.ReadAll(context.Background(), b, key, 64*mib); err == nil {
		t.Errorf("%s can be read", key)
	}
}
