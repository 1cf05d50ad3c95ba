package report

import (
	"fmt"
	"io"
	"strings"
)

// Section is a group of lines about one subject.
type Section struct {
	Title string
	Rows  []Row
}

// Row is a line: what, and its value. A row with an empty value is left out; the zero
// row is an empty line.
type Row struct{ Label, Value string }

// WriteSections writes sections below a heading.
func WriteSections(w io.Writer, heading string, sections []Section) error {
	var b strings.Builder
	b.WriteString(heading + ":\n")
	for _, s := range sections {
		indent := "  "
		if s.Title != "" {
			fmt.Fprintf(&b, "\n  %s:\n", s.Title)
			indent = "    "
		}
		for _, r := range s.Rows {
			if r == (Row{}) {
				b.WriteString("\n")
			}
			if r.Value != "" {
				fmt.Fprintf(&b, "%s%-*s : %s\n", indent, 25-len(indent), r.Label, r.Value)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Sections are the backup for people.
func (b Backup) Sections() []Section {
	i := b.Info
	head := []Row{
		{"Server Name", i.ServerName}, {"Backup Name", orZero(i.BackupName)}, {"System Id", orZero(i.SystemID)},
		{"Status", string(i.Status)}, {"Backup Type", string(TypeOf(i))},
	}
	if !i.Status.CopyDone() {
		sections := []Section{{Rows: append(head, Row{"Error", orZero(i.Error)})}}
		if len(b.Destinations) > 0 {
			sections = append(sections, Section{"Destinations", b.destinationRows()})
		}
		return sections
	}
	head = append(head, Row{"PostgreSQL Version", number(i.Version)}, Row{"PGDATA directory", orZero(i.PGData)})
	if i.ClusterSize != nil {
		head = append(head, Row{"Estimated Cluster Size", Size(*i.ClusterSize)})
	}
	sections := []Section{{Rows: head}, {"Server information", []Row{{"Checksums", orZero(i.DataChecksums)}, {"WAL summarizer", orZero(i.SummarizeWAL)}}}}
	if b.Snapshots != nil {
		sections = append(sections, snapshotSection(*b.Snapshots))
	}
	if len(b.Destinations) > 0 {
		sections = append(sections, Section{"Destinations", b.destinationRows()})
	}
	if len(i.Tablespaces) > 0 {
		var rows []Row
		for _, t := range i.Tablespaces {
			rows = append(rows, Row{t.Name, fmt.Sprintf("%s (oid: %d)", t.Location, t.OID)})
		}
		sections = append(sections, Section{"Tablespaces", rows})
	}
	return append(sections, b.baseSection(), b.walSection(), b.catalogSection())
}

func number[T int | uint32 | uint64](p *T) string {
	if p == nil {
		return ""
	}
	return fmt.Sprint(*p)
}

func (b Backup) baseSection() Section {
	i, o := b.Info, b.base()
	text := func(key string) string {
		if v := o[key]; v != nil {
			return fmt.Sprint(v)
		}
		return ""
	}
	size := fmt.Sprintf("%s (%s with WALs)", o["backup_size"], o["backup_size_with_wals"])
	saved := text("resources_saved")
	if saved != "" {
		saved += " (" + text("resources_saved_percentage") + ")"
	}
	return Section{"Base backup information", []Row{
		{"Backup Method", text("backup_method")}, {"Encryption", text("encryption")}, {"Compression", text("compression")},
		{"Backup Size", size}, {"WAL Size", text("wal_size")}, {"Resources saved", saved},
		{"Timeline", number(i.Timeline)}, {"Begin WAL", text("begin_wal")}, {"End WAL", text("end_wal")}, {"WAL number", text("wal_num")},
		{"WAL compression ratio", text("wal_compression_ratio")}, {"Begin time", text("begin_time")}, {"End time", text("end_time")},
		{"Copy time", text("copy_time")}, {"Estimated throughput", text("throughput")},
		{"Begin Offset", number(i.BeginOffset)}, {"End Offset", number(i.EndOffset)},
		{"Begin LSN", text("begin_lsn")}, {"End LSN", text("end_lsn")},
	}}
}

func (b Backup) walSection() Section {
	o := b.wal()
	rows := []Row{{"No of files", fmt.Sprint(o["no_of_files"])}, {"Disk usage", fmt.Sprint(o["disk_usage"])}}
	if rate, ok := o["wal_rate"].(string); ok {
		rows = append(rows, Row{"WAL rate", rate})
	}
	if ratio, ok := o["compression_ratio"].(string); ok {
		rows = append(rows, Row{"Compression ratio", ratio})
	}
	rows = append(rows, Row{"Last available", orZero(b.Info.EndWAL)})
	if last, ok := o["last_available"].(string); ok {
		rows[len(rows)-1].Value = last
	}
	if branches := b.branches(); len(branches) > 0 {
		rows = append(rows, Row{"Reachable timelines", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(branches)), ", "), "[]")}, Row{"Note", branchWarning})
	}
	return Section{"WAL information", rows}
}

func (b Backup) catalogSection() Section {
	o := b.catalog()
	rows := []Row{{"Retention Policy", b.Retention}, {"Previous Backup", fmt.Sprint(o["previous_backup"])}, {"Next Backup", fmt.Sprint(o["next_backup"])}}
	if b.Info.Parent != nil {
		rows = append(rows, Row{"Parent Backup", string(*b.Info.Parent)})
	}
	if len(b.Chain) > 0 {
		rows = append(rows, Row{"Root Backup", string(b.Chain[0])}, Row{"Backup chain size", fmt.Sprint(len(b.Chain))})
	}
	return Section{"Catalog information", append(rows, Row{"Children Backups", joinIDs(b.Info.Children)})}
}
