package zfs

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// The texts are those of OpenZFS (cmd/zfs, lib/libzfs), as others have met them.
const mount = `{"filesystems": [{"target":"/tank/pg","source":"tank/pg","fstype":"zfs","options":"rw,xattr,noacl"}]}`

func TestRecordedZFS(t *testing.T) {
	h := &snapshottest.Recorded{T: t, Says: map[string]string{
		"zfs list -H -p -t filesystem -o mounted,mountpoint tank/pg":                                                                                "yes\t/tank/pg\n",
		"zfs list -H -p -t filesystem -o mounted,mountpoint tank/ts":                                                                                "yes\t/tank/t s\n",
		"findmnt -J -f -o TARGET,SOURCE,FSTYPE,OPTIONS -T /tank/pg":                                                                                 mount,
		"findmnt -J -f -o TARGET,SOURCE,FSTYPE,OPTIONS -T /tank/t s":                                                                                mount,
		"zfs snapshot -o holdfast:server=main -o holdfast:backup=20260101T000000.1 tank/pg@tank-pg-20260101t000000 tank/ts@tank-ts-20260101t000000": "",
		"zfs list -H -p -d 1 -t snapshot -o name,holdfast:server,holdfast:backup tank/pg": "tank/pg@daily\t-\t-\ntank/pg@x-20250101t000000\tother\t20250101T000000.1\n" +
			"tank/pg@tank-pg-20260101t000000\tmain\t20260101T000000.1\n",
		"zfs get -H -p -o value mountpoint tank/pg":                                       "/tank/pg\n",
		"zfs list -H -p -d 1 -t snapshot -o name,holdfast:server,holdfast:backup tank/ts": "!cannot open 'tank/ts': dataset does not exist\n",
		"zfs destroy tank/pg@tank-pg-20260101t000000":                                     "",
	}}
	p := &Provider{Tools: snapshot.Tools{Host: h}, Names: []string{"tank/pg", "tank/ts"}}
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	assert.Equal(t, snapshot.Disk{Name: "tank/pg", Path: "/tank/pg", Mount: "/tank/pg", Options: "rw,xattr,noacl"}, disks[0])
	assert.Equal(t, "/tank/t s", disks[1].Path)
	tag := snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 1}
	made, err := p.CreateSet(t.Context(), tag, append(disks, snapshot.Disk{Name: "fast", Path: "/fast"}))
	require.NoError(t, err)
	require.Empty(t, made, "of two pools")
	made, err = p.CreateSet(t.Context(), tag, disks)
	require.NoError(t, err)
	require.Len(t, made, 2)
	want := snapshot.Snapshot{Tag: tag, Name: "tank-pg-20260101t000000", ID: "tank/pg@tank-pg-20260101t000000", Path: "/tank/pg/.zfs/snapshot/tank-pg-20260101t000000", Phase: snapshot.Completed}
	assert.Equal(t, want, made[0])
	all, err := p.List(t.Context(), "main")
	require.NoError(t, err)
	assert.Equal(t, []snapshot.Snapshot{want}, all)
	require.NoError(t, p.Delete(t.Context(), want))
	assert.Equal(t, "zfs destroy tank/pg@tank-pg-20260101t000000", h.Ran[len(h.Ran)-1])
}

func TestRecordedTrouble(t *testing.T) {
	s := snapshot.Snapshot{Name: "a-20260101t000000", ID: "tank/pg@a-20260101t000000"}
	h := &snapshottest.Recorded{T: t, Says: map[string]string{}}
	p := &Provider{Tools: snapshot.Tools{Host: h, Prefix: []string{"sudo", "-n"}}, Names: []string{"tank/pg"}}
	for said, kind := range map[string]fault.Kind{
		"!could not find any snapshots to destroy; check snapshot names.\n":               "",
		"!cannot destroy snapshots: permission denied\ncannot destroy: Permission denied": fault.Permission,
		"!cannot destroy 'tank/pg@a': snapshot has dependent clones\n":                    fault.Tool,
	} {
		h.Says["sudo -n zfs destroy tank/pg@a-20260101t000000"] = said
		assert.Equal(t, kind, fault.KindOf(p.Delete(t.Context(), s)), said)
	}
	s.ID = "tank/pg@other"
	assert.Equal(t, fault.Refused, fault.KindOf(p.Delete(t.Context(), s)))
	for said, kind := range map[string]fault.Kind{"!cannot open 'tank/pg': dataset does not exist\n": fault.NotFound, "no\t/tank/pg\n": fault.Refused} {
		h.Says["sudo -n zfs list -H -p -t filesystem -o mounted,mountpoint tank/pg"] = said
		_, err := p.Disks(t.Context())
		assert.Equal(t, kind, fault.KindOf(err))
		assert.ErrorContains(t, err, "tank/pg")
		assert.NotEmpty(t, fault.HintOf(err))
	}
	var none snapshot.Provider = p
	if _, can := none.(snapshot.Atomic); !can {
		t.Error(errors.New("a pool is cut at one moment"))
	}
}
