package volumes

import (
	"archive/tar"
	"bytes"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// block is what a tar archive consists of.
const block = 512

// trailer ends an archive.
var trailer [2 * block]byte

// headers makes the headers of members: PAX, with the time in whole seconds and the
// owner by name and by number, as Barman writes them.
type headers struct {
	buf           bytes.Buffer
	w             tar.Writer
	users, groups map[uint32]string
}

func newHeaders() *headers {
	return &headers{users: map[uint32]string{}, groups: map[uint32]string{}}
}

// owner of a member, and what else its header says beside name and size.
type owner struct {
	mode, uid, gid uint32
	mtime          int64 // seconds
}

func ownerOf(st *unix.Stat_t) owner { return owner{st.Mode & 0o7777, st.Uid, st.Gid, st.Mtim.Sec} }

// of makes one header; a directory's name ends with a slash. The bytes are valid
// until the next call.
func (h *headers) of(name string, size int64, o owner) ([]byte, error) {
	t := tar.Header{
		Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Size: size, Mode: int64(o.mode), Uid: int(o.uid), Gid: int(o.gid),
		ModTime: time.Unix(o.mtime, 0), Uname: h.user(o.uid), Gname: h.group(o.gid),
	}
	if name[len(name)-1] == '/' {
		t.Typeflag = tar.TypeDir
	}
	h.buf.Reset()
	h.w = *tar.NewWriter(&h.buf) // in place: a cluster may have a million files
	err := h.w.WriteHeader(&t)
	return h.buf.Bytes(), err
}

// user is a name; "" where there is none, which is no error.
func (h *headers) user(id uint32) string {
	name, known := h.users[id]
	if !known {
		if u, err := user.LookupId(strconv.FormatUint(uint64(id), 10)); err == nil {
			name = u.Username
		}
		h.users[id] = name
	}
	return name
}

func (h *headers) group(id uint32) string {
	name, known := h.groups[id]
	if !known {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(id), 10)); err == nil {
			name = g.Name
		}
		h.groups[id] = name
	}
	return name
}
