package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
)

func (a *app) cmdConfigSwitch() *cobra.Command {
	var reset bool
	cmd := &cobra.Command{
		Use: "config-switch SERVER [MODEL]", Short: "Make a model the active one of a server",
		Long: `Makes the options of a model override those of a server, or with --reset those of no
model. A model that would break the configuration is refused, and the one before stays.
Workers need no restart; a backup that runs goes on as it began.`,
		Example: "  holdfast config-switch main standby\n  holdfast config-switch main --reset",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && reset || len(args) == 2 && !reset {
				return nil
			}
			return fault.New(fault.Usage, "", "", "%s wants a server and either a model or --reset", cmd.CommandPath()).WithHint("usage: %s", cmd.UseLine())
		},
		Annotations: exitCodes("0 the model is active", "2 the configuration would have errors", "3 no such server or model", "4 another change is under way"),
		RunE: func(cmd *cobra.Command, args []string) error {
			model := ""
			if !reset {
				model = args[1]
			}
			err := a.change(cmd.Context(), func(c *config.Config) (config.Change, error) { return c.SwitchModel(args[0], model) })
			if err == nil && reset {
				a.say("No model is active for %s.", args[0])
			} else if err == nil {
				a.say("The model %s is active for %s.", model, args[0])
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&reset, "reset", false, "make no model active")
	return cmd
}

func (a *app) cmdConfigUpdate() *cobra.Command {
	return &cobra.Command{
		Use: "config-update CHANGES", Short: "Change options of servers and models",
		Long: `Writes options into .barman.auto.conf in barman_home, which overrides the other files.
CHANGES is a JSON array of objects, the name of a file that holds one, or - for
standard input; what stands on the command line can be seen by every user of the host.
Each object has a scope (server or model), a server_name or model_name, and options with
their values; null takes an option out of the file. Changes that would break the
configuration are refused as a whole. Workers need no restart.`,
		Example: `  holdfast config-update '[{"scope": "server", "server_name": "main", "parallel_jobs": 4}]'
  holdfast config-update - < changes.json`,
		Args:        exactly("CHANGES"),
		Annotations: exitCodes("0 the configuration is changed", "2 wrong JSON, unknown options, or the configuration would have errors", "4 another change is under way"),
		RunE: func(cmd *cobra.Command, args []string) error {
			documents, err := a.documents(args[0])
			if err != nil {
				return err
			}
			err = a.change(cmd.Context(), func(c *config.Config) (config.Change, error) { return c.Update(documents) })
			if err == nil {
				a.say("The configuration is changed.")
			}
			return err
		},
	}
}

// mostDocuments is more than any change needs.
const mostDocuments = 4 << 20

// documents are the changes, wherever they stand.
func (a *app) documents(arg string) ([]byte, error) {
	read := func(r io.Reader) ([]byte, error) {
		data, err := io.ReadAll(io.LimitReader(r, mostDocuments))
		return data, fault.Wrap(fault.Usage, "read", "the changes", err)
	}
	if arg == "-" {
		return read(a.stdin)
	}
	f, err := os.Open(arg)
	if err != nil {
		return []byte(arg), nil
	}
	defer f.Close()
	return read(f)
}

// change makes a change of the configuration that leaves it good. One at a time
// is made, also by Barman.
func (a *app) change(ctx context.Context, decide func(*config.Config) (config.Change, error)) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	lock, err := flock.Try(filepath.Join(cfg.Global.BarmanLockDirectory, ".config-update.lock"))
	if err != nil {
		return err
	}
	defer lock.Release()
	if cfg, err = config.Load(cfg.Path); err != nil {
		return err
	}
	ch, err := decide(cfg)
	if err != nil {
		return err
	}
	if _, err := cfg.Try(ch); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Cancelled, "change", ch.Path, err)
	}
	if err := atomicfile.SweepFile(ch.Path); err != nil { // a change before may have been killed
		return err
	}
	if ch.Text == nil {
		if err := os.Remove(ch.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, "remove", ch.Path, err)
		}
		return atomicfile.SyncDir(filepath.Dir(ch.Path))
	}
	if err := os.MkdirAll(filepath.Dir(ch.Path), 0o755); err != nil {
		return fault.Wrap(fault.Internal, "create directory", filepath.Dir(ch.Path), err)
	}
	return atomicfile.Write(ch.Path, []byte(*ch.Text), 0o600)
}
