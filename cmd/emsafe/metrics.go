package main

import (
	"bytes"

	"github.com/urfave/cli/v2"

	"emsafe/internal/durable"
)

func (p *program) metricsCommand() *cli.Command {
	return &cli.Command{
		Name: "metrics", Usage: "print metrics for Prometheus, or write them for node_exporter",
		Description: "A running daemon is asked; otherwise the state folder tells, also of a daemon that silently stopped. `daemon.listen` in the configuration opens a port on loopback for Prometheus instead. " +
			"Alert rules and a dashboard are in docs/monitoring.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "textfile", Usage: "replace `FILE`, as in /var/lib/node_exporter/emsafe.prom"}},
		Action: func(c *cli.Context) error {
			s, err := p.ownSite(c)
			if err != nil {
				return err
			}
			o, err := p.look(c.Context, s)
			if err != nil {
				return err
			}
			var text bytes.Buffer
			if err := s.metrics(o).Write(&text); err != nil {
				return err
			}
			if file := c.String("textfile"); file != "" {
				return permission(durable.WriteFile(file, text.Bytes(), 0o644)) //nolint:gosec // node_exporter is another user
			}
			_, err = text.WriteTo(p.stdout)
			return err
		},
	}
}
