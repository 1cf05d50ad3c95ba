// Package early answers PostgreSQL while the program that imports it is still starting, where a process
// before it has moved the WAL file already.
//
// As of handoff, it is its place in the order of initialization that matters. To read the configuration
// takes longer than such an answer, and what that needs is initialized late. So the process that moves
// files ahead leaves a receipt: which archive they are of, and of what it concluded that. As long as
// nothing of this has changed, the next process would conclude the same. Whatever is in its way it leaves
// to main, which can tell.
package early

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/holdfast-pg/holdfast/internal/receipt"
	"github.com/holdfast-pg/holdfast/internal/walahead/note"
	"github.com/holdfast-pg/holdfast/internal/walspool/handout"
	"github.com/holdfast-pg/holdfast/starter/front/cmdline"
)

// started is before anything was read.
var started = time.Now()

func init() {
	if len(os.Args) > 1 && moved(os.Args[1:]) {
		os.Exit(0)
	}
}

// moved says whether the file of a command line is where it shall be.
func moved(args []string) bool {
	c, is := cmdline.Read(args)
	if !is {
		return false
	}
	concluded, is := valid(c)
	if !is {
		return false
	}
	if !c.Fetch {
		_, name := split(c.File)
		return note.Read(concluded.note, concluded.place, started).Of(c.File, name)
	}
	dir := handout.Beside(c.Dest)
	if !handout.Take(dir, concluded.place, c.File, c.Dest) {
		return false
	}
	handout.Tidy(dir)
	return true
}

// conclusion is what a configuration says of a command line.
type conclusion struct {
	place string // the archive
	note  string // the file that tells what is there already
}

// Leave leaves a receipt, where files were moved ahead: a command line as this one means this place, and
// this note, as long as the sources of the configuration are what they are. It leaves none if one of them
// may have changed since the program was started.
func Leave(c cmdline.Call, place, note string, sources map[string]bool) {
	path, ahead := pathOf(c), note
	if c.Fetch {
		ahead = handout.Beside(c.Dest)
	}
	if _, err := os.Lstat(ahead); err != nil {
		return
	}
	fields := append(asked(c), place, note)
	for source, there := range sources {
		mark, changed := markOf(source)
		if there != (mark != absent) || there && started.Sub(changed) < settled {
			return
		}
		fields = append(fields, source, mark)
	}
	if os.WriteFile(path+".new", receipt.Text(fields), 0o600) != nil || os.Rename(path+".new", path) != nil {
		_ = os.Remove(path + ".new")
	}
}

// settled is how long ago a source was changed at least: longer than a tick of the clock with which file
// systems tell the time.
const settled = time.Second

// valid is what a receipt says; false when there is none of this command line, or it holds no longer.
func valid(c cmdline.Call) (out conclusion, is bool) {
	fields, whole := receipt.Read(pathOf(c))
	want := asked(c)
	n := len(want)
	if !whole || len(fields) < n+2 || (len(fields)-n)%2 != 0 {
		return out, false
	}
	for i := range want {
		if fields[i] != want[i] {
			return out, false
		}
	}
	for rest := fields[n+2:]; len(rest) > 0; rest = rest[2:] {
		if mark, _ := markOf(rest[0]); mark != rest[1] {
			return out, false
		}
	}
	return conclusion{fields[n], fields[n+1]}, true
}

// pathOf is the receipt of a command line: beside the files that PostgreSQL has or wants.
func pathOf(c cmdline.Call) string {
	if c.Fetch {
		return handout.Beside(c.Dest) + "/" + handout.Receipt
	}
	dir, _ := split(c.File)
	return dir + ".holdfast-wal-receipt"
}

// split is filepath.Split.
func split(path string) (dir, name string) {
	i := len(path)
	for i > 0 && path[i-1] != '/' {
		i--
	}
	return path[:i], path[i:]
}

// asked is what decides, beside files, what a command line means.
func asked(c cmdline.Call) []string {
	cwd, _ := syscall.Getwd() // where it cannot be told, it cannot be told later
	return []string{"holdfast receipt 1", c.Config, c.Server, os.Getenv("HOLDFAST_CONFIG"), os.Getenv("BARMAN_CONFIG_FILE"),
		os.Getenv("HOME"), cwd, strconv.Itoa(os.Geteuid())}
}

// absent is the mark of what does not exist.
const absent = "-"

// markOf is that of a file or directory, and when it was changed.
func markOf(path string) (mark string, changed time.Time) {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return absent, time.Time{}
	}
	return receipt.Mark(&st), time.Unix(st.Ctim.Unix())
}
