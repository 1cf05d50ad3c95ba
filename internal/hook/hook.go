// Package hook runs the scripts that a configuration names before and after
// backups, deletions, archived and deleted WAL files, and restores. Which
// script runs when, with which variables, and what its exit code means are
// Barman's. It does not decide what is done about a script that says stop.
package hook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// The events that scripts may be attached to, as BARMAN_HOOK names them.
const (
	Backup    = "backup"
	Delete    = "delete"
	Archive   = "archive"
	WALDelete = "wal_delete"
	Recovery  = "recovery"
)

// Event is what happens, and what its scripts are told of it.
type Event struct {
	Name string            // one of the events
	Vars map[string]string // without the variables that all events share
	Err  string            // why it failed, for scripts after it; "" if it did not
}

// What a retry script may say; 0 is success, and after anything else it is run again.
const (
	giveUp = 62 // go on as if it had succeeded
	stop   = 63 // do not go on
)

// Pauses between two runs of a retry script.
const (
	retries  = 5
	retryGap = 3 * time.Second
	nap      = time.Minute // after the retries, before the next ones
)

// barmanVersion is the version whose behaviour scripts can rely on.
const barmanVersion = "3.20.1"

// scripts are those of an event before or after it.
type scripts struct{ once, retry string }

// Hooks are the scripts of a server. A nil *Hooks has none.
type Hooks struct {
	server, configFile, path string
	timeout                  time.Duration
	scripts                  map[string]scripts
	log                      *slog.Logger
	sleep                    func(context.Context, time.Duration) error
}

// Of are the scripts of a server; nil when it has none. What they print goes
// to the default log.
func Of(s *config.Server) *Hooks {
	all := map[string]scripts{
		"pre_" + Backup: {s.PreBackupScript, s.PreBackupRetryScript}, "post_" + Backup: {s.PostBackupScript, s.PostBackupRetryScript},
		"pre_" + Delete: {s.PreDeleteScript, s.PreDeleteRetryScript}, "post_" + Delete: {s.PostDeleteScript, s.PostDeleteRetryScript},
		"pre_" + Archive: {s.PreArchiveScript, s.PreArchiveRetryScript}, "post_" + Archive: {s.PostArchiveScript, s.PostArchiveRetryScript},
		"pre_" + WALDelete: {s.PreWALDeleteScript, s.PreWALDeleteRetryScript}, "post_" + WALDelete: {s.PostWALDeleteScript, s.PostWALDeleteRetryScript},
		"pre_" + Recovery: {s.PreRecoveryScript, s.PreRecoveryRetryScript}, "post_" + Recovery: {s.PostRecoveryScript, s.PostRecoveryRetryScript},
	}
	maps.DeleteFunc(all, func(_ string, v scripts) bool { return v == scripts{} })
	if len(all) == 0 {
		return nil
	}
	return &Hooks{server: s.Name, configFile: s.ConfigFile, path: s.PathPrefix, timeout: s.HoldfastHookTimeout, scripts: all, log: slog.Default(), sleep: sleep}
}

// Has reports whether anything runs before or after an event.
func (h *Hooks) Has(event string) bool {
	return h != nil && (h.scripts["pre_"+event] != scripts{} || h.scripts["post_"+event] != scripts{})
}

// Before runs the scripts before an event. The error is fault.Refused when the
// retry script said stop; what the other script says changes nothing.
func (h *Hooks) Before(ctx context.Context, e Event) error {
	if h == nil {
		return nil
	}
	s := h.scripts["pre_"+e.Name]
	if s.once != "" {
		h.tell(ctx, e, "pre", false, h.run(ctx, s.once, e, "pre", false))
	}
	if s.retry == "" {
		return ctx.Err()
	}
	return h.insist(ctx, s.retry, e, "pre")
}

