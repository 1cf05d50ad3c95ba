package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
)

type checkOptions struct {
	nagios                 bool
	timeout                int
	store, endpoint, style string
}

func (a *app) cmdCheck() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use: "check SERVER...", Short: "Check that backups of a server can be taken, or that a store can keep them",
		Long: `Checks the directories, the connections, the privileges, the archiving and the tools
that backups of a server need, the demands that the configuration makes of its backups,
and whether WAL is missing between them. Items and results are those of Barman, but it
changes nothing, not even to find out. Some failures, such as an old backup or a hole
in the WAL, keep no backup from being taken.

With --store it checks an object store, or a directory, instead: it puts, reads, lists,
copies and deletes objects of its own below holdfast-check-<random>/, and removes them,
also when it is interrupted. With a SERVER, that server's options of stores are used.`,
		Example: "  holdfast check main\n  holdfast check all --nagios\n  holdfast check --store s3://bucket/path", Args: o.arguments,
		Annotations: exitCodes("0 everything is well", "1 something fails", "2 the same with --nagios"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.check(cmd.Context(), args, o) },
	}
	cmd.Flags().BoolVar(&o.nagios, "nagios", false, "answer as a Nagios plugin")
	cmd.Flags().StringVar(&o.store, "store", "", "check the store at this `URL`, not a server")
	cmd.Flags().StringVar(&o.endpoint, "endpoint-url", "", "with --store: `address` of a store that is not the provider's own (default: holdfast_endpoint_url, AWS_ENDPOINT_URL)")
	cmd.Flags().StringVar(&o.style, "addressing-style", "", "with --store: `how` S3 requests name the bucket: auto, path or virtual (default: holdfast_s3_addressing_style)")
	offer(cmd, "addressing-style", addressingStyles...)
	cmd.Flags().IntVar(&o.timeout, "check-timeout", 0, "`seconds` for each server (default: check_timeout)")
	return cmd
}

// checked is a server with what was found.
type checked struct {
	server *config.Server
	items  []check.Item
}

// arguments are servers, or a store and at most one server.
func (o *checkOptions) arguments(cmd *cobra.Command, args []string) error {
	if !cmd.Flags().Changed("store") {
		for _, option := range []string{"endpoint-url", "addressing-style"} {
			if cmd.Flags().Changed(option) {
				return fault.New(fault.Usage, "", "", "--%s belongs to --store", option).WithHint("add --store URL, or leave it out")
			}
		}
		return atLeastOne("SERVER")(cmd, args)
	}
	if o.store == "" {
		return fault.New(fault.Usage, "", "", "--store has no URL").WithHint("give one, such as s3://BUCKET/PATH or file:///DIRECTORY")
	}
	if len(args) > 1 {
		return fault.New(fault.Usage, "", "", "with --store at most one SERVER can be given, whose options are used").WithHint("name one, or none")
	}
	if o.nagios || o.timeout != 0 {
		return fault.New(fault.Usage, "", "", "--nagios and --check-timeout belong to checks of servers").WithHint("leave them out, or leave --store out")
	}
	return nil
}

func (a *app) check(ctx context.Context, names []string, o checkOptions) error {
	if o.store != "" {
		return a.checkStore(ctx, names, o)
	}
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
		a.json[r.server.Name] = itemsObject(r.items)
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

// itemsObject are items in JSON.
func itemsObject(items []check.Item) report.Object {
	object := report.Object{}
	for _, i := range items {
		object[i.Key()] = report.Object{"status": i.Result(), "hint": i.Hint}
	}
	return object
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
