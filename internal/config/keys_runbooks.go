package config

// runbookKeys are about procedures.
var runbookKeys = []key{
	{path: "runbooks", kind: kindGroup, computed: "as below", what: "Procedures for bad days: `emsafe runbook`.",
		why: "A playbook that nobody tries rots."},
	{path: "runbooks.folder", kind: kindPath, form: notRoot, computed: "none: the built-in ones", example: "/etc/emsafe/runbooks",
		what:  "A folder with runbooks of your own, one Markdown file each. One with the id of a built-in one takes its place, or adds to it with `extends`.",
		why:   "Only you know how your application is stopped, and whom to call. Nobody but you may write there: what lies in it is run.",
		field: func(a at) any { return &a.config.Runbooks.Folder }},
	{path: "runbooks.selftest", kind: kindText, form: scheduleOK, computed: "`20 6 * * 2`, weekly", example: `"20 6 * * 2"`,
		what:  "When `emsafe daemon` looks whether every command of every runbook still exists, and whether what must be true before them answers.",
		why:   "A procedure that names a program which an update removed is found on a quiet Tuesday, and not on the worst day.",
		field: func(a at) any { return &a.config.Runbooks.Selftest }},
}
