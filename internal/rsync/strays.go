package rsync

import (
	"context"
	"io"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// Strays counts the programs that copies into directories below dir have on the
// host of the cluster, by the working directory of each copy. This host is the
// one that takes the backups.
func Strays(ctx context.Context, there Host, thisHost, dir string) (map[string]int, error) {
	before := markOf(thisHost, strings.TrimSuffix(dir, "/")+"/")
	out := map[string]int{}
	found := &records{each: func(entry string) error {
		if below, ours := strings.CutPrefix(entry, before); ours {
			out[dir+"/"+below]++
		}
		return nil
	}}
	err := there.Run(ctx, "grep -zshF "+ssh.Quote(before)+" /proc/[0-9]*/environ || :\n", found)
	return out, fault.Wrap(fault.Internal, "look for", "programs on the host of the cluster", err)
}

// EndStrays ends what an earlier copy into workDir has left on the host of the
// cluster. This host is the one that takes the backup.
func EndStrays(ctx context.Context, there Host, thisHost, workDir string) error {
	return there.Run(ctx, endMarked(markOf(thisHost, workDir)), io.Discard)
}
