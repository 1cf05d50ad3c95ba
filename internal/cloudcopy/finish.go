package cloudcopy

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/volumes"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// recordsLevel is zstd's for the records, which are checksums for the most part: a higher one makes them no smaller.
const recordsLevel = 1

// wholeObject is all of an object.
var wholeObject = objstore.Whole()

// Finish stores what is known only after backup mode was left: the archives of each
// tree's directories, the data directory's with its pg_control and the label, and
// the records. It may be called again.
func Finish(ctx context.Context, job Job, label string, ended time.Time) (stored int64, err error) {
	c, err := begin(job)
	if err != nil {
		return 0, err
	}
	trees, err := c.j.trees()
	if err == nil && trees == nil { // the copy was made by an earlier version
		trees, err = c.list(ctx)
	}
	if err != nil {
		return 0, err
	}
	var control volumes.Inline
	there, err := c.j.readJSON(controlName, &control)
	if err != nil {
		return 0, err
	}
	if !there {
		return 0, fault.New(fault.Internal, "read", c.j.path(controlName), "the copy has left no pg_control")
	}
	inLabel, err := volumes.Label(c.Cluster.DataDir, label, ended)
	if err != nil {
		return 0, err
	}
	makers := make(chan *maker, finishing)
	for range finishing {
		makers <- c.newMaker(finishing, volumes.SegmentSize)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(finishing)
	for _, t := range trees {
		var singles []volumes.Single
		var inline []volumes.Inline
		if t.Name == volumes.DataTree {
			singles, inline = c.Singles, []volumes.Inline{control, inLabel}
		}
		g.Go(func() error {
			m := <-makers
			defer func() { makers <- m }()
			return m.archive(gctx, volumes.ArchiveName(t.Name, 0), nil, func() {}, func(ctx context.Context, emit func(volumes.Segment) error) (volumes.Result, error) {
				return m.reader.Plain(ctx, t, singles, inline, emit)
			})
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for _, t := range trees {
		name := volumes.ArchiveName(t.Name, 0)
		e, err := c.j.head(name)
		if err != nil || e == nil {
			return 0, errors.Join(err, fault.New(fault.Internal, "read the record of", name, "it is missing"))
		}
		stored += e.Record.Size
	}
	return stored, c.storeRecords(ctx)
}

// finishing is how many archives are made at the same time. They are small.
const finishing = 2

// storeRecords stores the journal, as far as it counts: what is of volumes that are not
// in the plan is not stored.
func (c *copying) storeRecords(ctx context.Context) error {
	names, err := c.archives()
	if err != nil {
		return err
	}
	files := []string{stateName, planName}
	for _, name := range names {
		files = append(files, name+recordSuffix, name+membersSuffix)
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(c.packRecords(out, files)) }()
	_, err = c.Store.Put(ctx, c.Base+recordsKey, in, objstore.PutOptions{})
	in.CloseWithError(io.ErrClosedPipe)
	return err
}

func (c *copying) packRecords(w io.Writer, files []string) error {
	z, err := zstd.NewWriter(w, recordsLevel)
	if err != nil {
		return fault.Wrap(fault.Internal, "compress", "the records", err)
	}
	t := tar.NewWriter(z)
	for _, name := range files {
		there, err := c.j.read(name, func(r io.Reader) error {
			st, err := r.(*os.File).Stat()
			if err == nil {
				err = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: st.Size(), Mode: 0o600, ModTime: st.ModTime().Truncate(time.Second)})
			}
			if err == nil {
				_, err = io.Copy(t, r)
			}
			return err
		})
		if err == nil && !there {
			err = &fs.PathError{Op: "open", Path: c.j.path(name), Err: fs.ErrNotExist}
		}
		if err != nil {
			return fault.Wrap(fault.Internal, "pack", name, err)
		}
	}
	return errors.Join(t.Close(), z.Close())
}

// archives are the names of all archives of the backup.
func (c *copying) archives() ([]string, error) {
	plan, err := c.j.plan()
	if err != nil {
		return nil, err
	}
	if plan == nil {
		return nil, fault.New(fault.Internal, "read", c.j.path(planName), "the copy has left no plan")
	}
	var out []string
	for _, v := range plan.Volumes {
		out = append(out, v.Name())
	}
	for _, tree := range c.treeNames() {
		out = append(out, volumes.ArchiveName(tree, 0))
	}
	return out, nil
}
