package config

import (
	"fmt"
	"strings"
)

// Reference is docs/configuration.md: every key, what it does and why.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(`# Configuration

One YAML file, by default ` + "`/etc/emsafe/emsafe.yaml`" + ` for root and ` + "`$XDG_CONFIG_HOME/emsafe/emsafe.yaml`" + ` (or ` + "`~/.config/emsafe/emsafe.yaml`" + `) for everybody else. ` + "`emsafe init`" + ` writes it, ` + "`emsafe config check`" + ` tells whether it is right, ` + "`emsafe config show`" + ` shows what is in effect and where it comes from, and ` + "`emsafe config schema`" + ` prints a JSON Schema for editors. This page is made from the same table that reads the file.

` + "```yaml\n" + Example + "```" + `

- **Strict.** An unknown, misplaced or doubled key, a wrong type or a value out of range is an error, and all errors are shown at once. Nothing is passed over: a setting that is accepted is obeyed.
- **Variables.** In any value ` + "`${NAME}`" + ` is replaced by the environment variable, which must be set; ` + "`$$`" + ` is a dollar sign. There are no defaults or operators inside the braces.
- **Secrets** are not written in the file, but named: ` + "`{env: NAME}`, `{file: /path}`, `{credential: name}` (systemd's `LoadCredential=`) or `{command: [program, argument]}`" + `. They are looked up when the target is used, so that one that is missing stops one target and nothing else. A file that others can read is refused. A command runs without a shell; what it prints, without the line's end, is the secret.
- **Trust.** Who can change this file decides to whom backups are encrypted. So it must belong to the user that runs emsafe, or to root, and nobody else may write it.
- **YAML.** One document of at most 1 MiB; no anchors, aliases, merge keys or tags. Lengths of time are written as ` + "`250ms`, `10s`, `5m`, `2h`, `7d`, `1w`" + `; sizes as ` + "`64KiB`, `10MiB`, `1GiB`" + ` (powers of 1024) or ` + "`10MB`" + ` (powers of 1000).

`)
	for i := range keys {
		k := &keys[i]
		name := strings.ReplaceAll(k.path, ".*", ".NAME")
		switch {
		case k.kind == kindNames:
			fmt.Fprintf(&b, "## %s\n\n%s %s\n\n", name, k.what, k.why)
		case k.kind == kindGroup && k.computed != "":
			fmt.Fprintf(&b, "### %s\n\n%s %s\n\n- Default: %s\n\n", name, k.what, k.why, k.computed)
		case k.kind != kindGroup:
			level := "###"
			if k.parent() == "" {
				level = "##"
			}
			fmt.Fprintf(&b, "%s %s\n\n%s\n\n%s\n\n", level, name, k.what, k.why)
			for _, fact := range k.facts() {
				fmt.Fprintf(&b, "- %s\n", fact)
			}
			b.WriteString("\n")
		}
	}
	return []byte(strings.TrimRight(b.String(), "\n") + "\n")
}

// facts are the rest of what the table says of a key.
func (k *key) facts() []string {
	list := []string{"Type: " + k.typeName()}
	switch {
	case k.required:
		list = append(list, "Required")
	case k.def != "":
		list = append(list, "Default: `"+k.def+"`")
	default:
		list = append(list, "Default: "+k.computed)
	}
	if k.min != "" {
		bounds := "at least `" + k.min + "`"
		if k.max != "" {
			bounds = "`" + k.min + "` to `" + k.max + "`"
		}
		list = append(list, "Range: "+bounds)
	}
	if k.s3 {
		list = append(list, "For `s3://` targets only")
	}
	return append(list, "Example: `"+k.name()+": "+k.example+"`")
}

func (k *key) typeName() string {
	switch k.kind {
	case kindNumber:
		return "number"
	case kindPath:
		return "absolute path"
	case kindAddress, kindEndpoint:
		return "url"
	case kindChoice:
		return "one of `" + strings.Join(k.choices, "`, `") + "`"
	case kindBoolean:
		return "`true` or `false`"
	case kindDuration:
		return "length of time"
	case kindSize:
		return "size"
	case kindCount:
		return "number"
	case kindPercent:
		return "percentage"
	case kindTexts:
		return "list of text"
	case kindWords:
		return "list of words"
	case kindPaths:
		return "list of absolute paths"
	case kindTargets:
		return "list of target names"
	case kindSecret:
		return "source of a secret"
	case kindValue:
		return "text or number"
	}
	return "text"
}

// Example is a whole configuration, as the reference shows it.
const Example = `version: 1
recipients: [age1…, age1…]          # the recovery key, and a spare one
targets:
  local: {url: file:///srv/backups}
  offsite:
    url: s3://acme-backups/web1
    provider: b2
    region: eu-central-003
    access_key_id: 003a1b2c3d4e5f60000000001
    secret_access_key: {credential: s3-secret}
databases:
  app: {path: /srv/app/app.db}
  sessions:
    path: /srv/app/sessions.db
    targets: [local]
    max_hold: 100ms
`
