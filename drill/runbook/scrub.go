package runbook

import (
	"regexp"
	"strings"
)

// Scrubbed is what stands in the place of a secret.
const Scrubbed = "[scrubbed]"

// secrets are the forms of what must not stand in a record.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`AGE-SECRET-KEY-(PQ-)?1[A-Za-z0-9]+`),
	regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`),
	regexp.MustCompile(`\b(AKIA|ASIA)[A-Z0-9]{16}\b`),
	regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{30,}`),
	regexp.MustCompile(`\bxox[abprs]-[A-Za-z0-9-]{10,}`),
	regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*`), // a JSON web token
	regexp.MustCompile(`\$(2[aby]|argon2id?|6|y)\$[A-Za-z0-9./$=,+-]{20,}`),           // hashes of passwords
}

// named are secrets that stand behind their name.
var named = regexp.MustCompile(`(?i)("?\b[a-z0-9_.-]*(?:password|passwd|secret|secret_key|access_key|api[_-]?key|token|authorization|cookie)\b"?\s*[:=]\s*)("[^"\n]*"|'[^'\n]*'|(?:Bearer |Basic )?[^\s,;&"']+)`)

// inURL are passwords in addresses.
var inURL = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^/\s:@]*:)[^/\s@]+@`)

// Scrub takes secrets out of a text: those that are known, and what looks like
// one. It rather takes too much.
func Scrub(text string, known ...string) string {
	for _, k := range known {
		if len(k) >= 4 {
			text = strings.ReplaceAll(text, k, Scrubbed)
		}
	}
	for _, form := range secrets {
		text = form.ReplaceAllString(text, Scrubbed)
	}
	text = inURL.ReplaceAllString(text, "${1}"+Scrubbed+"@")
	return named.ReplaceAllString(text, "${1}"+Scrubbed)
}
