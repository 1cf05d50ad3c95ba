package activities

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/hook"
)

// Hooks has the activities that run a backup's scripts. A script runs again
// when what runs it is killed.
type Hooks struct {
	Servers Servers
}

// BeforeBackup runs the scripts before a backup; the error says that the
// backup is not to be taken.
func (h *Hooks) BeforeBackup(ctx context.Context, ref Ref) error {
	return during(ctx, "runs the scripts before the backup", func(ctx context.Context) error {
		hooks, e, err := h.event(ref)
		if err != nil {
			return err
		}
		return hooks.Before(ctx, e)
	})
}

// AfterBackup runs the scripts after a backup, which see how it ended.
func (h *Hooks) AfterBackup(ctx context.Context, ref Ref) error {
	return during(ctx, "runs the scripts after the backup", func(ctx context.Context) error {
		hooks, e, err := h.event(ref)
		if err != nil {
			return err
		}
		return hooks.After(ctx, e)
	})
}

func (h *Hooks) event(ref Ref) (*hook.Hooks, hook.Event, error) {
	s, err := h.Servers.Server(ref.Server)
	if err != nil {
		return nil, hook.Event{}, err
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	info, err := cat.Get(ref.ID)
	if err != nil {
		return nil, hook.Event{}, err
	}
	e, err := hook.OfBackup(hook.Backup, cat, info)
	return hook.Of(s), e, err
}
