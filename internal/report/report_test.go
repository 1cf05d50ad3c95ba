package report_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

var update = flag.Bool("update", false, "rewrite the files that tests compare with")

func sample(t *testing.T, id backup.ID, name string) *backupinfo.Info {
	t.Helper()
	f, err := os.ReadFile("../backupinfo/testdata/" + name + ".backup.info")
	if err != nil {
		t.Fatal(err)
	}
	info, _, err := backupinfo.Parse(id, string(f))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// sameJSON compares with what Barman printed of the same backups.
func sameJSON(t *testing.T, name string, got any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(ours, &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		x, _ := json.MarshalIndent(a, "", " ")
		y, _ := json.MarshalIndent(b, "", " ")
		t.Errorf("%s:\n%s\nours:\n%s", name, x, y)
	}
}

// pgp is the server of a full and an incremental backup.
func pgp(t *testing.T) (full, incremental *backupinfo.Info, segments report.Segments) {
	var all []report.WAL
	for _, name := range []string{"000000010000000000000029", "000000010000000000000027", "000000010000000000000028", "000000010000000000000028", "000000010000000000000027.00000028.backup"} {
		all = append(all, report.WAL{Name: name, Size: 16 << 20})
	}
	return sample(t, "20261123T025554", "postgres-full"), sample(t, "20261123T025555", "postgres-incremental"), report.Sorted(all)
}

func TestListIsBarmans(t *testing.T) {
	full, incremental, segments := pgp(t)
	var list []report.Object
	for _, e := range report.List([]*backupinfo.Info{full, incremental}, segments, time.UTC) {
		list = append(list, e.JSON())
	}
	sameJSON(t, "list-backups.json", report.Object{"pgp": list})
}

func TestShowOfAnIncrementalBackupIsBarmans(t *testing.T) {
	full, incremental, segments := pgp(t)
	b := report.Backup{Info: incremental, Previous: full, Chain: []backup.ID{full.ID, incremental.ID}, Segments: segments, Retention: "VALID"}
	sameJSON(t, "show-backup-incremental.json", report.Object{"pgp": b.JSON()})
}

func TestResourcesSavedAreBarmans(t *testing.T) {
	_, incremental, _ := pgp(t)
	copied := rsync(t).Info
	for _, c := range []struct {
		info                  *backupinfo.Info
		size, cluster, copied int64
		bytes                 int64
		share                 string
	}{
		{incremental, 3976105, 12982339, 3976105, 9006233, "69.37%"}, // 12982339 * (1 - 3976105/12982339) is 9006233.999999998
		{incremental, 5, 100, 0, 0, "0.00%"},
		{copied, 1000, 2000, 250, 1500, "75.00%"}, // the share of the backup, taken of the cluster
		{copied, 1000, 0, 250, 750, "75.00%"},
	} {
		info := *c.info
		info.Size, info.ClusterSize, info.DeduplicatedSize = &c.size, &c.cluster, &c.copied
		b := report.Backup{Info: &info}
		o := b.JSON()["base_backup_information"].(report.Object)
		if o["resources_saved_bytes"] != c.bytes || o["resources_saved_percentage"] != c.share {
			t.Errorf("%d of %d in a cluster of %d: %v, %v", c.copied, c.size, c.cluster, o["resources_saved_bytes"], o["resources_saved_percentage"])
		}
	}
}

func rsync(t *testing.T) report.Backup {
	t.Helper()
	var all []report.WAL
	f, err := os.Open("../walarchive/testdata/loc-xlog.db")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := walarchive.ReadXlogDB(f, f.Name(), func(e walarchive.Entry) error {
		all = append(all, report.WAL{Name: e.Name, Size: e.Size, Time: e.Time})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return report.Backup{Info: sample(t, "20261123T023506", "rsync-concurrent"), Segments: report.Sorted(all), Retention: "not enforced"}
}

func TestShowOfAnRsyncBackupIsBarmans(t *testing.T) {
	sameJSON(t, "show-backup-rsync.json", report.Object{"loc": rsync(t).JSON()})
}

func TestTextForPeople(t *testing.T) {
	b := rsync(t)
	b.Histories = map[uint32]wal.History{2: {TLI: 2, Switches: []wal.Switch{{TLI: 1, At: 0xE000000}}}}
	var out bytes.Buffer
	if err := report.WriteSections(&out, "Backup "+string(b.Info.ID), b.Sections()); err != nil {
		t.Fatal(err)
	}
	full, incremental, segments := pgp(t)
	failed := *incremental
	failed.ID, failed.Status = "20261123T030000", backup.Failed
	name := "before upgrade"
	full.BackupName, incremental.Status = &name, backup.WaitingForWALs
	for _, e := range report.List([]*backupinfo.Info{full, incremental, &failed}, segments, time.UTC) {
		out.WriteString(e.String() + "\n")
	}
	const golden = "testdata/text.golden"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(want, out.Bytes()) {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 19881925: "19.0 MiB", 5 << 40: "5.0 TiB", -2048: "-2.0 KiB"} {
		if got := report.Size(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
	for s, want := range map[float64]string{0.9: "less than one second", 1.9: "1 second", 3661: "1 hour, 1 minute, 1 second", 172800: "2 days"} {
		if got := report.Seconds(s); got != want {
			t.Errorf("%v: %q", s, got)
		}
	}
}

// TestRateIsBarmans: the interval begins with the first segment of the backup
// itself, and the backup's own segments count. The rates are what Barman 3.20.1
// printed for these segments.
func TestRateIsBarmans(t *testing.T) {
	var all report.Segments
	for i, seconds := range []float64{0, 1, 3, 7, 15, 31, 63, 127, 255} {
		all = append(all, report.WAL{Name: fmt.Sprintf("0000000100000000000000%02X", 0x0A+i), Size: 1, Time: 1795401308.25 + seconds})
	}
	for _, c := range []struct {
		name       string
		begin, end int // the last digits of the backup's first and last segment
		next       int // those of the end of the next backup; 0 for none
		segments   report.Segments
		want       float64
	}{
		{"one segment", 0x0C, 0x0C, 0, all, 7. / 252},
		{"several segments", 0x0A, 0x0C, 0, all, 9. / 255},
		{"until the next backup", 0x0A, 0x0C, 0x10, all, 7. / 63},
		{"none after the backup", 0x0B, 0x0C, 0, all[:3], 2. / 2},
		{"one in all", 0x0A, 0x0A, 0, all[:1], 0},
		{"a gap", 0x0A, 0x0C, 0, slices.Concat(all[:1], all[2:]), 8. / 255},
		{"the last one missing", 0x0A, 0x0B, 0, slices.Concat(all[:1], all[2:]), 8. / 255},
		{"the first one missing", 0x0A, 0x0C, 0, all[1:], 0},
	} {
		name := func(digits int) *string {
			s := fmt.Sprintf("0000000100000000000000%02X", digits)
			return &s
		}
		b := report.Backup{Info: sample(t, "20261123T023506", "rsync-concurrent"), Segments: c.segments}
		b.Info.BeginWAL, b.Info.EndWAL = name(c.begin), name(c.end)
		if c.next != 0 {
			b.Next = &backupinfo.Info{EndWAL: name(c.next)}
		}
		wal, _ := b.JSON()["wal_information"].(report.Object)
		got, _ := wal["wal_rate_per_second"].(float64)
		if got != c.want {
			t.Errorf("%s: %v, Barman says %v", c.name, got, c.want)
		}
	}
}

func TestDestinationsOfABackup(t *testing.T) {
	full, _, segments := pgp(t)
	b := report.Backup{Info: full, Segments: segments, Destinations: []report.Destination{{URL: "s3://a"}, {URL: "s3://b", Behind: "access denied", Since: time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)}}}
	list := b.JSON()["destinations"].([]report.Object)
	if len(list) != 2 || list[0]["complete"] != true || list[1]["complete"] != false || list[1]["behind"] != "access denied" {
		t.Errorf("%v", list)
	}
	var text strings.Builder
	if err := report.WriteSections(&text, "", b.Sections()); err != nil || !strings.Contains(text.String(), "s3://a has all of it") || !strings.Contains(text.String(), "s3://b lacks it since") {
		t.Errorf("%v: %s", err, text.String())
	}
}
