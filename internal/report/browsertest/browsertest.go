// Package browsertest looks at pages with a real Chromium.
//
// [Open] is the call to start with. What it opens is watched: everything that
// the console says and every request is kept, so that a test can insist on
// silence. Where Chromium is not installed the test is skipped and says so.
package browsertest

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Browser is one running Chromium with one tab. Its methods end the test when
// they fail; they are not for concurrent use.
type Browser struct {
	t       *testing.T
	out     *os.File
	next    int
	session string
	replies chan message

	mu       sync.Mutex
	console  []string
	requests []string
	loaded   chan struct{}
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
}

const patience = 60 * time.Second

// Open starts Chromium; it ends with the test.
func Open(t *testing.T) *Browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium here (on Debian: apt-get install chromium); pages are not looked at")
	}
	toBrowser, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(),
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--force-device-scale-factor=1", "about:blank")
	cmd.ExtraFiles = []*os.File{toBrowser, fromBrowser}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toBrowser.Close()
	fromBrowser.Close()
	b := &Browser{t: t, out: out, replies: make(chan message, 16), loaded: make(chan struct{}, 16)}
	read := make(chan struct{})
	go func() { defer close(read); b.read(in) }()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
		cmd.Wait()                                      //nolint:errcheck // it was killed
		out.Close()
		in.Close()
		<-read
	})
	var target struct {
		ID string `json:"targetId"`
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct {
		ID string `json:"sessionId"`
	}
	b.call("Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &session)
	b.session = session.ID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// read takes what the browser says until it ends.
func (b *Browser) read(in *os.File) {
	r := bufio.NewReaderSize(in, 1<<20)
	for {
		data, err := r.ReadBytes(0)
		if err != nil {
			close(b.replies)
			return
		}
		var m message
		if json.Unmarshal(data[:len(data)-1], &m) != nil {
			continue
		}
		if m.ID > 0 {
			b.replies <- m
			continue
		}
		b.event(m)
	}
}

func (b *Browser) event(m message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		b.loaded <- struct{}{}
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		b.console = append(b.console, string(m.Params))
	case "Network.requestWillBeSent":
		var p struct {
			Request struct {
				URL string `json:"url"`
			} `json:"request"`
		}
		if json.Unmarshal(m.Params, &p) == nil {
			b.requests = append(b.requests, p.Request.URL)
		}
	}
}

func (b *Browser) call(method string, params, into any) {
	b.t.Helper()
	b.next++
	line, err := json.Marshal(map[string]any{"id": b.next, "method": method, "params": orEmpty(params)})
	if err == nil && b.session != "" {
		line, err = json.Marshal(map[string]any{"id": b.next, "sessionId": b.session, "method": method, "params": orEmpty(params)})
	}
	if err == nil {
		_, err = b.out.Write(append(line, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case m, ok := <-b.replies:
			switch {
			case !ok:
				b.t.Fatalf("%s: chromium has ended", method)
			case m.ID != b.next:
				continue
			case m.Error != nil:
				b.t.Fatalf("%s: %s", method, m.Error)
			case into != nil:
				if err := json.Unmarshal(m.Result, into); err != nil {
					b.t.Fatalf("%s: %v", method, err)
				}
			}
			return
		case <-timeout.C:
			b.t.Fatalf("%s: no answer from chromium", method)
		}
	}
}

func orEmpty(params any) any {
	if params == nil {
		return struct{}{}
	}
	return params
}

// Look is how a page is looked at.
type Look struct {
	Width, Height int
	Dark          bool
}

// Phone is as narrow as it gets.
var Phone = Look{Width: 360, Height: 740}

// Desktop is a usual window.
var Desktop = Look{Width: 1100, Height: 820}

// Go opens an address and waits until it is loaded. What the console said and
// what was requested counts from here.
func (b *Browser) Go(url string, l Look) {
	b.t.Helper()
	scheme := "light"
	if l.Dark {
		scheme = "dark"
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": l.Width, "height": l.Height, "deviceScaleFactor": 1, "mobile": l.Width < 500}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.mu.Lock()
	b.console, b.requests = nil, nil
	for len(b.loaded) > 0 {
		<-b.loaded
	}
	b.mu.Unlock()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	select {
	case <-b.loaded:
	case <-time.After(patience):
		b.t.Fatalf("%s was not loaded", url)
	}
}

// File writes a document to a temporary file and gives its address.
func (b *Browser) File(name string, data []byte) string {
	b.t.Helper()
	file := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return "file://" + file
}

// Eval is the value of an expression in the page.
func (b *Browser) Eval(expression string, into any) {
	b.t.Helper()
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception json.RawMessage `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &got)
	if got.Exception != nil {
		b.t.Fatalf("%s: %s", expression, got.Exception)
	}
	if err := json.Unmarshal(got.Result.Value, into); err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// Screenshot is the page as PNG, in its full height.
func (b *Browser) Screenshot(clip bool) []byte {
	b.t.Helper()
	var got struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": !clip}, &got)
	return got.Data
}

// PDF is the page as it prints to A4.
func (b *Browser) PDF() []byte {
	b.t.Helper()
	var got struct{ Data string }
	b.call("Page.printToPDF", map[string]any{"preferCSSPageSize": true, "printBackground": true}, &got)
	data, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// Quiet insists that the console said nothing and that nothing was requested
// but what begins with own.
func (b *Browser) Quiet(own string) {
	b.t.Helper()
	console, left := b.noise(own)
	for _, line := range console {
		b.t.Errorf("the console says: %s", line)
	}
	for _, url := range left {
		b.t.Errorf("a request left: %s", url)
	}
}

func (b *Browser) noise(own string) (console, left []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, url := range b.requests {
		if !strings.HasPrefix(url, own) && !strings.HasPrefix(url, "data:") {
			left = append(left, url)
		}
	}
	return slices.Clone(b.console), left
}

// Fits insists that nothing makes the page wider than the window.
func (b *Browser) Fits() {
	b.t.Helper()
	if wide, window, who := b.width(); wide > window || len(who) > 0 {
		b.t.Errorf("at %d pixels the page is %d wide; beyond the edge: %s", window, wide, strings.Join(who, "; "))
	}
}

func (b *Browser) width() (wide, window int, who []string) {
	b.t.Helper()
	var got struct {
		Wide, Window int
		Who          []string
	}
	b.Eval(`(() => { const w = document.documentElement.clientWidth;
		const who = [...document.querySelectorAll('body *')].filter(e => !e.closest('.sr,thead') && e.getBoundingClientRect().right > w + 1)
			.slice(0, 5).map(e => e.tagName + '.' + (e.getAttribute('class') || '') + ' ' + (e.textContent || '').trim().slice(0, 40));
		return {Wide: document.documentElement.scrollWidth, Window: w, Who: who} })()`, &got)
	return got.Wide, got.Window, got.Who
}

// Complaints are what Quiet and Fits would complain of: lines on the console,
// requests that left, and a page wider than its window.
func (b *Browser) Complaints(own string) (console, left int, wide bool) {
	b.t.Helper()
	lines, urls := b.noise(own)
	w, window, who := b.width()
	return len(lines), len(urls), w > window || len(who) > 0
}

// PagesOf are the texts of the pages of a PDF, by pdftotext.
func PagesOf(t *testing.T, pdf []byte) []string {
	t.Helper()
	if _, err := exec.LookPath("pdftotext"); err != nil {
		t.Skip("no pdftotext here (on Debian: apt-get install poppler-utils); what is printed is not looked at")
	}
	file := filepath.Join(t.TempDir(), "page.pdf")
	if err := os.WriteFile(file, pdf, 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := exec.Command("pdftotext", "-layout", file, "-").Output()
	if err != nil {
		t.Fatal(fmt.Errorf("pdftotext: %w", err))
	}
	return strings.Split(strings.TrimSuffix(string(text), "\f"), "\f")
}
