package daemon

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Metrics are what Prometheus is told.
type Metrics struct {
	Panics  int64 // that were caught in this process
	Version string
	Status  Status
	Sent    map[string]SendCounts
	Spool   map[string]int64 // bytes that wait to be shipped, by database
	WAL     map[string]int64 // bytes of -wal files, by database
}

// StatusOf is what can be said from the state file alone, when no daemon
// answers.
func StatusOf(records map[string]*Record, now time.Time) Status {
	s := Status{At: now}
	for _, name := range slices.Sorted(maps.Keys(records)) {
		s.Jobs = append(s.Jobs, JobStatus{Name: name, Running: records[name].Last != nil && records[name].Last.Verdict == Running, Record: *records[name]})
	}
	return s
}

// Write writes the text format of Prometheus, for a listener or a file of
// node_exporter. Labels are name, kind and database of a job; `job` would
// collide with Prometheus's own.
func (m Metrics) Write(w io.Writer) error {
	p := &exposition{w: bufio.NewWriter(w)}
	p.family("emsafe_build_info", "gauge", "The version of emsafe; always 1.")
	p.sample(1, "version", m.Version)
	m.jobs(p)
	m.targets(p)
	p.family("emsafe_clock_in_doubt", "gauge", "1 while the clock is not believed and only backups are started on schedule.")
	p.sample(flag(m.Status.Clock != ""))
	p.family("emsafe_panics_total", "counter", "Bugs that were caught in this process. What they ended was begun again.")
	p.sample(float64(m.Panics))
	if !m.Status.Reloaded.IsZero() { // unknown without a daemon
		p.family("emsafe_config_last_reload_successful", "gauge", "1 if the newest configuration is in force, 0 if it was refused.")
		p.sample(flag(m.Status.Refused == ""))
		p.family("emsafe_config_last_reload_success_timestamp_seconds", "gauge", "When the configuration in force was taken.")
		p.sample(seconds(m.Status.Reloaded))
	}
	if len(m.Sent) > 0 {
		p.family("emsafe_notifications_total", "counter", "Messages by what became of them.")
		for _, channel := range slices.Sorted(maps.Keys(m.Sent)) {
			c := m.Sent[channel]
			p.sample(float64(c.OK), "channel", channel, "result", "sent")
			p.sample(float64(c.Failed), "channel", channel, "result", "failed")
			p.sample(float64(c.Dropped), "channel", channel, "result", "dropped")
		}
	}
	for _, f := range []struct {
		name, help string
		bytes      map[string]int64
	}{
		{"emsafe_spool_bytes", "Sealed bytes that wait to be shipped.", m.Spool},
		{"emsafe_wal_bytes", "Size of the database's write-ahead log.", m.WAL},
	} {
		if len(f.bytes) > 0 {
			p.family(f.name, "gauge", f.help)
			for _, database := range slices.Sorted(maps.Keys(f.bytes)) {
				p.sample(float64(f.bytes[database]), "database", database)
			}
		}
	}
	return p.w.Flush()
}

