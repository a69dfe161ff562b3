// Package daemon runs jobs on schedule, for weeks, unattended, and tells
// somebody when they do not run.
//
// Start with [Lock] and [OpenState] on the state directory, [New], and
// [Scheduler.Reload] with the jobs; [Scheduler.Stop] at the end. What a job
// does is none of this package's business.
//
// The truth is the state file, not a timer. It is written when a run starts and
// when it ends. On every tick, and whenever a timer fires, the slots of all
// jobs are held against it; a job whose newest slot is later than the last one
// that was run is due. So a timer that fires late, twice or never, a process
// that was down, a machine that slept and a clock that was set all come to the
// same: what was missed runs once.
package daemon
