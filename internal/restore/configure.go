package restore

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// Change is one line of a configuration file. Lines count from 1.
type Change struct {
	File  string
	Line  int
	Key   string
	Value string
}

// Settings that would make the restored server write into the source's
// archive, or stop where an old recovery stopped.
func dangerous(key string) bool {
	return key == "archive_command" || key == "archive_library" || strings.HasPrefix(key, "recovery_target")
}

// Settings that may point at the source's files.
var reported = map[string]bool{
	"data_directory": true, "config_file": true, "hba_file": true, "ident_file": true, "external_pid_file": true,
	"ssl_cert_file": true, "ssl_key_file": true, "ssl_ca_file": true, "ssl_crl_file": true,
	"unix_socket_directory": true, "unix_socket_directories": true,
	"include": true, "include_dir": true, "include_if_exists": true,
}

const autoConf = "postgresql.auto.conf"

// configure reviews the restored configuration and writes the recovery
// settings. archive_command is switched off in postgresql.auto.conf, which no
// included file can override.
func (r *Result) configure(data string, info *backupinfo.Info, plan *restoreplan.Plan) error {
	for _, name := range []string{"postgresql.conf", autoConf} {
		if err := r.review(data, name); err != nil {
			return err
		}
	}
	for _, name := range []string{"postgresql.conf", autoConf, "pg_hba.conf", "pg_ident.conf"} {
		if _, err := os.Stat(filepath.Join(data, name)); errors.Is(err, fs.ErrNotExist) {
			r.MissingFiles = append(r.MissingFiles, name)
		}
	}
	path := filepath.Join(data, autoConf)
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	var b bytes.Buffer
	b.Write(content)
	if len(content) > 0 && content[len(content)-1] != '\n' {
		b.WriteByte('\n')
	}
	b.WriteString("# written by holdfast for the restore of backup " + string(info.ID) + "\narchive_command = 'false'\n")
	if info.Version != nil && *info.Version >= 150000 {
		b.WriteString("archive_library = ''\n")
	}
	for _, s := range plan.Settings {
		b.WriteString(s + "\n")
	}
	if err := atomicfile.Write(path, b.Bytes(), 0o600); err != nil {
		return err
	}
	if plan.Signal == "" {
		return nil
	}
	return atomicfile.Write(filepath.Join(data, plan.Signal), nil, 0o600)
}

// review comments out dangerous settings of one file; the original is kept
// under name + ".origin".
func (r *Result) review(data, name string) error {
	path := filepath.Join(data, name)
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	var out bytes.Buffer
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
			r.Changes = append(r.Changes, c)
			continue
		case ok && reported[key]:
			r.Warnings = append(r.Warnings, Change{File: name, Line: line, Key: key, Value: value})
		}
		out.WriteString(text + "\n")
	}
	if err := sc.Err(); err != nil {
		return fault.Wrap(fault.Corrupt, "read", path, err)
	}
	if !changed {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fault.Wrap(fault.Internal, "stat", path, err)
	}
	if err := atomicfile.Write(path+".origin", content, info.Mode().Perm()); err != nil {
		return err
	}
	return atomicfile.Write(path, out.Bytes(), info.Mode().Perm())
}

// setting splits a line of postgresql.conf: name, optional equals sign, value
// (PostgreSQL manual, "Parameter Interaction via the Configuration File").
func setting(line string) (key, value string, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	end := strings.IndexAny(line, "= \t")
	if end <= 0 {
		return "", "", false
	}
	value = strings.TrimSpace(line[end:])
	value = strings.TrimSpace(strings.TrimPrefix(value, "="))
	return strings.ToLower(line[:end]), value, true
}
