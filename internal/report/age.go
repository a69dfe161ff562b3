package report

import "time"

// slack is how far in the future an instant may lie because clocks are
// corrected all the time.
const slack = time.Minute

// InFuture reports whether an age is that of something dated in the future: a
// clock is or was wrong, and how old it really is cannot be known.
func InFuture(age time.Duration) bool { return age < -slack }

// Misses reports whether what is so old misses an objective; 0 is none. What is
// dated in the future is never fresh.
func Misses(age, objective time.Duration) bool {
	return objective > 0 && (age > objective || InFuture(age))
}
