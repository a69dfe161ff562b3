package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Systemd tells the service manager how things are, by the protocol of
// sd_notify. The zero value, and nil, tell nobody.
type Systemd struct {
	socket   string
	watchdog time.Duration
}

// SystemdFromEnv is the service manager that started this process, if one did.
// It takes the variables out of the environment: they are not for children.
func SystemdFromEnv() *Systemd {
	s := &Systemd{socket: os.Getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(usec) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name) //nolint:errcheck // it fails for names that are not valid
	}
	return s
}

// WatchdogInterval is how often Alive must be called, with room for a late one;
// 0: nobody watches.
func (s *Systemd) WatchdogInterval() time.Duration {
	if s == nil {
		return 0
	}
	return s.watchdog / 3
}

// Ready says that the service has started, or is done with reloading.
func (s *Systemd) Ready(status string) error { return s.send("READY=1", line("STATUS", status)) }

// Reloading says that it reads its configuration again; Ready ends it.
func (s *Systemd) Reloading() error {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return err
	}
	return s.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", t.Nano()/1000))
}

// Stopping says that it ends, and asks for that much time from now.
func (s *Systemd) Stopping(status string, extend time.Duration) error {
	return s.send("STOPPING=1", line("STATUS", status), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extend.Microseconds()))
}

// Extend asks for that much time from now, to start, reload or stop.
func (s *Systemd) Extend(d time.Duration) error {
	return s.send(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Alive feeds the watchdog. Give it to Options.Alive: then it is fed by what
// must not stand still, and by nothing else.
func (s *Systemd) Alive() error {
	if s == nil || s.watchdog == 0 {
		return nil
	}
	return s.send("WATCHDOG=1")
}

// Status is one line for `systemctl status`.
func (s *Systemd) Status(text string) error { return s.send(line("STATUS", text)) }

// line keeps a text from adding lines of its own.
func line(name, text string) string {
	return name + "=" + strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}

func (s *Systemd) send(lines ...string) error {
	if s == nil || s.socket == "" {
		return nil
	}
	if s.socket[0] != '/' && s.socket[0] != '@' {
		return fmt.Errorf("NOTIFY_SOCKET %q: neither a path nor an abstract socket", s.socket)
	}
	// Package net turns a leading @ into the zero byte of an abstract socket.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	_, err = conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
	if err = errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
