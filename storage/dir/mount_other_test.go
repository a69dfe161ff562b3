//go:build !linux

package dir

import "testing"

func tmpfs(t *testing.T, _ string) string  { t.Skip("no tmpfs here"); return "" }
func unmountLazily(t *testing.T, _ string) { t.Helper() }
