package rsync

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// findPrint prints of each file whether it can be read, what it is, device, inode,
// size, times, mode and path (find(1), -printf).
const findPrint = `\( ! -readable -o -type d ! -executable \) -printf 'x%y %D %i %s %T@ %C@ %m %P\0' -prune -o -printf 'r%y %D %i %s %T@ %C@ %m %P\0'`

// chunk is how many files are looked at at a time.
const chunk = 512

// complete is the last record of a listing, after find has ended.
const complete = "complete"

// found is a file as find prints it.
type found struct {
	datadir.Attributes
	rel    string
	kind   byte // of find's %y, after links
	denied bool
}

func parseFound(text string) (f found, err error) {
	fields := strings.SplitN(text, " ", 8)
	if len(fields) != 8 || len(fields[0]) != 2 {
		return f, fault.New(fault.Tool, "read the output of", "find", "%q is not understood", text).WithHint("GNU find is needed on the host of the cluster")
	}
	f.denied, f.kind, f.rel = fields[0][0] == 'x', fields[0][1], fields[7]
	numbers := make([]uint64, 3)
	for i, at := range []int{1, 2, 3} {
		n, e := strconv.ParseUint(fields[at], 10, 64)
		numbers[i], err = n, errors.Join(err, e)
	}
	mode, e := strconv.ParseUint(fields[6], 8, 32)
	err = errors.Join(err, e)
	f.Dev, f.Ino, f.Size, f.Mode = numbers[0], numbers[1], int64(numbers[2]), uint32(mode)
	f.Mtime, e = parseTime(fields[4])
	err = errors.Join(err, e)
	f.Change, e = parseTime(fields[5])
	switch f.kind {
	case 'f':
		f.Mode |= unix.S_IFREG
	case 'd':
		f.Mode |= unix.S_IFDIR
	}
	return f, fault.Wrap(fault.Tool, "read the output of", "find", errors.Join(err, e))
}

// findTree lists a tree. Names that vanish while find looks are no trouble, nor is
// what is excluded, which find looks at before it skips it. All other words of
// find are.
func findTree(t Tree, f datadir.Filter) string {
	var prune []string
	drop := ` -e ': No such file or directory$'`
	if t.Only != "" {
		prune = append(prune, "! -path "+ssh.Quote("./"+t.Only))
	}
	for _, p := range f.Exclude {
		prune = append(prune, excludedBy(p)...)
		if dir, all := strings.CutSuffix(p.Text, "/*"); all && p.Anchored {
			drop += " -e " + ssh.Quote("^find: '[.]/"+dir+"/")
		}
	}
	skip := ""
	if len(prune) > 0 {
		skip = `\( ` + strings.Join(prune, " -o ") + ` \) -prune -o `
	}
	return "cd " + ssh.Quote(t.Source) + ` || exit
exec 3>&1
{ LC_ALL=C find -L . -mindepth 1 ` + skip + findPrint + ` >&3
[ $? -le 1 ] && printf '` + complete + `\0' >&3; } 2>&1 | grep -v` + drop + ` >&2
[ $? -eq 1 ]`
}

// excludedBy are the tests by which find knows what a pattern excludes. Its
// wildcards also match slashes, so that it is only asked about those in the last
// component, below which it does not look.
func excludedBy(p datadir.Pattern) []string {
	dir, _ := filepath.Split(p.Text)
	switch {
	case strings.ContainsAny(dir, `*?[`):
		return nil
	case p.Anchored:
		return []string{"-path " + ssh.Quote("./"+p.Text)}
	case dir == "":
		return []string{"-name " + ssh.Quote(p.Text)}
	}
	return []string{"-path " + ssh.Quote("*/"+p.Text)}
}

// thereTree is a tree of another host as it was when it was listed: in memory 16
// bytes for each file, the rest in a file without a name.
type thereTree struct {
	file  *os.File
	index *index
	buf   []byte
}

func (t *there) survey(ctx context.Context, tree Tree, f datadir.Filter) (survey, error) {
	file, err := nameless(t.workDir, t.fence)
	if err != nil {
		return nil, err
	}
	s := &thereTree{file: file}
	if err := t.fill(ctx, s, tree, f); err != nil {
		s.close()
		return nil, err
	}
	s.index.seal()
	return s, nil
}

