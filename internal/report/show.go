package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Backup is one backup with what surrounds it.
type Backup struct {
	Info           *backupinfo.Info
	Previous, Next *backupinfo.Info // complete ones; nil for none
	Chain          []backup.ID      // of an incremental backup: from the full one to this one
	Segments       Segments
	Histories      map[uint32]wal.History
	Retention      string       // what the retention policy says of it
	Snapshots      *pylit.Value // those that it consists of; nil for none
	Destinations   []Destination
}

// Destination is one of several stores that a backup goes to.
type Destination struct {
	URL    string
	Behind string // why it lacks something of the backup; "" for nothing
	Since  time.Time
}

// destinations is null for a backup with a single place.
func (b Backup) destinations() []Object {
	var out []Object
	for _, d := range b.Destinations {
		o := Object{"url": d.URL, "complete": d.Behind == "" && b.Info.Status == backup.Done}
		if d.Behind != "" {
			o["behind"], o["since"] = d.Behind, iso(d.Since)
		}
		out = append(out, o)
	}
	return out
}

// destinationRows are the same for people.
func (b Backup) destinationRows() []Row {
	var out []Row
	for i, d := range b.Destinations {
		row := Row{Label: fmt.Sprintf("Replica %d", i), Value: d.URL}
		if i == 0 {
			row.Label = "Main store"
		}
		switch {
		case d.Behind != "":
			row.Value += " lacks it since " + d.Since.In(time.Local).Format("2006-01-02 15:04:05-07:00") + ": " + d.Behind
		case b.Info.Status == backup.Done:
			row.Value += " has all of it"
		}
		out = append(out, row)
	}
	return out
}

const (
	noPrevious = "- (this is the oldest base backup)"
	noNext     = "- (this is the latest base backup)"
)

// JSON is the backup as Barman prints it.
func (b Backup) JSON() Object {
	i := b.Info
	o := Object{"backup_id": i.ID, "status": i.Status,
		"server_information": Object{"data_checksums": orNull(i.DataChecksums), "summarize_wal": orNull(i.SummarizeWAL)}}
	set(o, "backup_name", i.BackupName)
	set(o, "system_id", i.SystemID)
	if all := b.destinations(); all != nil {
		o["destinations"] = all
	}
	if !i.Status.CopyDone() {
		o["error"] = orNull(i.Error)
		return o
	}
	o["backup_type"] = TypeOf(i)
	if i.ClusterSize != nil {
		o["cluster_size"], o["cluster_size_bytes"] = Size(*i.ClusterSize), *i.ClusterSize
	}
	o["postgresql_version"], o["pgdata_directory"] = orNull(i.Version), orNull(i.PGData)
	tablespaces := []Object{}
	for _, t := range i.Tablespaces {
		tablespaces = append(tablespaces, Object{"name": t.Name, "oid": t.OID, "location": t.Location})
	}
	o["tablespaces"] = tablespaces
	if b.Snapshots != nil {
		o["snapshots_info"] = literal(*b.Snapshots)
	}
	o["base_backup_information"] = b.base()
	o["wal_information"] = b.wal()
	o["catalog_information"] = b.catalog()
	return o
}

func (b Backup) base() Object {
	i := b.Info
	own := b.Segments.own(i)
	size := stored(i)
	o := Object{
		"backup_method": orNull(i.Mode), "encryption": orNull(i.Encryption), "compression": orNull(i.Compression),
		"backup_size": Size(size), "backup_size_bytes": size,
		"backup_size_with_wals": Size(size + own.bytes()), "backup_size_with_wals_bytes": size + own.bytes(),
		"wal_size": Size(own.bytes()), "wal_size_bytes": own.bytes(), "wal_num": len(own),
		"timeline": orNull(i.Timeline), "begin_wal": orNull(i.BeginWAL), "end_wal": orNull(i.EndWAL),
		"begin_offset": orNull(i.BeginOffset), "end_offset": orNull(i.EndOffset),
		"begin_lsn": lsn(i.BeginLSN), "end_lsn": lsn(i.EndLSN),
	}
	if i.CopyStats != nil {
		o["number_of_workers"] = b.workers()
	}
	if i.BeginTime != nil {
		o["begin_time"], o["begin_time_timestamp"] = iso(*i.BeginTime), stamp(*i.BeginTime)
	}
	if i.EndTime != nil {
		o["end_time"], o["end_time_timestamp"] = iso(*i.EndTime), stamp(*i.EndTime)
	}
	if ratio := own.saved(i); ratio > 0 {
		o["wal_compression_ratio"] = percent(ratio)
	}
	if saved, share, ok := b.resourcesSaved(); ok {
		o["resources_saved"], o["resources_saved_bytes"] = Size(int64(math.Round(saved))), int64(saved)
		o["resources_saved_percentage"] = percent(share)
	}
	if seconds, ok := b.stat("copy_time"); ok && seconds > 0 {
		rate := int64(float64(size) / seconds)
		o["copy_time"], o["copy_time_seconds"] = Seconds(seconds), seconds
		o["throughput"], o["throughput_bytes"] = Size(rate)+"/s", rate
	}
	if seconds, ok := b.stat("analysis_time"); ok && seconds >= 1 {
		o["analysis_time"], o["analysis_time_seconds"] = Seconds(seconds), seconds
	}
	return o
}

