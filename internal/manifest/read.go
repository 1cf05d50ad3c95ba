package manifest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Read reads a manifest, calls each with every file, and verifies the
// manifest's own checksum. Because the checksum comes last, what each saw
// counts only when Read returns no error.
func Read(r io.Reader, subject string, each func(File) error) (Summary, error) {
	sums := newSums(r)
	p := parser{dec: json.NewDecoder(sums), each: each}
	err := p.document()
	var mine *callbackError
	if errors.As(err, &mine) {
		return p.sum, mine.err
	}
	if err == nil {
		_, err = io.Copy(io.Discard, sums)
	}
	if err == nil {
		err = p.check(sums)
	}
	if err != nil {
		return p.sum, fault.Wrap(fault.Corrupt, "read manifest", subject, err)
	}
	p.sum.SHA256 = hex.EncodeToString(sums.whole.Sum(nil))
	return p.sum, nil
}

// callbackError passes an error of each through, unchanged.
type callbackError struct{ err error }

func (c *callbackError) Error() string { return c.err.Error() }

type parser struct {
	dec      *json.Decoder
	each     func(File) error
	sum      Summary
	checksum string
}

func (p *parser) document() error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		key, _ := t.(string)
		if seen[key] {
			return fmt.Errorf("the key %q occurs twice", key)
		}
		seen[key] = true
		switch key {
		case "PostgreSQL-Backup-Manifest-Version":
			err = p.dec.Decode(&p.sum.Version)
		case "System-Identifier":
			err = p.dec.Decode(&p.sum.SystemID)
		case "Files":
			err = p.files()
		case "WAL-Ranges":
			err = p.dec.Decode(&p.sum.WAL)
		case "Manifest-Checksum":
			err = p.dec.Decode(&p.checksum)
		default:
			err = fmt.Errorf("the key %q is unknown", key)
		}
		if err != nil {
			return err
		}
	}
	if err := p.delim('}'); err != nil {
		return err
	}
	switch {
	case p.sum.Version != 1 && p.sum.Version != 2:
		return fmt.Errorf("its version %d is not 1 or 2", p.sum.Version)
	case !seen["Files"]:
		return errors.New("it lists no files")
	}
	return nil
}

func (p *parser) delim(want json.Delim) error {
	t, err := p.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && t != want {
		err = fmt.Errorf("%v stands where %v is expected", t, want)
	}
	return err
}

func (p *parser) files() error {
	if err := p.delim('['); err != nil {
		return err
	}
	for p.dec.More() {
		var w wireFile
		if err := p.dec.Decode(&w); err != nil {
			return err
		}
		f, err := w.file()
		if err != nil {
			return err
		}
		p.sum.Files++
		p.sum.Bytes += f.Size
		if err := p.each(f); err != nil {
			return &callbackError{err}
		}
	}
	return p.delim(']')
}

func (p *parser) check(s *sums) error {
	if !bytes.HasPrefix(bytes.TrimSpace(s.last), []byte(`"Manifest-Checksum"`)) {
		return errors.New("its last line is not its checksum; it is incomplete or was changed")
	}
	if got := hex.EncodeToString(s.lines.Sum(nil)); got != p.checksum {
		return fmt.Errorf("its checksum is %s, its content has %s; it was changed or damaged", p.checksum, got)
	}
	return nil
}

// sums hashes what passes through: everything, and all but the last line.
type sums struct {
	r     *bufio.Reader
	whole hash.Hash
	lines hash.Hash
	last  []byte // the newest line, which may be the last
	rest  []byte // what of it was not delivered yet
}

// maxLine bounds a line; a path has at most 4 KiB.
const maxLine = 64 << 10

func newSums(r io.Reader) *sums {
	return &sums{r: bufio.NewReaderSize(r, maxLine), whole: sha256.New(), lines: sha256.New()}
}

func (s *sums) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		line, err := s.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return 0, fmt.Errorf("a line is longer than %d bytes", maxLine)
		}
		if len(line) == 0 {
			return 0, err
		}
		s.lines.Write(s.last)
		s.whole.Write(line)
		s.last = append(s.last[:0], line...)
		s.rest = s.last
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