// After runs the scripts after an event. What they say changes nothing: the
// error is only that of a context that ended.
func (h *Hooks) After(ctx context.Context, e Event) error {
	if h == nil {
		return nil
	}
	s := h.scripts["post_"+e.Name]
	if s.retry != "" {
		if err := h.insist(ctx, s.retry, e, "post"); err != nil && ctx.Err() == nil {
			h.log.Warn("a script said stop after the fact, which changes nothing", "server", h.server, "hook", "post_"+e.Name+"_retry_script")
		}
	}
	if s.once != "" && ctx.Err() == nil {
		h.tell(ctx, e, "post", false, h.run(ctx, s.once, e, "post", false))
	}
	return ctx.Err()
}

// insist runs a retry script until it says how to go on.
func (h *Hooks) insist(ctx context.Context, script string, e Event, phase string) error {
	for n := 1; ; n++ {
		err := h.run(ctx, script, e, phase, true)
		h.tell(ctx, e, phase, true, err)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		switch code(err) {
		case giveUp:
			return nil
		case stop:
			return fault.New(fault.Refused, "run", phase+"_"+e.Name+"_retry_script", "it says stop (exit code %d)", stop).
				WithHint("its output is in the log; exit code %d goes on, 0 is success", giveUp)
		}
		pause := retryGap
		if n%(retries+1) == 0 {
			pause = nap
		}
		if err := h.sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fault.Wrap(fault.Cancelled, "wait", "before a script is run again", context.Cause(ctx))
	case <-time.After(d):
		return nil
	}
}

// code is the exit code of a script; -1 when it did not end by itself.
func code(err error) int {
	var exit *command.ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	return -1
}

// run runs a script once, through the shell.
func (h *Hooks) run(ctx context.Context, script string, e Event, phase string, retry bool) error {
	within, cancel := context.WithTimeoutCause(ctx, h.timeout, errors.New("it took longer than holdfast_hook_timeout ("+h.timeout.String()+")"))
	defer cancel()
	out := &lines{log: h.log.With("server", h.server, "hook", name(e, phase, retry))}
	defer out.flush()
	return command.Run(within, command.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: h.environ(e, phase, retry), Stdout: out})
}

func name(e Event, phase string, retry bool) string {
	if retry {
		return phase + "_" + e.Name + "_retry_script"
	}
	return phase + "_" + e.Name + "_script"
}

func (h *Hooks) environ(e Event, phase string, retry bool) []string {
	vars := map[string]string{"BARMAN_VERSION": barmanVersion, "BARMAN_SERVER": h.server, "BARMAN_CONFIGURATION": h.configFile, "BARMAN_HOOK": e.Name + "_script",
		"BARMAN_PHASE": phase, "BARMAN_RETRY": "0", "BARMAN_ERROR": e.Err}
	if retry {
		vars["BARMAN_HOOK"], vars["BARMAN_RETRY"] = e.Name+"_retry_script", "1"
	}
	maps.Copy(vars, e.Vars)
	if h.path != "" {
		vars["PATH"] = h.path + string(os.PathListSeparator) + os.Getenv("PATH")
	}
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out
}

// tell logs how a script ended.
func (h *Hooks) tell(ctx context.Context, e Event, phase string, retry bool, err error) {
	log := h.log.With("server", h.server, "hook", name(e, phase, retry))
	switch {
	case err == nil:
		log.Debug("a script ended well")
	case ctx.Err() == nil:
		log.Warn("a script failed", "error", err)
	}
}

// lines logs what a script prints, line by line and without an end.
type lines struct {
	log  *slog.Logger
	part []byte
}

// longest is where a line is cut.
const longest = 4 << 10

var _ io.Writer = (*lines)(nil)

func (l *lines) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		end, next := bytes.IndexByte(l.part, '\n'), 1
		if end > longest || end < 0 && len(l.part) > longest {
			end, next = longest, 0
		}
		if end < 0 {
			return len(p), nil
		}
		l.say(l.part[:end])
		l.part = l.part[end+next:]
	}
}

func (l *lines) say(line []byte) {
	if text := strings.TrimSpace(string(line)); text != "" {
		l.log.Info("a script says", "output", text)
	}
}

func (l *lines) flush() { l.say(l.part); l.part = nil }
