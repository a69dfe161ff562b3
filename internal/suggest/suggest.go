// Package suggest finds what a misspelled word was meant to be.
package suggest

import "strings"

// Nearest is the candidate that a misspelled word was meant to be, or "".
func Nearest(word string, candidates []string) string {
	word = Fold(word)
	best, least := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if d := Distance(word, Fold(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// Fold makes maxHold, max-hold and max_hold the same.
func Fold(s string) string {
	if len(s) > 64 {
		s = s[:64] // nobody meant that; and distance takes the square of it
	}
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// Distance counts insertions, deletions, replacements and swaps of neighbours.
func Distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(row[j-1]+1, last[j]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
