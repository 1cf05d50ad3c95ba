package main

import (
	"encoding/json"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/hook"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// restoreHooks are the scripts of a restore, and what they are told of it.
func restoreHooks(s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, o restoreOptions, plan *restoreplan.Plan) (*hook.Hooks, hook.Event, error) {
	e, err := hook.OfBackup(hook.Recovery, cat, info)
	if err != nil {
		return nil, e, err
	}
	tablespaces := map[string]string{}
	for _, t := range plan.Tablespaces {
		tablespaces[t.Name] = t.Dest
	}
	options := map[string]any{}
	for name, value := range map[string]string{"target_time": o.targetTime, "target_lsn": o.targetLSN, "target_tli": o.targetTimeline, "target_action": o.targetAction} {
		if value != "" {
			options[name] = value
		}
	}
	for name, value := range map[string]bool{"target_immediate": o.targetImmediate, "get_wal": o.getWAL, "standby_mode": o.standby} {
		if value {
			options[name] = true
		}
	}
	for key, value := range map[string]any{"BARMAN_TABLESPACES": tablespaces, "BARMAN_RECOVER_OPTIONS": options} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, e, fault.Wrap(fault.Internal, "encode", key, err)
		}
		e.Vars[key] = string(text)
	}
	e.Vars["BARMAN_DESTINATION_DIRECTORY"], e.Vars["BARMAN_REMOTE_COMMAND"] = plan.Dest, ""
	e.Err = ""
	return hook.Of(s), e, nil
}
