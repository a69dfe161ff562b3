package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestSystemd(t *testing.T) { // not parallel: it is about the environment
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@emsafe-test-%d", os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		t.Setenv("WATCHDOG_USEC", "30000000")
		t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
		s := SystemdFromEnv()
		if os.Getenv("NOTIFY_SOCKET") != "" || s.WatchdogInterval() != 10*time.Second {
			t.Error(s.WatchdogInterval())
		}
		for _, c := range []struct {
			send error
			want string
		}{
			{s.Ready("2 jobs\nSTOPPING=1"), "^READY=1\nSTATUS=2 jobs STOPPING=1\n$"},
			{s.Reloading(), "^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+\n$"},
			{s.Alive(), "^WATCHDOG=1\n$"},
			{s.Status("next: app"), "^STATUS=next: app\n$"},
			{s.Extend(90 * time.Second), "^EXTEND_TIMEOUT_USEC=90000000\n$"},
			{s.Stopping("a backup ends", time.Minute), "^STOPPING=1\nSTATUS=a backup ends\nEXTEND_TIMEOUT_USEC=60000000\n$"},
		} {
			buf := make([]byte, 1000)
			n, err := conn.Read(buf)
			if c.send != nil || err != nil || !regexp.MustCompile(c.want).Match(buf[:n]) {
				t.Errorf("%s: %q %v %v", name, buf[:n], c.send, err)
			}
		}
		conn.Close()
		os.Remove(name)
		if err := s.Ready(""); err == nil {
			t.Error("nobody listens")
		}
	}
	if err := (&Systemd{socket: "vsock:2:1234"}).Ready(""); err == nil {
		t.Error("a kind of socket that is not spoken")
	}
	t.Setenv("WATCHDOG_USEC", "30000000")
	t.Setenv("WATCHDOG_PID", "1")
	if s := SystemdFromEnv(); s.WatchdogInterval() != 0 || s.Ready("") != nil {
		t.Error("not for this process")
	}
	var none *Systemd
	if none.Ready("") != nil || none.Alive() != nil || none.WatchdogInterval() != 0 {
		t.Error("no service manager")
	}
}
