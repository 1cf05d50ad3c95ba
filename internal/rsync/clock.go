package rsync

import (
	"slices"
	"sync"
	"time"
)

// Item is how long a tree or a file on its own took.
type Item struct {
	Name       string
	Analysis   time.Duration
	Copy       time.Duration // from the first transfer's begin to the last one's end; 0 when nothing was copied
	Serialized time.Duration // all transfers added up
}

// clock collects them; several jobs may copy one tree at the same time.
type clock struct {
	mu    sync.Mutex
	items []*timed
}

type timed struct {
	Item
	first time.Time
}

func (c *clock) of(name string) *timed {
	i := slices.IndexFunc(c.items, func(t *timed) bool { return t.Name == name })
	if i < 0 {
		c.items = append(c.items, &timed{Item: Item{Name: name}})
		i = len(c.items) - 1
	}
	return c.items[i]
}

func (c *clock) analysed(name string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(name).Analysis += time.Since(began)
}

func (c *clock) copied(name string, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.of(name)
	if t.first.IsZero() || began.Before(t.first) {
		t.first = began
	}
	t.Copy = time.Since(t.first)
	t.Serialized += time.Since(began)
}

func (c *clock) list() []Item {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Item
	for _, t := range c.items {
		out = append(out, t.Item)
	}
	return out
}
