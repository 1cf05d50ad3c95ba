package rsync

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// transfer is what one rsync process has to do.
type transfer struct {
	source, dest string
	rateKB       int
	reference    string // directory of the previous backup to compare contents with; "" for none
	link         bool   // what is equal is linked, else copied from there
}

// options is the command line (rsync(1)), but for the files. A file arrives in a
// temporary directory and is renamed, whole: --inplace is never used, and what a
// killed process leaves is not in the backup. Times are compared to the
// nanosecond.
func (t transfer) options(temporary string) []string {
	args := []string{"--relative", "--no-implied-dirs", "--copy-links", "--perms", "--times", "--omit-dir-times",
		"--whole-file", "--modify-window=-1", "--ignore-missing-args", "--stats", "--no-human-readable", "--temp-dir=" + temporary}
	if t.rateKB > 0 {
		args = append(args, "--bwlimit="+strconv.Itoa(t.rateKB))
	}
	if t.reference != "" {
		how := "--copy-dest="
		if t.link {
			how = "--link-dest="
		}
		args = append(args, "--checksum", how+t.reference)
	}
	return args
}

// parseStats finds the number of files that rsync transferred in what --stats prints.
func parseStats(out string) (int64, error) {
	const title = "Number of regular files transferred: "
	_, rest, ok := strings.Cut(out, title)
	if !ok {
		return 0, fault.New(fault.Tool, "read the output of", "rsync", "it has no line %q", title).WithHint("rsync 3.1.3 or later is needed: rsync --version")
	}
	number, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	return n, fault.Wrap(fault.Tool, "read the output of", "rsync", err)
}

// again is how often a transfer is repeated at once when rsync was ended from
// outside, or left files out that are there after all.
const again = 3

// transfer copies files to a place where none of them is, and returns those that
// did not vanish meanwhile. Rsync's exit code is judged by looking at both sides.
func (c *copier) transfer(ctx context.Context, t transfer, entries []entry) ([]entry, error) {
	gone := map[string]bool{}
	left := entries
	for free, paid := 0, 0; ; {
		n, out, err := c.rsync(ctx, t, left)
		c.sent.Add(n)
		var exit *command.ExitError
		if err != nil && (ctx.Err() != nil || !errors.As(err, &exit)) {
			return nil, err
		}
		if err == nil && n == int64(len(left)) {
			break
		}
		before := len(left)
		if left, err = c.remaining(ctx, t, left, gone, out, exit); len(left) == 0 {
			if err != nil {
				return nil, err
			}
			break
		}
		if len(left) < before {
			free = 0
		}
		switch {
		case (fault.Is(err, fault.Crashed) || fault.Is(err, fault.Connection)) && free < again:
			free++
		case paid < c.RetryTimes:
			paid++
			if err := pause(ctx, c.RetrySleep); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	if len(gone) == 0 {
		return entries, nil
	}
	there := make([]entry, 0, len(entries)-len(gone))
	for _, e := range entries {
		if !gone[e.Rel] {
			there = append(there, e)
		}
	}
	return there, nil
}

// remaining returns the files that are at the source and not at the
// destination, with the reason why the first of them is not; none with an error
// that no repetition cures. Those that have vanished it adds to gone.
func (c *copier) remaining(ctx context.Context, t transfer, entries []entry, gone map[string]bool, stderr string, exit *command.ExitError) ([]entry, error) {
	var absent []entry
	var names []string
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(t.dest, e.Rel), &st) != nil {
			absent, names = append(absent, e), append(names, e.Rel)
		}
	}
	if len(absent) == 0 {
		return nil, nil
	}
	if strings.Contains(stderr, "No space left on device") || strings.Contains(stderr, "Disk quota exceeded") {
		return nil, fault.New(fault.Disk, "copy", filepath.Join(t.source, names[0]), "%w: %s", unix.ENOSPC, firstLine(stderr))
	}
	vanished, err := c.from.vanished(ctx, t.source, names)
	if err != nil {
		return nil, err
	}
	var left []entry
	for i, e := range absent {
		if vanished[i] {
			gone[e.Rel] = true
		} else {
			left = append(left, e)
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	first := filepath.Join(t.source, left[0].Rel)
	switch {
	case exit == nil:
		// It came back between rsync's look and ours.
		return left, fault.New(fault.Crashed, "copy", first, "rsync left it out without a word")
	case c.from.lost(exit.Code):
		return left, fault.New(fault.Connection, "copy", first, "the connection to the host of the cluster was cut: %w", exit).
			WithHint("look at the network, and at the log of sshd on the host")
	case ended(exit):
		return left, fault.New(fault.Crashed, "copy", first, "%w", exit).
			WithHint("something ended rsync; if nobody did, look for the kernel's out-of-memory killer: dmesg | grep -i oom")
	}
	return left, fault.New(fault.Tool, "copy", first, "rsync ended with exit code %d: %s", exit.Code, firstLine(stderr)).
		WithHint("%d files of a batch were not copied; basebackup_retry_times tries again", len(left))
}

// ended reports whether rsync, or the half of it at the other side, was ended
// by a signal (rsync(1), EXIT VALUES).
func ended(e *command.ExitError) bool {
	switch e.Code {
	case -1, 12, 14, 19, 20, 30, 35:
		return true
	}
	return false
}

// firstLine is the first whole line that says what went wrong.
func firstLine(stderr string) string {
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "rsync:") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(stderr)
}

// rsync runs rsync until the files are copied or it fails, and returns how many
// files it transferred.
func (c *copier) rsync(ctx context.Context, t transfer, entries []entry) (n int64, stderr string, err error) {
	for _, part := range c.from.parts(t.source, entries) {
		names := make([]string, len(part))
		for i, e := range part {
			names[i] = e.Rel
		}
		args, stdin := c.from.address(t.options(c.temporary()), t.source, names)
		lease, err := c.Fence.Lease()
		if err != nil {
			return n, "", err
		}
		var out bytes.Buffer
		err = command.Run(ctx, command.Spec{Path: c.Program, Args: append(args, t.dest+"/"), Env: []string{c.Fence.Marker()},
			Stdin: strings.NewReader(stdin), Stdout: &out, Lease: lease})
		var exit *command.ExitError
		if errors.As(err, &exit) {
			// A process that was killed counts nothing.
			some, _ := parseStats(out.String())
			return n + some, exit.Stderr, err
		}
		if err != nil {
			return n, "", err
		}
		all, err := parseStats(out.String())
		if err != nil {
			return n, "", err
		}
		n += all
	}
	return n, "", nil
}
