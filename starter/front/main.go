// Command holdfast is what PostgreSQL and people call. It moves WAL files itself, when it is
// called as archive_command and restore_command call it, and leaves every other command line
// to holdfast-cli, which replaces it.
//
// PostgreSQL starts a process for each segment. This one links no client of the engine, which
// takes longer to start, and more memory, than a segment does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
	"github.com/holdfast-pg/holdfast/starter/front/cmdline"
	"github.com/holdfast-pg/holdfast/starter/front/early"
	"github.com/holdfast-pg/holdfast/starter/front/handoff"
)

func main() { os.Exit(run()) }

func run() int {
	// On a terminal errors have colours.
	if c, is := cmdline.Read(os.Args[1:]); is && !term.IsTerminal(int(os.Stderr.Fd())) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return move(ctx, c)
	}
	path, err := command.Sibling(handoff.Whole)
	if err == nil {
		err = fault.New(fault.Tool, "run", path, "%w", syscall.Exec(path, os.Args, os.Environ())).WithHint("install all programs of one release")
	}
	tell(err)
	return fault.KindOf(err).ExitCode()
}

func move(ctx context.Context, c cmdline.Call) int {
	cfg, s, archive, err := open(c)
	if !c.Fetch {
		if err == nil {
			err = walcommand.Archive(ctx, s, archive, c.File)
		}
		if err != nil {
			tell(err)
			return fault.KindOf(err).ExitCode()
		}
		early.Leave(c, s.WALPlace(), walcommand.NoteOf(s), cfg.Sources)
		return 0
	}
	if err == nil {
		err = walcommand.Fetch(ctx, s, archive, c.File, c.Dest, c.Partial)
	} else {
		err = walcommand.Unusable(c.File, err)
	}
	if err == nil {
		early.Leave(c, s.WALPlace(), walcommand.NoteOf(s), cfg.Sources)
	}
	code, silent := walcommand.RestoreCode(err)
	if !silent {
		tell(err)
	}
	return code
}

func open(c cmdline.Call) (*config.Config, *config.Server, *walarchive.Archive, error) {
	cfg, err := walcommand.Configuration(c.Config)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := cfg.Server(c.Server)
	if err != nil {
		return nil, nil, nil, err
	}
	archive, err := walarchive.ForServer(s, drivers.Open)
	return cfg, s, archive, err
}

// tell prints an error as holdfast-cli does.
func tell(err error) {
	fmt.Fprintln(os.Stderr, "ERROR: "+strings.TrimSpace(err.Error()))
	if hint := fault.RemedyOf(err); hint != "" {
		fmt.Fprintln(os.Stderr, "HINT: "+hint)
	}
}
