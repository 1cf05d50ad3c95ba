package volumes

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

// source is an open file of the cluster.
type source struct {
	path string
	fd   int
	st   unix.Stat_t // before the first read
	at   time.Time   // before st
}

// open opens a file; false when it is not there any more.
func (s *source) open(path string) (there bool, err error) {
	s.path, s.at = path, time.Now()
	for {
		// What took the place of a file must not make us wait.
		s.fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		if errors.Is(err, unix.ENOENT) && datadir.Vanished(path) {
			return false, nil
		}
		return false, datadir.Unreadable(path, err)
	}
	if err := unix.Fstat(s.fd, &s.st); err != nil {
		s.close()
		return false, datadir.Unreadable(path, err)
	}
	if s.st.Mode&unix.S_IFMT != unix.S_IFREG {
		s.close()
		return false, nil
	}
	return true, nil
}

func (s *source) close() { _ = unix.Close(s.fd) }

// size is what the file has now.
func (s *source) size() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(s.fd, &st); err != nil {
		return 0, datadir.Unreadable(s.path, err)
	}
	return st.Size, nil
}

// read fills b from an offset on; n is less only at the end of the file.
func (s *source) read(b []byte, at int64) (n int, err error) {
	for n < len(b) {
		k, err := unix.Pread(s.fd, b[n:], at+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, datadir.Unreadable(s.path, err)
		case k == 0:
			return n, nil
		default:
			n += k
		}
	}
	return n, nil
}
