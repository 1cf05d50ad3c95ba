package walarchive

import (
	"context"
	"io"
	"io/fs"
	"iter"
)

// shelf is where an archive keeps its files, each in the form in which it is
// stored. Every method may be repeated after a kill.
type shelf interface {
	// where is the place of a file, for people and scripts.
	where(e Entry) string
	// put stores a file in the form of e. It is whole and durable, or absent. The
	// error is fs.ErrExist when the name is taken, in whatever form. It returns e
	// as stored, with its size.
	put(ctx context.Context, e Entry, from delivery) (Entry, error)
	// get opens a file as it is stored; fs.ErrNotExist when there is none.
	get(ctx context.Context, name string) (io.ReadCloser, Entry, error)
	// list yields the files of one hash directory, of all for "", each name once
	// and in their order. It ends after an error.
	list(ctx context.Context, hashDir string) iter.Seq2[file, error]
	// histories are the names of the history files. known are timelines of which
	// other files tell.
	histories(ctx context.Context, known map[uint32]bool) ([]string, error)
	// remove removes files in whatever form, and counts those that were there.
	remove(ctx context.Context, names []string) (int, error)
}

// delivery is a file that is to be stored.
type delivery struct {
	source fs.FileInfo
	write  func(io.Writer) error // in the form in which it is stored
	plain  io.Reader             // the same, where that is the source as it is; else nil
}

// file is a stored file that was listed.
type file struct {
	name     string
	describe func() (Entry, error)
}
