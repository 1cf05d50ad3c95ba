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
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
	"github.com/holdfast-pg/holdfast/starter/front/handoff"
)

func main() { os.Exit(run()) }

func run() int {
	// On a terminal errors have colours.
	if c, is := read(os.Args[1:]); is && !term.IsTerminal(int(os.Stderr.Fd())) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return c.run(ctx)
	}
	path, err := command.Sibling(handoff.Whole)
	if err == nil {
		err = fault.New(fault.Tool, "run", path, "%w", syscall.Exec(path, os.Args, os.Environ())).WithHint("install all programs of one release")
	}
	tell(err)
	return fault.KindOf(err).ExitCode()
}

// call is a command line that is understood here.
type call struct {
	config  string
	fetch   bool
	partial bool
	args    []string // a server and a file; of a fetch, its destination too
}

// read understands the forms in which PostgreSQL is told to call us; false for every other,
// a wrong one too.
func read(args []string) (c call, is bool) {
	name := ""
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		option, value, has := strings.Cut(arg, "=")
		switch {
		case option == "--config" && has:
			c.config = value
		case (arg == "-c" || arg == "--config") && len(args) > 0:
			c.config, args = args[0], args[1:]
		case arg == "-P", arg == "--partial":
			c.partial = true
		case option == "--partial" && has:
			var err error
			if c.partial, err = strconv.ParseBool(value); err != nil {
				return c, false
			}
		case strings.HasPrefix(arg, "-"), arg == "":
			return c, false
		case name == "":
			name = arg
			switch name {
			case "wal-archive", "cloud-wal-archive":
			case "wal-restore":
				c.fetch = true
			case "cloud-wal-restore":
				c.fetch, c.partial = true, true
			default:
				return c, false
			}
		default:
			c.args = append(c.args, arg)
		}
	}
	if c.fetch {
		return c, len(c.args) == 3
	}
	return c, name != "" && !c.partial && len(c.args) == 2
}

func (c call) run(ctx context.Context) int {
	s, archive, err := c.open()
	if !c.fetch {
		if err == nil {
			err = walcommand.Archive(ctx, s, archive, c.args[1])
		}
		if err != nil {
			tell(err)
			return fault.KindOf(err).ExitCode()
		}
		return 0
	}
	if err == nil {
		err = walcommand.Fetch(ctx, s, archive, c.args[1], c.args[2], c.partial)
	} else {
		err = walcommand.Unusable(c.args[1], err)
	}
	code, silent := walcommand.RestoreCode(err)
	if !silent {
		tell(err)
	}
	return code
}

func (c call) open() (*config.Server, *walarchive.Archive, error) {
	cfg, err := walcommand.Configuration(c.config)
	if err != nil {
		return nil, nil, err
	}
	s, err := cfg.Server(c.args[0])
	if err != nil {
		return nil, nil, err
	}
	archive, err := walarchive.ForServer(s, drivers.Open)
	return s, archive, err
}

// tell prints an error as holdfast-cli does.
func tell(err error) {
	fmt.Fprintln(os.Stderr, "ERROR: "+strings.TrimSpace(err.Error()))
	if hint := fault.RemedyOf(err); hint != "" {
		fmt.Fprintln(os.Stderr, "HINT: "+hint)
	}
}
