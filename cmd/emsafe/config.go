package main

import (
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
			p.print.line("%s is right: %d databases, %d targets", file, len(cfg.Databases), len(cfg.Targets))
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
		}})
}
