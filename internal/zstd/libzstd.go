//go:build cgo

package zstd

/*
#cgo LDFLAGS: -l:libzstd.a
#cgo noescape holdfast_zstd_out
#cgo nocallback holdfast_zstd_out
#cgo noescape holdfast_zstd_run
#cgo nocallback holdfast_zstd_run
#cgo noescape ZSTD_decompressDCtx
#cgo nocallback ZSTD_decompressDCtx

#if !__has_include(<zstd.h>)
#error "install libzstd-dev (libzstd-static on Fedora and its relatives), or build with CGO_ENABLED=0"
#endif
#define ZSTD_STATIC_LINKING_ONLY
#define ZSTD_DISABLE_DEPRECATE_WARNINGS
#include <zstd.h>

#include <stdlib.h>
#include <sys/mman.h>

// holdfast_zstd_alloc gives what fills much of a large page large pages, as internal/largepages does.
static void *holdfast_zstd_alloc(void *opaque, size_t size) {
	void *p;
	const size_t page = 2 << 20;
	(void)opaque;
	if (size < page / 4) return malloc(size);
	size = (size + page - 1) / page * page;
	if (posix_memalign(&p, page, size) != 0) return NULL;
	(void)madvise(p, size, MADV_HUGEPAGE);
	return p;
}

static void holdfast_zstd_free(void *opaque, void *p) {
	(void)opaque;
	free(p);
}

static const ZSTD_customMem holdfast_zstd_memory = {holdfast_zstd_alloc, holdfast_zstd_free, NULL};

static ZSTD_CCtx *holdfast_zstd_compressor(void) { return ZSTD_createCCtx_advanced(holdfast_zstd_memory); }

static ZSTD_DCtx *holdfast_zstd_expander(void) { return ZSTD_createDCtx_advanced(holdfast_zstd_memory); }

typedef struct { size_t taken, made, result; } holdfast_zstd_step;

static holdfast_zstd_step holdfast_zstd_out(ZSTD_DCtx *d, void *to, size_t room, const void *from, size_t size) {
	ZSTD_inBuffer in = {from, size, 0};
	ZSTD_outBuffer out = {to, room, 0};
	size_t r = ZSTD_decompressStream(d, &out, &in);
	holdfast_zstd_step s = {in.pos, out.pos, r};
	return s;
}

// Between independent jobs of one frame libzstd's own threads call it, for the same
// purpose. It is in libzstd.a, and zstd.h does not declare it.
void ZSTD_invalidateRepCodes(ZSTD_CCtx *c);

// holdfast_zstd_run writes the blocks of a segment, none of which is a frame's last.
static size_t holdfast_zstd_run(ZSTD_CCtx *c, int level, size_t most, void *to, size_t room, const void *from, size_t size) {
	unsigned char head[ZSTD_FRAMEHEADERSIZE_MAX];
	ZSTD_parameters p = {ZSTD_getCParams(level, most, 0), {0, 0, 1}};
	size_t r = ZSTD_compressBegin_advanced(c, NULL, 0, p, ZSTD_CONTENTSIZE_UNKNOWN);
	if (!ZSTD_isError(r)) r = ZSTD_compressContinue(c, head, sizeof head, NULL, 0);
	if (ZSTD_isError(r)) return r;
	ZSTD_invalidateRepCodes(c);
	return ZSTD_compressContinue(c, to, room, from, size);
}
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-pg/holdfast/internal/largepages"
)

var (
	errMemory = errors.New("libzstd: no memory")
	errClosed = errors.New("libzstd: it is closed")
)

// nothing stands for an empty slice, whose first element has no address.
var nothing = make([]byte, 1)

func result(n C.size_t) (int, error) {
	if C.ZSTD_isError(n) != 0 {
		return 0, errors.New("libzstd: " + C.GoString(C.ZSTD_getErrorName(n)))
	}
	return int(n), nil
}

// writer makes a frame of runs of a window each, of which several are compressed while the
// next one comes in.
type writer struct {
	w     io.Writer
	level int
	sum   *xxhash.Digest
	parts [parallel + 1]*part // a ring; nil while they were not needed
	at    int                 // the part that comes in
	room  []byte              // for the buffers of parts that there are not yet
	begun bool                // the head is written
	done  bool
	err   error
}

// parallel is how many runs are compressed at once: most of what there is to gain for a
// segment of 16 MiB, and memory for three of them.
const parallel = 2

type part struct {
	runner  *Runner
	in      []byte // as it comes in
	out     []byte
	err     error
	running chan struct{} // closed when out is there; nil when nothing is on its way
}

func newWriter(w io.Writer, level int) (Writer, error) {
	return &writer{w: w, level: level, sum: xxhash.New()}, nil
}

// part is the one that comes in, with room.
func (w *writer) part() *part {
	p := w.parts[w.at]
	if p == nil {
		p = &part{}
		p.in, p.out = w.buffers()
		if p.runner, w.err = NewRunner(w.level, Window); w.err != nil {
			return p
		}
		w.parts[w.at] = p
	}
	return p
}

// buffers are those of a part. What is longer than one part is likely longer than two: the others have theirs
// from one piece.
func (w *writer) buffers() (in, out []byte) {
	bound := int(C.ZSTD_compressBound(Window))
	if len(w.room) == 0 {
		n := 1
		if w.at > 0 {
			n = parallel
		}
		size := n * (Window + bound)
		w.room = largepages.Buffer(size)[:size]
	}
	in, out = w.room[:0:Window], w.room[Window:Window:Window+bound]
	w.room = w.room[Window+bound:]
	return in, out
}

// next has the part that came in compressed, and makes room for the next one.
func (w *writer) next() {
	p := w.part()
	if w.err != nil {
		return
	}
	_, _ = w.sum.Write(p.in) // a hash takes all
	p.running = make(chan struct{})
	go func() {
		p.out, p.err = p.runner.Append(p.out[:0], p.in)
		close(p.running)
	}()
	w.at = (w.at + 1) % len(w.parts)
	w.pass(w.parts[w.at])
}

// pass passes on what a part has become.
func (w *writer) pass(p *part) {
	if p == nil || p.running == nil {
		return
	}
	<-p.running
	p.running, p.in = nil, p.in[:0]
	if w.err == nil {
		w.err = p.err
	}
	w.write(p.out)
}

// The ends of a frame (RFC 8878, section 3.1.1): no content size, a checksum, and the window;
// an empty last block.
var (
	head = []byte{0x28, 0xb5, 0x2f, 0xfd, 1 << 2, (windowLog - 10) << 3}
	tail = []byte{1, 0, 0}
)

func (w *writer) write(b []byte) {
	if !w.begun && w.err == nil {
		w.begun = true
		_, w.err = w.w.Write(head)
	}
	if w.err == nil && len(b) > 0 {
		_, w.err = w.w.Write(b)
	}
}

// Write implements io.Writer.
func (w *writer) Write(b []byte) (n int, err error) {
	if w.done {
		return 0, errClosed
	}
	for n < len(b) && w.err == nil {
		p := w.part()
		m := copy(p.in[len(p.in):cap(p.in)], b[n:])
		w.grow(p, m)
		n += m
	}
	return n, w.err
}

// ReadFrom implements io.ReaderFrom.
func (w *writer) ReadFrom(r io.Reader) (all int64, err error) {
	if w.done {
		return 0, errClosed
	}
	for w.err == nil {
		p := w.part()
		n, err := r.Read(p.in[len(p.in):min(len(p.in)+piece, cap(p.in))])
		w.grow(p, n)
		all += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return all, err
		}
	}
	return all, w.err
}

// grow says that n bytes more have come in.
func (w *writer) grow(p *part, n int) {
	if p.in = p.in[:len(p.in)+n]; len(p.in) == cap(p.in) {
		w.next()
	}
}

// Close implements io.Closer.
func (w *writer) Close() error {
	if w.done {
		return w.err
	}
	w.done = true
	if p := w.parts[w.at]; p != nil && len(p.in) > 0 && w.err == nil {
		w.next()
	}
	for i := range w.parts {
		w.pass(w.parts[(w.at+i)%len(w.parts)])
	}
	w.write(binary.LittleEndian.AppendUint32(tail, uint32(w.sum.Sum64())))
	for _, p := range w.parts {
		if p != nil {
			p.runner.Close()
		}
	}
	return w.err
}

type reader struct {
	r      io.Reader
	d      *C.ZSTD_DCtx
	in     []byte // what is not yet expanded
	buffer []byte
	more   bool // libzstd may hold content
	inside bool // a frame has begun and not ended
	err    error
}

func newReader(r io.Reader) (io.ReadCloser, error) {
	d := C.holdfast_zstd_expander()
	if d == nil {
		return nil, errMemory
	}
	if _, err := result(C.ZSTD_DCtx_setParameter(d, C.ZSTD_d_windowLogMax, C.int(bits.Len(MaxWindow)-1))); err != nil {
		C.ZSTD_freeDCtx(d)
		return nil, err
	}
	return &reader{r: r, d: d, buffer: make([]byte, piece)}, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.d == nil {
		return 0, errClosed
	}
	for len(p) > 0 {
		if len(r.in) == 0 && !r.more {
			if r.err == nil {
				var n int
				n, r.err = r.r.Read(r.buffer)
				r.in = r.buffer[:n]
			}
			if len(r.in) == 0 {
				switch {
				case r.err == nil:
					continue
				case errors.Is(r.err, io.EOF) && r.inside:
					return 0, io.ErrUnexpectedEOF
				}
				return 0, r.err
			}
		}
		from := r.in
		if len(from) == 0 {
			from = nothing
		}
		s := C.holdfast_zstd_out(r.d, unsafe.Pointer(&p[0]), C.size_t(len(p)), unsafe.Pointer(&from[0]), C.size_t(len(r.in)))
		left, err := result(s.result)
		if err != nil {
			r.in, r.more, r.err = nil, false, err
			return 0, err
		}
		r.in = r.in[s.taken:]
		r.inside = left > 0
		r.more = r.inside && int(s.made) == len(p)
		if s.made > 0 {
			return int(s.made), nil
		}
	}
	return 0, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.d != nil {
		C.ZSTD_freeDCtx(r.d)
		r.d = nil
	}
	return nil
}

// HasRuns says that this build makes runs.
//
// The Go packages for libzstd offer whole frames; Debian's libzstd.a is built without
// threads, whose jobs would be the public way to independent blocks. What such a job does is
// done here: a fresh state, and no offsets repeated from before.
const HasRuns = true

// Runner compresses segments, each into blocks that refer to nothing before them and of
// which none is a frame's last.
type Runner struct {
	c           *C.ZSTD_CCtx
	level, most int
}

// NewRunner compresses at a level segments of at most so many bytes.
func NewRunner(level, most int) (*Runner, error) {
	c := C.holdfast_zstd_compressor()
	if c == nil {
		return nil, errMemory
	}
	return &Runner{c, level, most}, nil
}

// Append appends the run of a segment, which is not empty, to dst, which has room for it.
func (r *Runner) Append(dst, segment []byte) ([]byte, error) {
	if r.c == nil {
		return dst, errClosed
	}
	room := dst[len(dst):cap(dst)]
	n, err := result(C.holdfast_zstd_run(r.c, C.int(r.level), C.size_t(r.most), unsafe.Pointer(&room[0]), C.size_t(len(room)),
		unsafe.Pointer(&segment[0]), C.size_t(len(segment))))
	return dst[:len(dst)+n], err
}

// Close frees what it holds. It may be called again.
func (r *Runner) Close() {
	C.ZSTD_freeCCtx(r.c) // takes NULL
	r.c = nil
}

// Expander expands whole frames.
type Expander struct{ d *C.ZSTD_DCtx }

// NewExpander is for frames whose window is at most so many bytes.
func NewExpander(int) (*Expander, error) {
	d := C.holdfast_zstd_expander()
	if d == nil {
		return nil, errMemory
	}
	return &Expander{d}, nil
}

// Expand fills to, which is not empty, with the content of a frame, n bytes.
func (e *Expander) Expand(to, frame []byte) (n int, err error) {
	if e.d == nil {
		return 0, errClosed
	}
	return result(C.ZSTD_decompressDCtx(e.d, unsafe.Pointer(&to[0]), C.size_t(len(to)), unsafe.Pointer(&frame[0]), C.size_t(len(frame))))
}

// Close frees what it holds. It may be called again.
func (e *Expander) Close() {
	C.ZSTD_freeDCtx(e.d) // takes NULL
	e.d = nil
}
