package rsync

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// oldest is the first version whose statistics and options we rely on.
var oldest = [3]int{3, 1, 3}

var versionText = lazyregexp.New(`^rsync\s+version\s+v?(\d+)\.(\d+)\.(\d+)`)

// Find is where the program lies that copies will run. One that is too old is
// refused.
func Find(ctx context.Context, pathPrefix string) (string, error) {
	path, err := command.Find("rsync", pathPrefix)
	if err != nil {
		return "", err
	}
	out, err := command.Output(ctx, path, "--version")
	if err != nil {
		return "", fault.Wrap(fault.Tool, "run", path, err)
	}
	return path, checkVersion(path, out)
}

// CheckHost makes sure that the host of the cluster has what a copy needs, and
// that we may read the cluster's files there.
func CheckHost(ctx context.Context, on Host, pgdata string) error {
	control := filepath.Join(pgdata, "global", "pg_control")
	var out records
	var answers []string
	out.each = func(s string) error { answers = append(answers, s); return nil }
	err := on.Run(ctx, `a() { printf '%s\0' "$1"; }
a "$(id -un)"
a "$PATH"
a "$(command -v rsync)"
a "$(rsync --version 2>/dev/null)"
a "$(find --version 2>/dev/null)"
c=`+ssh.Quote(control)+`
if [ -r "$c" ]; then a readable; else a "$(LC_ALL=C ls -d "$c" 2>&1)"; fi`, &out)
	if err != nil {
		return err
	}
	if len(answers) != 6 {
		return fault.New(fault.Tool, "ask", "the host of the cluster", "it says %q", answers)
	}
	user, path, rsync, version, find, read := answers[0], answers[1], answers[2], answers[3], answers[4], answers[5]
	switch {
	case rsync == "":
		return fault.New(fault.Tool, "find program", "rsync", "on the host of the cluster it is not in PATH (%s)", path).
			WithHint("install rsync there; where it is installed, let the start-up files of user %s set PATH also for shells that are not interactive", user)
	case !strings.Contains(find, "GNU findutils"):
		return fault.New(fault.Tool, "find program", "find", "on the host of the cluster it is missing, or not that of GNU findutils").
			WithHint("install findutils there, or use backup_method = postgres")
	case strings.Contains(read, "No such file"):
		return fault.New(fault.NotFound, "read the cluster's files", control, "there is no such file on the host that ssh_command leads to").
			WithHint("let ssh_command and conninfo name the same server")
	case read != "readable":
		return fault.New(fault.Permission, "read the cluster's files", control, "user %s may not, on the host that ssh_command leads to", user).
			WithHint("let ssh_command log in as a user that may read every file of the cluster, usually postgres")
	}
	return checkVersion("rsync on the host of the cluster", version)
}

func checkVersion(path, out string) error {
	first, _, _ := strings.Cut(out, "\n")
	var v [3]int
	m := versionText.FindStringSubmatch(first)
	if m != nil {
		for i := range v {
			if _, err := fmt.Sscan(m[i+1], &v[i]); err != nil {
				m = nil
				break
			}
		}
	}
	wanted := fmt.Sprintf("%d.%d.%d", oldest[0], oldest[1], oldest[2])
	hint := "install rsync " + wanted + " or later (on this host, path_prefix may name its directory), or use backup_method = postgres"
	if m == nil {
		return fault.New(fault.Tool, "read version of", path, "it says %q", first).WithHint("%s", hint)
	}
	for i := range v {
		if v[i] != oldest[i] {
			if v[i] > oldest[i] {
				return nil
			}
			return fault.New(fault.Tool, "use", path, "it is of version %d.%d.%d, %s is needed", v[0], v[1], v[2], wanted).WithHint("%s", hint)
		}
	}
	return nil
}
