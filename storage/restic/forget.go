package restic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Keep is how many snapshots stay. Zero everywhere keeps all.
type Keep struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
	Within                                       time.Duration
}

// IsZero reports whether everything is kept.
func (k Keep) IsZero() bool { return k == Keep{} }

func (k Keep) flags() []string {
	var flags []string
	for _, f := range []struct {
		name string
		n    int
	}{{"last", k.Last}, {"hourly", k.Hourly}, {"daily", k.Daily}, {"weekly", k.Weekly}, {"monthly", k.Monthly}, {"yearly", k.Yearly}} {
		if f.n > 0 {
			flags = append(flags, "--keep-"+f.name, strconv.Itoa(f.n))
		}
	}
	if k.Within > 0 {
		hours := int64((k.Within + time.Hour - 1) / time.Hour) // restic knows none smaller
		flags = append(flags, "--keep-within", fmt.Sprintf("%dh", hours))
	}
	return flags
}

// Plan says what a policy would keep and remove of the snapshots with a tag.
// The newest always stays.
func (r *Repository) Plan(ctx context.Context, tag string, k Keep) (keep, remove []Snapshot, err error) {
	if k.IsZero() {
		keep, err = r.Snapshots(ctx, tag)
		return keep, nil, err
	}
	args := append([]string{"forget", "--dry-run", "--json", "--no-lock", "--group-by", "", "--tag", tag}, k.flags()...)
	var text bytes.Buffer
	err = r.look(ctx, func(line []byte) error {
		text.Write(line)
		text.WriteByte('\n')
		return nil
	}, args...)
	if err != nil {
		return nil, nil, r.explain(err)
	}
	keep, remove, err = parseForget(text.Bytes())
	if err != nil {
		return nil, nil, err
	}
	newest := -1
	for i, s := range remove {
		if newest < 0 || s.Time.After(remove[newest].Time) {
			newest = i
		}
	}
	if len(keep) == 0 && newest >= 0 {
		keep = []Snapshot{remove[newest]}
		remove = append(remove[:newest:newest], remove[newest+1:]...)
	}
	return keep, remove, nil
}

// parseForget reads what `forget --json` prints: an array of groups, after
// which 0.14 goes on in words, and newer versions may with other messages.
func parseForget(text []byte) (keep, remove []Snapshot, err error) {
	at := bytes.IndexByte(text, '[')
	if at < 0 {
		if strings.TrimSpace(string(text)) == "" || bytes.Contains(text, []byte("null")) {
			return nil, nil, nil // there is no snapshot
		}
		return nil, nil, fmt.Errorf("restic forget: no list in %.80q", text)
	}
	var groups []struct{ Keep, Remove []Snapshot }
	if err := json.NewDecoder(bytes.NewReader(text[at:])).Decode(&groups); err != nil {
		return nil, nil, fmt.Errorf("restic forget: %w", err)
	}
	for _, g := range groups {
		keep, remove = append(keep, g.Keep...), append(remove, g.Remove...)
	}
	return keep, remove, nil
}

// Forget removes snapshots, and the data that nothing else needs.
func (r *Repository) Forget(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	err := r.unlocking(ctx, func() error { return r.run(ctx, nil, append([]string{"forget", "--prune"}, ids...)...) })
	return r.explain(err)
}
