package drill

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage/seal"
)

// Period is a quarter of a year, in UTC.
type Period struct{ Year, Quarter int }

var periodForm = regexp.MustCompile(`^(\d{4})-?[Qq]([1-4])$`)

// ParsePeriod reads 2026Q4.
func ParsePeriod(s string) (Period, error) {
	m := periodForm.FindStringSubmatch(s)
	if m == nil {
		return Period{}, fault.New(fault.Usage, "%q is not a quarter", s).WithRemedy("Write it as 2026Q4.")
	}
	year, _ := strconv.Atoi(m[1])
	return Period{year, int(m[2][0] - '0')}, nil
}

// PeriodOf is the quarter that a time is in.
func PeriodOf(t time.Time) Period {
	t = t.UTC()
	return Period{t.Year(), (int(t.Month())-1)/3 + 1}
}

func (p Period) String() string { return fmt.Sprintf("%dQ%d", p.Year, p.Quarter) }

// From is its first instant.
func (p Period) From() time.Time {
	return time.Date(p.Year, time.Month(p.Quarter*3-2), 1, 0, 0, 0, 0, time.UTC)
}

// To is the first instant after it.
func (p Period) To() time.Time { return p.From().AddDate(0, 3, 0) }

// Holds reports whether t is in it.
func (p Period) Holds(t time.Time) bool { return !t.Before(p.From()) && t.Before(p.To()) }

// Scope is what a quarterly report is about, besides the drills themselves.
type Scope struct {
	Host      string
	Databases []Covered
	Controls  []string // ids that the configuration names; none is invented
	KeyProofs []KeyProof
	Exercises []Event
	Restores  []Event // in earnest
}

// Covered is one database under protection.
type Covered struct {
	Name     string      `json:"name"`
	Schedule string      `json:"schedule,omitempty"` // of its drills, as configured
	Targets  []string    `json:"targets,omitempty"`
	Planned  []time.Time `json:"-"` // slots of the schedule; nil: not known
}

// Event is something that was done besides drills.
type Event struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	Outcome string    `json:"outcome,omitempty"`
	By      string    `json:"by,omitempty"`
}

// Quarterly is the report of a quarter.
type Quarterly struct {
	Format    int          `json:"format"`
	Period    string       `json:"period"`
	From      time.Time    `json:"from"`
	To        time.Time    `json:"to"` // the first instant after it
	Made      time.Time    `json:"made_at"`
	Over      bool         `json:"over"` // false: the quarter goes on
	Host      string       `json:"host,omitempty"`
	Finding   string       `json:"finding"`
	Worst     Verdict      `json:"worst"` // of what is still open at the end; "" if no drill was held
	Databases []InQuarter  `json:"databases"`
	Misses    []Miss       `json:"objectives_missed"`
	Failures  []Failure    `json:"failures"`
	NotTested []NotTested  `json:"not_tested"`
	KeyProofs []KeyProof   `json:"key_proofs"`
	Exercises []Event      `json:"exercises"`
	Restores  []Event      `json:"restores"`
	Controls  []string     `json:"controls,omitempty"`
	Reports   []InAppendix `json:"reports"`

	drills map[string][]Signed
}

// InQuarter is one database in it.
type InQuarter struct {
	Covered
	Months  []InMonth `json:"months"`
	NotHeld []Absent  `json:"not_held"`
	ToCome  int       `json:"to_come,omitempty"` // planned for the rest of the quarter
	RPO     Spread    `json:"rpo"`
	RTO     Spread    `json:"rto"`
	Chain   string    `json:"chain"` // how its reports hang together
}

// InMonth counts drills. Held are those that came to a verdict, by schedule, by
// hand or repeated; passed includes those that missed an objective.
type InMonth struct {
	Month        string `json:"month"` // 2026-10
	Planned      *int   `json:"planned"`
	Held         int    `json:"held"`
	Passed       int    `json:"passed"`
	Missed       int    `json:"objective_missed"`
	Failed       int    `json:"failed"`
	Inconclusive int    `json:"inconclusive"`
}

// Absent is a drill that was planned and not held.
type Absent struct {
	Slot time.Time `json:"slot"`
	Why  string    `json:"why"`
}

