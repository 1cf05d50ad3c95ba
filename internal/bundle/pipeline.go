package bundle

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"
)

// inOrder fills one slot after another until fill returns io.EOF, lets each worker work
// on one slot at a time, and uses the slots in the order in which they were filled. The
// slots are all the memory that it needs. The error is the first one.
func inOrder[T any](ctx context.Context, slots []T, fill func(context.Context, T) error, workers []func(T) error, use func(context.Context, T) error) error {
	type job struct {
		slot T
		done chan error
	}
	free, todo, order := make(chan job, len(slots)), make(chan job, len(slots)), make(chan job, len(slots))
	for _, s := range slots {
		free <- job{s, make(chan error, 1)}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(todo)
		for {
			select {
			case j := <-free:
				err := fill(ctx, j.slot)
				if err == io.EOF { //nolint:errorlint // a wrapped one is a failure that must not pass for the end
					return nil
				}
				if err != nil {
					return err
				}
				todo <- j
				order <- j
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	for _, work := range workers {
		g.Go(func() error {
			for j := range todo {
				j.done <- work(j.slot)
			}
			return nil
		})
	}
	g.Go(func() error {
		for j := range order {
			if err := <-j.done; err != nil {
				return err
			}
			if err := use(ctx, j.slot); err != nil {
				return err
			}
			free <- j
		}
		return nil
	})
	return g.Wait()
}
