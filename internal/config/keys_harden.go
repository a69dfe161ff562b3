package config

import (
	"regexp"
	"time"
)

// hardenKeys are what `harden` goes by. Those of a database stand here too, and
// in its group of a file.
var hardenKeys = []key{
	{path: "databases.*.group", kind: kindText, form: userOK, computed: "none: the files are the owner's alone", example: "app",
		what:  "The group that may share the database's files: `emsafe harden` then takes 0660 for right, and otherwise 0600.",
		why:   "Where the application and emsafe are different users, they share a group.",
		field: func(a at) any { return &a.database.Group }},
	{path: "databases.*.unit", kind: kindText, form: unitOK, computed: "none", example: "app.service",
		what:  "The systemd unit of the application: its name, or the path of its file.",
		why:   "`emsafe harden` then looks at its sandbox, and `emsafe harden unit` prints what is missing.",
		field: func(a at) any { return &a.database.Unit }},

	{path: "harden", kind: kindGroup, computed: "as below", what: "How what surrounds the databases is looked at: modes, logs, processes, disks.",
		why: "A backup that nobody can read is of little use beside a database that everybody can."},
	{path: "harden.schedule", kind: kindText, form: scheduleOK, computed: "none", example: `"0 6 * * *"`,
		what:  "When `emsafe daemon` looks. The run fails where something is open from `fail_on` on, and somebody is told.",
		why:   "Modes drift: a deploy, an editor, a restore by hand.",
		field: func(a at) any { return &a.config.Harden.Schedule }},
	{path: "harden.fail_on", kind: kindChoice, choices: []string{"info", "low", "medium", "high", "critical"}, def: "high", example: "medium",
		what:  "The severity from which `emsafe harden check` and the daemon's run fail.",
		why:   "Begin with what is worst, and go down.",
		field: func(a at) any { return &a.config.Harden.FailOn }},
	{path: "harden.enforce", kind: kindBoolean, def: "false", example: "true",
		what:  "Let the daemon mend modes, as `emsafe harden apply` does.",
		why:   "Only for those who do not change modes on purpose: what is mended may be what somebody needed.",
		field: func(a at) any { return &a.config.Harden.Enforce }},

	{path: "waivers", kind: kindNames, computed: "none",
		what: "Findings that are to be lived with, by names of your choice.",
		why:  "Each has a reason and a day. On that day it counts again, and is a finding itself: what was to be temporary is decided anew."},
	{path: "waivers.*", kind: kindGroup, what: "One waiver.", why: "It stands in version control, with the name of who wrote it."},
	{path: "waivers.*.finding", kind: kindText, required: true, form: findingOK, example: "EMS-DISK-003",
		what:  "The id of the finding.",
		why:   "Ids are stable.",
		field: func(a at) any { return &a.waiver.Finding }},
	{path: "waivers.*.subject", kind: kindText, computed: "all that the finding is about", example: `"/srv/app/*"`,
		what:  "What it is about: a path or a name as the finding has it, or a pattern as of a shell.",
		why:   "The narrower the better.",
		field: func(a at) any { return &a.waiver.Subject }},
	{path: "waivers.*.reason", kind: kindText, required: true, example: `"the provider encrypts the volume"`,
		what:  "Why.",
		why:   "Somebody will ask in a year.",
		field: func(a at) any { return &a.waiver.Reason }},
	{path: "waivers.*.owner", kind: kindText, computed: "nobody", example: "kim",
		what:  "Who answers for it. In a file for `emsafe audit --waivers` it is required.",
		why:   "A risk without an owner is nobody's.",
		field: func(a at) any { return &a.waiver.Owner }},
	{path: "waivers.*.until", kind: kindText, required: true, form: dayOK, example: `"2027-06-30"`,
		what:  "The day on which it ends, in quotes.",
		why:   "A year at most is usual.",
		field: func(a at) any { return &a.waiver.Until }},
}

var (
	unitForm    = regexp.MustCompile(`^(/[^\x00]+|[A-Za-z0-9:_.@\\-]+)\.service$`)
	findingForm = regexp.MustCompile(`^EMS(-[A-Z0-9]+)+$`)
)

func unitOK(s string) (why, hint string) {
	if !unitForm.MatchString(s) {
		return "is no unit: " + quoted(s), "as in app.service, or /etc/systemd/system/app.service"
	}
	return "", ""
}

func findingOK(s string) (why, hint string) {
	if !findingForm.MatchString(s) {
		return "is no finding: " + quoted(s), "as in EMS-FILE-001; `emsafe harden check` and `emsafe audit` show them"
	}
	return "", ""
}

func dayOK(s string) (why, hint string) {
	if _, err := time.Parse(time.DateOnly, s); err != nil {
		return "is no day: " + quoted(s), `write "2027-06-30"`
	}
	return "", ""
}
