// Command holdfast is the command line of Holdfast: it starts and watches
// backups, and reads the catalogue, restores and moves WAL without Temporal.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == command.ShimArg {
		os.Exit(command.Shim(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// run is the whole program but for its exit.
func run(ctx context.Context, args []string) int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, json: map[string]any{}}
	root := a.root()
	root.SetArgs(joined(args))
	err := root.ExecuteContext(ctx)
	if err != nil && !a.begun {
		err = fault.Wrap(fault.Usage, "", "", err)
	}
	code := exitCode(err)
	if ferr := a.finish(err); ferr != nil && code == 0 {
		code = 1
	}
	return code
}

// joined gives an option whose value may be left out the value that follows it,
// as Barman does; the library wants "=" between the two.
func joined(args []string) []string {
	optional := map[string][]string{"--reuse-backup": {"copy", "link", "off"}}
	var out []string
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		if i+1 < len(args) && slices.Contains(optional[args[i]], args[i+1]) {
			out = append(out, args[i]+"="+args[i+1])
			i++
			continue
		}
		out = append(out, args[i])
	}
	if end := slices.Index(args, "--"); end >= 0 {
		out = append(out, args[end:]...)
	}
	return out
}

// exitCode is the documented exit code of an error.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var silent exitError
	if errors.As(err, &silent) {
		return int(silent)
	}
	return fault.KindOf(err).ExitCode()
}

// exitError ends the program with a code when everything was said already.
type exitError int

func (e exitError) Error() string { return "" }

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "holdfast",
		Short: "PostgreSQL backups that finish",
		Long: `Holdfast takes PostgreSQL backups as durable workflows: every step retries and
resumes after a crash. It reads Barman's configuration and writes Barman's
formats.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 not found, 4 refused
(busy, not empty), 5 the engine cannot be reached, 130 interrupted.`,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.prepare() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(badFlag)
	root.Args = unknownCommand
	asked := root.Flags().BoolP("version", "v", false, "print the version")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *asked {
			a.sayVersion()
			return nil
		}
		return cmd.Help()
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.configFile, "config", "c", "", "configuration `file` (default: $HOLDFAST_CONFIG, $BARMAN_CONFIG_FILE, ~/.barman.conf, /etc/barman.conf, /etc/barman/barman.conf)")
	f.StringVarP(&a.format, "format", "f", "console", "output `format`: console or json")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print nothing but errors")
	f.BoolVarP(&a.debug, "debug", "d", false, "print what is done to the terminal")
	f.StringVar(&a.color, "color", "auto", "`when` to use colours: never, always, or auto, on terminals unless NO_COLOR is set")
	f.StringVar(&a.logLevel, "log-level", "", "least important `level` of message that is logged (default: log_level)")
	offer(root, "format", "console", "json")
	offer(root, "color", "never", "always", "auto")
	offer(root, "log-level", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
	root.AddCommand(a.commands()...)
	a.offerArguments(root)
	a.noteStart(root)
	return root
}

// noteStart lets every command say that it has begun: an error before that is
// one of usage.
func (a *app) noteStart(cmd *cobra.Command) {
	if begin := cmd.RunE; begin != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.begun = true
			return begin(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		a.noteStart(c)
	}
}

// exactly refuses another number of arguments in words.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return fault.New(fault.Usage, "", "", "%s wants %d arguments (%s), %d were given", cmd.CommandPath(), len(names), join(names), len(args)).
			WithHint("usage: %s", cmd.UseLine())
	}
}
