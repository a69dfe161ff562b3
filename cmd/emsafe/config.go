package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"emsafe/internal/config"
)

func (p *program) configCommand() *cli.Command {
	return group("config", "check, show or describe the configuration",
		&cli.Command{Name: "check", Usage: "read the configuration and report every problem at once", Action: func(c *cli.Context) error {
			file := p.configFile(c)
			if !exists(file) {
				return noConfiguration()
			}
			cfg, err := config.Load(file, p.env)
			if err != nil {
				return err
			}
			p.print.emit(map[string]any{"ok": true, "config": file})
			p.print.line("%s is right: %s, %s", file, several(len(cfg.Databases), "database", "databases"), several(len(cfg.Targets), "target", "targets"))
			return nil
		}},
		&cli.Command{Name: "show", Usage: "print the configuration as it takes effect, with defaults; secrets stay hidden", Action: func(c *cli.Context) error {
			file := p.configFile(c)
			if !exists(file) {
				return noConfiguration()
			}
			cfg, err := config.Load(file, p.env)
			if err != nil {
				return err
			}
			p.print.emit(map[string]any{"config": file, "settings": cfg.Settings()})
			if !p.print.json {
				_, err = p.stdout.Write(cfg.Show())
			}
			return err
		}},
		&cli.Command{Name: "schema", Usage: "print the JSON Schema of the configuration, for editors", Action: func(*cli.Context) error {
			_, err := p.stdout.Write(config.Schema())
			return err
		}},
		&cli.Command{
			Name: "fetch", Usage: "print the newest copy of a host's configuration that lies in a target",
			Description: "Every backup puts one there when the configuration has changed, sealed and signed as the backups are. On an empty machine: --target URL --allowed-signers FILE --identity FILE.",
			Flags: append(sourceFlags(), identityFlag("what opens the copy"), hostFlag(),
				&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write to `FILE`, readable by its owner only"}),
			Action: func(c *cli.Context) error {
				s, err := p.site(c)
				if err != nil {
					return err
				}
				ids, _, err := p.drillIdentity(c, s)
				if err != nil {
					return err
				}
				found, err := p.fetchConfiguration(c, s, ids)
				if err != nil {
					return err
				}
				p.print.note("the configuration %s of %s, as of %s", found.File, found.Host, found.TakenAt.Format(time.DateTime))
				return p.write(c.String("out"), found.Text)
			},
		})
}