func lsn(l *wal.LSN) any {
	if l == nil {
		return nil
	}
	return l.String()
}

// resourcesSaved is what the backup did not have to copy, by Barman's formula: the share is reckoned from
// the backup's size (rsync) or the cluster's (incremental), and then taken of the cluster's, in floating
// point; scripts compare the bytes, which is why they are not a difference of integers.
func (b Backup) resourcesSaved() (bytes, share float64, ok bool) {
	size, cluster := orZero(b.Info.Size), orZero(b.Info.ClusterSize)
	whole := cluster
	switch TypeOf(b.Info) {
	case backup.Rsync:
		whole = size
	case backup.Incremental:
	default:
		return 0, 0, false
	}
	if cluster == 0 && size == 0 {
		return 0, 0, false
	}
	if copied := orZero(b.Info.DeduplicatedSize); whole > 0 && copied > 0 {
		share = 1 - float64(copied)/float64(whole)
	}
	return float64(cmp.Or(cluster, size)) * share, share, true
}

// stat is a number of copy_stats.
func (b Backup) stat(key string) (float64, bool) {
	if b.Info.CopyStats == nil {
		return 0, false
	}
	for _, p := range b.Info.Stats().Pairs {
		if p.Key.Str != key {
			continue
		}
		switch p.Value.Kind {
		case pylit.Float:
			return p.Value.Float, true
		case pylit.Int:
			var f float64
			_, err := fmt.Sscan(p.Value.Int, &f)
			return f, err == nil
		}
	}
	return 0, false
}

func (b Backup) workers() int {
	if n, ok := b.stat("number_of_workers"); ok {
		return int(n)
	}
	return 1
}

func (b Backup) wal() Object {
	after := b.Segments.until(b.Info, b.Next)
	rate := b.Segments.rate(b.Info, b.Next)
	o := Object{"no_of_files": len(after), "disk_usage": Size(after.bytes()), "disk_usage_bytes": after.bytes(),
		"wal_rate": 0, "wal_rate_per_second": 0, "compression_ratio": 0, "last_available": orNull(b.Info.EndWAL), "timelines": b.branches()}
	if len(after) > 0 {
		o["last_available"] = after[len(after)-1].Name
	}
	if rate > 0 {
		o["wal_rate"], o["wal_rate_per_second"] = fmt.Sprintf("%.2f/hour", rate*3600), rate
	}
	if ratio := after.saved(b.Info); ratio > 0 {
		o["compression_ratio"] = percent(ratio)
	}
	if len(b.branches()) > 0 {
		o["_WARNING"] = branchWarning
	}
	return o
}

const branchWarning = "WAL information is inaccurate: several timelines begin after this backup"

// branches are the timelines that left the backup's own after its end.
func (b Backup) branches() []uint32 {
	out := []uint32{}
	if b.Info.Timeline == nil || b.Info.EndLSN == nil {
		return out
	}
	for tli, h := range b.Histories {
		if tli > *b.Info.Timeline && h.Contains(*b.Info.Timeline, *b.Info.EndLSN) {
			out = append(out, tli)
		}
	}
	slices.Sort(out)
	return out
}

func (b Backup) catalog() Object {
	o := Object{"retention_policy": b.Retention, "previous_backup": noPrevious, "next_backup": noNext}
	if b.Previous != nil {
		o["previous_backup"] = b.Previous.ID
	}
	if b.Next != nil {
		o["next_backup"] = b.Next.ID
	}
	if orZero(b.Info.Mode) == "postgres" {
		o["children_backup_ids"] = children(b.Info.Children)
	}
	if b.Info.Parent != nil {
		o["parent_backup_id"] = *b.Info.Parent
		if len(b.Chain) > 0 {
			o["root_backup_id"], o["chain_size"] = b.Chain[0], len(b.Chain)
		}
	}
	return o
}

func children(ids []backup.ID) any {
	if len(ids) == 0 {
		return nil
	}
	return ids
}

func joinIDs(ids []backup.ID) string {
	text := make([]string, len(ids))
	for i, id := range ids {
		text[i] = string(id)
	}
	return strings.Join(text, ", ")
}
