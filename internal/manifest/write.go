package manifest

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Writer writes a manifest file by file. It is of version 1, which every
// PostgreSQL reads, unless a system identifier makes it version 2 (17 and later).
type Writer struct {
	b     *bufio.Writer
	lines hash.Hash
	whole hash.Hash
	sum   Summary
	err   error
}

// NewWriter begins a manifest.
func NewWriter(w io.Writer, systemID uint64) *Writer {
	m := &Writer{lines: sha256.New(), whole: sha256.New(), sum: Summary{Version: 1, SystemID: systemID}}
	m.b = bufio.NewWriterSize(io.MultiWriter(w, m.whole), 256<<10)
	if systemID != 0 {
		m.sum.Version = 2
	}
	m.put("{ \"PostgreSQL-Backup-Manifest-Version\": %d,\n", m.sum.Version)
	if systemID != 0 {
		m.put("\"System-Identifier\": %d,\n", systemID)
	}
	m.put("\"Files\": [")
	return m
}

func (m *Writer) put(format string, args ...any) {
	if m.err != nil {
		return
	}
	text := fmt.Appendf(nil, format, args...)
	m.lines.Write(text)
	_, m.err = m.b.Write(text)
}

// Add writes an entry.
func (m *Writer) Add(f File) error {
	w := f.wire()
	if _, err := w.file(); err != nil {
		return fault.Wrap(fault.Internal, "write manifest entry", f.Path, err)
	}
	text, err := encode(w)
	if err != nil {
		return fault.Wrap(fault.Internal, "write manifest entry", f.Path, err)
	}
	separator := ",\n"
	if m.sum.Files == 0 {
		separator = "\n"
	}
	m.put("%s%s", separator, text)
	m.sum.Files++
	m.sum.Bytes += f.Size
	return fault.Wrap(fault.Internal, "write manifest", "", m.err)
}

// Close writes the end. It does not close what it writes to.
func (m *Writer) Close(ranges []WALRange) (Summary, error) {
	m.put("\n],\n\"WAL-Ranges\": [")
	for i, r := range ranges {
		text, err := encode(r)
		if err != nil {
			return m.sum, fault.Wrap(fault.Internal, "write manifest", "", err)
		}
		m.put("%s%s", map[bool]string{true: "\n", false: ",\n"}[i == 0], text)
	}
	m.put("\n],\n")
	// The last line is not part of its own checksum.
	m.put("\"Manifest-Checksum\": \"%s\"}\n", hex.EncodeToString(m.lines.Sum(nil)))
	if m.err == nil {
		m.err = m.b.Flush()
	}
	m.sum.WAL = ranges
	m.sum.SHA256 = hex.EncodeToString(m.whole.Sum(nil))
	return m.sum, fault.Wrap(fault.Internal, "write manifest", "", m.err)
}
