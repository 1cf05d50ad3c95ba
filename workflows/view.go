package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/report"
)

// ProgressQuery is the query that the command line asks a running backup.
const ProgressQuery = "progress"

// State answers ProgressQuery.
type State struct {
	ID      backup.ID `json:"id"`
	Method  string    `json:"method"`
	Phase   string    `json:"phase"`
	Details string    `json:"details"`
	Bytes   int64     `json:"bytes"` // size of the cluster
	Attempt int       `json:"attempt"`
	Losses  []string  `json:"losses,omitempty"` // why earlier attempts ended
}

var (
	attrServer   = temporal.NewSearchAttributeKeyKeyword(activities.AttrServer)
	attrMethod   = temporal.NewSearchAttributeKeyKeyword(activities.AttrMethod)
	attrBackupID = temporal.NewSearchAttributeKeyKeyword(activities.AttrBackupID)
	attrPhase    = temporal.NewSearchAttributeKeyKeyword(activities.AttrPhase)
)

// SearchAttributes are those that a backup starts with.
func SearchAttributes(server string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(attrServer.ValueSet(server), attrPhase.ValueSet("preflight"))
}

// view is what people see of a run: in the Temporal UI and at the command line.
type view struct {
	server  string
	id      backup.ID
	plan    activities.Plan
	now     string
	details string
	attempt int
	losses  []string
}

// keptLosses bounds what is told of a stormy night.
const keptLosses = 5

func (v *view) serve(ctx workflow.Context) error {
	return workflow.SetQueryHandler(ctx, ProgressQuery, func() (State, error) {
		return State{ID: v.id, Method: v.plan.Method, Phase: v.now, Details: v.details, Bytes: v.plan.Bytes, Attempt: v.attempt, Losses: v.losses}, nil
	})
}

func (v *view) phase(ctx workflow.Context, name, details string) {
	v.now, v.details = name, details
	updates := []temporal.SearchAttributeUpdate{attrPhase.ValueSet(name)}
	if v.id != "" {
		updates = append(updates, attrBackupID.ValueSet(string(v.id)))
	}
	if v.plan.Method != "" {
		updates = append(updates, attrMethod.ValueSet(v.plan.Method))
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, updates...); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes were not updated", "error", err)
	}
	v.show(ctx)
}

// lost tells why an attempt ended, and that another one follows.
func (v *view) lost(ctx workflow.Context, attempt int, why string) {
	v.losses = append(v.losses, fmt.Sprintf("attempt %d: %s", attempt, why))
	if len(v.losses) > keptLosses {
		v.losses = v.losses[len(v.losses)-keptLosses:]
	}
	v.show(ctx)
}

// steps are the phases of a backup that succeeds, in their order.
var steps = []string{"preflight", "start", "copy", "stop", "label", "wal", "prove", "purge"}

func (v *view) show(ctx workflow.Context) {
	var b strings.Builder
	step := slices.Index(steps, v.now) + 1
	if step > 0 {
		fmt.Fprintf(&b, "**Step %d of %d, %s**: ", step, len(steps), v.now)
	}
	fmt.Fprintf(&b, "%s\n\n", v.details)
	if v.id != "" {
		fmt.Fprintf(&b, "- backup `%s` of server `%s`, method `%s`\n", v.id, v.server, v.plan.Method)
	}
	if v.plan.Parent != "" {
		fmt.Fprintf(&b, "- incremental: it holds what has changed since backup `%s`\n", v.plan.Parent)
	}
	if v.plan.Bytes > 0 {
		fmt.Fprintf(&b, "- size of the cluster: %s\n", report.Size(v.plan.Bytes))
	}
	for _, l := range v.losses {
		fmt.Fprintf(&b, "- tried again after %s\n", verbatim(l))
	}
	switch {
	case step == 0 && v.id != "":
		fmt.Fprintf(&b, "- all about it: `holdfast show-backup %s %s`\n", v.server, v.id)
	case step > 0:
		fmt.Fprintf(&b, "- how far it is, and errors that are being retried: tab *Pending Activities*, or `holdfast status %s`\n", v.server)
		fmt.Fprintf(&b, "- to end it: `holdfast cancel %s`, or the button *Request Cancellation*\n", v.server)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// verbatim keeps markdown from changing a text: its quotes, which statements to
// copy depend on, and its <placeholders>.
func verbatim(text string) string { return "`` " + text + " ``" }

func (v *view) starting(attempt int) string {
	v.attempt = attempt
	switch {
	case v.plan.Bracket == activities.Native:
		return "Takes the backup lock of the server."
	case v.plan.Checkpoint == "spread":
		return "PostgreSQL enters backup mode; it waits for a checkpoint, which may take minutes (`immediate_checkpoint = true` is quicker)."
	}
	return "PostgreSQL enters backup mode."
}

func (v *view) copying(s activities.HeldSession, attempt int) string {
	what := "Copies the cluster"
	if v.plan.Method == config.MethodSnapshot {
		what = "Makes snapshots of the disks of the cluster"
	}
	text := fmt.Sprintf("%s, from WAL position %s on.", what, s.Begin.LSN)
	if s.BackendPID != 0 {
		text += fmt.Sprintf(" PostgreSQL's session has PID %d.", s.BackendPID)
	}
	if attempt > 1 {
		text += fmt.Sprintf(" This is attempt %d.", attempt)
	}
	return text
}

func (v *view) proving() string {
	switch v.plan.Method {
	case config.MethodLocalToCloud:
		return "Compares the object store with what was sent, and reads the WAL back from begin to end."
	case config.MethodSnapshot:
		return "Waits until the snapshots are complete, and reads pg_control and the WAL back."
	}
	return "Reads everything back: files against their checksums, WAL from begin to end."
}

func (v *view) stopping() string {
	if v.plan.Bracket == activities.Native {
		return "Asks PostgreSQL where the backup ends."
	}
	return "PostgreSQL leaves backup mode."
}
