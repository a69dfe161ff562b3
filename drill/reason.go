package drill

import (
	"context"
	"errors"

	"emsafe/internal/fault"
	"emsafe/storage"
	"emsafe/storage/catalog"
	"emsafe/storage/seal"
)

// The names of the reasons why a drill fails. They are stable.
const (
	ReasonDamaged      = "damaged"       // stored bytes are not what was signed
	ReasonMissingDelta = "missing-delta" // a backup that it builds on is gone
	ReasonMissing      = "missing-payload"
	ReasonBroken       = "broken-chain"
	ReasonForged       = "forged"
	ReasonRolledBack   = "rolled-back"
	ReasonWrongKey     = "wrong-key"
	ReasonNoBackup     = "no-backup" // there is nothing in the target
	ReasonUnsupported  = "unsupported-format"
	ReasonCorrupt      = "corrupt" // SQLite's own check
	ReasonLimit        = "time-limit"
	ReasonDropped      = "dropped-table"
	ReasonShrunken     = "shrunken-table"
	ReasonSwapped      = "swapped" // it is of another database
	ReasonStale        = "stale"
	ReasonSQL          = "sql"
	ReasonCommand      = "command"
	ReasonService      = "service"
	ReasonFiles        = "files" // the fileset's, of which some are missing or wrong

	// Of an inconclusive one.
	ReasonSurroundings = "surroundings"
	ReasonInterrupted  = "interrupted"

	// Of one that passed, but missed an objective.
	ReasonRPO = "rpo-missed"
	ReasonRTO = "rto-missed"
)

// errLimit is why the context of a drill ends.
var errLimit = errors.New("the drill took longer than its limit")

// judge gives an error of the restore its verdict and its reason by name. What
// lies in the target, and what opens it, fails the drill; what only stands in
// the way of looking is the surroundings' fault.
func judge(ctx context.Context, err error) (Verdict, string) {
	var path *catalog.BrokenPath
	var layer *seal.LayerError
	is := func(k *fault.Kind) bool { return errors.Is(err, k) }
	switch cause := context.Cause(ctx); {
	case cause != nil && errors.Is(cause, errLimit):
		return Fail, ReasonLimit
	case cause != nil:
		return Inconclusive, ReasonInterrupted
	case is(fault.WrongKey):
		return Fail, ReasonWrongKey
	case errors.As(err, &path):
		// Whatever is wrong with a manifest on the way, the way is cut there.
		return Fail, ReasonMissingDelta
	case errors.Is(err, storage.ErrNotExist) && errors.As(err, &layer):
		if layer.Layer > 0 {
			return Fail, ReasonMissingDelta
		}
		return Fail, ReasonMissing
	}
	for _, r := range []struct {
		kind *fault.Kind
		name string
	}{
		{fault.Forged, ReasonForged}, {fault.RolledBack, ReasonRolledBack}, {fault.BrokenChain, ReasonBroken}, {fault.Damaged, ReasonDamaged},
		{fault.Corrupt, ReasonCorrupt}, {fault.NotSQLite, ReasonCorrupt}, {fault.Unsupported, ReasonUnsupported}, {fault.NotFound, ReasonNoBackup},
	} {
		if is(r.kind) {
			return Fail, r.name
		}
	}
	return Inconclusive, ReasonSurroundings
}

// Reasons are the names of why the drill did not simply pass, each once.
func (r *Report) Reasons() []string {
	var list []string
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
	}
	for _, x := range r.Restores {
		add(x.Reason)
	}
	if r.Verdict == Missed {
		if !r.RPO.Met() {
			add(ReasonRPO)
		}
		if !r.RTO.Met() {
			add(ReasonRTO)
		}
	}
	return list
}

// worse is the verdict that counts of two.
func worse(a, b Verdict) Verdict {
	rank := map[Verdict]int{Pass: 1, Missed: 2, Inconclusive: 3, Fail: 4}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
