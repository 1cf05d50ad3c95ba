package config

import (
	"path/filepath"
	"time"
)

// Global holds the options that only [barman] may set.
type Global struct {
	BarmanHome                  string        `topic:"General" ini:"barman_home" type:"path" scope:"G" strict:"true" doc:"Directory of everything that is kept about all servers. Required."`
	BarmanUser                  string        `topic:"General" ini:"barman_user" type:"string" default:"barman" scope:"G" doc:"System user that owns the backups; processes started as root become this user."`
	BarmanLockDirectory         string        `topic:"General" ini:"barman_lock_directory" type:"path" computed:"barman_home" scope:"G" strict:"true" doc:"Directory of the lock files that are shared with Barman."`
	LockDirectoryCleanup        bool          `topic:"General" ini:"lock_directory_cleanup" type:"bool" default:"true" scope:"G" doc:"Remove lock files that nobody holds."`
	ConfigurationFilesDirectory string        `topic:"General" ini:"configuration_files_directory" type:"path" scope:"G" doc:"Directory whose files ending in .conf are read too, in the order of their names. They may not alter [barman]."`
	ConfigChangesQueue          string        `topic:"General" ini:"config_changes_queue" type:"path" computed:"barman_home/cfg_changes.queue" scope:"G" doc:"Queue of configuration changes that Barman's config-update has yet to apply."`
	LogFile                     string        `topic:"General" ini:"log_file" type:"path" scope:"G" doc:"File that log messages are appended to."`
	LogLevel                    string        `topic:"General" ini:"log_level" type:"enum" values:"DEBUG,INFO,WARNING,ERROR,CRITICAL" default:"INFO" scope:"G" doc:"Least important message that is logged."`
	HoldfastStateDirectory      string        `topic:"Holdfast's own" ini:"holdfast_state_directory" type:"path" computed:"barman_home/.holdfast" scope:"G" strict:"true" doc:"Directory of what outlives a process but not a backup: session records and the embedded engine's database."`
	HoldfastSessionLease        time.Duration `topic:"Holdfast's own" ini:"holdfast_session_lease" type:"duration" default:"12h" scope:"G" strict:"true" doc:"How long a PostgreSQL backup session may stay open when no workflow claims it."`
}

func (g *Global) compute() {
	if g.BarmanHome == "" {
		return
	}
	setDefault(&g.BarmanLockDirectory, g.BarmanHome)
	setDefault(&g.ConfigChangesQueue, filepath.Join(g.BarmanHome, "cfg_changes.queue"))
	setDefault(&g.HoldfastStateDirectory, filepath.Join(g.BarmanHome, ".holdfast"))
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
