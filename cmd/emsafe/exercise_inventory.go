package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"emsafe/backup"
	"emsafe/drill"
	"emsafe/drill/tabletop"
	"emsafe/storage/catalog"
)

// inventory is what there really is, for people who are to decide about it.
func (s *site) inventory() tabletop.Inventory {
	now := s.p.now()
	inv := tabletop.Inventory{Host: s.cfg.Host, At: now.UTC().Truncate(time.Second), Databases: []tabletop.Database{}, Filesets: []tabletop.Fileset{}, Targets: []tabletop.Named{}, Keys: []string{}, Told: slices.Sorted(maps.Keys(s.cfg.Notify))}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
		inv.Databases = append(inv.Databases, s.inventoryOf(name))
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Filesets)) {
		f := s.cfg.Filesets[name]
		inv.Filesets = append(inv.Filesets, tabletop.Fileset{Name: name, Paths: f.Paths, Databases: f.Databases})
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Targets)) {
		t := s.cfg.Targets[name]
		text := t.URL
		if t.LockFor > 0 {
			text += ", locked for " + days(t.LockFor)
		} else {
			text += ", not locked"
		}
		inv.Targets = append(inv.Targets, tabletop.Named{Name: name, Text: text})
	}
	if to, err := s.recipients(); err == nil {
		for _, recipient := range to.Names() {
			inv.Keys = append(inv.Keys, s.custody(recipient))
		}
	}
	return inv
}

func (s *site) inventoryOf(name string) tabletop.Database {
	d := s.cfg.Databases[name]
	doc := tabletop.Database{Name: name, Path: d.Path, Service: strings.TrimSuffix(filepath.Base(d.Unit), ".service"), Backups: []string{}, Drill: "never held"}
	if d.Unit == "" {
		doc.Service = ""
	}
	if d.RPO > 0 {
		doc.RPO = days(d.RPO)
	}
	if d.RTO > 0 {
		doc.RTO = days(d.RTO)
	}
	memory, err := catalog.LoadMemory(backup.MemoryFile(s.cfg.State, name))
	for _, t := range s.targetsOf(name) {
		held := t.Name + ": nothing"
		if n := memory.Newest[t.Name]; err == nil && n.ID != "" {
			held = fmt.Sprintf("%s: number %d, %s old, %s", t.Name, n.Sequence, age(s.p.now().Sub(memory.AsOf(t.Name))), size(n.Bytes))
		}
		doc.Backups = append(doc.Backups, held)
	}
	if m, err := drill.Remember(s.cfg.State, name); err == nil && m.Last() != nil {
		last := m.Last()
		doc.Drill = fmt.Sprintf("%s, %s: %s", last.At.Format(time.DateOnly), last.Verdict, last.Finding)
	}
	return doc
}

// custody says of a recipient when its key was last proven.
func (s *site) custody(recipient string) string {
	if slices.Contains(s.drillRecipients(), recipient) {
		return "the drill key on this host opens what is sealed to " + recipient
	}
	var newest *drill.KeyProof
	for name := range s.cfg.Databases {
		if proof := drill.LastProof(s.cfg.State, name, s.drillRecipients()...); proof != nil && proof.Recipient == recipient && (newest == nil || proof.At.After(newest.At)) {
			newest = proof
		}
	}
	if newest == nil {
		return "the key of " + recipient + " was never proven on this host"
	}
	return fmt.Sprintf("the key of %s was proven on %s", recipient, newest.At.Format(time.DateOnly))
}

// days is a span as a configuration has it.
func days(d time.Duration) string {
	if d >= 24*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
}

// cast are the names that a scenario is filled in with.
func (s *site) cast(inv tabletop.Inventory, database string) map[string]string {
	v := map[string]string{"host": inv.Host, "database": "the database", "path": "its file", "service": "the service", "target": "the target"}
	for _, d := range inv.Databases {
		if database == "" || d.Name == database {
			v["database"], v["path"] = d.Name, d.Path
			if v["service"] = "the service of " + d.Name; d.Service != "" {
				v["service"] = d.Service
			}
			break
		}
	}
	if len(inv.Targets) > 0 {
		last := inv.Targets[len(inv.Targets)-1]
		v["target"] = fmt.Sprintf("%s (%s)", last.Name, last.Text)
	}
	return v
}

// exercisesHeld are those of this host, for the report of a quarter.
func (s *site) exercisesHeld() (events []drill.Event) {
	list, _ := s.exercises().List()
	for _, r := range list {
		if r.Stage != tabletop.Finished {
			continue
		}
		outcome := r.Outcome()
		for _, f := range r.Findings {
			if f.Open() {
				outcome += fmt.Sprintf("; open: %s (%s, until %s)", f.What, f.Owner, f.Due.Format(time.DateOnly))
			}
		}
		events = append(events, drill.Event{At: r.Started, What: r.Title, Outcome: outcome, By: strings.Join(slices.Sorted(maps.Values(r.Players)), ", ")})
	}
	return events
}
