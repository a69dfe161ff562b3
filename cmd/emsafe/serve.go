package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"emsafe/internal/config"
	"emsafe/internal/crash"
	"emsafe/internal/daemon"
	"emsafe/internal/daemon/page"
	"emsafe/storage"
)

// stopGrace is for what runs, at the end.
const stopGrace = time.Minute

// service is the daemon with the configuration that it has.
type service struct {
	p         *program
	c         *cli.Context
	log       *slog.Logger
	systemd   *daemon.Systemd
	scheduler *daemon.Scheduler
	began     time.Time

	loading sync.Mutex // one configuration at a time
	mu      sync.Mutex // over what follows
	site    *site
	teller  *daemon.Notifier

	stop    context.CancelFunc       // of continuous protection
	ended   map[string]chan struct{} // closed when a database's protection has ended
	running sync.WaitGroup
}

// serve is the daemon.
func (p *program) serve(c *cli.Context, s *site) error {
	unlock, err := daemon.Lock(s.cfg.State)
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // the process ends with it
	state, warning, err := daemon.OpenState(s.cfg.State)
	if err != nil {
		return err
	}
	d := &service{p: p, c: c, log: p.logger(), systemd: daemon.SystemdFromEnv(), began: p.now(), site: s}
	if warning != nil {
		d.log.Warn("state", "error", warning)
	}
	d.scheduler, err = daemon.New(daemon.Options{
		State: state, Host: s.cfg.Host, Heavy: int(s.cfg.Daemon.Heavy), Spread: spread, Log: d.log,
		Observe: d.observe, Alive: d.alive, Tick: min(5*time.Second, max(time.Second, d.systemd.WatchdogInterval())), Reference: d.reference(),
	})
	if err != nil {
		return err
	}
	if err := d.load(s); err != nil {
		return errors.Join(err, d.scheduler.Stop(c.Context, time.Second))
	}
	ctx, end := context.WithCancel(context.WithoutCancel(c.Context))
	defer end()
	go crash.Keep(ctx, nil, d.sweeps)
	if err := d.listen(ctx, s); err != nil {
		d.halt()
		return errors.Join(err, d.scheduler.Stop(c.Context, time.Second))
	}
	return d.run()
}

// run waits for signals.
func (d *service) run() error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	d.log.Info("started", "version", version(), "host", d.current().cfg.Host, "databases", len(d.current().cfg.Databases))
	d.said(d.systemd.Ready(d.summary()))
	for {
		select {
		case <-hangup:
			d.reload() //nolint:errcheck // it is logged and told
		case <-d.c.Context.Done():
			d.log.Info("stopping")
			d.said(d.systemd.Stopping("finishing what runs", 2*stopGrace))
			d.halt()
			ctx, cancel := context.WithTimeout(context.WithoutCancel(d.c.Context), stopGrace)
			defer cancel()
			err := d.scheduler.Stop(ctx, stopGrace/2)
			closing, cancel := context.WithTimeout(context.WithoutCancel(d.c.Context), 10*time.Second)
			defer cancel()
			if cerr := d.notifier().Close(closing); cerr != nil {
				d.log.Warn("messages", "error", cerr)
			}
			d.log.Info("stopped")
			return err
		}
	}
}

func (d *service) said(err error) {
	if err != nil {
		d.log.Warn("the service manager was not told", "error", err)
	}
}

func (d *service) alive() { d.said(d.systemd.Alive()) }

func (d *service) summary() string {
	s := d.current()
	jobs, protected := 0, 0
	for _, db := range s.cfg.Databases {
		if db.Continuous {
			protected++
		} else if db.Schedule != "" {
			jobs++
		}
	}
	return fmt.Sprintf("databases: %d on schedule, %d protected continuously", jobs, protected)
}

func (d *service) current() *site {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.site
}

func (d *service) notifier() *daemon.Notifier {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.teller
}

func (d *service) observe(e daemon.Event) {
	if n := d.notifier(); n != nil {
		n.Observe(e)
	}
}

// status is what the scheduler knows, and what only the state folder tells.
func (d *service) status() daemon.Status { return d.current().judged(d.scheduler.Status(), d.began) }