// Spread is what was measured over the quarter, in seconds.
type Spread struct {
	Objective float64 `json:"objective_seconds,omitempty"` // the last that was stated
	Count     int     `json:"count"`
	Min       float64 `json:"min_seconds"`
	Median    float64 `json:"median_seconds"`
	Max       float64 `json:"max_seconds"`
	Trend     float64 `json:"trend_percent"` // median of the last third against that of the first
}

// Miss is an objective that was missed.
type Miss struct {
	Database  string    `json:"database"`
	At        time.Time `json:"at"`
	ID        string    `json:"id"`
	Objective string    `json:"objective"` // RPO or RTO
	Stated    float64   `json:"stated_seconds"`
	Achieved  float64   `json:"achieved_seconds"`
	Why       string    `json:"why"`
}

// Failure is a drill that failed or could not be judged, to its closing.
type Failure struct {
	Database string    `json:"database"`
	At       time.Time `json:"at"`
	ID       string    `json:"id"`
	Verdict  Verdict   `json:"verdict"`
	Finding  string    `json:"finding"`
	Actions  []Action  `json:"actions,omitempty"`
	Closed   time.Time `json:"closed_at,omitzero"` // by the next drill that passed
	ClosedBy string    `json:"closed_by,omitempty"`
}

// NotTested is what drills did not prove, and how many said so.
type NotTested struct {
	What   string `json:"what"`
	Drills int    `json:"drills"`
}

// InAppendix is one report by its digest.
type InAppendix struct {
	Database string      `json:"database"`
	Number   uint64      `json:"number"`
	ID       string      `json:"id"`
	At       time.Time   `json:"at"`
	Verdict  Verdict     `json:"verdict"`
	Digest   seal.Digest `json:"digest,omitzero"`
	Signer   string      `json:"signer,omitempty"`
}

// Quarter makes the report of a quarter from all reports at hand, which may be
// of any time and in any order: a failure of its last week is closed by a
// drill after it. now says what is still to come.
func Quarter(p Period, s Scope, reports []Signed, now time.Time) Quarterly {
	q := Quarterly{
		Format: Format, Period: p.String(), From: p.From(), To: p.To(), Made: now.UTC(), Over: !now.Before(p.To()), Host: s.Host,
		KeyProofs: []KeyProof{}, Exercises: within(p, s.Exercises), Restores: within(p, s.Restores), Controls: s.Controls,
		Misses: []Miss{}, Failures: []Failure{}, NotTested: []NotTested{}, Reports: []InAppendix{}, drills: map[string][]Signed{},
	}
	of := map[string][]Signed{}
	for _, r := range reports {
		of[r.Report.Database] = append(of[r.Report.Database], r)
	}
	covered := slices.Clone(s.Databases)
	for name, list := range of {
		slices.SortFunc(list, func(a, b Signed) int { return a.Report.Started.Compare(b.Report.Started) })
		if !slices.ContainsFunc(covered, func(c Covered) bool { return c.Name == name }) && slices.ContainsFunc(list, func(r Signed) bool { return p.Holds(r.Report.Started) }) {
			covered = append(covered, Covered{Name: name})
		}
	}
	slices.SortFunc(covered, func(a, b Covered) int { return cmp.Compare(a.Name, b.Name) })
	proofs := slices.Clone(s.KeyProofs)
	for _, c := range covered {
		q.add(p, c, of[c.Name], now)
		for _, r := range q.drills[c.Name] {
			if k := r.Report.KeyProof; k != nil {
				proofs = append(proofs, *k)
			}
		}
	}
	slices.SortFunc(proofs, func(a, b KeyProof) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Recipient, b.Recipient)) })
	for _, k := range slices.Compact(proofs) {
		if p.Holds(k.At) {
			q.KeyProofs = append(q.KeyProofs, k)
		}
	}
	slices.SortStableFunc(q.Misses, func(a, b Miss) int { return a.At.Compare(b.At) })
	slices.SortStableFunc(q.Failures, func(a, b Failure) int { return a.At.Compare(b.At) })
	q.conclude()
	return q
}

func within(p Period, events []Event) []Event {
	list := []Event{}
	for _, e := range events {
		if p.Holds(e.At) {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b Event) int { return a.At.Compare(b.At) })
	return list
}
