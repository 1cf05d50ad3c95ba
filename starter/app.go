package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/logging"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
	"github.com/holdfast-pg/holdfast/workflows/engine"
)

// app is what every command shares: global options and the ways out.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	configFile, format, color, logLevel string
	quiet, debug                        bool

	begun bool   // the command line was understood
	from  string // the URL of --from

	cfg *config.Config
	// json is the one object that is printed in JSON mode, at the end.
	json map[string]any
}

// commands lists every command, in the order of the help text.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.cmdUp(), a.cmdBackup(), a.cmdCancel(), a.cmdSchedule(), a.cmdCron(),
		a.cmdStatus(), a.cmdListBackups(), a.cmdShowBackup(), a.cmdRestore(),
		a.cmdListFiles(), a.cmdRetention(), a.cmdDelete(), a.cmdKeep(), a.cmdCheckBackup(), a.cmdVerifyBackup(), a.cmdGenerateManifest(),
		a.cmdCheck(), a.cmdDoctor(), a.cmdListServers(), a.cmdShowServers(), a.cmdConfig(), a.cmdConfigSwitch(), a.cmdConfigUpdate(),
		a.cmdWALArchive(), a.cmdWALRestore(), a.cmdGetWAL(), a.cmdPutWAL(), a.cmdSwitchWAL(), a.cmdReceiveWAL(), a.cmdReplicationStatus(), a.cmdArchiveWAL(), a.cmdCheckWALArchive(), a.cmdCheckWALRange(), a.cmdRebuildXlogDB(),
		a.cmdUI(), a.cmdDiagnose(), a.cmdCompletion(), a.cmdMan(), a.cmdVersion(),
	}
}

// prepare checks the global options.
func (a *app) prepare() error {
	if a.format != "console" && a.format != "json" {
		return fault.New(fault.Usage, "read", "--format "+a.format, "the formats are console and json")
	}
	switch a.color {
	case "never", "always", "auto":
	default:
		return fault.New(fault.Usage, "read", "--color "+a.color, "it is never, always or auto")
	}
	a.json = map[string]any{}
	return nil
}

// config reads the configuration, once, as the user that owns the backups.
func (a *app) config() (*config.Config, error) {
	if a.cfg != nil {
		return a.cfg, nil
	}
	cfg, err := walcommand.Configuration(a.configFile)
	if err != nil {
		return nil, err
	}
	a.cfg = cfg
	return cfg, nil
}

// server returns the settings of a server that can be used.
func (a *app) server(name string) (*config.Server, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	return cfg.Server(name)
}

// catalog opens the catalogue of a server.
func (a *app) catalog(name string) (*config.Server, *catalog.Catalog, error) {
	s, err := a.server(name)
	if err != nil {
		return nil, nil, err
	}
	return s, catalog.Open(catalog.LayoutOf(s)), nil
}

// log is the program's log: the terminal with --debug, and log_file.
func (a *app) log() (*slog.Logger, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	terminal := io.Discard
	if a.debug {
		terminal = a.stderr
	}
	level := a.logLevel
	if level == "" {
		level = cfg.Global.LogLevel
	}
	return logging.Open(terminal, cfg.Global.LogFile, level)
}

// engineAnswers is how long the engine may take to answer.
const engineAnswers = 4 * time.Second

// engine connects to the Temporal server.
func (a *app) engine(ctx context.Context) (client.Client, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	log, err := a.log()
	if err != nil {
		return nil, err
	}
	return engine.Dial(ctx, cfg.Global.HoldfastStateDirectory, log, engineAnswers)
}

// say prints a message for people; in JSON mode it becomes part of the object.
func (a *app) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch {
	case a.format == "json":
		a.note("_INFO", text)
	case !a.quiet:
		fmt.Fprintln(a.stdout, text)
	}
}

// warn prints a warning to stderr.
func (a *app) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.format == "json" {
		a.note("_WARNING", text)
		return
	}
	fmt.Fprintln(a.stderr, a.paint(a.stderr, yellow, "WARNING:")+" "+text)
}

func (a *app) warnAll(texts []string) {
	for _, text := range texts {
		a.warn("%s", text)
	}
}

// warnOf is warn for an error, with its remedy.
func (a *app) warnOf(err error) {
	if hint := a.hint(err); hint != "" {
		a.warn("%v; %s", err, hint)
		return
	}
	a.warn("%v", err)
}

func (a *app) note(key, text string) {
	list, _ := a.json[key].([]string)
	a.json[key] = append(list, text)
}

// finish reports the error that ended a command, and prints the JSON object.
func (a *app) finish(err error) error {
	if err != nil && err.Error() != "" {
		a.fail(err)
	}
	if a.format != "json" || a.json == nil {
		return nil
	}
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	return e.Encode(a.json)
}

// hint is an error's remedy; the commands that it names are to be given for the same store.
func (a *app) hint(err error) string {
	hint := fault.RemedyOf(err)
	if a.from != "" && strings.Contains(hint, "holdfast ") && !strings.Contains(hint, "--from") {
		hint += " (with --from " + a.from + ")"
	}
	return hint
}

func (a *app) fail(err error) {
	text := strings.TrimSpace(err.Error())
	hint := a.hint(err)
	if a.format == "json" && a.json != nil {
		a.note("_ERROR", text)
		if hint != "" {
			a.note("_HINT", hint)
		}
		return
	}
	fmt.Fprintln(a.stderr, a.paint(a.stderr, red, "ERROR:")+" "+text)
	if hint != "" {
		fmt.Fprintln(a.stderr, "HINT: "+hint)
	}
}

func join(list []string) string { return strings.Join(list, ", ") }
