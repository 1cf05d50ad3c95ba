package lvm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// The texts are those of LVM 2.03 (lvmreport(7), tools/), as others have met them.
const lvs = "lvs --reportformat json -o vg_name,lv_name,lv_path,pool_lv,lv_tags "

func report(volumes ...string) string {
	return `  {
      "report": [
          {
              "lv": [
                  ` + strings.Join(volumes, ",\n                  ") + `
              ]
          }
      ]
  }
`
}

func TestRecordedLVM(t *testing.T) {
	h := &snapshottest.Recorded{T: t, Says: map[string]string{
		lvs + "vg/pg": report(`{"vg_name":"vg", "lv_name":"pg", "lv_path":"/dev/vg/pg", "pool_lv":"pool", "lv_tags":""}`),
		"findmnt -J -f -o TARGET,SOURCE,FSTYPE,OPTIONS -S /dev/vg/pg":                                                            `{"filesystems": [{"target":"/srv/p g","source":"/dev/mapper/vg-pg","fstype":"xfs","options":"rw,relatime"}]}`,
		"lvcreate -q -s -n vg-pg-20260101t000000 --addtag holdfast.server=main --addtag holdfast.backup=20260101T000000.3 vg/pg": "",
		lvs + "-S tags=holdfast.server=main": report(
			`{"vg_name":"vg", "lv_name":"vg-pg-20260101t000000", "lv_path":"/dev/vg/vg-pg-20260101t000000", "pool_lv":"pool", "lv_tags":"holdfast.backup=20260101T000000.3,holdfast.server=main"}`,
			`{"vg_name":"vg", "lv_name":"odd", "lv_path":"/dev/vg/odd", "pool_lv":"pool", "lv_tags":"holdfast.backup=nonsense,holdfast.server=main"}`),
		lvs + "-S tags=holdfast.server=nobody":    report(),
		"lvremove -q -y vg/vg-pg-20260101t000000": "",
	}}
	p := &Provider{Tools: snapshot.Tools{Host: h}, Names: []string{"vg/pg"}}
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []snapshot.Disk{{Name: "vg/pg", Path: "/srv/p g", Mount: "/srv/p g", Options: "rw,relatime"}}, disks)
	tag := snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 3}
	made, err := p.Create(t.Context(), tag, disks[0])
	require.NoError(t, err)
	assert.Equal(t, snapshot.Snapshot{Tag: tag, Name: "vg-pg-20260101t000000", ID: "vg/vg-pg-20260101t000000", Phase: snapshot.Completed}, made)
	all, err := p.List(t.Context(), "main")
	require.NoError(t, err)
	assert.Equal(t, []snapshot.Snapshot{made}, all)
	all, err = p.List(t.Context(), "nobody")
	require.NoError(t, err)
	assert.Empty(t, all)
	require.NoError(t, p.Delete(t.Context(), made))
}

func TestRecordedTrouble(t *testing.T) {
	h := &snapshottest.Recorded{T: t, Says: map[string]string{}}
	p := &Provider{Tools: snapshot.Tools{Host: h}, Names: []string{"vg/pg"}}
	s := snapshot.Snapshot{Name: "a-20260101t000000", ID: "vg/a-20260101t000000"}
	for said, kind := range map[string]fault.Kind{
		"!  Failed to find logical volume \"vg/a-20260101t000000\"\n": "", "!  Logical volume vg/a-20260101t000000 is used by another device.\n": fault.Tool,
	} {
		h.Says["lvremove -q -y vg/a-20260101t000000"] = said
		assert.Equal(t, kind, fault.KindOf(p.Delete(t.Context(), s)), said)
	}
	s.ID = "vg/pg"
	assert.Equal(t, fault.Refused, fault.KindOf(p.Delete(t.Context(), s)))
	for said, kind := range map[string]fault.Kind{
		"!  Failed to find logical volume \"vg/pg\"\n": fault.NotFound, "nonsense": fault.Tool,
		report(`{"vg_name":"vg", "lv_name":"pg", "lv_path":"/dev/vg/pg", "pool_lv":"", "lv_tags":""}`):                                              fault.Refused,
		"!  WARNING: Running as a non-root user. Functionality may be unavailable.\n  /run/lock/lvm/P_global:aux: open failed: Permission denied\n": fault.Permission,
	} {
		h.Says[lvs+"vg/pg"] = said
		_, err := p.Disks(t.Context())
		assert.Equal(t, kind, fault.KindOf(err), said)
		assert.ErrorContains(t, err, "vg/pg")
	}
}
