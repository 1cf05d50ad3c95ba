package rsync

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// Host is another host, which the cluster's files lie on (package ssh). GNU
// find and rsync are installed there.
type Host interface {
	// Run gives a script to sh and copies what it prints. It fails with
	// fault.Connection when the host cannot be reached, or no longer.
	Run(ctx context.Context, script string, out io.Writer) error
	// Command is how rsync reaches the host.
	Command() []string
}

// linkPatience is how long a copy waits for a host that cannot be reached any more.
const linkPatience = 10 * time.Minute

// there is the host of the cluster, when that is another one.
type there struct {
	Host
	here     here
	fence    Fence
	workDir  string
	mark     string // in the environment of our programs there
	compress bool
	progress *Progress
}

// markEnv is in the environment of each rsync that a copy has started on another
// host. Its value tells whose copy it is.
const markEnv = "HOLDFAST_COPY"

// markOf names a copy on the host of the cluster.
func markOf(host, workDir string) string { return markEnv + "=" + host + ":" + workDir }

// ask runs a script, again when the way to the host was cut meanwhile. What it
// printed until then is dropped: begin makes a reader of its records, which end
// with a zero byte.
func (t *there) ask(ctx context.Context, script string, begin func() (each func(record string) error)) error {
	began, doing := time.Now(), t.progress.What()
	defer func() { t.progress.say(doing) }()
	for {
		out := &records{each: begin()}
		err := t.Run(ctx, script, out)
		if err == nil && len(out.rest) > 0 {
			err = fault.New(fault.Tool, "read", "the output of a script", "it ends within a record: %q", out.rest)
		}
		if !fault.Is(err, fault.Connection) || time.Since(began) > linkPatience {
			return err
		}
		t.progress.say("waits for the host of the cluster: " + err.Error())
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
}

// records cuts what is written to it at zero bytes.
type records struct {
	each func(string) error
	rest []byte
}

func (r *records) Write(p []byte) (int, error) {
	n := len(p)
	for {
		at := bytes.IndexByte(p, 0)
		if at < 0 {
			r.rest = append(r.rest, p...)
			return n, nil
		}
		record := string(p[:at])
		if len(r.rest) > 0 {
			record = string(r.rest) + record
			r.rest = r.rest[:0]
		}
		p = p[at+1:]
		if err := r.each(record); err != nil {
			return 0, err
		}
	}
}

// all collects the records of a script.
func (t *there) all(ctx context.Context, script string) (out []string, err error) {
	return out, t.ask(ctx, script, func() func(string) error {
		out = nil
		return func(s string) error { out = append(out, s); return nil }
	})
}

// world also ends what earlier runs of this copy have left there.
func (t *there) world(ctx context.Context) (world, error) {
	out, err := t.all(ctx, endMarked(t.mark)+`printf '%s\0' "$(uname -n)" "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" "$(date +%s.%N)"`)
	if err != nil {
		return world{}, err
	}
	if len(out) != 3 {
		return world{}, fault.New(fault.Tool, "ask", "the host of the cluster", "it says %q", out)
	}
	now, err := parseTime(out[2])
	// What was copied also has to be in our own page cache still.
	return world{t.here.host + " " + out[0], t.here.boot + " " + out[1], time.Unix(0, now)}, err
}

// endMarked ends the programs that carry a mark.
func endMarked(mark string) string {
	return `for e in $(grep -lsF ` + ssh.Quote(mark) + ` /proc/[0-9]*/environ); do e=${e#/proc/}; kill -9 "${e%/environ}" 2>/dev/null; done
`
}

func (t *there) release(ctx context.Context) error {
	_, err := t.all(ctx, endMarked(t.mark))
	return err
}

func (t *there) look(ctx context.Context, path string) (datadir.Attributes, bool, error) {
	dir, name := filepath.Split(path)
	name = ssh.Quote("./" + name)
	out, err := t.all(ctx, "cd "+ssh.Quote(dir)+" || exit\n[ -e "+name+" ] || [ -L "+name+" ] || exit 0\n"+
		"LC_ALL=C find -L "+name+" -maxdepth 0 "+findPrint)
	if err != nil {
		return datadir.Attributes{}, false, fault.Wrap(fault.Tool, "look at", path, err)
	}
	if len(out) == 0 {
		return datadir.Attributes{}, false, nil
	}
	f, err := parseFound(out[0])
	switch {
	case err == nil && f.kind == 'l':
		err = datadir.Unreadable(path, unix.ENOENT)
	case err == nil && f.denied:
		err = datadir.Unreadable(path, unix.EACCES)
	}
	return f.Attributes, err == nil, err
}

func (t *there) vanished(ctx context.Context, dir string, names []string) ([]bool, error) {
	var script strings.Builder
	script.WriteString("cd " + ssh.Quote(dir) + " || exit\nt() { if [ -d \"$1\" ] && [ ! -x \"$1\" ]; then printf 'x\\0'; elif [ -r \"$1\" ]; then printf 'r\\0'; elif [ -e \"$1\" ] || [ -L \"$1\" ]; then printf 'x\\0'; else printf 'g\\0'; fi; }\n")
	for _, name := range names {
		script.WriteString("t " + ssh.Quote("./"+name) + "\n")
	}
	out, err := t.all(ctx, script.String())
	if err != nil {
		return nil, fault.Wrap(fault.Tool, "look at the files of", dir, err)
	}
	if len(out) != len(names) {
		return nil, fault.New(fault.Tool, "look at the files of", dir, "%d were asked for, %d answered", len(names), len(out))
	}
	gone := make([]bool, len(names))
	for i, what := range out {
		if what == "x" {
			return nil, datadir.Unreadable(filepath.Join(dir, names[i]), unix.EACCES)
		}
		gone[i] = what == "g"
	}
	return gone, nil
}

// address: names come in a list, in which no character has a meaning.
func (t *there) address(args []string, dir string, names []string) ([]string, string) {
	var shell []string
	for _, word := range t.Command() {
		shell = append(shell, "'"+strings.ReplaceAll(word, "'", "''")+"'") // rsync(1), --rsh
	}
	if t.compress {
		args = append(args, "--compress")
	}
	args = append(args, "--rsh="+strings.Join(shell, " "), "--rsync-path=env "+ssh.Quote(t.mark)+" rsync", "--protect-args",
		"--from0", "--files-from=-", "--", ":"+literal(dir)+"/")
	return args, strings.Join(names, "\x00") + "\x00"
}

// literal keeps rsync from reading a pattern in a path on the other host.
func literal(path string) string {
	if !strings.ContainsAny(path, "*?[") {
		return path
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func (*there) parts(_ string, entries []entry) [][]entry { return [][]entry{entries} }

// lost: rsync ends with ssh's own exit code, or with one of those of a stream
// that ended (rsync(1), EXIT VALUES).
func (*there) lost(code int) bool {
	return code == 255 || code == 12 || code == 10 || code == 30 || code == 35
}

// parseTime reads seconds with a fraction, as find and date print them, in
// nanoseconds.
func parseTime(text string) (int64, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, fault.New(fault.Tool, "read", "a time", "%q is none", text)
	}
	nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return 0, fault.New(fault.Tool, "read", "a time", "%q is none", text)
	}
	if strings.HasPrefix(whole, "-") {
		nanos = -nanos
	}
	return seconds*int64(time.Second) + nanos, nil
}

// RealPaths follows the links of paths on the host of the cluster.
func RealPaths(ctx context.Context, on Host, paths []string) (map[string]string, error) {
	var script strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&script, "readlink -fz -- %[1]s || printf '%%s\\0' %[1]s\n", ssh.Quote(path))
	}
	real := map[string]string{}
	i := 0
	out := &records{each: func(s string) error {
		if i < len(paths) {
			real[paths[i]] = s
		}
		i++
		return nil
	}}
	if err := on.Run(ctx, script.String(), out); err != nil {
		return nil, fault.Wrap(fault.Tool, "follow the links of", "the cluster's directories", err)
	}
	if i != len(paths) {
		return nil, fault.New(fault.Tool, "follow the links of", "the cluster's directories", "%d were asked for, %d answered", len(paths), i)
	}
	return real, nil
}
