package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retention is how long the history of a closed workflow stays readable.
const retention = 30 * 24 * time.Hour

// lock makes this process the only engine of the lock file until it exits.
func lock(file string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer f.Close()
		return nil, fmt.Errorf("another engine (PID %s) is running on %s: stop it, or choose another directory with --state-dir",
			holder(file), filepath.Dir(file))
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	return f, nil
}

// holder reads the PID in a lock file, which its holder may be about to write.
func holder(file string) string {
	for range 20 {
		if b, err := os.ReadFile(file); err == nil && strings.HasSuffix(string(b), "\n") {
			return strings.TrimSpace(string(b))
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "unknown"
}

// openStore makes the database and the namespaces that are missing.
func openStore(o options) (*config.SQL, error) {
	store := &config.SQL{
		PluginName:        sqlite.PluginName,
		DatabaseName:      "holdfast-engine",
		ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"},
	}
	if o.dbFile != "" {
		if err := createDatabase(o.dbFile); err != nil {
			return nil, fmt.Errorf("database %s: %w", o.dbFile, err)
		}
		store.DatabaseName = uriPath(o.dbFile)
		// synchronous=2 (FULL) flushes the WAL at every commit: an acknowledged write survives power loss.
		store.ConnectAttributes = map[string]string{
			"mode": "rw", "busy_timeout": "5000", "journal_mode": "wal", "synchronous": "2"}
	}
	for _, name := range o.namespaces {
		ns, err := sqliteschema.NewNamespaceConfig(clusterName, name, false, o.attributes)
		if err != nil {
			return nil, err
		}
		ns.Detail.Config.Retention = durationpb.New(retention)
		if err := sqliteschema.CreateNamespaces(store, ns); err != nil {
			return nil, fmt.Errorf("database %s: %w", o.dbFile, err)
		}
	}
	return store, nil
}

// createDatabase builds the schema beside its final place, so that the file is complete or absent.
// The caller holds the lock.
func createDatabase(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := file + ".new"
	for _, leftover := range []string{fresh, fresh + "-journal", file + "-wal", file + "-shm"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// "sqlite" is the driver that Temporal's plugin registers. The file is flushed once, at the end.
	db, err := sql.Open("sqlite", "file:"+uriPath(fresh)+"?_pragma=synchronous=0")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	if err := errors.Join(sqliteschema.SetupSchemaOnDB(schemaDB{db: db}), db.Close()); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return os.Chmod(fresh, 0o600) },
		func() error { return flush(fresh) },
		func() error { return os.Rename(fresh, file) },
		func() error { return flush(filepath.Dir(file)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// schemaDB runs schema statements on a connection that, unlike the plugin's, can be closed.
type schemaDB struct {
	sqlplugin.AdminDB
	db *sql.DB
}

func (s schemaDB) Exec(stmt string, args ...any) error {
	_, err := s.db.Exec(stmt, args...)
	return err
}

// uriPath escapes a path for SQLite's file: URIs.
func uriPath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeAtomically replaces a small file as a whole.
func writeAtomically(file string, content []byte) error {
	temp := file + ".new"
	if err := os.WriteFile(temp, content, 0o644); err != nil {
		return err
	}
	if err := flush(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	return flush(filepath.Dir(file))
}
