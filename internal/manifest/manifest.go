package manifest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"path"
	"strings"
	"time"
	"unicode/utf8"
)

// Name is the file's name in a data directory.
const Name = "backup_manifest"

// Algorithm is how a file's checksum was made.
type Algorithm string

// The algorithms of PostgreSQL; "" is NONE.
const (
	None   Algorithm = ""
	CRC32C Algorithm = "CRC32C"
	SHA224 Algorithm = "SHA224"
	SHA256 Algorithm = "SHA256"
	SHA384 Algorithm = "SHA384"
	SHA512 Algorithm = "SHA512"
)

// New returns a hash whose Sum is what a manifest holds; nil for None.
func (a Algorithm) New() hash.Hash {
	switch a {
	case CRC32C:
		return crc{crc32.New(crc32.MakeTable(crc32.Castagnoli))}
	case SHA224:
		return sha256.New224()
	case SHA256:
		return sha256.New()
	case SHA384:
		return sha512.New384()
	case SHA512:
		return sha512.New()
	}
	return nil
}

// crc is CRC-32C as PostgreSQL prints it: the bytes of the number as they lie
// in the memory of a little-endian machine.
type crc struct{ hash.Hash32 }

func (c crc) Sum(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, c.Sum32()) }

// File is an entry.
type File struct {
	Path      string // relative to the data directory; of a tablespace, pg_tblspc/OID/...
	Size      int64
	Modified  time.Time
	Algorithm Algorithm
	Checksum  []byte
}

const timeLayout = "2006-01-02 15:04:05"

// wireFile is an entry as it is written, in PostgreSQL's order of keys.
type wireFile struct {
	Path        *string `json:"Path,omitempty"`
	EncodedPath *string `json:"Encoded-Path,omitempty"`
	Size        *int64  `json:"Size"`
	Modified    string  `json:"Last-Modified"`
	Algorithm   string  `json:"Checksum-Algorithm,omitempty"`
	Checksum    string  `json:"Checksum,omitempty"`
}

func (w wireFile) file() (File, error) {
	f := File{Algorithm: Algorithm(w.Algorithm)}
	switch {
	case w.Path != nil && w.EncodedPath != nil:
		return f, fmt.Errorf("%q has both Path and Encoded-Path", *w.Path)
	case w.Path != nil:
		f.Path = *w.Path
	case w.EncodedPath != nil:
		raw, err := hex.DecodeString(*w.EncodedPath)
		if err != nil {
			return f, fmt.Errorf("Encoded-Path %q is not hexadecimal", *w.EncodedPath)
		}
		f.Path = string(raw)
	default:
		return f, fmt.Errorf("a file has no path")
	}
	if f.Path == "" || path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == ".." || strings.HasPrefix(f.Path, "../") || strings.ContainsRune(f.Path, 0) {
		return f, fmt.Errorf("%q is no path below the data directory", f.Path)
	}
	if w.Size == nil || *w.Size < 0 {
		return f, fmt.Errorf("%q has no size", f.Path)
	}
	f.Size = *w.Size
	if w.Modified != "" {
		t, err := time.Parse(timeLayout, strings.TrimSuffix(w.Modified, " GMT"))
		if err != nil {
			return f, fmt.Errorf("%q has the time %q", f.Path, w.Modified)
		}
		f.Modified = t
	}
	if f.Algorithm == "NONE" {
		f.Algorithm = None
	}
	sum, err := hex.DecodeString(w.Checksum)
	if err != nil {
		return f, fmt.Errorf("%q has the checksum %q", f.Path, w.Checksum)
	}
	if f.Algorithm == None {
		return f, nil
	}
	h := f.Algorithm.New()
	if h == nil {
		return f, fmt.Errorf("%q has a checksum of the unknown algorithm %q", f.Path, w.Algorithm)
	}
	if len(sum) != h.Size() {
		return f, fmt.Errorf("%q has a checksum of %d bytes, %s has %d", f.Path, len(sum), f.Algorithm, h.Size())
	}
	f.Checksum = sum
	return f, nil
}

func (f File) wire() wireFile {
	w := wireFile{Size: &f.Size, Modified: f.Modified.UTC().Format(timeLayout) + " GMT", Algorithm: string(f.Algorithm), Checksum: hex.EncodeToString(f.Checksum)}
	if utf8.ValidString(f.Path) {
		w.Path = &f.Path
	} else {
		encoded := hex.EncodeToString([]byte(f.Path))
		w.EncodedPath = &encoded
	}
	return w
}

// WALRange is WAL that the backup needs.
type WALRange struct {
	Timeline uint32 `json:"Timeline"`
	Start    string `json:"Start-LSN"`
	End      string `json:"End-LSN"`
}

// Summary is what a manifest says beside its files.
type Summary struct {
	Version  int
	SystemID uint64 // 0 in version 1
	Files    int64
	Bytes    int64
	WAL      []WALRange
	SHA256   string // of the whole manifest, its last line included
}

func encode(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return []byte(strings.TrimSuffix(b.String(), "\n")), err
}
