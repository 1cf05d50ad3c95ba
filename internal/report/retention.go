package report

import (
	"fmt"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/retention"
)

// Retention is a plan of what is deleted, or what became of it.
type Retention struct {
	Plan    *retention.Plan
	Applied bool
	Deleted []backup.ID
	Files   int // of WAL that were deleted
}

func action(deleted bool) string {
	if deleted {
		return "delete"
	}
	return "keep"
}

// JSON is the plan; names of files are listed where they are to be deleted.
func (r Retention) JSON() Object {
	o := Object{"retention_policy": nil, "applied": r.Applied, "wal_not_judged": nil, "warnings": append([]string{}, r.Plan.Warnings...)}
	if r.Plan.Policy != "" {
		o["retention_policy"] = r.Plan.Policy
	}
	if r.Plan.NoPurge != "" {
		o["wal_not_judged"] = r.Plan.NoPurge
	}
	backups := []Object{}
	for _, d := range r.Plan.Backups {
		backups = append(backups, Object{"backup_id": d.ID, "status": d.Status, "retention_status": d.Word, "action": action(d.Delete), "reason": d.Reason})
	}
	ranges := []Object{}
	for _, x := range spans(r.Plan.Files) {
		ranges = append(ranges, Object{"from": x.from, "to": x.to, "files": x.files, "action": action(x.Delete), "reason": x.Reason})
	}
	o["backups"], o["wal"], o["wal_delete"], o["delete_order"] = backups, ranges, append([]string{}, r.Plan.Purge()...), append([]backup.ID{}, r.Plan.Doomed...)
	if r.Applied {
		o["deleted"], o["wal_files_deleted"] = append([]backup.ID{}, r.Deleted...), r.Files
	}
	return o
}

// Lines are the plan for people.
func (r Retention) Lines(server string) []string {
	policy := "no retention policy"
	if r.Plan.Policy != "" {
		policy = r.Plan.Policy
	}
	out := []string{fmt.Sprintf("Server %s: %s", server, policy)}
	for _, d := range r.Plan.Backups {
		out = append(out, fmt.Sprintf("  %-6s  %s  %-16s  %-15s  %s", action(d.Delete), d.ID, d.Status, d.Word, d.Reason))
	}
	if r.Plan.NoPurge != "" {
		return append(out, "  keep    all WAL: "+r.Plan.NoPurge)
	}
	for _, x := range spans(r.Plan.Files) {
		what := fmt.Sprintf("%s to %s (%s)", x.from, x.to, plural(int64(x.files), "file"))
		if x.files == 1 {
			what = x.from
		}
		out = append(out, fmt.Sprintf("  %-6s  WAL %s: %s", action(x.Delete), what, x.Reason))
	}
	return out
}

// span is files that follow each other and share a fate.
type span struct {
	retention.File
	from, to string
	files    int
}

func spans(files []retention.File) []span {
	var out []span
	for _, f := range files {
		if n := len(out); n > 0 && out[n-1].Delete == f.Delete && out[n-1].Reason == f.Reason {
			out[n-1].to = f.Name
			out[n-1].files++
			continue
		}
		out = append(out, span{f, f.Name, f.Name, 1})
	}
	return out
}
