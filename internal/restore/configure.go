package restore

import (
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
	v := &reviewer{Result: r, data: data, seen: map[string]bool{}}
	for _, name := range []string{"postgresql.conf", autoConf} {
		if err := v.review(name); err != nil {
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
