package main

import (
	"context"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/workflows"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

// uiEnv names the web UI of a Temporal that we did not start.
const uiEnv = "HOLDFAST_UI_URL"

// onlyBackups leaves the many runs of maintenance out of the list.
const onlyBackups = `WorkflowType="BackupWorkflow"`

func (a *app) cmdUI() *cobra.Command {
	var open bool
	cmd := &cobra.Command{
		Use: "ui [SERVER]", Short: "Tell where the Temporal UI shows the backups",
		Long: `Prints the address of the list of backups in the Temporal UI, or of the latest backup of a
server. With a Temporal of your own (TEMPORAL_ADDRESS), set ` + uiEnv + ` to its UI.`,
		Example:     "  holdfast ui\n  holdfast ui main --open",
		Args:        cobra.MaximumNArgs(1),
		Annotations: exitCodes("0 the address was printed", "3 no such server", "5 no engine is known, or it has no UI"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ui(cmd.Context(), strings.Join(args, ""), open)
		},
	}
	cmd.Flags().BoolVar(&open, "open", false, "open the address in a browser, too")
	return cmd
}

func (a *app) ui(ctx context.Context, server string, open bool) error {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if server != "" {
		if _, err := cfg.Server(server); err != nil {
			return err
		}
	}
	base, err := uiBase(cfg.Global.HoldfastStateDirectory)
	if err != nil {
		return err
	}
	log, err := a.log()
	if err != nil {
		return err
	}
	o, err := engine.Options(cfg.Global.HoldfastStateDirectory, log)
	if err != nil {
		return err
	}
	address := base + "/namespaces/" + url.PathEscape(o.Namespace) + "/workflows"
	if server != "" {
		address += "/" + url.PathEscape(workflows.BackupID(server))
	} else {
		address += "?query=" + url.QueryEscape(onlyBackups)
	}
	a.json["url"] = address
	a.print("%s", address)
	if !open {
		return nil
	}
	program, err := command.Find("xdg-open", "")
	if err != nil {
		return err
	}
	return command.Run(ctx, command.Spec{Path: program, Args: []string{address}})
}

// uiBase is the address of the UI, without a slash at its end.
func uiBase(stateDir string) (string, error) {
	if text := os.Getenv(uiEnv); text != "" {
		return strings.TrimRight(text, "/"), nil
	}
	unknown := func(format string, args ...any) (string, error) {
		return "", fault.New(fault.Unreachable, "find", "the Temporal UI", format, args...).
			WithHint("start the engine with: holdfast up; or set %s to the address of the UI of your Temporal", uiEnv)
	}
	if os.Getenv("TEMPORAL_ADDRESS") != "" {
		return unknown("TEMPORAL_ADDRESS names a Temporal that another started")
	}
	e, err := engine.Running(stateDir)
	switch {
	case err != nil:
		return "", err
	case e == nil:
		return unknown("no engine has run here")
	case e.UI == "":
		return unknown("the engine was started without it (--ui-port 0)")
	}
	return strings.TrimRight(e.UI, "/"), nil
}
