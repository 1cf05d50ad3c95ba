package retention

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Make plans what the policy asks for, and what is left of deletions that were
// interrupted. Without a policy WAL goes only with backups that go.
func Make(in Input) *Plan {
	c := sorted(in.Backups)
	verdicts := c.judge(in.Policy, in.Now)
	p := c.newPlan(in, verdicts)
	p.finish(c)
	if !in.Policy.IsZero() {
		p.apply(c, verdicts)
		p.purge(c, in)
	} else {
		p.purgeIfDoomed(c, in)
	}
	return p
}

// Finish plans what is left of deletions that were interrupted.
func Finish(in Input) *Plan {
	c := sorted(in.Backups)
	p := c.newPlan(in, c.judge(in.Policy, in.Now))
	p.finish(c)
	p.purgeIfDoomed(c, in)
	return p
}

// AfterFirst plans which WAL goes once the first backup of a server is DONE.
func AfterFirst(in Input, id backup.ID) *Plan {
	c := sorted(in.Backups)
	p := c.newPlan(in, c.judge(in.Policy, in.Now))
	if b, _ := c.find(id); b.Status != backup.Done {
		p.NoPurge = fmt.Sprintf("backup %s is %s, not DONE", id, b.Status)
		return p
	}
	for _, b := range c.all {
		if b.ID < id && b.Status.CopyDone() {
			p.NoPurge = fmt.Sprintf("backup %s is older and complete", b.ID)
			return p
		}
	}
	p.purge(c, in)
	return p
}

// Delete plans the deletion of backups that somebody asks for, with all that
// depend on them, or refuses it.
func Delete(in Input, ids []backup.ID) (*Plan, error) {
	c := sorted(in.Backups)
	doomed := map[backup.ID]string{}
	for _, id := range ids {
		if _, ok := c.find(id); !ok {
			return nil, fault.New(fault.NotFound, opDelete, string(id), "there is no such backup")
		}
		for _, child := range c.descendants(id) {
			doomed[child] = fmt.Sprintf("it depends on %s", id)
		}
	}
	for _, id := range ids {
		doomed[id] = "its deletion was asked for"
	}
	if err := c.refuse(in, doomed); err != nil {
		return nil, err
	}
	p := c.newPlan(in, c.judge(in.Policy, in.Now))
	p.doom(c, doomed)
	p.purgeIfDoomed(c, in)
	return p, nil
}

const opDelete = "delete backup"

func (c catalogue) refuse(in Input, doomed map[backup.ID]string) error {
	left, gone := 0, backup.ID("")
	for _, b := range c.all {
		_, dies := doomed[b.ID]
		if b.counts() && !dies {
			left++
		}
		if !dies {
			continue
		}
		if b.counts() {
			gone = b.ID
		}
		refused := func(why, hint string) error {
			return fault.New(fault.Refused, opDelete, string(b.ID), "%s", why).WithHint("%s", hint)
		}
		switch {
		case b.InUse != "":
			return refused(b.InUse, "wait until that has ended, or end it; there is no way to force it")
		case b.Keep != "" && !b.Deleting:
			return refused(fmt.Sprintf("it is kept (%s)", b.Keep), fmt.Sprintf("release it first: holdfast keep %s %s --release", in.Server, b.ID))
		case b.Snapshots:
			return refused("it consists of disk snapshots, which this version does not delete", "delete it with barman delete")
		}
	}
	if gone != "" && left < in.Policy.Minimum {
		return fault.New(fault.Refused, opDelete, string(gone), "%d full backups that are DONE would be left, minimum_redundancy is %d", left, in.Policy.Minimum).
			WithHint("take another backup first, or lower minimum_redundancy; there is no way to force it")
	}
	return nil
}

func (c catalogue) newPlan(in Input, verdicts map[backup.ID]Verdict) *Plan {
	p := &Plan{Policy: in.Policy.String()}
	waiting := []string{}
	for _, b := range c.all {
		v := verdicts[b.ID]
		p.Backups = append(p.Backups, Decision{ID: b.ID, Status: b.Status, Word: v.Word, Reason: v.Reason})
		switch {
		case b.Deleting:
		case b.Status == backup.WaitingForWALs:
			waiting = append(waiting, string(b.ID))
		case b.Orphan && b.Status.CopyDone():
			p.warn("the files of backup %s are missing: it does not count, and is deleted by request only", b.ID)
		}
	}
	if len(waiting) > 0 && !in.Policy.IsZero() {
		p.warn("backups that wait for WAL do not count: %s", strings.Join(waiting, ", "))
	}
	return p
}

func (p *Plan) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// finish dooms what deletions have begun to delete.
func (p *Plan) finish(c catalogue) {
	for _, b := range slices.Backward(c.all) {
		if !b.Deleting {
			continue
		}
		doomed := map[backup.ID]string{}
		for _, id := range c.descendants(b.ID) {
			doomed[id] = fmt.Sprintf("it depends on %s, whose deletion has begun", b.ID)
		}
		doomed[b.ID] = "its deletion has begun"
		p.attempt(c, doomed)
	}
}

// apply dooms whole chains that are obsolete, the oldest first.
func (p *Plan) apply(c catalogue, verdicts map[backup.ID]Verdict) {
	for _, b := range slices.Backward(c.all) {
		v := verdicts[b.ID]
		if b.Parent != "" || v.bare != Obsolete || v.Word == KeepFull {
			continue
		}
		doomed := map[backup.ID]string{}
		for _, id := range c.descendants(b.ID) {
			doomed[id] = fmt.Sprintf("it depends on %s: %s", b.ID, v.Reason)
		}
		if v.Word == Obsolete {
			doomed[b.ID] = v.Reason
		}
		p.attempt(c, doomed)
	}
}

// attempt dooms backups together, or keeps them all and says why.
func (p *Plan) attempt(c catalogue, doomed map[backup.ID]string) {
	why := ""
	ids := slices.Sorted(maps.Keys(doomed))
	for _, id := range ids {
		b, _ := c.find(id)
		switch {
		case b.InUse != "":
			why = fmt.Sprintf("backup %s is busy: %s", b.ID, b.InUse)
		case b.Snapshots:
			why = fmt.Sprintf("backup %s consists of disk snapshots, which this version does not delete", b.ID)
		case b.Deleting, b.Status == backup.Done, b.Status == backup.Failed:
			continue
		default:
			why = fmt.Sprintf("backup %s is %s", b.ID, b.Status)
		}
		break
	}
	if why == "" {
		p.doom(c, doomed)
		return
	}
	var list []string
	for _, id := range ids {
		list = append(list, string(id))
		if d := &p.Backups[c.at[id]]; !d.Delete {
			d.Reason = "kept for now, because " + why
		}
	}
	p.warn("not deleted now, because %s: %s", why, strings.Join(list, ", "))
}

// doom adds backups, those that depend on others first.
func (p *Plan) doom(c catalogue, doomed map[backup.ID]string) {
	for _, root := range slices.Sorted(maps.Keys(doomed)) {
		b, _ := c.find(root)
		if _, above := doomed[b.Parent]; above {
			continue
		}
		for _, id := range append(c.descendants(root), root) {
			why, dies := doomed[id]
			if d := &p.Backups[c.at[id]]; dies && !d.Delete {
				d.Delete, d.Reason = true, why
				p.Doomed = append(p.Doomed, id)
			}
		}
	}
}
