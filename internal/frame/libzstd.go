//go:build cgo

package frame

/*
#cgo LDFLAGS: -l:libzstd.a
#cgo noescape holdfast_run
#cgo nocallback holdfast_run
#cgo noescape ZSTD_decompressDCtx
#cgo nocallback ZSTD_decompressDCtx

#if !__has_include(<zstd.h>)
#error "install libzstd-dev (libzstd-static on Fedora and its relatives), or build with CGO_ENABLED=0"
#endif
#define ZSTD_STATIC_LINKING_ONLY
#define ZSTD_DISABLE_DEPRECATE_WARNINGS
#include <zstd.h>

// Between independent jobs of one frame libzstd's own threads call it, for the same
// purpose. It is in libzstd.a, and zstd.h does not declare it.
void ZSTD_invalidateRepCodes(ZSTD_CCtx *c);

// holdfast_run writes the blocks of a segment, none of which is a frame's last.
static size_t holdfast_run(ZSTD_CCtx *c, int level, size_t most, void *to, size_t room, const void *from, size_t size) {
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
	"errors"
	"unsafe"
)

// zstdRuns says that zstd has runs here.
//
// They come from libzstd, linked statically so that the program runs where it is not
// installed. The Go packages for it offer whole frames; Debian's libzstd.a is built
// without threads, whose jobs would be the public way to independent blocks. What such a
// job does is done here: a fresh state, and no offsets repeated from before.
const zstdRuns = true

func zstdResult(n C.size_t) (int, error) {
	if C.ZSTD_isError(n) != 0 {
		return 0, errors.New("libzstd: " + C.GoString(C.ZSTD_getErrorName(n)))
	}
	return int(n), nil
}

func (e *Encoder) zstd(level int) error {
	c := C.ZSTD_createCCtx()
	if c == nil {
		return errors.New("libzstd: no memory")
	}
	e.close = func() {
		C.ZSTD_freeCCtx(c)
		c = nil
	}
	e.add = func(dst, segment []byte) ([]byte, error) {
		if c == nil {
			return dst, errors.New("the encoder is closed")
		}
		room := dst[len(dst):cap(dst)]
		n, err := zstdResult(C.holdfast_run(c, C.int(level), MaxSegment, unsafe.Pointer(&room[0]), C.size_t(len(room)),
			unsafe.Pointer(&segment[0]), C.size_t(len(segment))))
		return dst[:len(dst)+n], err
	}
	return nil
}

// zstd reads a whole frame.
func (d *Decoder) zstd() error {
	c := C.ZSTD_createDCtx()
	if c == nil {
		return errors.New("libzstd: no memory")
	}
	d.close = func() {
		C.ZSTD_freeDCtx(c)
		c = nil
	}
	d.expand = func(to, frame []byte) (int, error) {
		if c == nil {
			return 0, errors.New("the decoder is closed")
		}
		return zstdResult(C.ZSTD_decompressDCtx(c, unsafe.Pointer(&to[0]), C.size_t(len(to)), unsafe.Pointer(&frame[0]), C.size_t(len(frame))))
	}
	return nil
}
