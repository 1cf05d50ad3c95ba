package walarchive

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/hook"
)

// event is what scripts are told of a file.
func (a *Archive) event(name, path string) (hook.Event, error) {
	f, err := openSource(path)
	if err != nil {
		return hook.Event{}, fault.Wrap(fault.Internal, "read", path, err)
	}
	defer f.Close()
	e, err := entryOf(f, a.opt.Compression)
	return eventOf(name, path, e), err
}

// storedEvent is what they are told of a file of the archive.
func (a *Archive) storedEvent(ctx context.Context, event, name string) (hook.Event, error) {
	f, e, err := a.shelf.get(ctx, name)
	if err != nil {
		return hook.Event{}, err
	}
	f.Close()
	out := eventOf(event, a.shelf.where(e), e)
	out.Vars["BARMAN_SEGMENT"] = name // an object has a suffix
	return out, nil
}

func eventOf(event, where string, e Entry) hook.Event {
	return hook.OfWAL(event, hook.WAL{Path: where, Size: strconv.FormatInt(e.Size, 10), Timestamp: strconv.FormatFloat(e.Time, 'f', -1, 64), Compression: string(e.Compression)})
}

// beforeDeletion runs the scripts before the deletion of files, all of them
// before the first file goes: one that says stop leaves everything in place.
// Files that are gone already have no scripts.
func (a *Archive) beforeDeletion(ctx context.Context, names []string) ([]hook.Event, error) {
	if !a.opt.Hooks.Has(hook.WALDelete) {
		return nil, nil
	}
	var events []hook.Event
	for _, name := range names {
		e, err := a.storedEvent(ctx, hook.WALDelete, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = a.opt.Hooks.Before(ctx, e)
		}
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// afterDeletion runs the scripts after it.
func (a *Archive) afterDeletion(ctx context.Context, events []hook.Event) error {
	for _, e := range events {
		if err := a.opt.Hooks.After(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
