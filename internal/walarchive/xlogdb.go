package walarchive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// Entry is a line of xlog.db.
type Entry struct {
	Name        string
	Size        int64   // as stored
	Time        float64 // seconds since 1970: when the source was last written
	Compression codec.Algorithm
	Encryption  string
}

func seconds(t time.Time) float64 { return float64(t.Unix()) + float64(t.Nanosecond())*1e-9 }

// Modified is Time as a time.
func (e Entry) Modified() time.Time {
	whole := int64(e.Time)
	return time.Unix(whole, int64((e.Time-float64(whole))*1e9))
}

// String is the line, without its end.
func (e Entry) String() string {
	orNone := func(s string) string {
		if s == "" {
			return "None"
		}
		return s
	}
	return e.Name + "\t" + strconv.FormatInt(e.Size, 10) + "\t" + pylit.FormatFloat(e.Time) + "\t" + orNone(string(e.Compression)) + "\t" + orNone(e.Encryption)
}

// ParseEntry reads a line of three (old), four or five columns.
func ParseEntry(line string) (Entry, error) {
	col := strings.Split(line, "\t")
	if len(col) < 3 || len(col) > 5 {
		return Entry{}, fmt.Errorf("%q has %d columns, not 3 to 5", line, len(col))
	}
	e := Entry{Name: col[0]}
	if e.Name == "" || strings.ContainsAny(e.Name, "/\x00") {
		return Entry{}, fmt.Errorf("%q is no file name", e.Name)
	}
	var err error
	if e.Size, err = strconv.ParseInt(col[1], 10, 64); err != nil || e.Size < 0 {
		return Entry{}, fmt.Errorf("%q is no size", col[1])
	}
	// Beyond 2^53 a float holds no seconds; NaN fails the comparison.
	if e.Time, err = strconv.ParseFloat(col[2], 64); err != nil || !(e.Time > -1<<53 && e.Time < 1<<53) {
		return Entry{}, fmt.Errorf("%q is no time", col[2])
	}
	value := func(i int) string {
		if len(col) <= i || col[i] == "None" {
			return ""
		}
		return col[i]
	}
	e.Compression, e.Encryption = codec.Algorithm(value(3)), value(4)
	return e, nil
}

// maxLine bounds a line of xlog.db.
const maxLine = 4096

// ReadXlogDB calls each with every line of an xlog.db.
func ReadXlogDB(r io.Reader, subject string, each func(Entry) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxLine), maxLine)
	for line := 1; sc.Scan(); line++ {
		e, err := ParseEntry(sc.Text())
		if err != nil {
			return fault.New(fault.Corrupt, "read", subject, "line %d: %w", line, err).
				WithHint("make the list anew from the files: barman rebuild-xlogdb does so too")
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return fault.Wrap(fault.Corrupt, "read", subject, sc.Err())
}

// Each calls fn with every line of xlog.db, in the order of archiving, while
// nobody changes it. A file that was archived twice may be listed twice.
func (a *Archive) Each(ctx context.Context, fn func(Entry) error) error {
	end, err := a.layout.ObserveXlogDB(ctx)
	if err != nil {
		return err
	}
	defer end()
	return a.each(fn)
}

func (a *Archive) each(fn func(Entry) error) error {
	f, err := os.Open(a.layout.XlogDB())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "read", a.layout.XlogDB(), err)
	}
	defer f.Close()
	return ReadXlogDB(f, f.Name(), fn)
}

// Where appendLine looks for the line before it writes it: a new file may be
// listed by an attempt of a moment ago, an old one anywhere.
const (
	listedInTail   int64 = 64 << 10
	listedAnywhere int64 = 1 << 62
)

// appendLine lists a file, durably and once.
func (a *Archive) appendLine(ctx context.Context, e Entry, lookBack int64) error {
	lock, err := a.layout.LockXlogDB(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	path := a.layout.XlogDB()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fault.Wrap(fault.Internal, "open", path, err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	created := end == 0
	if end, err = lastLineEnd(f, end); err != nil {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	from := max(0, end-lookBack)
	listed, err := lists(io.NewSectionReader(f, from, end-from), e)
	if err != nil {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	if !listed {
		// What a dying machine left of a line belongs to a file that comes again.
		if err := f.Truncate(end); err != nil {
			return fault.Wrap(fault.Internal, "write", path, err)
		}
		if _, err := f.WriteAt([]byte(e.String()+"\n"), end); err != nil {
			return fault.Wrap(fault.Internal, "write", path, err)
		}
	}
	if err := f.Sync(); err != nil {
		return fault.Wrap(fault.Internal, "fsync", path, err)
	}
	if created {
		return atomicfile.SyncDir(filepath.Dir(path))
	}
	return nil
}

// lastLineEnd is the position after the last complete line.
func lastLineEnd(f *os.File, end int64) (int64, error) {
	from := max(0, end-maxLine)
	tail := make([]byte, end-from)
	if _, err := f.ReadAt(tail, from); err != nil {
		return 0, err
	}
	if i := bytes.LastIndexByte(tail, '\n'); i >= 0 {
		return from + int64(i) + 1, nil
	}
	if from > 0 {
		return 0, fmt.Errorf("its last line is longer than %d bytes", maxLine)
	}
	return 0, nil
}

// lists reports whether the lines of r list the file as it is.
func lists(r io.Reader, e Entry) (bool, error) {
	want := []byte(e.String())
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxLine), maxLine)
	for sc.Scan() {
		if bytes.Equal(sc.Bytes(), want) {
			return true, nil
		}
	}
	return false, sc.Err()
}

// rewrite replaces xlog.db; the caller holds its lock.
func (a *Archive) rewrite(fill func(w *bufio.Writer) error) error {
	if err := atomicfile.SweepFile(a.layout.XlogDB()); err != nil {
		return err
	}
	return atomicfile.WriteFunc(a.layout.XlogDB(), 0o644, func(w io.Writer) error {
		b := bufio.NewWriterSize(w, 256<<10)
		if err := fill(b); err != nil {
			return err
		}
		return b.Flush()
	})
}

func writeEntry(w *bufio.Writer, e Entry) error {
	_, err := w.WriteString(e.String() + "\n")
	return err
}
