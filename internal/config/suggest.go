package config

import (
	"fmt"
	"slices"
	"strings"

	"emsafe/internal/suggest"
)

// other are words that people bring along from elsewhere.
var other = map[string]string{
	"bucket": "url: s3://BUCKET/PREFIX", "prefix": "url: s3://BUCKET/PREFIX", "type": "url: file:///… or s3://…",
	"dir": "url: file:///FOLDER", "folder": "url: file:///FOLDER", "destination": "url", "destinations": "targets", "repository": "targets",
	"file": "path", "db": "path", "database": "databases", "dbs": "databases", "encryption": "recipients", "age": "recipients",
	"public_key": "recipients", "public_keys": "recipients", "keys": "recipients", "ssl_ca": "ca_file", "cacert": "ca_file",
	"force_path_style": "path_style", "bandwidth": "upload_limit", "rate_limit": "upload_limit", "limit_upload": "upload_limit",
	"hostname": "host", "data_dir": "state", "state_dir": "state", "busy_timeout": "max_hold",
	"secret": "secret_access_key", "aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key",
}

// unknown is what to say of a key that does not belong under parent, and the
// key that was meant, if that can be told.
func unknown(name, parent string) (hint, meant string) {
	var siblings []string
	for _, k := range children(parent) {
		siblings = append(siblings, k.name())
	}
	near := suggest.Nearest(name, siblings)
	if near != "" && suggest.Distance(suggest.Fold(near), suggest.Fold(name)) <= 1 {
		return fmt.Sprintf("did you mean %q?", near), near
	}
	var places []string
	for i := range keys {
		if k := &keys[i]; k.name() == name && k.name() != "*" {
			places = append(places, under(k.parent()))
		}
	}
	if len(places) > 0 {
		return fmt.Sprintf("%q belongs %s", name, strings.Join(places, " or ")), ""
	}
	if near != "" {
		return fmt.Sprintf("did you mean %q?", near), near
	}
	if word, ok := other[strings.ToLower(name)]; ok && (slices.Contains(siblings, word) || strings.Contains(word, ":") && slices.Contains(siblings, "url")) {
		return fmt.Sprintf("say it with %q", word), strings.SplitN(word, ":", 2)[0]
	}
	if len(siblings) == 0 {
		return "", ""
	}
	return "known here: " + strings.Join(siblings, ", "), ""
}

// under names a mapping for people.
func under(parent string) string {
	if parent == "" {
		return "at the top level"
	}
	return "under " + strings.Replace(parent, "*", "NAME", 1)
}

// choiceMeant is the choice that a word was meant to be, or "".
func choiceMeant(word string, choices []string) string {
	brands := map[string]string{
		"cloudflare": "r2", "backblaze": "b2", "amazon": "aws", "s3": "aws",
		"kms": "aws:kms", "aes": "AES256", "fast": "default", "fastest": "default", "max": "best", "none": "default", "normal": "default",
	}
	if c, ok := brands[strings.ToLower(word)]; ok {
		for _, known := range choices {
			if known == c {
				return c
			}
		}
	}
	return suggest.Nearest(word, choices)
}
