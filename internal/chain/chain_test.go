package chain_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/chain"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

func ptr[T any](v T) *T { return &v }

// parent is a backup that may be built on.
func parent() *backupinfo.Info {
	return &backupinfo.Info{ID: "20261124T010000", ServerName: "main", Status: backup.Done, Mode: ptr("postgres"), SystemID: ptr("7"), Version: ptr(180001),
		Timeline: ptr(uint32(1)), BeginLSN: ptr(wal.LSN(0x2000028)), EndLSN: ptr(wal.LSN(0x3000000)), DataChecksums: ptr("on"), SummarizeWAL: ptr("on")}
}

func server() postgres.Facts {
	return postgres.Facts{Version: 180002, SystemID: "7", Timeline: 1, DataChecksums: "on", SummarizeWAL: "on"}
}

func TestCheckParent(t *testing.T) {
	forked := func(at wal.LSN) map[uint32]wal.History {
		return map[uint32]wal.History{2: {TLI: 2, Switches: []wal.Switch{{TLI: 1, At: at}}}}
	}
	for _, c := range []struct {
		change    func(*backupinfo.Info, *postgres.Facts)
		histories map[uint32]wal.History
		says      string // "" when it is accepted
	}{
		{func(*backupinfo.Info, *postgres.Facts) {}, nil, ""},
		{func(_ *backupinfo.Info, f *postgres.Facts) { f.Version = 160004 }, nil, "PostgreSQL 16 takes no incremental backups"},
		{func(_ *backupinfo.Info, f *postgres.Facts) { f.SummarizeWAL = "off" }, nil, "summarize_wal is off"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Status = backup.Failed }, nil, "it is FAILED, not DONE"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Status = backup.WaitingForWALs }, nil, "it is WAITING_FOR_WALS, not DONE"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Mode = ptr("rsync-concurrent") }, nil, "it was taken as rsync-concurrent"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Mode = nil }, nil, "it was taken as unknown"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Snapshots = &pylit.Value{} }, nil, "pg_basebackup builds on its own backups only"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.SummarizeWAL = nil }, nil, "summarize_wal was not on"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.SystemID = ptr("8") }, nil, "system identifier 8, the server's is 7"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Version = ptr(170004) }, nil, "it is not of PostgreSQL 18"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.DataChecksums = ptr("off") }, nil, "data_checksums was off when it was taken and is on now"},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.EndLSN = nil }, nil, "does not say where in the WAL"},
		{func(_ *backupinfo.Info, f *postgres.Facts) { f.Timeline = 2 }, nil, "it is of timeline 1, the server is on timeline 2"},
		{func(_ *backupinfo.Info, f *postgres.Facts) { f.Timeline = 2 }, forked(0x2ffffff), "no history in the archive leads from its end"},
		{func(_ *backupinfo.Info, f *postgres.Facts) { f.Timeline = 2 }, forked(0x3000100), ""},
		{func(b *backupinfo.Info, _ *postgres.Facts) { b.Timeline = ptr(uint32(2)) }, nil, "it is of timeline 2, the server is on timeline 1"},
	} {
		b, f := parent(), server()
		c.change(b, &f)
		err := chain.CheckParent(b, f, c.histories)
		if c.says == "" && err != nil || c.says != "" && (!fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), c.says) || !strings.Contains(fault.HintOf(err), "full backup")) {
			t.Errorf("%q: %v (%s)", c.says, err, fault.HintOf(err))
		}
	}
}

// label is that of an incremental backup.
func label(from wal.LSN, tli int) *string {
	return ptr(fmt.Sprintf("START WAL LOCATION: 0/9000028 (file 000000010000000000000009)\nSTART TIMELINE: 1\nINCREMENTAL FROM LSN: %s\nINCREMENTAL FROM TLI: %d\n", from, tli))
}

func TestOf(t *testing.T) {
	root := parent()
	first := parent()
	first.ID, first.Parent, first.BackupLabel, first.BeginLSN = "20261124T020000", &root.ID, label(*root.BeginLSN, 1), ptr(wal.LSN(0x4000028))
	second := parent()
	second.ID, second.Parent, second.BackupLabel = "20261124T030000", &first.ID, label(*first.BeginLSN, 1)
	for _, c := range []struct {
		change func(all map[backup.ID]*backupinfo.Info)
		kind   fault.Kind
		says   string
	}{
		{func(map[backup.ID]*backupinfo.Info) {}, "", ""},
		{func(all map[backup.ID]*backupinfo.Info) { delete(all, root.ID) }, fault.Refused, "backup 20261124T020000 builds on 20261124T010000, which is not there"},
		{func(all map[backup.ID]*backupinfo.Info) { all[root.ID].Status = backup.Failed }, fault.Refused, "which is FAILED"},
		{func(all map[backup.ID]*backupinfo.Info) { all[first.ID].Parent = &second.ID }, fault.Refused, "which is not older"},
		{func(all map[backup.ID]*backupinfo.Info) { all[root.ID].BeginLSN = ptr(wal.LSN(0x1000028)) }, fault.Corrupt, "builds on one that begins at 0/2000028 of timeline 1"},
		{func(all map[backup.ID]*backupinfo.Info) { all[second.ID].BackupLabel = label(*first.BeginLSN, 2) }, fault.Corrupt, "of timeline 2"},
	} {
		all := map[backup.ID]*backupinfo.Info{}
		for _, b := range []*backupinfo.Info{root, first, second} {
			clone := *b
			all[b.ID] = &clone
		}
		c.change(all)
		got, err := chain.Of(all[second.ID], func(id backup.ID) (*backupinfo.Info, error) {
			if all[id] == nil {
				return nil, fault.New(fault.NotFound, "find", string(id), "it is gone")
			}
			return all[id], nil
		})
		if c.says != "" {
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q: %v", c.says, err)
			}
			continue
		}
		if err != nil || len(got) != 3 || got[0].ID != root.ID || got[1].ID != first.ID || got[2].ID != second.ID {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got, err := chain.Of(root, nil); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
