package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (a *app) cmdConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Look at the configuration files",
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "check", Short: "Report everything that is wrong in the configuration files",
		Long: `Reads the configuration files and reports every problem with file and line: errors,
which disable the servers that they concern, and warnings.`,
		Example: "  holdfast -c /etc/barman.conf config check", Args: exactly(),
		Annotations: exitCodes("0 no errors, maybe warnings", "2 errors"),
		RunE:        func(*cobra.Command, []string) error { return a.configCheck() },
	})
	return cmd
}

func (a *app) configCheck() error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	problems, failed := []report.Object{}, 0
	for _, p := range cfg.Problems {
		severity := "ERROR"
		if p.Warning {
			severity = "WARNING"
		} else {
			failed++
		}
		problems = append(problems, report.Object{"severity": severity, "file": p.File, "line": p.Line, "section": p.Section,
			"option": p.Option, "value": p.Value, "message": p.Message, "hint": p.Hint})
		a.print("%s: %s", severity, p)
	}
	a.json["problems"], a.json["files"] = problems, cfg.Files
	if failed > 0 {
		return exitError(fault.Config.ExitCode())
	}
	a.print("%s: no errors, %s", join(cfg.Files), count(len(problems), "warning"))
	return nil
}
