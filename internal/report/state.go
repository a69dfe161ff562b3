package report

// State is how something is, from nothing to the worst.
type State int

// The states. Idle is that nothing was due, Overdue that something was and did
// not happen; Unclear neither passed nor failed.
const (
	Idle State = iota
	OK
	Unclear
	Missed
	Overdue
	Failed
)

// States are all of them, for legends.
func States() []State { return []State{OK, Missed, Failed, Overdue, Unclear, Idle} }

// Worst is the worst of several.
func Worst(states ...State) State {
	worst := Idle
	for _, s := range states {
		worst = max(worst, s)
	}
	return worst
}

var names = [...]struct{ class, word, glyph string }{
	Idle:    {"idle", "nothing due", "·"},
	OK:      {"ok", "ok", "✓"},
	Unclear: {"unclear", "inconclusive", "?"},
	Missed:  {"missed", "objective missed", "▲"},
	Overdue: {"overdue", "overdue", "◷"},
	Failed:  {"failed", "failed", "✗"},
}

func (s State) known() State {
	if s < Idle || s > Failed {
		return Unclear
	}
	return s
}

// String is the state in a word or two.
func (s State) String() string { return names[s.known()].word }

// Glyph is the state as one character, for plain text.
func (s State) Glyph() string { return names[s.known()].glyph }

// Class is the state as a name in the stylesheet.
func (s State) Class() string { return "s-" + names[s.known()].class }

// MarshalText gives the state its name in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(names[s.known()].class), nil }

// UnmarshalText reads it; what a newer emsafe says is unclear.
func (s *State) UnmarshalText(text []byte) error {
	*s = Unclear
	for i, n := range names {
		if n.class == string(text) {
			*s = State(i)
		}
	}
	return nil
}

// Badge is a state with words of its own.
type Badge struct {
	State State
	Words string
}
