package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (a *app) cmdListServers() *cobra.Command {
	var minimal bool
	cmd := &cobra.Command{
		Use: "list-servers", Aliases: []string{"list-server"}, Short: "List the configured servers",
		Long:    "Lists the servers of the configuration with their descriptions. Disabled servers are\nlisted too: holdfast config check says what is wrong with them.",
		Example: "  holdfast list-servers", Args: exactly(),
		RunE: func(*cobra.Command, []string) error { return a.listServers(minimal) },
	}
	cmd.Flags().BoolVar(&minimal, "minimal", false, "names only")
	return cmd
}

func (a *app) listServers(minimal bool) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	for _, s := range cfg.Servers() {
		a.json[s.Name] = report.Object{"description": s.Description, "state": stateOf(s)}
		line := s.Name
		if !minimal && s.Description != "" {
			line += " - " + s.Description
		}
		if state := stateOf(s); !minimal && state != "active" {
			line += " (" + state + ")"
		}
		a.print("%s", line)
	}
	return nil
}

func stateOf(s *config.Server) string {
	switch {
	case s.Disabled():
		return "disabled"
	case !s.Active:
		return "inactive"
	case s.Passive:
		return "passive"
	}
	return "active"
}
