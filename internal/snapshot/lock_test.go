package snapshot_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// TestLocks: what is locked is not deleted, and the refusal names the moment.
func TestLocks(t *testing.T) {
	m, job := bench(t, "a", "b")
	made, err := snapshot.Take(t.Context(), m, job)
	require.NoError(t, err)
	free, err := snapshot.LockAll(t.Context(), m, made)
	require.NoError(t, err)
	assert.Equal(t, made, free, "nothing asks for a lock")
	require.NoError(t, snapshot.CheckUnlocked(t.Context(), m, "main", job.Tag.ID))

	m.LockFor = time.Hour
	over := errors.New("superseded")
	_, err = snapshot.LockAll(t.Context(), snapshot.Fenced(m, func(func() error) error { return over }), made)
	require.ErrorIs(t, err, over)
	for range 2 {
		made, err = snapshot.LockAll(t.Context(), snapshot.Fenced(m, func(f func() error) error { return f() }), made)
		require.NoError(t, err)
	}
	until := made[0].Lock.Until.UTC().Format("2006-01-02 15:04:05Z")
	m.Log = nil
	recorded := snapshot.NewRecord("aws", "pg", &snapshot.Layout{Disks: job.Disks}, made)
	for _, err := range []error{snapshot.CheckUnlocked(t.Context(), m, "main", job.Tag.ID), snapshot.RemoveAll(t.Context(), m, "main", job.Tag.ID, nil),
		snapshot.CheckRecordUnlocked(t.Context(), m, recorded)} {
		assert.Equal(t, fault.Refused, fault.KindOf(err))
		assert.ErrorContains(t, err, "it is locked (governance) until "+until)
		assert.Contains(t, fault.HintOf(err), until)
	}
	assert.Equal(t, []string{"list main", "list main"}, m.Log, "nobody tries to delete it")
	require.NoError(t, snapshot.CheckUnlocked(t.Context(), m, "main", "20250101T000000"), "others are not asked for")

	m.Expire()
	require.NoError(t, snapshot.CheckRecordUnlocked(t.Context(), m, recorded))
	require.Error(t, snapshot.RemoveRecorded(t.Context(), m, "20250101T000000", recorded), "they are of another backup")
	require.Len(t, m.IDs(), 2)
	require.NoError(t, snapshot.RemoveRecorded(t.Context(), m, job.Tag.ID, recorded))
	require.Empty(t, m.IDs())
}

// TestRemoveAllGoesOn: one that cannot be removed keeps no other.
func TestRemoveAllGoesOn(t *testing.T) {
	m, job := bench(t, "a", "b")
	made, err := snapshot.Take(t.Context(), m, job)
	require.NoError(t, err)
	m.LockFor = time.Hour
	_, err = m.Lock(t.Context(), made[0])
	require.NoError(t, err)
	require.ErrorContains(t, snapshot.RemoveAll(t.Context(), m, "main", job.Tag.ID, nil), made[0].Name)
	assert.Equal(t, []string{made[0].ID}, m.IDs())
}

// TestRecordForBarman: backup.info has what the provider tells, and the locks once
// they are set.
func TestRecordForBarman(t *testing.T) {
	m, job := bench(t, "a", "b")
	made, err := snapshot.Take(t.Context(), m, job)
	require.NoError(t, err)
	r := snapshot.NewRecord("aws", "pg", &snapshot.Layout{Disks: job.Disks}, made)
	none, err := r.BackupInfo()
	require.NoError(t, err)
	require.Nil(t, none, "a provider that Barman does not know")
	require.NoError(t, r.Describe(t.Context(), m, job.Disks, made))
	require.NoError(t, r.Locked([]*snapshot.Lock{{Mode: "governance"}, nil}))
	v, err := r.BackupInfo()
	require.NoError(t, err)
	want, err := m.SnapshotsInfo(t.Context(), job.Disks, []snapshot.Snapshot{{Name: made[0].Name, ID: made[0].ID, Lock: &snapshot.Lock{Mode: "governance"}}, made[1]})
	require.NoError(t, err)
	assert.Equal(t, want.String(), v.String())
	assert.Equal(t, "governance", r.Snapshots[0].Provider.Lock.Mode)
	assert.Nil(t, r.Snapshots[1].Provider.Lock)
}

// TestFromBackupInfo reads what Barman has written, older versions too.
func TestFromBackupInfo(t *testing.T) {
	for text, want := range map[string]snapshot.RecordedSnapshot{
		`{'provider': 'aws', 'provider_info': {'account_id': '0123', 'region': 'eu-west-2'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/opt/disk0'}, 'provider': {'device_name': '/dev/sdf', 'snapshot_id': 'snap-0123', 'snapshot_name': 'd-20240101t000000', 'snapshot_lock_mode': 'governance'}}]}`: {Disk: "/dev/sdf", ID: "snap-0123", Name: "d-20240101t000000", Lock: &snapshot.Lock{Mode: "governance"}},
		`{'provider': 'aws', 'provider_info': {'region': 'eu-west-2'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/opt/disk0'}, 'provider': {'device_name': '/dev/sdf', 'snapshot_id': 'snap-0123'}}]}`:                                                                                                 {Disk: "/dev/sdf", ID: "snap-0123"},
		`{'provider': 'gcp', 'provider_info': {'project': 'p'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/opt/disk0'}, 'provider': {'device_name': 'd', 'snapshot_name': 'd-20240101t000000', 'snapshot_project': 'p'}}]}`:                                                                            {Disk: "d", ID: "d-20240101t000000", Name: "d-20240101t000000"},
		`{'provider': 'azure', 'provider_info': {'subscription_id': 's', 'resource_group': 'g'}, 'snapshots': [{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/opt/disk0'}, 'provider': {'location': 'uksouth', 'lun': 1, 'snapshot_name': 'd-20240101t000000'}}]}`:                                                       {ID: "d-20240101t000000", Name: "d-20240101t000000"},
	} {
		v, err := pylit.Parse(text)
		require.NoError(t, err)
		r, err := snapshot.FromBackupInfo(v)
		require.NoError(t, err)
		assert.Equal(t, []snapshot.RecordedDisk{{Mount: snapshot.RecordedMount{Options: "rw,noatime", Point: "/opt/disk0"}, Provider: want}}, r.Snapshots)
		assert.Equal(t, text, r.Barman)
	}
	for _, bad := range []string{`None`, `{'provider': 'aws', 'snapshots': []}`, `{'snapshots': [{'provider': {'snapshot_id': 'x'}}]}`, `{'provider': 'aws', 'snapshots': [{'provider': {'device_name': 'x'}}]}`} {
		v, err := pylit.Parse(bad)
		require.NoError(t, err)
		_, err = snapshot.FromBackupInfo(v)
		assert.Equal(t, fault.Corrupt, fault.KindOf(err), bad)
	}
}

// TestUnmounted: findmnt says nothing of a device that has no mount.
func TestUnmounted(t *testing.T) {
	_, err := snapshot.MountOfDevice(t.Context(), snapshot.Here{}, os.DevNull)
	require.ErrorIs(t, err, snapshot.ErrUnmounted)
	h := &snapshottest.Bent{Host: snapshot.Here{}}
	h.Instead(&command.ExitError{Program: "/bin/sh", Code: 1, Stderr: "findmnt: bad"})
	_, err = snapshot.MountOfDevice(t.Context(), h, os.DevNull)
	require.Error(t, err)
	assert.NotErrorIs(t, err, snapshot.ErrUnmounted)
}
