package storecheck

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

const (
	// Prefix begins every key of every check.
	Prefix = "holdfast-check-"
	// stale is the age from which on what a killed check has left is removed.
	stale = 24 * time.Hour
	// tidying bounds the removal of what was made, also after an interruption.
	tidying = time.Minute
	// skew is the difference of clocks that harms nothing.
	skew = time.Minute
	// grace is for how long a step may go on after an interruption: a request that is cut
	// off may still be carried out, after everything was removed.
	grace = 5 * time.Second
)

// Run checks a store, with now as this host's clock. It fails only when ctx ends,
// with Cancelled; what it made is removed then, too.
func Run(ctx context.Context, store objstore.Store, now func() time.Time) ([]check.Item, error) {
	steps, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cut) })()
	c := &checking{interrupted: ctx.Done(), ctx: steps, store: store, now: now, prefix: Prefix + strings.ToLower(rand.Text()) + "/"}
	var left error
	if c.run() {
		left = c.tidy()
	}
	switch {
	case ctx.Err() != nil && left == nil && steps.Err() != nil:
		return nil, fault.New(fault.Cancelled, "check", "the store", "it was interrupted, and a request was cut off that took longer than %v; the store may still carry it out, below %s", grace, c.prefix).
			WithHint("check again after a day, which removes what is there")
	case ctx.Err() != nil && left != nil:
		return nil, fault.New(fault.Cancelled, "check", "the store", "it was interrupted, and what lies below %s could not be removed: %w", c.prefix, left).
			WithHint("remove it by hand, or check again after a day, which removes it")
	case ctx.Err() != nil:
		return nil, fault.New(fault.Cancelled, "check", "the store", "it was interrupted; nothing of it is left there")
	case left != nil:
		c.try("tidy up", func() (string, error) {
			return "", fault.Wrap(fault.Internal, "remove", "what is below "+c.prefix, left)
		})
	}
	return c.items, nil
}

type checking struct {
	interrupted <-chan struct{} // no further step is begun
	ctx         context.Context // of the requests
	store       objstore.Store
	now         func() time.Time
	prefix      string
	items       []check.Item
}

// try adds an item that is well when step is; step may say more.
func (c *checking) try(name string, step func() (string, error)) bool {
	select {
	case <-c.interrupted:
		return false
	default:
	}
	hint, err := step()
	if err != nil {
		hint = err.Error()
		if cure := fault.HintOf(err); cure != "" {
			hint += "; " + cure
		}
	}
	c.items = append(c.items, check.Item{Name: name, OK: err == nil, Hint: strings.Join(strings.Fields(hint), " "), Critical: true})
	return err == nil
}

// wrong is a store that does something else.
func wrong(format string, args ...any) error {
	return fault.New(fault.Unavailable, "", "", format, args...).
		WithHint("this store cannot keep backups safely; see its release notes, or use another one")
}

// run reports whether something may have been stored.
func (c *checking) run() bool {
	small := []byte("holdfast")
	if !c.try("list", c.list) {
		return false
	}
	if !c.try("put", func() (string, error) { return "", c.put("small", small) }) {
		return true // nothing else can succeed
	}
	c.try("clock", c.clock)
	c.try("read", func() (string, error) { return "", c.read("small", small) })
	c.try("put if absent", c.putIfAbsent)
	c.try("checksums", c.checksums)
	c.try("names", c.names)
	large := c.try("large objects", c.large)
	if m, is := c.store.(objstore.Multipart); is {
		c.try("multipart uploads", func() (string, error) { return "", c.multipart(m) })
		c.try("unfinished uploads", func() (string, error) { return "", c.unfinished(m) })
	}
	if s, is := c.store.(objstore.Copier); is {
		c.try("server-side copy", func() (string, error) { return "", c.copy(s, small) })
	}
	if s, is := c.store.(objstore.RangeCopier); is && large { // its ranges are copied
		c.try("server-side copy of ranges", func() (string, error) { return "", c.rangeCopy(s) })
	}
	c.try("locks", c.locks)
	c.try("delete", c.delete)
	return true
}

func (c *checking) key(name string) string { return c.prefix + name }

func (c *checking) put(name string, data []byte) error {
	o, err := c.store.Put(c.ctx, c.key(name), bytes.NewReader(data), objstore.PutOptions{})
	if err == nil && o.Size != int64(len(data)) {
		err = wrong("of %d bytes the store has kept %d", len(data), o.Size)
	}
	return err
}

// read compares what the store has, all of it and a range inside, with what it should have.
func (c *checking) read(name string, want []byte) error {
	middle := objstore.Range{Offset: int64(len(want) / 3), Length: int64(len(want)/3) + 1}
	for _, r := range []objstore.Range{objstore.Whole(), middle, {Offset: int64(len(want)) + 10, Length: 10}} {
		part := want[min(int64(len(want)), r.Offset):]
		if r.Length >= 0 {
			part = part[:min(r.Length, int64(len(part)))]
		}
		in, _, err := c.store.Get(c.ctx, c.key(name), r)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(in)
		in.Close()
		if err != nil {
			return err
		}
		if !bytes.Equal(got, part) {
			return wrong("of %d bytes at %d the store yields %d that are others", len(part), r.Offset, len(got))
		}
	}
	return nil
}

