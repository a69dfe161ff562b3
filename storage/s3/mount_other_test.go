//go:build !linux

package s3

import "testing"

func tmpfs(t *testing.T, _ string) string { t.Skip("no tmpfs here"); return "" }
