package main

import (
	"context"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (a *app) cmdShowServers() *cobra.Command {
	return &cobra.Command{
		Use: "show-servers SERVER...", Aliases: []string{"show-server"}, Short: "Show every setting of a server and where it came from",
		Long: `Shows the value of every option as it is in force, and the line that set it, the
model that overrode it, or that it is the default, and what its backups and its WAL
can be restored to. Passwords and other secrets are not shown.`,
		Example: "  holdfast show-servers main\n  holdfast show-servers all", Args: atLeastOne("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.showServers(cmd.Context(), args) },
	}
}

func (a *app) showServers(ctx context.Context, names []string) error {
	list, err := a.described(names)
	if err != nil {
		return err
	}
	for _, s := range list {
		options, origins := report.Settings(s), report.Object{}
		a.print("Server %s:", s.Name)
		s.Each(func(o config.Option, value string, origin config.Origin) {
			origins[o.Name] = origin.String()
			a.print("\t%s: %s  [%s]", o.Name, value, origin)
		})
		for _, p := range s.Problems() {
			a.warn("%s", p)
		}
		options["_origins"] = origins
		r, err := recoverableOf(ctx, s)
		if err != nil {
			a.warnOf(err)
		}
		maps.Copy(options, a.printRows(r.Rows()))
		a.json[s.Name] = options
	}
	return nil
}

// recoverableOf is what a server can be restored to; nothing with an error.
func recoverableOf(ctx context.Context, s *config.Server) (report.Recoverable, error) {
	backups, _, err := catalog.Open(catalog.LayoutOf(s)).List()
	if err != nil {
		return report.Recoverable{}, err
	}
	w, err := windowOf(ctx, s, backups)
	return report.Recoverable{Zone: time.Local, Backups: backups, Window: w}, err
}