// list also finds what killed checks have left, and takes away what is old.
func (c *checking) list() (string, error) {
	for o, err := range c.store.List(c.ctx, Prefix) {
		if err == nil && c.now().Sub(o.Modified) > stale {
			err = c.store.Delete(c.ctx, o.Key)
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// clock compares the time that the store gave an object with ours.
func (c *checking) clock() (string, error) {
	before := c.now()
	if err := c.put("clock", nil); err != nil {
		return "", err
	}
	after := c.now()
	o, err := c.store.Stat(c.ctx, c.key("clock"))
	if err != nil {
		return "", err
	}
	var off time.Duration
	switch { // stores tell whole seconds
	case o.Modified.Before(before.Add(-time.Second)):
		off = before.Sub(o.Modified)
	case o.Modified.After(after):
		off = o.Modified.Sub(after)
	}
	off = off.Round(time.Second)
	ahead := "behind"
	if o.Modified.After(after) {
		ahead = "ahead of"
	}
	if off > skew {
		return "", fault.New(fault.Config, "", "", "the store's clock is %v %s this host's", off, ahead).
			WithHint("let a time service set the clock of this host (timedatectl set-ntp true), or the store's")
	}
	if off == 0 {
		return "the store's clock agrees with this host's", nil
	}
	return fmt.Sprintf("the store's clock is %v %s this host's", off, ahead), nil
}

// putIfAbsent: what is there stays, and of two writers one wins.
func (c *checking) putIfAbsent() (string, error) {
	absent := func(name, text string) error {
		_, err := c.store.Put(c.ctx, c.key(name), strings.NewReader(text), objstore.PutOptions{IfAbsent: true})
		return err
	}
	var wg sync.WaitGroup
	texts := []string{"one writer", "the other"}
	errs := make([]error, len(texts))
	for i, text := range texts {
		wg.Go(func() { errs[i] = absent("absent", text) })
	}
	wg.Wait()
	won := slices.Index(errs, nil)
	if won < 0 {
		return "", errs[0]
	}
	if errs[1-won] == nil {
		return "", wrong("two writers both stored an object that was to be absent")
	}
	if lost := errs[1-won]; !fault.Is(lost, fault.Conflict) {
		return "", lost
	}
	if err := absent("absent", "late"); !fault.Is(err, fault.Conflict) {
		if err == nil {
			err = wrong("an object was replaced that was to be absent")
		}
		return "", err
	}
	return "", c.read("absent", []byte(texts[won]))
}

// checksums: the store refuses what does not match its checksum.
func (c *checking) checksums() (string, error) {
	data := []byte("damaged on the way")
	bad := crc32.Checksum(data, objstore.Castagnoli) + 1
	o := objstore.PutOptions{CRC32C: &bad}
	var err error
	if s, is := c.store.(objstore.Parts); is { // Put would find out before it sends anything
		_, err = s.PutBytes(c.ctx, c.key("checksum"), data, o)
	} else {
		_, err = c.store.Put(c.ctx, c.key("checksum"), bytes.NewReader(data), o)
	}
	if err == nil {
		return "", fault.New(fault.Unavailable, "", "", "the store does not look at checksums: damage on the way would stay unnoticed until it is read").
			WithHint("use a store that verifies CRC32C, or reach this one through TLS, which protects what is sent")
	}
	if !fault.Is(err, fault.Corrupt) {
		return "", err
	}
	kept, err := c.store.Stat(c.ctx, c.key("small"))
	if err != nil {
		return "", err
	}
	if kept.CRC32C == nil {
		return "what is sent is verified by the store; it tells no checksums of what it keeps", nil
	}
	return "what is sent is verified by the store, what is read by Holdfast", nil
}

// names: keys come back as they were given.
func (c *checking) names() (string, error) {
	names := []string{"n/a b+c", "n/a%20b", `n/it's "q"`, "n/..x", "n/ü€", "n/a/b"}
	for _, name := range names {
		if err := c.put(name, []byte(name)); err != nil {
			return "", err
		}
	}
	var got []string
	for o, err := range c.store.List(c.ctx, c.key("n/")) {
		if err != nil {
			return "", err
		}
		got = append(got, strings.TrimPrefix(o.Key, c.prefix))
	}
	slices.Sort(names)
	if !slices.Equal(got, names) {
		return "", wrong("the names %q are listed as %q", names, got)
	}
	for _, name := range names {
		if err := c.read(name, []byte(name)); err != nil {
			return "", err
		}
	}
	return "", nil
}

// parts is content that takes more than one part.
func parts() []byte {
	data := make([]byte, objstore.MinPart+1000)
	for i := range data {
		data[i] = byte(i>>12 ^ i*7)
	}
	return data
}

func (c *checking) large() (string, error) {
	if err := c.put("large", parts()); err != nil {
		return "", err
	}
	return "", c.read("large", parts())
}

// multipart: parts arrive in another order than their own.
func (c *checking) multipart(m objstore.Multipart) error {
	u, err := m.Begin(c.ctx, c.key("multipart"))
	if err != nil {
		return err
	}
	data := parts()
	two, err := m.PutPart(c.ctx, u, 2, data[objstore.MinPart:])
	if err != nil {
		return err
	}
	one, err := m.PutPart(c.ctx, u, 1, data[:objstore.MinPart])
	if err != nil {
		return err
	}
	if _, err := m.Complete(c.ctx, u, []objstore.Part{two, one}, objstore.PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	return c.read("multipart", data)
}

// unfinished: an upload is listed until it is aborted.
func (c *checking) unfinished(m objstore.Multipart) error {
	u, err := m.Begin(c.ctx, c.key("unfinished"))
	if err != nil {
		return err
	}
	if _, err := m.PutPart(c.ctx, u, 1, []byte("x")); err != nil {
		return err
	}
	listed := func() (n int, err error) {
		for _, err := range m.Uploads(c.ctx, u.Key) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	if n, err := listed(); err != nil || n != 1 {
		return errors.Join(err, counted(n, 1))
	}
	if err := m.Abort(c.ctx, u); err != nil {
		return err
	}
	n, err := listed()
	return errors.Join(err, counted(n, 0))
}

func counted(n, want int) error {
	if n == want {
		return nil
	}
	return wrong("%d unfinished uploads are listed where there is %d", n, want)
}

func (c *checking) copy(s objstore.Copier, want []byte) error {
	if _, err := s.Copy(c.ctx, c.key("small"), c.key("copy")); err != nil {
		return err
	}
	return c.read("copy", want)
}

func (c *checking) rangeCopy(s objstore.RangeCopier) error {
	u, err := s.BeginCopy(c.ctx, c.key("range"))
	if err != nil {
		return err
	}
	one, err := s.CopyPart(c.ctx, u, 1, c.key("large"), objstore.Range{Offset: 500, Length: objstore.MinPart})
	if err != nil {
		return err
	}
	two, err := s.PutPart(c.ctx, u, 2, []byte("new"))
	if err != nil {
		return err
	}
	if _, err := s.Complete(c.ctx, u, []objstore.Part{one, two}, objstore.PutOptions{}); err != nil {
		return err
	}
	return c.read("range", append(parts()[500:500+objstore.MinPart], "new"...))
}

// locks tells whether objects will be locked. None is no fault.
func (c *checking) locks() (string, error) {
	l, is := c.store.(objstore.Locker)
	if !is {
		return "this kind of store knows none", nil
	}
	rule, err := l.NewLocks(c.ctx)
	if err != nil {
		return "", err
	}
	lock, err := l.LockOf(c.ctx, c.key("small"))
	if err != nil {
		return "", err
	}
	switch {
	case lock.Hold:
		return "new objects have a legal hold: backups cannot be deleted until it is lifted", nil
	case lock.Locked(c.now()):
		return fmt.Sprintf("new objects are locked (%s) until %s: no backup can be deleted before", lock.Mode, lock.Until.UTC().Format(time.RFC3339)), nil
	case rule != "":
		return "new objects are locked: " + rule, nil
	}
	return "none: whoever has the credentials can delete backups", nil
}

// delete: what is deleted is gone, and deleting it again is no fault.
func (c *checking) delete() (string, error) {
	keys := []string{c.key("small"), c.key("copy"), c.key("never there")}
	for range 2 {
		if err := c.store.Delete(c.ctx, keys...); err != nil {
			return "", err
		}
	}
	if _, err := c.store.Stat(c.ctx, keys[0]); !fault.Is(err, fault.NotFound) {
		if err == nil {
			err = wrong("an object is there after it was deleted")
		}
		return "", err
	}
	return "", nil
}

// tidy removes everything below the prefix.
func (c *checking) tidy() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), tidying)
	defer cancel()
	return c.remove(ctx)
}

func (c *checking) remove(ctx context.Context) error {
	if m, is := c.store.(objstore.Multipart); is {
		for u, err := range m.Uploads(ctx, c.prefix) {
			if err == nil {
				err = m.Abort(ctx, u)
			}
			if err != nil {
				return err
			}
		}
	}
	var keys []string
	for o, err := range c.store.List(ctx, c.prefix) {
		if err != nil {
			return err
		}
		keys = append(keys, o.Key)
	}
	return c.store.Delete(ctx, keys...)
}
