package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// canary are secrets that nobody has: what of them is found in a log, a real
// one would be found there too.
type canary struct {
	path  string            // of the request that carried them
	marks map[string]string // where it was → the secret
	from  map[string]int64  // file → what was there before, in bytes
}

func newCanary() canary {
	return canary{path: "/" + random(), from: map[string]int64{}, marks: map[string]string{
		"the query": random(), "X-API-Key": random(), "Authorization": random(), "a cookie": random(),
	}}
}

// begin remembers how long the logs are.
func (c *canary) begin(patterns []string) {
	for _, p := range patterns {
		files, _ := filepath.Glob(p)
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				c.from[f] = info.Size()
			}
		}
	}
}

const (
	logTail   = 1 << 20 // bytes of a log's end that are read
	logFlush  = 3 * time.Second
	logGlance = 50 * time.Millisecond
)

// logs sends the canaries, and looks where they went.
func (a *audit) logs(ctx context.Context) {
	x := a.ask(ctx, request{
		path: a.canary.path + "?api_key=" + a.canary.marks["the query"] + "&page=1",
		header: map[string]string{"X-API-Key": a.canary.marks["X-API-Key"], "Authorization": "Bearer " + a.canary.marks["Authorization"],
			"Cookie": "session=" + a.canary.marks["a cookie"], "X-Forwarded-For": address},
	})
	id := ""
	for _, y := range a.seen {
		for _, name := range []string{"X-Request-Id", "X-Correlation-Id", "Traceparent", "X-Trace-Id"} {
			if v := y.header.Get(name); v != "" {
				id = name + ": " + v
			}
		}
	}
	if id != "" {
		a.pass("EMS-LOG-003", "", clip(id, 100))
	} else {
		a.fail("EMS-LOG-003", "", "no answer has one", x.line())
	}
	if x.err != nil {
		a.failed("EMS-LOG-001", "", x.err)
		return
	}
	journal := a.journalLines(ctx)
	if len(a.canary.from) == 0 && len(journal) == 0 {
		for _, id := range []string{"EMS-LOG-001", "EMS-LOG-002", "EMS-LOG-004"} {
			if len(a.Logs) > 0 {
				a.failed(id, strings.Join(a.Logs, ", "), fmt.Errorf("there is no such log that can be read"))
			} else {
				a.skip(id, "--log FILE names the logs of the proxy and the application")
			}
		}
		return
	}
	logs, err := a.collect(ctx)
	if err == nil && len(journal) > 0 {
		logs["journal"] = journal
	}
	a.found(logs, err)
}

// journalLines are the lines of systemd's journal that have a canary, or the
// request that carried them. What this user may not read there is not known,
// and then there are none.
func (a *audit) journalLines(ctx context.Context) []byte {
	if !a.Host {
		return nil
	}
	words := []string{a.canary.path[1:]}
	for _, mark := range a.canary.marks {
		words = append(words, mark)
	}
	out, err := a.run(ctx, "journalctl", "--no-pager", "--quiet", "--output=cat", "--since=-2min", "--grep="+strings.Join(words, "|"))
	if err != nil { // also where no line fits
		return nil
	}
	return out
}

// collect reads what was added to the logs, until the request is in one of
// them: proxies write in batches.
func (a *audit) collect(ctx context.Context) (logs map[string][]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, logFlush)
	defer cancel()
	for {
		logs = map[string][]byte{}
		seen := false
		for file, from := range a.canary.from {
			text, err := tail(file, from)
			if err != nil {
				return nil, err
			}
			logs[file] = text
			seen = seen || bytes.Contains(text, []byte(a.canary.path))
		}
		if seen || len(logs) == 0 {
			return logs, nil
		}
		select {
		case <-ctx.Done():
			return logs, nil
		case <-time.After(logGlance):
		}
	}
}

// tail is a file from an offset on; one that was cut since is read whole.
func tail(file string, from int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < from {
		from = 0
	}
	if _, err := f.Seek(max(from, info.Size()-logTail), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, logTail))
}

var statement = regexp.MustCompile(`(?i)(sqlalchemy\.engine|\bINSERT INTO\s+["\w]+\s*\(|\bUPDATE\s+["\w]+\s+SET\b|\bSELECT\s.{1,400}\sFROM\s+["\w]+)`)

func (a *audit) found(logs map[string][]byte, err error) {
	if err != nil {
		for _, id := range []string{"EMS-LOG-001", "EMS-LOG-002", "EMS-LOG-004"} {
			a.failed(id, "", err)
		}
		return
	}
	var leaked, sql, believed, lines []string
	for file, text := range logs {
		for where, mark := range a.canary.marks {
			if bytes.Contains(text, []byte(mark)) {
				leaked = append(leaked, file+" has the secret of "+where)
			}
		}
		for line := range bytes.Lines(text) {
			if bytes.Contains(line, []byte(a.canary.path)) && len(lines) < 3 {
				lines = append(lines, file)
				if bytes.HasPrefix(line, []byte(address)) || regexp.MustCompile(`"(client_ip|remote_addr|client|remote_ip)": ?"`+regexp.QuoteMeta(address)).Match(line) {
					believed = append(believed, file+" has the request as from "+address)
				}
			}
		}
		if m := statement.Find(text); m != nil {
			sql = append(sql, file+": "+clip(string(m), 60))
		}
	}
	if len(lines) == 0 {
		files := make([]string, 0, len(logs))
		for f := range logs {
			files = append(files, f)
		}
		slices.Sort(files)
		a.fail("EMS-LOG-002", "", "the audit's own request is in no log", files...)
		if len(leaked) == 0 {
			a.skip("EMS-LOG-001", "the request is in no log (EMS-LOG-002)")
			a.skip("EMS-LOG-004", "the request is in no log (EMS-LOG-002)")
			return
		}
	} else {
		a.pass("EMS-LOG-002", "", "found", lines...)
	}
	a.verdict("EMS-LOG-001", "none of the four canaries", "whoever reads the log has the secret", leaked)
	a.verdict("EMS-LOG-004", "none", "the log holds SQL", sql)
	if len(believed) > 0 {
		a.fail("EMS-PROXY-001", "the log", "the log believes what a client says of where it comes from", believed...)
	}
}
