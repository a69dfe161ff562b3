package main

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed writer.py
var writerScript string

// commitRate is how many commits a second the writing application makes.
const commitRate = 200

// writer is an application that writes steadily, and its acknowledgements.
type writer struct {
	cmd  *exec.Cmd
	file string
	done chan struct{}
}

// commit is one acknowledgement.
type commit struct {
	n     int64
	begun time.Time
	took  time.Duration
	busy  bool
}

func (c commit) acknowledged() time.Time { return c.begun.Add(c.took) }

// startWriter returns when the first commit is acknowledged.
func (l *lab) startWriter(ctx context.Context, mode string) (*writer, error) {
	w := &writer{file: filepath.Join(l.dir, "commits"), done: make(chan struct{})}
	out, err := os.Create(w.file)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	w.cmd = exec.CommandContext(ctx, "python3", "-c", writerScript, l.db, fmt.Sprint(commitRate), mode)
	w.cmd.Stdout, w.cmd.Stderr = out, os.Stderr
	if _, err := w.cmd.StdinPipe(); err != nil { // it ends when this does
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		w.cmd.Wait() //nolint:errcheck // it is killed; what it acknowledged counts
		close(w.done)
	}()
	for {
		if st, err := os.Stat(w.file); err == nil && st.Size() > 0 {
			return w, nil
		}
		select {
		case <-w.done:
			return nil, fmt.Errorf("the writing application ended at once")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill ends the application as a power cut would.
func (w *writer) kill() {
	w.cmd.Process.Kill() //nolint:errcheck // it has ended
	<-w.done
}

// commits are the acknowledgements so far. An application that ended by itself
// is an error.
func (w *writer) commits() ([]commit, error) {
	f, err := os.Open(w.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []commit
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n int64
		var begun, took float64
		var outcome string
		if _, err := fmt.Sscan(lines.Text(), &n, &begun, &took, &outcome); err != nil {
			break // the last one, cut off
		}
		all = append(all, commit{n, time.UnixMicro(int64(begun * 1e6)), time.Duration(took * 1e9), outcome == "busy"})
	}
	return all, nil
}

// alive fails when the application has ended by itself.
func (w *writer) alive() error {
	select {
	case <-w.done:
		return fmt.Errorf("the writing application ended: %s", w.cmd.ProcessState)
	default:
		return nil
	}
}
