// Package pgtool finds those of PostgreSQL's programs that serve one major
// version only. What they are called with is the business of others.
package pgtool

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// packaged is where Debian's and PGDG's packages put the programs of a version.
var packaged = []string{"/usr/lib/postgresql/%d/bin", "/usr/pgsql-%d/bin"}

var versionText = lazyregexp.New(`\(PostgreSQL\)\s+(\d+)`)

// Version asks a program for its major version.
func Version(ctx context.Context, path string) (int, error) {
	out, err := command.Output(ctx, path, "--version")
	if err != nil {
		return 0, fault.Wrap(fault.Tool, "run", path, err)
	}
	m := versionText.FindStringSubmatch(out)
	if m == nil {
		return 0, fault.New(fault.Tool, "read version of", path, "it says %q", strings.TrimSpace(out))
	}
	return strconv.Atoi(m[1])
}

// Find looks for a program of a major version in path_prefix, in PATH, and where
// packages install it.
func Find(ctx context.Context, name, pathPrefix string, major int) (string, error) {
	dirs := filepath.SplitList(pathPrefix + string(filepath.ListSeparator) + os.Getenv("PATH"))
	for _, dir := range packaged {
		dirs = append(dirs, fmt.Sprintf(dir, major))
	}
	var others []string
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if dir == "" || err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		version, err := Version(ctx, path)
		switch {
		case ctx.Err() != nil:
			return "", err
		case err != nil:
			others = append(others, err.Error())
		case version == major:
			return path, nil
		default:
			others = append(others, fmt.Sprintf("%s is of version %d", path, version))
		}
	}
	found := "it is neither in path_prefix nor in PATH"
	if len(others) > 0 {
		found = strings.Join(others, "; ")
	}
	return "", fault.New(fault.Tool, "find program", name, "version %d is needed, and %s", major, found).
		WithHint("install the programs of PostgreSQL %d (on Debian postgresql-%d), and let path_prefix name their directory", major, major)
}
