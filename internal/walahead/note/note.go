// Package note says which WAL files are in an archive already, because walahead archived them before
// PostgreSQL asked for it. It imports little: a program reads one while it is still starting.
package note

import (
	"strconv"
	"syscall"
	"time"

	"github.com/holdfast-pg/holdfast/internal/receipt"
)

// valid is how long a note is believed; PostgreSQL asks for the next file within seconds.
const valid = 10 * time.Minute

const head = "holdfast wal note 1"

// Marks are those of files that are durable in an archive, by name.
type Marks map[string]string

// Text is a note of a place, for the next minutes.
func Text(place string, marks Marks, now time.Time) []byte {
	fields := []string{head, place, strconv.FormatInt(now.UnixNano(), 10)}
	for name, mark := range marks {
		fields = append(fields, name, mark)
	}
	return receipt.Text(fields)
}

// Read is empty when there is no note that can be believed of this place.
func Read(path, place string, now time.Time) Marks {
	fields, whole := receipt.Read(path)
	if !whole || len(fields) < 3 || len(fields)%2 == 0 || fields[0] != head || fields[1] != place {
		return nil
	}
	at, err := strconv.ParseInt(fields[2], 10, 64)
	if age := now.Sub(time.Unix(0, at)); err != nil || age < 0 || age > valid {
		return nil
	}
	marks := Marks{}
	for rest := fields[3:]; len(rest) > 0; rest = rest[2:] {
		marks[rest[0]] = rest[1]
	}
	return marks
}

// Of says whether the file at a path, of this name, is one that is noted.
func (m Marks) Of(path, name string) bool {
	mark := Mark(path)
	return mark != "" && m[name] == mark
}

// Mark changes whenever the file is written, renamed or replaced; "" when there is no regular file.
func Mark(path string) string {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return ""
	}
	return receipt.Mark(&st)
}
