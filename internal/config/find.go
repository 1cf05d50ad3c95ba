package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Find returns the configuration file to use: explicit, else what HOLDFAST_CONFIG
// or BARMAN_CONFIG_FILE names, else the first that exists of ~/.barman.conf,
// /etc/barman.conf and /etc/barman/barman.conf.
func Find(explicit string) (string, error) {
	for _, named := range []string{explicit, os.Getenv("HOLDFAST_CONFIG"), os.Getenv("BARMAN_CONFIG_FILE")} {
		if named != "" {
			return named, nil
		}
	}
	places := []string{"/etc/barman.conf", "/etc/barman/barman.conf"}
	if home, err := os.UserHomeDir(); err == nil {
		places = append([]string{filepath.Join(home, ".barman.conf")}, places...)
	}
	for _, path := range places {
		// One that exists but cannot be opened is the one that was meant.
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
	}
	return "", fault.New(fault.Config, "find configuration", "", "none of %s exists", strings.Join(places, ", ")).
		WithHint("write one of them, or name a file with -c or HOLDFAST_CONFIG")
}
