package seal

import (
	"io"
	"os"
	"testing"
)

// BenchmarkWriter seals EMSAFE_BENCH_FILE, or made pages.
func BenchmarkWriter(b *testing.B) {
	data := pages(64<<20, 1)
	if f := os.Getenv("EMSAFE_BENCH_FILE"); f != "" {
		data, _ = os.ReadFile(f)
	}
	k := newKey(b, false)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		w, err := NewWriter(io.Discard, Options{Recipients: k.to, PageSize: 4096})
		if err != nil {
			b.Fatal(err)
		}
		w.Write(data) //nolint:errcheck // Close tells
		s, _, err := w.Close()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(s.Size)/float64(len(data)), "ratio")
	}
}

// BenchmarkExtract opens what BenchmarkWriter seals.
func BenchmarkExtract(b *testing.B) {
	data := pages(64<<20, 1)
	if f := os.Getenv("EMSAFE_BENCH_FILE"); f != "" {
		data, _ = os.ReadFile(f)
	}
	k := newKey(b, false)
	sealed, s, c := sealBytes(b, k.to, 4096, data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := Extract(b.Context(), fetchFrom(sealed), k.ids, s, c, writerAt(func(p []byte, _ int64) (int, error) { return len(p), nil })); err != nil {
			b.Fatal(err)
		}
	}
}
