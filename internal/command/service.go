package command

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// Service is a program that runs until it is stopped. It ends with this
// process, however that ends, where the system can promise that (Linux).
type Service struct {
	Done <-chan struct{} // closed when it has ended

	cmd  *exec.Cmd
	name string
	mu   sync.Mutex
	out  last
	err  error
}

// Start starts a program and returns at once. Options.Timeout means nothing
// here.
func Start(argv []string, opts Options) (*Service, error) {
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("no command")
	}
	done := make(chan struct{})
	s := &Service{Done: done, name: argv[0], cmd: exec.Command(argv[0], argv[1:]...)}
	s.cmd.Dir, s.cmd.Env, s.cmd.SysProcAttr = opts.Dir, opts.environment(), opts.attributes()
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.WaitDelay = (*output)(s), (*output)(s), grace
	dieWithParent(s.cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		// The system watches the thread that started it, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = s.cmd.Wait()
		killGroup(s.cmd.Process.Pid) //nolint:errcheck // what it left behind, if anything
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("command %s: %w", argv[0], err)
	}
	return s, nil
}

// output is the end of what the service prints.
type output Service

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(p)
}

// Output is the end of what it printed, in one line.
func (s *Service) Output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.quote()
}

// Err says how it ended; nil if it still runs or ended well.
func (s *Service) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop asks the whole group to end, waits for at most patience, and then kills
// it. When it returns the program is gone.
func (s *Service) Stop(patience time.Duration) {
	endGroup(s.cmd.Process.Pid)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.Done:
	case <-timer.C:
		killGroup(s.cmd.Process.Pid) //nolint:errcheck // it is waited for
		<-s.Done
	}
}
