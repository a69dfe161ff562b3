package main

import (
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"emsafe/storage/sqlite"
)

// stamped is set by the linker: -X main.stamped=$(git describe …).
var stamped string

// version is the stamp, or what the toolchain knows of the build.
func version() string {
	if stamped != "" {
		return stamped
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// versions goes into every manifest.
func versions() map[string]string {
	return map[string]string{"emsafe": version(), "sqlite": sqlite.Version(), "go": runtime.Version()}
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{Name: "version", Usage: "print the versions of emsafe and of what is built in", Action: func(*cli.Context) error {
		v := versions()
		p.print.emit(v)
		p.print.line("emsafe %s (SQLite %s, %s, %s/%s)", v["emsafe"], v["sqlite"], v["go"], runtime.GOOS, runtime.GOARCH)
		return nil
	}}
}
