package audit

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// jobs looks for cron entries and timers whose program has gone.
func (a *audit) jobs() {
	var gone []string
	seen := 0
	look := func(where, command string) {
		for _, path := range programs(command) {
			seen++
			if _, err := os.Stat(a.at(path)); os.IsNotExist(err) {
				gone = append(gone, where+": "+path)
			}
		}
	}
	for _, system := range []bool{true, false} {
		pattern := []string{"/etc/cron.d/*", "/etc/crontab"}
		if !system {
			pattern = []string{"/var/spool/cron/crontabs/*", "/var/spool/cron/*"}
		}
		for _, p := range pattern {
			for _, file := range a.glob(p) {
				text, err := os.ReadFile(file)
				if err != nil {
					continue
				}
				for line := range strings.Lines(string(text)) {
					if command := cronCommand(line, system); command != "" {
						look(a.onHost(file), command)
					}
				}
			}
		}
	}
	for _, file := range a.glob("/etc/systemd/system/*.timer") {
		settings := unitFile(file)
		unit := settings["Unit"]
		if unit == "" {
			unit = strings.TrimSuffix(filepath.Base(file), ".timer") + ".service"
		}
		seen++
		found := ""
		for _, dir := range unitFolders {
			if a.readable(filepath.Join(dir, unit)) {
				found = a.at(filepath.Join(dir, unit))
				break
			}
		}
		if found == "" && !strings.Contains(unit, "@") {
			gone = append(gone, a.onHost(file)+": there is no unit "+unit)
			continue
		}
		look(a.onHost(found), strings.TrimLeft(unitFile(found)["ExecStart"], "@-:+!"))
	}
	if seen == 0 {
		a.skip("EMS-CRON-001", "no entry of cron and no timer of this host's own was found")
		return
	}
	a.verdict("EMS-CRON-001", "they do", "a job names what is not there", gone)
}

// unitFile are a unit's settings, the last of each.
func unitFile(file string) map[string]string {
	out := map[string]string{}
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			out[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return out
}

var setting = regexp.MustCompile(`^\w+\s*=`)

// cronCommand is what a line of a crontab runs; the system's name a user first.
func cronCommand(line string, system bool) string {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' || setting.MatchString(line) {
		return ""
	}
	skip := 5
	if line[0] == '@' {
		skip = 1
	}
	if system {
		skip++
	}
	for range skip {
		i := strings.IndexAny(line, " \t")
		if i < 0 {
			return ""
		}
		line = strings.TrimLeft(line[i:], " \t")
	}
	return line
}

var (
	pieces      = regexp.MustCompile(`&&|\|\||[;|]`)
	interpreter = regexp.MustCompile(`^(/usr(/local)?)?(/bin/)?(sh|bash|dash|python[0-9.]*|perl|ruby|node|php|nice|ionice|timeout|env|sudo|chronic)$`)
)

// programs are the absolute paths that a command runs. What asks first whether
// it is there knows what it does.
func programs(command string) (paths []string) {
	if regexp.MustCompile(`(^|[\s;&|(])(test|\[|if|command)\s`).MatchString(command) {
		return nil
	}
	for _, piece := range pieces.Split(command, -1) {
		words := strings.Fields(piece)
		for len(words) > 0 && (setting.MatchString(words[0]) || interpreter.MatchString(words[0]) || strings.HasPrefix(words[0], "-")) {
			if interpreter.MatchString(words[0]) && words[0][0] == '/' {
				paths = append(paths, words[0])
			}
			words = words[1:]
		}
		if len(words) > 0 && strings.HasPrefix(words[0], "/") && !strings.ContainsAny(words[0], "$*`'\"(") {
			paths = append(paths, words[0])
		}
	}
	return paths
}
