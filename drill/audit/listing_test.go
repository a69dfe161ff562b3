package audit

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"emsafe/internal/finding"
)

// TestListings: folders that real servers list are seen.
func TestListings(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, name := range []string{"uploads/a.jpg", "old/index.html"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil { //nolint:gosec // the server may be another user
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte("x"), 0o644); err != nil { //nolint:gosec // it is served
			t.Fatal(err)
		}
	}
	seen := func(t *testing.T, address string) {
		t.Helper()
		r := Look(t.Context(), Options{URL: &url.URL{Scheme: "http", Host: address}})
		if got, _, _ := outcome(r.Checks, "EMS-EXP-005"); got != finding.Fail {
			t.Error(got, say(r))
		}
	}
	for name, argv := range map[string]func(dir string, port int) []string{
		"python3": func(_ string, port int) []string {
			return []string{"-m", "http.server", fmt.Sprint(port), "--bind", "127.0.0.1", "-d", root}
		},
		"caddy": func(_ string, port int) []string {
			return []string{"file-server", "--browse", "--listen", fmt.Sprint("127.0.0.1:", port), "--root", root}
		},
		"nginx": func(dir string, port int) []string {
			file := filepath.Join(dir, "nginx.conf")
			text := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; events {} http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; server { listen 127.0.0.1:%[2]d; root %[3]s; autoindex on; } }", dir, port, root)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"-e", "stderr", "-c", file}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := program(t, name)
			s := &service{t: t, dir: t.TempDir(), port: fmt.Sprint(free(t))}
			var port int
			fmt.Sscan(s.port, &port) //nolint:errcheck // it is a number
			cmd := exec.Command(path, argv(s.dir, port)...)
			cmd.Env = append(os.Environ(), "HOME="+s.dir)
			s.start(cmd)
			seen(t, "127.0.0.1:"+s.port)
		})
	}
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		s := httptest.NewServer(http.FileServer(http.Dir(root)))
		t.Cleanup(s.Close)
		seen(t, s.Listener.Addr().String())
	})
}
