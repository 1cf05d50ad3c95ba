package bucket

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/cloudcopy"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// archives reads all of them. Progress is of the bytes that are stored; of what they expand to where
// records tell that.
func (v *verifier) archives(ctx context.Context, b *Bucket, c *Contents, jobs int, progress func(done, total int64)) error {
	type numbered struct {
		basetar.Archive
		n int
	}
	byName := map[string]numbered{}
	total := int64(0)
	for _, list := range c.Archives {
		for n, a := range list {
			name := path.Base(a.Path)
			byName[name] = numbered{a, n}
			v.result.Objects++
			v.result.Bytes += a.Size
			total += cmp.Or(c.recorded[name].Content, a.Size)
		}
	}
	var done atomic.Int64
	read := func(n int64) { progress(done.Add(n), total) }
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	var err error
	if c.recorded != nil {
		// Records come with their segments one after the other: those of 10 TB are 400 MB.
		err = cloudcopy.Records(gctx, b.store, b.dir(v.info.ID), func(name string, r *bundle.Record) error {
			if a, there := byName[name]; there {
				r.Key = a.Path
				g.Go(func() error { return v.archive(gctx, b.expanded(a.Archive, r), a.n, read) })
			}
			return gctx.Err()
		})
	} else {
		for _, a := range byName {
			g.Go(func() error { return v.archive(gctx, a.Archive, a.n, read) })
		}
	}
	return cmp.Or(g.Wait(), err)
}

// expanded is an archive whose content is compared with its record, segment by segment, before it is read.
func (b *Bucket) expanded(a basetar.Archive, r *bundle.Record) basetar.Archive {
	return basetar.Stored(a.Path, a.OID, a.Size, codec.None, func(ctx context.Context) (io.ReadCloser, error) {
		ctx, cancel := context.WithCancel(ctx)
		content, into := io.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			into.CloseWithError(bundle.Read(ctx, b.store, r, expanders, func(content []byte) error {
				_, err := into.Write(content)
				return err
			}))
		}()
		return &piped{content, cancel, ended}, nil
	})
}

// expanders are how many segments of an archive are expanded at the same time.
const expanders = 2

// piped is read from a goroutine that ends before Close does.
type piped struct {
	*io.PipeReader
	cancel context.CancelFunc
	ended  chan struct{}
}

// Close implements io.Closer.
func (p *piped) Close() error {
	p.cancel()
	err := p.PipeReader.Close()
	<-p.ended
	return err
}

// archive reads one archive. That it cannot be read is a finding, unless the store does not answer.
func (v *verifier) archive(ctx context.Context, a basetar.Archive, n int, progress func(int64)) error {
	buf := make([]byte, 256<<10)
	err := a.Each(ctx, progress, func(m basetar.Member) error {
		if a.Misplaced(m) {
			return fault.New(fault.Corrupt, "read", a.Path, "it holds %s, which does not belong there: its content is that of another object", m.Name)
		}
		return v.member(a, n, m, buf)
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case fault.Is(err, fault.Corrupt), fault.Is(err, fault.NotFound):
		v.damaged("%v", err)
		return nil
	}
	return err
}

func (v *verifier) member(a basetar.Archive, n int, m basetar.Member, buf []byte) error {
	if !m.FileInfo().Mode().IsRegular() {
		return nil
	}
	v.mu.Lock()
	v.result.Files++
	v.mu.Unlock()
	var keep *bytes.Buffer
	if a.OID == 0 && slices.Contains([]string{labelName, controlName, manifest.Name}, m.Name) {
		if m.Size > mostManifest {
			return fault.New(fault.Corrupt, "read", a.Path, "%s has %d bytes", m.Name, m.Size)
		}
		keep = &bytes.Buffer{}
	}
	sum := manifest.CRC32C.New()
	into := io.Writer(sum)
	if keep != nil {
		into = io.MultiWriter(sum, keep)
	}
	size, err := io.CopyBuffer(struct{ io.Writer }{into}, m.Reader, buf)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if was, there := v.kept[m.Name]; keep != nil && (!there || was.archive <= n) {
		v.kept[m.Name] = kept{n, keep.Bytes()}
	}
	path := m.Name
	if a.OID != 0 {
		path = fmt.Sprintf("pg_tblspc/%d/%s", a.OID, m.Name)
	}
	if was, there := v.files[path]; v.files != nil && (!there || was.archive <= n) {
		v.files[path] = content{n, a.Path, size, sum.Sum(nil)}
	}
	return nil
}
