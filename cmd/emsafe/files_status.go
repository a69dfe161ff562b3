package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"emsafe/backup"
	"emsafe/internal/fault"
)

// filesetStatus is how old what a target holds of a fileset is.
type filesetStatus struct {
	Fileset string            `json:"fileset"`
	Target  string            `json:"target"`
	RPO     float64           `json:"rpo_seconds,omitempty"`
	Newest  *backup.LastPoint `json:"newest,omitempty"`
	Stale   bool              `json:"stale"`
}

func (s *site) filesetStatus(now time.Time) (list []filesetStatus) {
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Filesets)) {
		rpo := s.cfg.Filesets[name].RPO
		last := backup.LastPoints(s.cfg.State, name)
		for _, t := range s.filesTargets(name) {
			st := filesetStatus{Fileset: name, Target: t.Name, RPO: rpo.Seconds(), Stale: rpo > 0}
			if p, ok := last[t.Name]; ok {
				st.Newest, st.Stale = &p, rpo > 0 && now.Sub(p.At) > rpo
			}
			list = append(list, st)
		}
	}
	return list
}

// showFilesets shows the newest recovery points, and returns what is stale.
func (p *program) showFilesets(o overview) (stale []error) {
	if len(o.Filesets) == 0 {
		return nil
	}
	rows := [][]string{{"FILESET", "TARGET", "NEWEST POINT", "AGE", "FILES", "OBJECTIVE", "STATE"}}
	for _, f := range o.Filesets {
		newest, old, count, objective, state := "none", "-", "", "none", "ok"
		if f.Newest != nil {
			newest, old, count = f.Newest.ID, age(o.At.Sub(f.Newest.At)), fmt.Sprintf("%d, %s", f.Newest.Count, size(f.Newest.Bytes))
		} else {
			state = "never"
		}
		if f.RPO > 0 {
			objective = age(time.Duration(f.RPO * float64(time.Second)))
		}
		if f.Stale {
			state = "STALE"
			stale = append(stale, fault.New(fault.Stale, "the newest recovery point of %s in %s is %s old, and the objective is %s", f.Fileset, f.Target, old, objective).
				WithRemedy("`emsafe files backup %s` makes one now; `emsafe status` shows what the last run said.", f.Fileset))
		}
		rows = append(rows, []string{f.Fileset, f.Target, newest, old, count, objective, state})
	}
	p.print.line("")
	p.print.table(rows)
	return stale
}
