package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPlace(t *testing.T) {
	t.Parallel()
	doc := "words\n<!-- measured: delta -->\nold\n<!-- end: delta -->\nmore\n<!-- measured: chain -->\n<!-- end: chain -->\n"
	got, err := place([]byte(doc), "delta", "new\n")
	want := "words\n<!-- measured: delta -->\n\nnew\n<!-- end: delta -->\nmore\n<!-- measured: chain -->\n<!-- end: chain -->\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	again, err := place(got, "delta", "new\n")
	if err != nil || !bytes.Equal(again, got) {
		t.Errorf("twice is not the same: %v\n%s", err, again)
	}
	if _, err := place([]byte(doc), "scale", "new\n"); err == nil {
		t.Error("a case without a place was placed")
	}
}

// TestDocument holds a place for every case.
func TestDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range measurements {
		if _, err := place(doc, m.name, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(100-i))
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, 1}, {0.5, 51}, {0.99, 100}, {1, 100}} {
		if got := quantile(all, c.q); got != c.want {
			t.Errorf("%v: %d instead of %d", c.q, got, c.want)
		}
	}
	if all[0] != 100 {
		t.Error("the values were sorted in place")
	}
	if quantile([]float64(nil), 0.5) != 0 {
		t.Error("something of nothing")
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	held, missed := atMost("x", " s", 0.35, 0.349), atMost("x", " s", 0.35, 0.351)
	if !held.held || missed.held {
		t.Error(held, missed)
	}
	text := render([]section{{title: "T", text: "words\n\n\n", bars: []bar{held, missed}}})
	want := "### T\n\nwords\n\n| bar | measured | |\n|---|---|---|\n| x: at most 0.35 s | 0.35 s | held |\n| x: at most 0.35 s | 0.35 s | **missed** |\n\n"
	if text != want {
		t.Errorf("%q", text)
	}
}

func TestDiffering(t *testing.T) {
	t.Parallel()
	page := func(c byte) string { return strings.Repeat(string(c), pageSize) }
	var out bytes.Buffer
	// The last byte of one page, and a page behind the old end that is like the last.
	changed := page('b')[1:] + "x"
	n, err := differing(&out, strings.NewReader(page('a')+page('b')+page('c')), strings.NewReader(page('a')+changed+page('c')+page('c')))
	if err != nil || n != 2 || out.String() != changed+page('c') {
		t.Errorf("%d pages, %d bytes, %v", n, out.Len(), err)
	}
	if _, err := differing(io.Discard, strings.NewReader(""), strings.NewReader("torn")); err == nil {
		t.Error("a torn page was counted")
	}
}

// TestSteps: 60 numbers that go up, each one step from a number before it.
func TestSteps(t *testing.T) {
	t.Parallel()
	have := map[uint32]bool{0: true}
	last := uint32(0)
	for n := 2; n < 62; n++ {
		s := steps(n)
		parent := s
		for digit := 0; ; digit += 4 {
			if s>>digit&15 != 0 {
				parent -= 1 << digit
				break
			}
		}
		if s <= last || !have[parent] {
			t.Fatalf("%d: %#x after %#x, on %#x", n, s, last, parent)
		}
		have[s], last = true, s
	}
	if last != 0xffff {
		t.Errorf("the last is %#x", last)
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pages")
	if err := os.WriteFile(file, make([]byte, 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := forward(file, 7); err == nil {
		t.Error("a file without a head was taken for an index")
	}
	head := make([]byte, 16<<10)
	copy(head, "sum\n"+`{"id":"x","ladder":{"step":3,"gen":9}}`)
	if err := os.WriteFile(file, append(head, "entries"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := forward(file, 65535); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(got, []byte(`"step":65535`)) || !bytes.Contains(got, []byte(`"gen":9`)) || !bytes.HasSuffix(got, []byte("\x00entries")) {
		t.Errorf("%v: %q", err, bytes.Trim(got, "\x00"))
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { host = r.Host }))
	defer server.Close()
	p, err := startProxy(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodGet} {
		r, err := http.NewRequestWithContext(context.Background(), method, p.endpoint+"/bucket", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if n, kinds := p.take(); n != 3 || kinds != "1 PUT, 2 GET" {
		t.Errorf("%d: %s", n, kinds)
	}
	if n, kinds := p.take(); n != 0 || kinds != "" {
		t.Errorf("counted again: %d: %s", n, kinds)
	}
	if "http://"+host != p.endpoint {
		t.Errorf("the server sees the host %s, and requests are signed for %s", host, p.endpoint)
	}
}

func TestDraw(t *testing.T) {
	t.Parallel()
	svg := drawScale([]point{
		{128, []time.Duration{1e9, 2e8, 5e8}, []int64{60 << 10, 40 << 10, 70 << 10}},
		{2048, []time.Duration{15e9, 3e9, 8e9}, []int64{62 << 10, 50 << 10, 90 << 10}},
	})
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"database, MiB", "Time, seconds", "Peak memory, MiB", "prefers-color-scheme: dark", "delta of 1 %", ">2000<", ">15<"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("no %s in the plot", want)
		}
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ most, want float64 }{{2048, 500}, {512, 100}, {15, 2.5}, {0.7, 0.1}, {96, 10}, {0, 1}} {
		if got := step(c.most); got < c.want*0.999 || got > c.want*1.001 {
			t.Errorf("%v: %v instead of %v", c.most, got, c.want)
		}
	}
}
