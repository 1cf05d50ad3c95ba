package restore

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// reviewer goes through the restored configuration and the files that it
// includes, as far as they lie in the data directory.
type reviewer struct {
	*Result
	data string
	seen map[string]bool
}

// review comments out dangerous settings of a file, named relative to the data
// directory; the original is kept under name + ".origin".
func (v *reviewer) review(name string) error {
	if v.seen[name] {
		return nil
	}
	v.seen[name] = true
	path := filepath.Join(v.data, name)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	var out bytes.Buffer
	var included []string
	changed := false
	sc := bufio.NewScanner(bytes.NewReader(content))
	sc.Buffer(nil, 16<<20)
	for line := 1; sc.Scan(); line++ {
		text := sc.Text()
		key, value, ok := setting(text)
		switch {
		case ok && dangerous(key):
			changed = true
			out.WriteString("#BARMAN#" + text + "\n")
			c := Change{File: name, Line: line, Key: key}
			if key == "archive_command" {
				out.WriteString("archive_command = false\n")
				c.Value = "false"
			}
			v.Changes = append(v.Changes, c)
			continue
		case ok && reported[key]:
			v.Warnings = append(v.Warnings, Change{File: name, Line: line, Key: key, Value: value})
			if strings.HasPrefix(key, "include") {
				included = append(included, v.included(name, key, value)...)
			}
		}
		out.WriteString(text + "\n")
	}
	if err := sc.Err(); err != nil {
		return fault.Wrap(fault.Corrupt, "read", path, err)
	}
	if changed {
		if err := rewrite(path, content, out.Bytes()); err != nil {
			return err
		}
	}
	for _, name := range included {
		if err := v.review(name); err != nil {
			return err
		}
	}
	return nil
}

func rewrite(path string, before, after []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return fault.Wrap(fault.Internal, "stat", path, err)
	}
	if err := atomicfile.Write(path+".origin", before, info.Mode().Perm()); err != nil {
		return err
	}
	return atomicfile.Write(path, after, info.Mode().Perm())
}

// included are the files that a line of the named file includes. Those outside
// the data directory belong to the host and stay as they are.
func (v *reviewer) included(from, key, value string) []string {
	target := unquote(value)
	if target == "" || filepath.IsAbs(target) {
		return nil
	}
	rel := filepath.Join(filepath.Dir(from), target)
	if rel == ".." || strings.HasPrefix(rel, "../") {
		return nil
	}
	if key != "include_dir" {
		return []string{rel}
	}
	// PostgreSQL reads *.conf without dot files, in the order of their names.
	entries, err := os.ReadDir(filepath.Join(v.data, rel))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); !e.IsDir() && strings.HasSuffix(name, ".conf") && name[0] != '.' {
			out = append(out, filepath.Join(rel, name))
		}
	}
	slices.Sort(out)
	return out
}

// setting splits a line of postgresql.conf: name, optional equals sign, value
// (PostgreSQL manual, "Parameter Interaction via the Configuration File").
func setting(line string) (key, value string, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	end := strings.IndexAny(line, "= \t'")
	if end <= 0 {
		return "", "", false
	}
	value = strings.TrimSpace(line[end:])
	value = strings.TrimSpace(strings.TrimPrefix(value, "="))
	return strings.ToLower(line[:end]), value, true
}

// unquote is the value itself, without quotes and a comment after it.
func unquote(value string) string {
	if value == "" || value[0] != '\'' {
		value, _, _ = strings.Cut(value, "#")
		return strings.TrimSpace(value)
	}
	var b strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\'' && i+1 < len(value) && value[i+1] == '\'', c == '\\' && i+1 < len(value):
			i++
			b.WriteByte(value[i])
		case c == '\'':
			return b.String()
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
