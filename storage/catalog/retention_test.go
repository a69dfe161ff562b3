package catalog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// every makes n full backups, the newest at noon, step apart.
func every(step time.Duration, n int) []Point {
	var list []Point
	for i := range n {
		list = append(list, Point{ID: fmt.Sprint(i), Sequence: uint64(i + 1), At: noon.Add(-time.Duration(n-1-i) * step), Full: true})
	}
	return list
}

func kept(list []Decision) string {
	var ids []string
	for _, d := range list {
		if d.Kept() {
			ids = append(ids, d.ID)
		}
	}
	return strings.Join(ids, " ")
}

func TestRetain(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	bad := every(day, 5)
	bad[4].Bad, bad[3].Bad = true, true
	drilled := every(day, 5)
	drilled[1].Drilled = true
	chain := every(day, 6)
	for i := range chain {
		if i > 0 && i < 5 {
			chain[i].Full, chain[i].Ancestors = false, []uint64{1}
		}
	}
	chain[4].Ancestors = []uint64{1, 3}
	late := every(time.Hour, 3)
	late[0].Sequence, late[1].Sequence = 3, 1 // a full one that was committed last
	late[2].Sequence = 2
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		points []Point
		keep   Keep
		zone   *time.Location
		want   string
	}{
		"no policy":              {every(day, 3), Keep{}, time.UTC, "0 1 2"},
		"nothing there":          {nil, Keep{Last: 3}, time.UTC, ""},
		"last":                   {every(day, 5), Keep{Last: 2}, time.UTC, "3 4"},
		"last, fewer":            {every(day, 2), Keep{Last: 9}, time.UTC, "0 1"},
		"daily of hours":         {every(time.Hour, 49), Keep{Daily: 2}, time.UTC, "35 48"},
		"hourly":                 {every(30*time.Minute, 6), Keep{Hourly: 2}, time.UTC, "4 5"},
		"a gap does not count":   {append(every(day, 2), Point{ID: "old", Sequence: 9, At: noon.Add(-90 * day)}), Keep{Daily: 3}, time.UTC, "old 0 1"},
		"weekly":                 {every(day, 15), Keep{Weekly: 2}, time.UTC, "13 14"},
		"ISO year":               {[]Point{{ID: "a", Sequence: 1, At: noon.AddDate(0, 1, 6)}, {ID: "b", Sequence: 2, At: noon.AddDate(0, 1, 9)}}, Keep{Weekly: 5}, time.UTC, "b"},
		"monthly and yearly":     {every(20*day, 30), Keep{Monthly: 2, Yearly: 2}, time.UTC, "12 27 29"},
		"within":                 {every(day, 9), Keep{Within: 2 * day}, time.UTC, "6 7 8"},
		"the zone makes the day": {[]Point{{ID: "a", Sequence: 1, At: noon.Add(10*time.Hour + 30*time.Minute)}, {ID: "b", Sequence: 2, At: noon.Add(11*time.Hour + 30*time.Minute)}}, Keep{Daily: 9}, berlin, "a b"},
		"in UTC it is one":       {[]Point{{ID: "a", Sequence: 1, At: noon.Add(10*time.Hour + 30*time.Minute)}, {ID: "b", Sequence: 2, At: noon.Add(11*time.Hour + 30*time.Minute)}}, Keep{Daily: 9}, time.UTC, "b"},
		"bad ones fill no slot":  {bad, Keep{Last: 1}, time.UTC, "2 4"},
		"the newest drilled":     {drilled, Keep{Last: 1}, time.UTC, "1 4"},
		"ancestors":              {chain, Keep{Daily: 2}, time.UTC, "0 2 4 5"},
		"the head":               {late, Keep{Last: 1}, time.UTC, "0 2"},
	} {
		if got := kept(Retain(c.points, c.keep, noon, c.zone)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What looks good and is not, what is not in the list, and times that lie.
func TestRetainDoubts(t *testing.T) {
	t.Parallel()
	spoiled := every(time.Hour, 4) // 2 and 3 are built on 1, which does not restore
	spoiled[1].Bad = true
	spoiled[2].Full, spoiled[2].Ancestors = false, []uint64{2}
	spoiled[3].Full, spoiled[3].Ancestors = false, []uint64{2, 3}
	short := every(time.Hour, 5) // 2 needs number 9, and 4 alone would be enough
	short[2].Full, short[2].Ancestors = false, []uint64{9}
	backwards := every(time.Hour, 3) // 0 needs 1, which is younger by the clock, and 1 needs nothing that is named for 0
	backwards[0] = Point{ID: "0", Sequence: 3, At: noon.Add(-2 * time.Hour), Ancestors: []uint64{2}}
	backwards[1] = Point{ID: "1", Sequence: 2, At: noon.Add(-time.Hour), Ancestors: []uint64{1}}
	backwards[2] = Point{ID: "2", Sequence: 1, At: noon.Add(-3 * time.Hour), Full: true}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	autumn := time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC) // 02:30 in Berlin, for the first time
	doubled := []Point{{ID: "summer", Sequence: 1, At: autumn}, {ID: "winter", Sequence: 2, At: autumn.Add(time.Hour)}}
	for name, c := range map[string]struct {
		points []Point
		keep   Keep
		zone   *time.Location
		want   string
	}{
		"built on a bad one":      {spoiled, Keep{Last: 1}, nil, "0 1 2 3"}, // 3 is the newest, with what it needs; 0 the newest good
		"built on an unknown one": {short, Keep{Last: 1}, nil, "2 4"},
		"committed after":         {backwards, Keep{Yearly: 1}, nil, "2 0 1"},
		"the doubled hour":        {doubled, Keep{Hourly: 2}, berlin, "summer winter"},
	} {
		if got := kept(Retain(c.points, c.keep, noon, c.zone)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for range 20 { // reasons are the same every time: the plan is shown, and then done
		if got := Retain(spoiled, Keep{Last: 1}, noon, nil)[3].Reasons[0]; got != "newest" {
			t.Fatal(got)
		}
	}
}

// Whatever the points and the policy: what is kept can be restored, the newest
// stay, pruning twice removes nothing more, and a larger policy keeps more.
func TestRetainProperties(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 500 {
		points := randomPoints(r)
		k := Keep{Last: r.IntN(3), Hourly: r.IntN(4), Daily: r.IntN(4), Weekly: r.IntN(3), Monthly: r.IntN(3), Yearly: r.IntN(2)}
		if r.IntN(3) == 0 {
			k.Within = time.Duration(r.IntN(100)) * time.Hour
		}
		list := Retain(points, k, noon, time.UTC)
		stays := map[uint64]bool{}
		var left []Point
		for _, d := range list {
			if d.Kept() {
				stays[d.Sequence] = true
				left = append(left, d.Point)
			}
		}
		for _, p := range left {
			for _, n := range p.Ancestors {
				if !stays[n] {
					t.Fatalf("%d is kept and %d, which it needs, is not: %+v", p.Sequence, n, k)
				}
			}
		}
		if later := append(slices.Clone(points), Point{ID: "later", Sequence: 1000, At: noon.AddDate(1, 0, 0), Full: true}); !Retain(later, k, noon.AddDate(1, 0, 0), nil)[len(points)].Kept() {
			t.Fatalf("a newer backup goes: %+v", k)
		}
		newest := slices.MaxFunc(points, func(a, b Point) int { return a.At.Compare(b.At) })
		if !stays[newest.Sequence] {
			t.Fatalf("the newest goes: %+v", k)
		}
		if again := Retain(left, k, noon, time.UTC); kept(again) != kept(list) {
			t.Fatalf("a second time: %q, then %q: %+v", kept(list), kept(again), k)
		}
		more := k
		more.Daily, more.Last, more.Within = k.Daily+1, k.Last+1, k.Within+time.Hour
		for _, d := range Retain(points, more, noon, time.UTC) {
			if !d.Kept() && stays[d.Sequence] && !k.IsZero() {
				t.Fatalf("%+v keeps %d and %+v does not", k, d.Sequence, more)
			}
		}
	}
}

func randomPoints(r *rand.Rand) []Point {
	var list []Point
	at, full := noon.Add(-time.Duration(r.IntN(5000))*time.Hour), uint64(0)
	for i := range 1 + r.IntN(60) {
		at = at.Add(time.Duration(1+r.IntN(40*60)) * time.Minute)
		p := Point{ID: fmt.Sprint(i), Sequence: uint64(i + 1), At: at, Bad: r.IntN(15) == 0, Drilled: r.IntN(9) == 0}
		if full == 0 || r.IntN(6) == 0 {
			full, p.Full = p.Sequence, true
		} else {
			p.Ancestors = []uint64{full}
			if last := list[len(list)-1]; !last.Full && r.IntN(2) == 0 {
				p.Ancestors = append(slices.Clone(last.Ancestors), last.Sequence)
			}
		}
		list = append(list, p)
	}
	return list
}

func BenchmarkRetain(b *testing.B) {
	points := every(time.Second, 100000)
	for b.Loop() {
		Retain(points, Keep{Last: 10, Hourly: 24, Daily: 7, Weekly: 5, Monthly: 12, Yearly: 3, Within: time.Hour}, noon, time.UTC)
	}
}
