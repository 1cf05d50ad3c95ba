package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/report"
)

type checkOptions struct {
	nagios  bool
	timeout int
}

func (a *app) cmdCheck() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use: "check SERVER...", Short: "Check that backups of a server can be taken",
		Long: `Checks the directories, the connections, the privileges, the archiving and the tools
that backups of a server need, the demands that the configuration makes of its backups,
and whether WAL is missing between them. Items and results are those of Barman, but it
changes nothing, not even to find out. Some failures, such as an old backup or a hole
in the WAL, keep no backup from being taken.`,
		Example: "  holdfast check main\n  holdfast check all --nagios", Args: atLeastOne("SERVER"),
		Annotations: exitCodes("0 everything is well", "1 something fails", "2 the same with --nagios"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.check(cmd.Context(), args, o) },
	}
	cmd.Flags().BoolVar(&o.nagios, "nagios", false, "answer as a Nagios plugin")
	cmd.Flags().IntVar(&o.timeout, "check-timeout", 0, "`seconds` for each server (default: check_timeout)")
	return cmd
}

// checked is a server with what was found.
type checked struct {
	server *config.Server
	items  []check.Item
}

func (a *app) check(ctx context.Context, names []string, o checkOptions) error {
	servers, err := a.described(names)
	if err != nil {
		return err
	}
	results := make([]checked, len(servers))
	_ = atOnce(len(servers), func(i int) error { // what fails is in the items
		s, timeout := servers[i], servers[i].CheckTimeout
		if o.timeout > 0 {
			timeout = time.Duration(o.timeout) * time.Second
		}
		results[i] = checked{s, check.Items(gather(ctx, s, a.cfg.Global.HoldfastStateDirectory, timeout))}
		return nil
	})
	var bad []string
	for _, r := range results {
		if check.Failed(r.items) {
			bad = append(bad, r.server.Name)
		}
	}
	for _, r := range results {
		object := report.Object{}
		for _, i := range r.items {
			object[i.Key()] = report.Object{"status": i.Result(), "hint": i.Hint}
		}
		a.json[r.server.Name] = object
	}
	if o.nagios {
		return a.nagios(results, bad)
	}
	for _, r := range results {
		a.print("Server %s:", r.server.Name)
		for _, i := range r.items {
			a.print("\t%s", a.painted(i))
		}
	}
	if len(bad) > 0 {
		return exitError(1)
	}
	return nil
}

// painted is an item with its result in colour.
func (a *app) painted(i check.Item) string {
	color := red
	if i.OK {
		color = green
	}
	return strings.Replace(i.String(), ": "+i.Result(), ": "+a.paint(a.stdout, color, i.Result()), 1)
}

// nagios answers with one line that counts, then what failed.
func (a *app) nagios(results []checked, bad []string) error {
	var err error
	if len(bad) > 0 {
		able := "; backups can be taken all the same"
		for _, r := range results {
			if check.Critical(r.items) {
				able = ""
			}
		}
		a.print("HOLDFAST CRITICAL - %d of %s failed: %s%s", len(bad), count(len(results), "server"), join(bad), able)
		err = exitError(2)
	} else {
		a.print("HOLDFAST OK - %s can be backed up", count(len(results), "server"))
	}
	for _, r := range results {
		for _, i := range r.items {
			if !i.OK {
				a.print("%s: %s", r.server.Name, i)
			}
		}
	}
	return err
}
