package restore

import (
	"archive/tar"
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// ledgerName is the ledger's, in the data directory while that is built.
const ledgerName = ".holdfast-restore-ledger"

// saveEvery is how often what came out of a store is made durable and noted: a restore that is
// killed loses no more than that, and the archives that were being unpacked.
var saveEvery = 5 * time.Second

// ledger notes what a restore has brought out of an object store, archive by archive and WAL file
// by WAL file, so that the next one to the same destination goes on where it was killed. A file
// counts when all of its archive was read, agreed with its checksum and was flushed to disk, and
// while it has the size and the time that it had then.
//
// A file of it begins with a line that says what is restored, and has a line for each unit.
type ledger struct {
	path   string
	head   ledgerHead
	places []*place

	mu      sync.Mutex
	pending []*unit // to be noted once they are durable
	noted   int
	failed  error

	before map[string]bool // the units that an earlier restore has noted
	stop   func()
}

// unit is an archive, or a file of WAL.
type unit struct {
	Name    string     `json:"unit"`
	Order   int        `json:"order"` // of members of one name that of the last archive counts
	Files   []byte     `json:"files"` // stamps, one after the other
	Links   []link     `json:"links,omitempty"`
	Control *heldEntry `json:"pg_control,omitempty"`
}

// link is a symbolic link that is made at the end. Names need not be UTF-8.
type link struct {
	Path []byte `json:"path"`
	To   []byte `json:"to"`
}

// heldEntry is pg_control, which is placed at the end.
type heldEntry struct {
	Mode     int64  `json:"mode"`
	Modified int64  `json:"modified"` // ns since 1970
	Content  []byte `json:"content"`
}

// stamp is a file: 8 bytes that stand for its path, and 8 for its size and time; or a directory,
// which has zeros there.
type stamp struct{ path, state uint64 }

const stampSize = 16

func (u *unit) add(s stamp) {
	u.Files = binary.LittleEndian.AppendUint64(u.Files, s.path)
	u.Files = binary.LittleEndian.AppendUint64(u.Files, s.state)
}

func (u *unit) link(path, to string) {
	if u != nil {
		u.Links = append(u.Links, link{[]byte(path), []byte(to)})
	}
}

func (u *unit) hold(h *tar.Header, content []byte) {
	if u != nil {
		u.Control = &heldEntry{h.Mode, h.ModTime.UnixNano(), content}
	}
}

func (u *unit) each(do func(stamp)) {
	for f := u.Files; len(f) >= stampSize; f = f[stampSize:] {
		do(stamp{binary.LittleEndian.Uint64(f), binary.LittleEndian.Uint64(f[8:])})
	}
}

// stampOf is that of a file. The seed keeps names from being chosen so that they collide.
func stampOf(seed []byte, path string, size int64, modified time.Time) stamp {
	return stamp{pathKey(seed, path), digest(seed, fmt.Appendf(nil, "%d %v", size, fileTime(modified)))}
}

func stampOfDirectory(seed []byte, path string) stamp { return stamp{path: pathKey(seed, path)} }

func pathKey(seed []byte, path string) uint64 { return digest(seed, []byte(path)) }

func digest(seed, of []byte) uint64 {
	sum := sha256.Sum256(append(seed[:len(seed):len(seed)], of...))
	return binary.LittleEndian.Uint64(sum[:])
}

func newSeed() []byte {
	seed := make([]byte, 16)
	rand.Read(seed)
	return seed
}

// ledgerHead is the first line.
type ledgerHead struct {
	Of   string `json:"restore"` // identity
	Seed []byte `json:"seed"`
}

func walUnit(plan *restoreplan.Plan, name string) string {
	return "WAL " + filepath.Join(plan.WALDir, name)
}

func (l *ledger) create(head ledgerHead) error {
	l.head = head
	f, err := createIn(l.path, 0o600)
	if err == nil {
		err = errors.Join(json.NewEncoder(f).Encode(head), f.Close())
	}
	return fault.Wrap(fault.Internal, "write", l.path, err)
}

// begin begins a unit; nil where nothing is noted.
func (l *ledger) begin(name string, order int) *unit {
	if l == nil {
		return nil
	}
	return &unit{Name: name, Order: order}
}

// add takes a unit whose files are complete.
func (l *ledger) add(u *unit) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, u)
}

// addFile takes a unit of one file.
func (l *ledger) addFile(name, path string) error {
	if l == nil {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	u := l.begin(name, 0)
	u.add(stampOf(l.head.Seed, path, info.Size(), info.ModTime()))
	l.add(u)
	return nil
}

// keep notes what is added, until close.
func (l *ledger) keep() {
	if l == nil {
		return
	}
	end, ended := make(chan struct{}), make(chan struct{})
	l.stop = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	go func() {
		defer close(ended)
		tick := time.NewTicker(saveEvery)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				l.save()
			}
		}
	}()
}

// save makes what is pending durable, and notes it.
func (l *ledger) save() {
	l.mu.Lock()
	todo := l.pending
	l.pending = nil
	l.mu.Unlock()
	if len(todo) == 0 || l.failed != nil {
		return
	}
	l.failed = l.write(todo)
}

func (l *ledger) write(todo []*unit) error {
	for _, p := range l.places {
		if err := p.sync(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fault.Wrap(fault.Internal, "open", l.path, err)
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	lines := json.NewEncoder(out)
	for _, u := range todo {
		if err == nil {
			err = lines.Encode(u)
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	l.noted += len(todo)
	return fault.Wrap(fault.Internal, "write", l.path, err)
}

// close ends the noting, and returns why it failed if it did: what was to be flushed may then
// not be durable.
func (l *ledger) close() error {
	if l == nil {
		return nil
	}
	l.stop()
	return l.failed
}

// finish is close, after all that was added is noted.
func (l *ledger) finish() error {
	if l == nil {
		return nil
	}
	l.stop()
	l.save()
	return l.failed
}

// stopNoting ends the noting of a restore that failed. Where what it has is worth keeping the rest
// is noted as well, and it reports whether the next one can use something.
func stopNoting(ledgers []*ledger, worth bool) (useful bool) {
	for _, l := range ledgers {
		if err := l.close(); err == nil && worth {
			useful = l.finish() == nil && l.noted+len(l.before) > 0 || useful
		}
	}
	return useful
}

// directories are those that ledgers are of.
func directories(ledgers []*ledger) (dirs []string) {
	for _, l := range ledgers {
		for _, p := range l.places {
			dirs = append(dirs, p.build)
		}
	}
	return dirs
}

// worthWaiting reports whether the same restore may succeed later. A full disk is emptied rather.
func worthWaiting(err error) bool {
	switch fault.KindOf(err) {
	case fault.Cancelled, fault.Crashed, fault.Connection, fault.Unavailable, fault.Permission, fault.Internal:
		return true
	}
	return false
}

// remove forgets everything.
func (l *ledger) remove() error {
	if l == nil {
		return nil
	}
	return fault.Wrap(fault.Internal, "remove", l.path, os.Remove(l.path))
}

// header is what a member of an archive had.
func (h *heldEntry) header() *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: controlFile, Size: int64(len(h.Content)), Mode: h.Mode, ModTime: time.Unix(0, h.Modified)}
}
