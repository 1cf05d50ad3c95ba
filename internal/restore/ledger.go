package restore

import (
	"archive/tar"
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	seed   []byte
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

// stamp is a file: 8 bytes that stand for its path, and 8 for its size and time.
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

// identity is what must be the same for a restore to go on: the backup, its archives, and where
// each directory goes. What is recovered, and how far, may differ.
func identity(src Source, trees []*tree, plan *restoreplan.Plan) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "1 %q %q %v\n", src.Info.Encode(), plan.WALDir, plan.MarkDone)
	for _, t := range trees {
		fmt.Fprintf(sum, "%q\n", t.build)
		for _, a := range t.tars {
			fmt.Fprintf(sum, "%q %d\n", a.Path, a.Size)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// openLedger goes on with what an earlier restore has noted, and begins anew where that is of
// something else: it then empties the places. Afterwards they hold what was noted, and no other file.
func openLedger(src Source, trees []*tree, plan *restoreplan.Plan, places []*place, c *copier) (*ledger, error) {
	l := &ledger{path: filepath.Join(places[0].build, ledgerName), places: places, before: map[string]bool{}, stop: func() {}}
	of := identity(src, trees, plan)
	units, same, err := l.read(of)
	if err != nil {
		return nil, err
	}
	if !same {
		for _, p := range places {
			if err := p.empty(""); err != nil {
				return nil, err
			}
		}
		if err := l.create(of, c.unpacked.seed); err != nil {
			return nil, err
		}
		return l, nil
	}
	c.unpacked.seed = l.seed
	wanted := map[string]bool{}
	for _, t := range trees {
		for _, a := range t.tars {
			wanted[a.Path] = true
		}
	}
	for _, name := range plan.WAL {
		wanted[walUnit(name)] = true
	}
	return l, l.resume(units, wanted, c)
}

func walUnit(name string) string { return "WAL " + name }

func (l *ledger) create(of string, seed []byte) error {
	l.seed = seed
	f, err := createIn(l.path, 0o600)
	if err == nil {
		err = errors.Join(json.NewEncoder(f).Encode(ledgerHead{of, seed}), f.Close())
	}
	return fault.Wrap(fault.Internal, "write", l.path, err)
}

// read reads a ledger if it is of the same restore, and cuts off a line that was being written
// when its writer died.
func (l *ledger) read(of string) (units []*unit, same bool, err error) {
	f, err := os.OpenFile(l.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fault.Wrap(fault.Internal, "open", l.path, err)
	}
	defer f.Close()
	in, good := bufio.NewReaderSize(f, 1<<20), int64(0)
	next := func(v any) bool {
		line, err := in.ReadBytes('\n')
		if err != nil || json.Unmarshal(line, v) != nil {
			return false
		}
		good += int64(len(line))
		return true
	}
	var head ledgerHead
	if !next(&head) || head.Of != of || len(head.Seed) == 0 {
		return nil, false, nil
	}
	l.seed = head.Seed
	for {
		u := &unit{}
		if !next(u) {
			return units, true, fault.Wrap(fault.Internal, "truncate", l.path, f.Truncate(good))
		}
		units = append(units, u)
	}
}

// resume takes over the units whose files are all there, and removes every other file.
func (l *ledger) resume(units []*unit, wanted map[string]bool, c *copier) error {
	type holder struct {
		unit  int
		state uint64
		seen  bool
	}
	held := map[uint64]*holder{}
	for i, u := range units {
		if wanted[u.Name] {
			u.each(func(s stamp) {
				if h := held[s.path]; h == nil || units[h.unit].Order <= u.Order {
					held[s.path] = &holder{unit: i, state: s.state}
				}
			})
		}
	}
	type sum struct{ files, bytes int64 }
	got := make([]sum, len(units))
	err := l.sweep(func(path string, info fs.FileInfo) bool {
		s := stampOf(l.seed, path, info.Size(), info.ModTime())
		h := held[s.path]
		if h == nil || h.state != s.state {
			return false
		}
		h.seen = true
		got[h.unit].files++
		got[h.unit].bytes += info.Size()
		return true
	})
	if err != nil {
		return err
	}
	lost := map[int]bool{}
	for _, h := range held {
		if !h.seen {
			lost[h.unit] = true
		}
	}
	for path, h := range held {
		if lost[h.unit] {
			delete(held, path)
		} else {
			c.unpacked.from[path] = units[h.unit].Order
		}
	}
	if len(lost) > 0 {
		if err := l.sweep(func(path string, _ fs.FileInfo) bool { return held[pathKey(l.seed, path)] != nil }); err != nil {
			return err
		}
	}
	for i, u := range units {
		if wanted[u.Name] && !lost[i] {
			l.before[u.Name] = true
			c.takeOver(u, got[i].files, got[i].bytes)
		}
	}
	return nil
}

// sweep removes all files and links of the places that are not kept. Directories stay: those that
// are needed are made anyway.
func (l *ledger) sweep(keep func(path string, info fs.FileInfo) bool) error {
	for _, p := range l.places {
		err := filepath.WalkDir(p.build, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path == filepath.Join(p.build, "lost+found"):
				return fs.SkipDir
			case d.IsDir() || path == l.path || path == filepath.Join(p.build, Marker):
				return nil
			case d.Type().IsRegular():
				info, err := d.Info()
				if err != nil || keep(path, info) {
					return err
				}
			}
			return os.Remove(path)
		})
		if err != nil {
			return fault.Wrap(fault.Internal, "look through", p.build, err)
		}
	}
	return nil
}

// done reports whether an earlier restore has brought a unit.
func (l *ledger) done(name string) bool { return l != nil && l.before[name] }

// brought are the archives of a tree that an earlier restore has unpacked, and their size in the store.
func (l *ledger) brought(t *tree) (n int, size int64) {
	for _, a := range t.tars {
		if l.done(a.Path) {
			n, size = n+1, size+a.Size
		}
	}
	return n, size
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

// addWAL takes a file of WAL.
func (l *ledger) addWAL(name, path string) error {
	if l == nil {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	u := l.begin(walUnit(name), 0)
	u.add(stampOf(l.seed, path, info.Size(), info.ModTime()))
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

// stopNoting notes what is left to be noted of a restore that failed, and reports whether the next
// one can use something.
func stopNoting(ledgers []*ledger) (useful bool) {
	for _, l := range ledgers {
		useful = l.finish() == nil && l.noted+len(l.before) > 0 || useful
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
