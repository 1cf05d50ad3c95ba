package backup_test

import (
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
)

func TestIDs(t *testing.T) {
	id := backup.NewID(time.Date(2026, 11, 23, 2, 35, 6, 0, time.UTC))
	if got, err := backup.ParseID("20261123T023506"); err != nil || got != id {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "20261323T023506", "../../etc", "20261123T023506 ", "20261123T023506.5"} {
		if _, err := backup.ParseID(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		mode   string
		parent backup.ID
		want   backup.Type
	}{
		{"postgres", "", backup.Full}, {"postgres", "x", backup.Incremental}, {"rsync-concurrent", "", backup.Rsync},
		{"snapshot-exclusive", "", backup.Snapshot}, {"", "", backup.Full},
	} {
		if got := backup.TypeOf(c.mode, c.parent); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
	if !backup.WaitingForWALs.CopyDone() || backup.Started.CopyDone() || backup.Status("X").Valid() {
		t.Error("statuses")
	}
}
