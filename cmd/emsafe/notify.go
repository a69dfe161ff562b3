package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
	"emsafe/internal/daemon"
	"emsafe/internal/fault"
)

func (p *program) notifyCommand() *cli.Command {
	return group("notify", "who is told when something goes wrong",
		&cli.Command{
			Name: "test", Usage: "send a message through every channel of the configuration, and say how it went", ArgsUsage: "[NAME…]",
			Action: p.notifyTest,
		})
}

func (p *program) notifyTest(c *cli.Context) error {
	s, err := p.ownSite(c)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(s.cfg.Notify))
	for _, name := range c.Args().Slice() {
		if !slices.Contains(names, name) {
			return fault.New(fault.NotFound, "the configuration has no `notify` entry %q", name)
		}
	}
	if len(names) == 0 {
		return fault.New(fault.Config, "nobody is told: the configuration has no `notify`").
			WithRemedy("Add a channel, as in: notify: {ops: {url: {credential: slack-url}, service: slack}}")
	}
	told := s.told(c.Context, c.Args().Slice())
	results := map[string]error{}
	n := daemon.NewNotifier(daemon.NotifyOptions{Host: s.cfg.Host, Channels: told.channels, Secrets: told.secrets, BackOff: []time.Duration{}})
	maps.Copy(results, n.Test(c.Context))
	maps.Copy(results, told.broken)
	if err := n.Close(c.Context); err != nil {
		return err
	}
	docs := map[string]any{}
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if err := results[name]; err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
			docs[name] = describe(err)
			p.print.line("%s  FAILED: %v", name, err)
			continue
		}
		docs[name] = "sent"
		p.print.line("%s  sent", name)
	}
	p.print.emit(map[string]any{"notify": docs})
	if len(failed) > 0 {
		return fault.New(fault.Other, "%d of %d channels do not work: %w", len(failed), len(results), worst(failed)).
			WithSafe("Backups do not depend on them.").WithRemedy("Mend the channel in the configuration, and try again.")
	}
	return nil
}

// told is who is told, with their secrets fetched.
type told struct {
	channels []daemon.Channel
	pings    []daemon.Ping
	secrets  []string
	broken   map[string]error // whose secrets could not be had
}

// told fetches the secrets of all channels and pings, or of the channels named.
// One that cannot be had leaves the others.
func (s *site) told(ctx context.Context, only []string) *told {
	t := &told{broken: map[string]error{}}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Notify)) {
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		channel, err := t.channel(ctx, name, s.cfg.Notify[name])
		if err != nil {
			t.broken[name] = err
			continue
		}
		t.channels = append(t.channels, channel)
	}
	if len(only) > 0 {
		return t
	}
	ping := func(job string, from config.Secret, every time.Duration) {
		if from.IsZero() {
			return
		}
		url, err := t.reveal(ctx, from)
		if err != nil {
			t.broken["ping of "+job] = err
			return
		}
		t.pings = append(t.pings, daemon.Ping{Job: job, URL: url, Every: every})
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Databases)) {
		d := s.cfg.Databases[name]
		job := "backup " + name
		if d.Continuous {
			job = protectName(name)
		}
		ping(job, d.Ping, 0)
	}
	ping("", s.cfg.Daemon.Ping, beatEvery)
	return t
}

// beatEvery is how often the daemon says that it lives.
const beatEvery = 5 * time.Minute

func (t *told) reveal(ctx context.Context, from config.Secret) (string, error) {
	value, err := from.Reveal(ctx, runForSecret)
	if value != "" {
		t.secrets = append(t.secrets, value)
	}
	return value, err
}

func (t *told) channel(ctx context.Context, name string, c config.Channel) (daemon.Channel, error) {
	switch {
	case len(c.Command) > 0:
		return daemon.Program{Name: name, Argv: c.Command}, nil
	case c.SMTP != "":
		password, err := t.reveal(ctx, c.Password)
		if err != nil {
			return nil, err
		}
		m := daemon.Mail{Name: name, Server: c.SMTP, Security: c.Security, User: c.User, Password: password, From: c.From, To: c.To}
		return m, m.Check()
	}
	url, err := t.reveal(ctx, c.URL)
	if err != nil {
		return nil, err
	}
	token, err := t.reveal(ctx, c.Token)
	if err != nil {
		return nil, err
	}
	w := daemon.Webhook{Name: name, URL: url, Shape: c.Service, Token: token, Room: c.Room}
	return w, w.Check()
}

// notifier tells the configured people of what the daemon sees.
func (s *site) notifier(ctx context.Context, log *slog.Logger, status func() daemon.Status) *daemon.Notifier {
	told := s.told(ctx, nil)
	n := daemon.NewNotifier(daemon.NotifyOptions{
		Host: s.cfg.Host, File: filepath.Join(s.cfg.State, "told.json"), Channels: told.channels, Pings: told.pings, Secrets: told.secrets,
		Status: status, Log: log,
	})
	subject := "notifications"
	if len(told.broken) == 0 {
		n.Solved(subject, "")
	}
	for name, err := range told.broken {
		log.Error("nobody can be told this way", "channel", name, "error", err)
		n.Problem(subject, "a channel or a ping has no secret", fmt.Sprintf("%s: %v", name, err))
	}
	return n
}
