package s3

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"emsafe/storage/storagetest"
)

// BenchmarkCreate uploads 128 MiB of unknown length to versitygw on loopback.
// The server's own work is in the wall time; -cpuprofile shows ours.
func BenchmarkCreate(b *testing.B) {
	bucket, data := benched(b)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		if _, err := bucket.Create(b.Context(), fmt.Sprint("object/", n), bytes.NewReader(data), -1); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen downloads them again.
func BenchmarkOpen(b *testing.B) {
	bucket, data := benched(b)
	if _, err := bucket.Create(b.Context(), "object", bytes.NewReader(data), -1); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := bucket.Open(b.Context(), "object", 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != int64(len(data)) {
			b.Fatal(n, err)
		}
		r.Close()
	}
}

func benched(b *testing.B) (*Bucket, []byte) {
	s := storagetest.VersityGW(b)
	if err := s.MakeBucket("bench"); err != nil {
		b.Fatal(err)
	}
	bucket, err := Open(b.Context(), Config{Bucket: "bench", Endpoint: s.Endpoint, AccessKeyID: s.Access, SecretAccessKey: Secret(s.Secret)})
	if err != nil {
		b.Fatal(err)
	}
	return bucket, bytes.Repeat([]byte("0123456789abcdef"), 8<<20)
}