func (t *there) fill(ctx context.Context, s *thereTree, tree Tree, f datadir.Filter) error {
	w := bufio.NewWriterSize(nil, 256<<10)
	ended := false
	var denied []string
	err := t.ask(ctx, findTree(tree, f), func() func(string) error {
		ended, denied, s.index = false, nil, newIndex()
		_, seekErr := s.file.Seek(0, 0)
		w.Reset(s.file)
		var at int64
		below := "/" // of a directory that is excluded; no path begins with a slash
		return func(text string) error {
			if ended = text == complete; ended || seekErr != nil {
				return seekErr
			}
			one, err := parseFound(text)
			if err != nil || strings.HasPrefix(one.rel, below) {
				return err
			}
			if f.Excluded(one.rel) {
				below = one.rel + "/"
				return nil
			}
			if one.kind == 'l' {
				return datadir.Unreadable(filepath.Join(tree.Source, one.rel), unix.ENOENT)
			}
			if one.denied && len(denied) < chunk {
				denied = append(denied, one.rel)
			}
			s.buf = appendFrame(s.buf[:0], fileFrame, one.encode)
			s.index.add(one.rel, at)
			at += int64(len(s.buf))
			_, err = w.Write(s.buf)
			return err
		}
	})
	var exit *command.ExitError
	switch {
	case errors.As(err, &exit):
		return unlisted(tree.Source, exit)
	case err != nil:
		return err
	case !ended:
		return fault.New(fault.Tool, "list", tree.Source, "find has ended too soon")
	}
	// What vanished while find looked at it could not be read either.
	if len(denied) > 0 {
		if _, err := t.vanished(ctx, tree.Source, denied); err != nil {
			return err
		}
	}
	return fault.Wrap(fault.Internal, "write", s.file.Name(), w.Flush())
}

// unlisted says why a tree could not be listed.
func unlisted(root string, exit *command.ExitError) error {
	text := strings.TrimSpace(exit.Stderr)
	switch {
	case strings.Contains(text, "loop detected"):
		return fault.New(fault.Refused, "read the cluster's files", root, "%s", text).WithHint("remove the link that leads into a directory above it")
	case strings.Contains(text, "ermission denied"):
		return fault.New(fault.Permission, "read the cluster's files", root, "%s", text).
			WithHint("let ssh_command log in as a user that may read every file of the cluster, usually postgres")
	}
	return fault.New(fault.Tool, "list", root, "exit code %d: %s", exit.Code, text).
		WithHint("the directory and GNU find are needed on the host of the cluster")
}

func (f found) encode(b []byte) []byte {
	return entry{f.rel, f.Identity}.encode(binary.AppendUvarint(b, uint64(f.Mode)))
}

func decodeFound(b []byte) (f found, err error) {
	d := decoder{b: b}
	f.Mode = uint32(d.unsigned())
	f.rel, f.Identity = d.text(), d.identity()
	return f, d.end()
}

func (s *thereTree) close() { s.file.Close() }

func (s *thereTree) stat(rel string) (datadir.Attributes, bool) {
	for _, c := range s.index.candidates(rel) {
		_, content, err := frameAt(s.file, c.at, &s.buf)
		if err != nil {
			return datadir.Attributes{}, false
		}
		if f, err := decodeFound(content); err == nil && f.rel == rel {
			return f.Attributes, true
		}
	}
	return datadir.Attributes{}, false
}

func (s *thereTree) walk(ctx context.Context, dirs func([]datadir.Directory) error, file func(string, datadir.Attributes) error) error {
	if _, err := s.file.Seek(0, 0); err != nil {
		return fault.Wrap(fault.Internal, "read", s.file.Name(), err)
	}
	var below []datadir.Directory
	_, err := readFrames(s.file, func(_ int64, _ byte, content []byte) error {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, "list", "the cluster's files", context.Cause(ctx))
		}
		f, err := decodeFound(content)
		switch {
		case err != nil:
			return fmt.Errorf("read %s: %w", s.file.Name(), err)
		case f.IsRegular():
			return file(f.rel, f.Attributes)
		case !f.IsDir():
			return nil
		}
		if below = append(below, datadir.Directory{Rel: f.rel, Attributes: f.Attributes}); len(below) < chunk {
			return nil
		}
		err, below = dirs(below), nil
		return err
	})
	if err != nil {
		return fault.Wrap(fault.Internal, "list", "the cluster's files", err)
	}
	return dirs(below)
}
