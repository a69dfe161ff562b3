package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"emsafe/internal/daemon"
	"emsafe/internal/daemon/page"
	"emsafe/internal/report"
)

// pageFilesets are the filesets as the page shows them.
func (s *site) pageFilesets(o overview) []page.Fileset {
	var list []page.Fileset
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Filesets)) {
		c := s.cfg.Filesets[name]
		f := page.Fileset{Name: name, Paths: c.Paths, Databases: c.Databases, Schedule: c.Schedule, RPO: c.RPO.Seconds()}
		var failed map[string]string
		failed, f.Notes, f.Next = failures(o, name, daemon.Files)
		var newest string
		var at time.Time
		for _, st := range o.Filesets {
			if st.Fileset != name {
				continue
			}
			t := page.FilesetTarget{Name: st.Target, Location: s.cfg.Targets[st.Target].URL, Error: failed[st.Target]}
			if p := st.Newest; p != nil {
				t.Point, t.At, t.Files, t.Bytes = p.ID, p.At, int(p.Count), p.Bytes
				if p.At.After(at) {
					newest, at = p.ID, p.At
				}
			}
			f.Targets = append(f.Targets, t)
		}
		if newest != "" {
			f.Restore = []page.Command{{What: "On this host, the files and their databases, into a folder of their own:", Line: fmt.Sprintf("emsafe restore --point %s --to /tmp/%s --identity recovery.key", newest, name)}}
		}
		list = append(list, f)
	}
	return list
}

// failures are what the last runs about a database or fileset say went wrong: by
// target where the run of that kind tells, and in words where not. next is when
// that kind is due.
func failures(o overview, key string, kind daemon.Kind) (targets map[string]string, notes []page.Note, next time.Time) {
	targets = map[string]string{}
	for _, j := range o.Scheduler.Jobs {
		if j.Key != key {
			continue
		}
		if j.Kind == kind {
			next = j.Next
		}
		r := j.Last
		if r == nil || r.Verdict != daemon.Failed {
			continue
		}
		told := false
		for _, t := range r.Targets {
			if t.Error != "" && j.Kind == kind {
				targets[t.Target], told = short(t.Error), true
			}
		}
		if !told {
			notes = append(notes, page.Note{State: report.Failed, Words: j.Name + " failed: " + short(r.Error)})
		}
	}
	return targets, notes, next
}
