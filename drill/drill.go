// Package drill proves backups by restoring them: for real, in isolation, by
// the same code as a restore in earnest, and with a signed [Report] of what was
// found.
package drill