// jobs writes one family after the other, as the format wants.
func (m Metrics) jobs(p *exposition) {
	for _, f := range []struct {
		name, kind, help string
		value            func(JobStatus) (float64, bool)
	}{
		{"emsafe_last_success_timestamp_seconds", "gauge", "When the newest run that went well began.", func(j JobStatus) (float64, bool) {
			return ofRun(j.Success, func(r Run) float64 { return seconds(r.Started) })
		}},
		{"emsafe_last_success_duration_seconds", "gauge", "How long that run took.", func(j JobStatus) (float64, bool) {
			return ofRun(j.Success, func(r Run) float64 { return r.Took().Seconds() })
		}},
		{"emsafe_last_run_timestamp_seconds", "gauge", "When the newest run began.", func(j JobStatus) (float64, bool) {
			return ofRun(j.Last, func(r Run) float64 { return seconds(r.Started) })
		}},
		{"emsafe_last_run_successful", "gauge", "1 if the newest run that ended went well.", func(j JobStatus) (float64, bool) {
			if j.Last != nil && j.Last.Verdict == Running {
				return flag(j.Failures == 0 && j.Success != nil), j.Counts.OK+j.Counts.Failed > 0
			}
			return ofRun(j.Last, func(r Run) float64 { return flag(r.Verdict == OK) })
		}},
		{"emsafe_running", "gauge", "1 while it runs.", func(j JobStatus) (float64, bool) { return flag(j.Running), true }},
		{"emsafe_consecutive_failures", "gauge", "Runs that failed since the last that went well.", func(j JobStatus) (float64, bool) { return float64(j.Failures), true }},
		{"emsafe_next_run_timestamp_seconds", "gauge", "When it is due next; in the past while it waits.", func(j JobStatus) (float64, bool) { return seconds(j.Next), !j.Next.IsZero() }},
		{"emsafe_objective_seconds", "gauge", "The most time that may pass between successes.", func(j JobStatus) (float64, bool) { return j.Objective.Seconds(), j.Objective > 0 }},
		{"emsafe_missed_slots_total", "counter", "Scheduled times that passed and were never run.", func(j JobStatus) (float64, bool) { return float64(j.Counts.Missed), true }},
	} {
		p.family(f.name, f.kind, f.help)
		for _, j := range m.Status.Jobs {
			if v, ok := f.value(j); ok {
				p.sample(v, j.labels()...)
			}
		}
	}
	p.family("emsafe_runs_total", "counter", "Runs by how they ended.")
	for _, j := range m.Status.Jobs {
		p.sample(float64(j.Counts.OK), append(j.labels(), "result", "ok")...)
		p.sample(float64(j.Counts.Failed), append(j.labels(), "result", "failed")...)
		p.sample(float64(j.Counts.Interrupted), append(j.labels(), "result", "interrupted")...)
	}
}

func (m Metrics) targets(p *exposition) {
	each := func(value func(Outcome) float64) {
		for _, j := range m.Status.Jobs {
			if j.Kind != Backup && j.Kind != Files {
				continue // it makes nothing that could be restored
			}
			for _, target := range slices.Sorted(maps.Keys(j.Targets)) {
				p.sample(value(j.Targets[target]), append(j.labels(), "target", target)...)
			}
		}
	}
	p.family("emsafe_target_recovery_point_timestamp_seconds", "gauge", "The newest instant that is safe at the target; 0: none is.")
	each(func(o Outcome) float64 { return seconds(o.Point) })
	p.family("emsafe_target_last_size_bytes", "gauge", "What the newest backup took there.")
	each(func(o Outcome) float64 { return float64(o.Bytes) })
}

func (j JobStatus) labels() []string {
	return []string{"name", j.Name, "kind", j.Kind.String(), "database", j.Key}
}

func ofRun(r *Run, value func(Run) float64) (float64, bool) {
	if r == nil {
		return 0, false
	}
	return value(*r), true
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// exposition writes the text format. A family without samples is left out.
type exposition struct {
	w          *bufio.Writer
	name, head string
}

func (p *exposition) family(name, kind, help string) {
	p.name, p.head = name, fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

var escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (p *exposition) sample(value float64, labels ...string) {
	p.w.WriteString(p.head) //nolint:errcheck // Flush reports it
	p.head = ""
	p.w.WriteString(p.name) //nolint:errcheck // Flush reports it
	for i := 0; i < len(labels); i += 2 {
		open := ","
		if i == 0 {
			open = "{"
		}
		fmt.Fprintf(p.w, `%s%s="%s"`, open, labels[i], escapeLabel.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		p.w.WriteByte('}') //nolint:errcheck // Flush reports it
	}
	p.w.WriteString(" " + strconv.FormatFloat(value, 'f', -1, 64) + "\n") //nolint:errcheck // Flush reports it
}