// load takes a configuration over.
func (d *service) load(s *site) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	jobs, err := d.p.jobsOf(s, d.tell)
	if err != nil {
		return err
	}
	before := d.notifier()
	d.mu.Lock()
	d.site = s
	d.mu.Unlock()
	if before != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(d.c.Context), 10*time.Second)
		defer cancel()
		if err := before.Close(ctx); err != nil {
			d.log.Warn("messages", "error", err)
		}
	}
	teller := s.notifier(d.c.Context, d.log, d.status)
	d.mu.Lock()
	d.teller = teller
	d.mu.Unlock()
	if err := d.scheduler.Reload(jobs); err != nil {
		return err
	}
	if text, err := os.ReadFile(s.cfg.File); err == nil {
		sum := sha256.Sum256(text)
		s.recordConfiguration(hex.EncodeToString(sum[:]))
	}
	d.wakeAll(d.c.Context, s)
	d.protectAll(s)
	return nil
}

// reload reads the configuration again; the old one stays if it is not right.
func (d *service) reload() error {
	d.said(d.systemd.Reloading())
	defer func() { d.said(d.systemd.Ready(d.summary())) }()
	s, err := d.p.site(d.c)
	if err == nil && s.cfg.State != d.current().cfg.State {
		err = errors.New("the state folder cannot change while the daemon runs")
	}
	if err == nil {
		_, err = d.p.jobsOf(s, d.tell) // before anything is replaced
	}
	if err == nil {
		err = d.load(s)
	}
	if err != nil {
		d.scheduler.Refused(err)
		return err
	}
	d.log.Info("configuration taken", "databases", len(s.cfg.Databases))
	return nil
}

// listen answers on the socket, and on loopback if the configuration says so:
// metrics, and the page, which is on the socket as well (/page/).
// The daemon runs without its socket: backups matter more.
func (d *service) listen(ctx context.Context, s *site) error {
	handler := http.NewServeMux()
	handler.Handle("/", d.scheduler.Handler(daemon.Controls{Metrics: d.metrics, Reload: d.reload}))
	shown := d.newPages(ctx).handler()
	handler.Handle("/page/", http.StripPrefix("/page", page.Guard(shown, "")))
	handler.HandleFunc("GET /overview", func(w http.ResponseWriter, _ *http.Request) { daemon.Reply(w, d.overview()) })
	socket, err := daemon.Listen(s.socket())
	if err != nil {
		d.log.Error("no socket: `emsafe status` goes by the state folder", "socket", s.socket(), "error", err)
	} else {
		go d.answer(ctx, socket, handler)
	}
	if s.cfg.Daemon.Listen == "" {
		return nil
	}
	token, err := s.cfg.Daemon.Token.Reveal(ctx, runForSecret)
	if err == nil {
		err = page.CheckAddress(s.cfg.Daemon.Listen, token)
	}
	if err != nil {
		return err
	}
	port, err := net.Listen("tcp", s.cfg.Daemon.Listen)
	if err != nil {
		return err
	}
	var metrics http.Handler = daemon.MetricsHandler(d.metrics)
	if token != "" {
		metrics = page.Guard(metrics, token)
	}
	public := http.NewServeMux()
	public.Handle("GET /metrics", metrics)
	public.Handle("/", page.Guard(shown, token))
	go d.answer(ctx, port, public)
	return nil
}

func (d *service) answer(ctx context.Context, l net.Listener, h http.Handler) {
	if err := daemon.Serve(ctx, l, h); err != nil {
		d.log.Error("a listener ended", "address", l.Addr().String(), "error", err)
	}
}

func (d *service) overview() overview {
	s := d.current()
	o, err := d.p.overview(s, d.status())
	if err != nil {
		d.log.Warn("overview", "error", err)
	}
	o.Running, o.Sent = true, d.notifier().Sent()
	return o
}

func (d *service) metrics() daemon.Metrics {
	m := d.current().metrics(d.overview())
	m.Panics = crash.Count()
	return m
}

// reference asks a target for the time; nil if no target has a clock of its own.
func (d *service) reference() func(context.Context) (time.Time, error) {
	if !hasClock(d.site.cfg) {
		return nil
	}
	return func(ctx context.Context) (time.Time, error) {
		failed := errors.New("no target tells the time")
		for _, t := range d.current().targets {
			b, err := t.Open(ctx)
			if err != nil {
				failed = err
				continue
			}
			if clock, ok := b.(storage.Timed); ok {
				at, err := clock.Time(ctx)
				if err == nil {
					return at, nil
				}
				failed = err
			}
		}
		return time.Time{}, failed
	}
}

func hasClock(cfg *config.Config) bool {
	for _, t := range cfg.Targets {
		if _, _, ok := t.Bucket(); ok {
			return true
		}
	}
	return false
}

func (p *program) logger() *slog.Logger {
	f, ok := p.stderr.(*os.File)
	_, journald := p.env("JOURNAL_STREAM")
	return daemon.Logger(p.stderr, ok && term.IsTerminal(int(f.Fd())), journald)
}
