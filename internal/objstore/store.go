package objstore

import (
	"context"
	"hash"
	"io"
	"iter"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Object is what a store knows of one object.
type Object struct {
	Key      string
	Size     int64 // of all of it, in bytes
	ETag     string
	Modified time.Time // by the store's clock, to the second at best
	// CRC32C is the Castagnoli checksum of all of it; nil when the store has none.
	CRC32C *uint32
	// Other is another checksum of all of it, where Get finds one instead: of what others have put.
	Other *Sum
}

// Sum is a checksum of some algorithm.
type Sum struct {
	New   func() hash.Hash
	Value []byte
}

// PutOptions are demands on what is put.
type PutOptions struct {
	// IfAbsent fails with fault.Conflict when the key is taken; of several writers at once one wins.
	IfAbsent bool
	// CRC32C is what the content must have, else nothing is stored and the error is fault.Corrupt.
	CRC32C *uint32
	// Size is what the content is expected to have, 0 when that is not known. It is held to nothing.
	Size int64
}

// Range is a part of an object. Length < 0 reaches to the end.
type Range struct{ Offset, Length int64 }

// Whole is all of an object.
func Whole() Range { return Range{0, -1} }

// Store keeps objects under keys relative to the prefix of its URL. An object is
// whole or absent, whatever dies. Every method may be repeated, may be called
// from several goroutines, and tries again what waiting can cure. Errors are faults:
// NotFound, Conflict (the key is taken), Permission, Config (bucket, region,
// endpoint), Connection (it was tried again in vain), Corrupt.
type Store interface {
	// Put stores what r yields until EOF, and reads r once. Memory is bounded by the part size.
	Put(ctx context.Context, key string, r io.Reader, o PutOptions) (Object, error)
	// Get reads a range, cut at the object's end; one that begins behind it is empty. An
	// interrupted reader goes on where it was. All of an object is verified at its end,
	// where the store has a checksum: the error is then Corrupt instead of EOF.
	Get(ctx context.Context, key string, r Range) (io.ReadCloser, Object, error)
	// Stat tells of one object.
	Stat(ctx context.Context, key string) (Object, error)
	// List yields the objects whose keys begin with prefix, in the order of their keys; it ends after an error.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Delete removes objects; one that is not there is no error.
	Delete(ctx context.Context, keys ...string) error
}

// Levels is the ability to list keys as if slashes separated directories, without
// naming everything below them.
type Levels interface {
	// ListLevel yields, in the order of their keys, the objects whose keys have no further slash
	// behind prefix, and for all others what they begin with, up to and with that slash, once each
	// and with nothing but the key. Prefix is "" or ends in a slash. It ends after an error.
	ListLevel(ctx context.Context, prefix string) iter.Seq2[Object, error]
}

// Stores opens stores of every kind; package drivers has the list.
type Stores func(ctx context.Context, at Location, o config.CloudOptions, p *Policy) (Store, error)

// Upload is an object in the making.
type Upload struct {
	Key   string
	ID    string
	Begun time.Time // as listed; zero when the store does not tell
	// Copies says that it was begun for parts that are copied.
	Copies bool
}

// Part is a part of an upload, as the store confirmed it.
type Part struct {
	Number int // 1 to 10,000
	Size   int64
	ETag   string
	CRC32C *uint32
}

// Multipart is the ability to make an object of parts that arrive in any order.
// Every part but the last has MinPart bytes or more.
type Multipart interface {
	Begin(ctx context.Context, key string) (Upload, error)
	PutPart(ctx context.Context, u Upload, number int, data []byte) (Part, error)
	// Complete makes the object of parts, by their numbers.
	Complete(ctx context.Context, u Upload, parts []Part, o PutOptions) (Object, error)
	// Abort gives an upload up; one that is not there is no error.
	Abort(ctx context.Context, u Upload) error
	// Uploads yields what was begun for keys with a prefix, and neither completed nor aborted.
	Uploads(ctx context.Context, prefix string) iter.Seq2[Upload, error]
}

// Copier is the ability to copy an object inside the store.
type Copier interface {
	Copy(ctx context.Context, from, to string) (Object, error)
}

// RangeCopier is the ability to make a part of an upload out of a range of an object.
type RangeCopier interface {
	Multipart
	// BeginCopy begins an upload that both PutPart and CopyPart may fill. PutOptions.CRC32C is
	// then checked only by stores that know the checksum of what was copied.
	BeginCopy(ctx context.Context, key string) (Upload, error)
	CopyPart(ctx context.Context, u Upload, number int, from string, r Range) (Part, error)
}

// Joiner is a RangeCopier whose parts have a least size, and whose last one has none: what is too
// short for a part can be joined with a copied range in objects that are removed afterwards.
type Joiner interface {
	RangeCopier
	// Joins reports whether objects can be removed at once.
	Joins() bool
}

// Lock is why an object cannot be deleted. The zero value is no lock.
type Lock struct {
	Mode  string // as the provider names it
	Until time.Time
	Hold  bool // until somebody lifts it
}

// Locked reports whether there is a lock at a moment.
func (l Lock) Locked(now time.Time) bool { return l.Hold || l.Until.After(now) }

// Locker is the ability to tell of locks.
type Locker interface {
	// LockOf is the lock of one object.
	LockOf(ctx context.Context, key string) (Lock, error)
	// NewLocks describes the lock that new objects get, "" when there is none.
	NewLocks(ctx context.Context) (string, error)
}

// The bounds of multipart uploads that all providers share.
const (
	MinPart  = 5 << 20
	MaxParts = 10000
	maxKey   = 1024
)

// CheckKey refuses what not every store can keep under that name.
func CheckKey(key string) error {
	var why string
	switch {
	case key == "":
		why = "it is empty"
	case len(key) > maxKey:
		why = "it is longer than 1024 bytes"
	case !utf8.ValidString(key):
		why = "it is not UTF-8"
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		why = "it has control characters"
	case path.Clean("/"+key) != "/"+key:
		why = "it has an empty element, . or .."
	default:
		return nil
	}
	return fault.New(fault.Usage, "use", "the key "+quoted(key), "%s", why).WithHint("choose another name for the object")
}

func quoted(key string) string {
	const most = 80
	if len(key) > most {
		key = strings.ToValidUTF8(key[:most], "") + "..."
	}
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, key) + `"`
}
