package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in releases.
var version = "0.1.0-dev"

func (a *app) cmdVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(), Example: "  holdfast version",
		RunE: func(*cobra.Command, []string) error {
			a.sayVersion()
			return nil
		},
	}
}

func (a *app) sayVersion() {
	goVersion := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		goVersion = info.GoVersion
	}
	if a.format == "json" {
		a.json["version"], a.json["go_version"] = version, goVersion
		return
	}
	a.say("holdfast %s (%s)", version, goVersion)
}
