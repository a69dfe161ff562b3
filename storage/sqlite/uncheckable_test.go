package sqlite

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// uncheckable makes the databases of testdata/uncheckable.py.
func uncheckable(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	if out, err := exec.Command("python3", "testdata/uncheckable.py", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder
}

// What needs its application is not damaged, and is not called sound; facts and
// hazards go on as far as they can.
func TestUncheckableIsNotDamaged(t *testing.T) {
	t.Parallel()
	folder := uncheckable(t)
	for name, want := range map[string]struct {
		result, quick string // quick: of the quick check, "" for the same
		say           string
	}{
		"sound":              {Sound, "", ""},
		"collation-key":      {NotCheckable, "", "table f: no such collation sequence: unicase"},
		"collation-index":    {NotCheckable, "", "table f: no such collation sequence: unicase"},
		"collation-column":   {NotCheckable, "", "table f: no such collation sequence: unicase"},
		"function-index":     {NotCheckable, Sound, "table f: unknown function: slug()"},
		"function-partial":   {NotCheckable, Sound, "table f: unknown function: slug()"},
		"function-generated": {NotCheckable, Sound, "table f: unknown function: slug()"},
		"function-check":     {NotCheckable, "", "constraints of table f: no such function: slug"},
		"function-strict":    {NotCheckable, "", "constraints of table f: no such function: slug"},
		"function-view":      {Sound, "", ""}, // views and triggers hold no data
		"module":             {NotCheckable, "", "virtual table vec: no such module: vec0"},
		"tokenizer":          {NotCheckable, "", "virtual table f: no such tokenizer: snowball"},
		"fts4":               {NotCheckable, "", "virtual table f: no such module: fts4"},
		"spatialite":         {NotCheckable, "", "virtual table SpatialIndex: no such module: VirtualSpatialIndex"},
		"future-option":      {NotCheckable, "", "schema of f: unknown table option: FUTURE"},
		"future-syntax":      {NotCheckable, "", "schema of f: near"},
		"future-column":      {NotCheckable, "", "schema of f: no such column"},
		"future-format":      {NotCheckable, "", "schema: unsupported file format"},
		"damaged-rootpage":   {Damaged, "", "invalid rootpage"},
		"damaged-orphan":     {Damaged, "", "index fi is of table f"},
		"damaged-schema":     {Damaged, "", "no text"},
	} {
		path := filepath.Join(folder, name)
		for _, level := range []string{"quick", "structure", "full"} {
			report, err := Examine(t.Context(), path, level)
			result := want.result
			if level == "quick" && want.quick != "" {
				result = want.quick
			}
			said := strings.Join(append(report.Damage, report.Unchecked...), "\n")
			if err != nil || report.Result() != result || result != Sound && !strings.Contains(said, want.say) {
				t.Errorf("%s, %s: %s, want %s %q: %q %v", name, level, report.Result(), result, want.say, said, err)
			}
		}
		facts, err := Look(t.Context(), path)
		quick := want.result
		if want.quick != "" {
			quick = want.quick
		}
		if err != nil || (facts.Integrity == "ok") != (quick == Sound) || facts.Pages == 0 || (want.result == Damaged) != facts.Damaged {
			t.Errorf("%s: facts %+v %v", name, facts, err)
		}
		if want.result == Damaged {
			continue
		}
		if _, _, err := Hazards(t.Context(), path); err != nil {
			t.Errorf("%s: hazards: %v", name, err)
		}
		if _, err := Dialects(t.Context(), path); err != nil {
			t.Errorf("%s: dialects: %v", name, err)
		}
		if _, _, err := take(t, path, Options{}); (err != nil) != (name == "future-format") {
			t.Errorf("%s: snapshot: %v", name, err)
		}
		if got := surroundings(t, path); len(got) != 22 && len(got) != 21 {
			t.Errorf("%s: left beside it: %q", name, got)
		}
	}
}

// Damage is found beside what cannot be checked, and within it: the checkable
// table's root, and that of each table and index that needs the application.
func TestDamageBesideTheUncheckable(t *testing.T) {
	t.Parallel()
	folder := uncheckable(t)
	for _, name := range []string{"collation-key", "collation-index", "collation-column", "function-index", "function-generated", "function-partial", "module", "tokenizer", "future-option", "future-syntax"} {
		path := filepath.Join(folder, name)
		sound, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		roots := strings.Fields(shell(t, path, "PRAGMA writable_schema=ON; SELECT rootpage FROM sqlite_schema WHERE rootpage > 0 AND (name = 'plain' OR tbl_name = 'f');"))
		if len(roots) == 0 {
			t.Fatalf("%s has no tables", name)
		}
		for _, root := range roots {
			page, err := strconv.Atoi(root)
			if err != nil {
				t.Fatal(err)
			}
			for how, change := range map[string]func([]byte){
				"zeros":          func(b []byte) { clear(b) },
				"a wild pointer": func(b []byte) { binary.BigEndian.PutUint16(b[12:], 3) },
			} {
				data := append([]byte{}, sound...)
				change(data[(page-1)*4096 : page*4096])
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				report, err := Examine(t.Context(), path, "structure")
				if err != nil || report.Result() != Damaged {
					t.Errorf("%s, page %d, %s: %+v %v", name, page, how, report, err)
				}
			}
		}
	}
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	got := constraints("CREATE TABLE \"check (\" (a CHECK(a <> ')' AND (b)) , -- CHECK (no)\n b /* CHECK (no) */ DEFAULT ('x'), CHECK\n([c)] > 1), checked (x))")
	if want := []string{"(a <> ')' AND (b))", "([c)] > 1)"}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%q", got)
	}
}
