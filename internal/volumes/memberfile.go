package volumes

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// membersHead begins a list of members, with the format's version.
const membersHead = "holdfast-members 1"

// WriteMembers writes members as text, a line for each. Paths are quoted as in Go,
// because they may be any bytes.
func WriteMembers(w io.Writer, members []Member) error {
	out := bufio.NewWriterSize(w, 64<<10)
	// Its errors stay until the flush.
	_, _ = out.WriteString(membersHead + "\n")
	var line []byte
	for _, m := range members {
		line = line[:0]
		var resized int64
		if m.Resized {
			resized = 1
		}
		var read int64
		if !m.Read.IsZero() {
			read = m.Read.UnixNano()
		}
		for _, n := range []int64{int64(m.Segment), int64(m.Offset), m.Size, m.Source.Size, m.Source.Mtime, m.Source.Change, read, resized, m.Pages.Checked, m.Pages.Bad} {
			line = append(strconv.AppendInt(line, n, 10), ' ')
		}
		line = append(strconv.AppendUint(line, m.Source.Dev, 10), ' ')
		line = append(strconv.AppendUint(line, m.Source.Ino, 10), ' ')
		line = append(hex.AppendEncode(line, m.Sum[:]), ' ')
		for _, b := range m.Pages.Blocks {
			line = append(strconv.AppendUint(line, uint64(b), 10), ',')
		}
		line = append(strconv.AppendQuoteToASCII(append(line, ' '), m.Path), '\n')
		_, _ = out.Write(line)
	}
	_, _ = out.WriteString(".\n")
	return out.Flush()
}

// ReadMembers reads what WriteMembers wrote; name says in errors where it comes from. A
// list that is cut short or damaged is fault.Corrupt, but each may have been called
// for its beginning.
func ReadMembers(r io.Reader, name string, each func(Member) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fault.Wrap(fault.Internal, "read members", name, err)
		}
		line, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			return fault.New(fault.Corrupt, "read members", name, "they end in line %d", number)
		}
		if number == 1 {
			if string(line) != membersHead {
				return fault.New(fault.Corrupt, "read members", name, "it is no list of members, or one of a later version")
			}
			continue
		}
		if string(line) == "." {
			return nil
		}
		m, err := parseMember(string(line))
		if err != nil {
			return fault.New(fault.Corrupt, "read members", name, "line %d: %w", number, err)
		}
		if err := each(m); err != nil {
			return err
		}
	}
}

func parseMember(line string) (m Member, err error) {
	fields := strings.SplitN(line, " ", 15)
	if len(fields) != 15 {
		return m, errors.New("fields are missing")
	}
	signed := func(i int) int64 {
		n, e := strconv.ParseInt(fields[i], 10, 64)
		err = errors.Join(err, e)
		return n
	}
	unsigned := func(text string, bits int) uint64 {
		n, e := strconv.ParseUint(text, 10, bits)
		err = errors.Join(err, e)
		return n
	}
	m.Segment, m.Offset, m.Size = int(signed(0)), int(signed(1)), signed(2)
	m.Source.Size, m.Source.Mtime, m.Source.Change = signed(3), signed(4), signed(5)
	if read := signed(6); read != 0 {
		m.Read = time.Unix(0, read)
	}
	m.Resized = signed(7) != 0
	m.Pages.Checked, m.Pages.Bad = signed(8), signed(9)
	m.Source.Dev, m.Source.Ino = unsigned(fields[10], 64), unsigned(fields[11], 64)
	sum, e := hex.DecodeString(fields[12])
	if err = errors.Join(err, e); copy(m.Sum[:], sum) != len(m.Sum) || len(sum) != len(m.Sum) {
		err = errors.Join(err, errors.New("the checksum is none of SHA-256"))
	}
	for fields[13] != "" {
		var block string
		block, fields[13], _ = strings.Cut(fields[13], ",")
		m.Pages.Blocks = append(m.Pages.Blocks, uint32(unsigned(block, 32)))
	}
	m.Path, e = strconv.Unquote(fields[14])
	return m, errors.Join(err, e)
}
