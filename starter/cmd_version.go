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
			if a.format == "json" {
				a.json["version"], a.json["go_version"] = version, goVersion()
				return nil
			}
			a.say("%s", versionLine())
			return nil
		},
	}
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown"
}

func versionLine() string { return "holdfast " + version + " (" + goVersion() + ")" }
