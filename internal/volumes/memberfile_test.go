package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func membersText(t testing.TB, members []Member) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, WriteMembers(&b, members))
	return b.String()
}

func readMembers(text string) (out []Member, err error) {
	err = ReadMembers(strings.NewReader(text), "there", func(m Member) error {
		out = append(out, m)
		return nil
	})
	return out, err
}

func TestMembersAreReadBack(t *testing.T) {
	members := []Member{{Path: "backup_label", Size: 5, Sum: [32]byte{1, 31: 2}}}
	for i, name := range odd {
		members = append(members, Member{Path: name, Size: int64(i) << 40, Segment: i, Offset: 512 * i, Resized: i%2 == 0, Read: time.Unix(1_700_000_000, 123456789),
			Source: datadir.Identity{Dev: 1 << 63, Ino: 1<<64 - 1, Size: 7, Mtime: -1, Change: 1_700_000_000_123_456_789},
			Pages:  Pages{Checked: 100, Bad: 2, Blocks: []uint32{0, 1<<32 - 1}}})
	}
	whole := membersText(t, members)
	back, err := readMembers(whole)
	require.NoError(t, err)
	assert.Equal(t, members, back)
	for n := range len(whole) {
		_, err := readMembers(whole[:n])
		require.True(t, fault.Is(err, fault.Corrupt), "cut at %d: %v", n, err)
	}
	lines := strings.Split(whole, "\n")
	for i := range 15 {
		fields := strings.SplitN(lines[2], " ", 15)
		fields[i] = "x"
		_, err := readMembers(lines[0] + "\n" + strings.Join(fields, " ") + "\n.\n")
		assert.True(t, fault.Is(err, fault.Corrupt), "field %d: %v", i, err)
		assert.ErrorContains(t, err, "there: line 2")
	}
	for _, bad := range []string{"holdfast-members 2\n.\n", membersHead + "\n1 2\n.\n", membersHead + "\n\n.\n"} {
		_, err := readMembers(bad)
		assert.True(t, fault.Is(err, fault.Corrupt), "%q: %v", bad, err)
	}
	enough := errors.New("enough")
	assert.Equal(t, enough, ReadMembers(strings.NewReader(whole), "there", func(Member) error { return enough }))
	assert.ErrorIs(t, WriteMembers(full{}, members), errFull)
	_, err = (&Plan{}).WriteTo(full{})
	assert.ErrorIs(t, err, errFull)
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func FuzzReadMembers(f *testing.F) {
	f.Add(fmt.Sprintf("%s\n0 512 5 5 1 1 1 0 3 1 1 2 %s 7, \"a\\xff\"\n.\n", membersHead, strings.Repeat("0f", 32)))
	f.Fuzz(func(t *testing.T, in string) {
		members, err := readMembers(in)
		if err != nil {
			return
		}
		again, err := readMembers(membersText(t, members))
		require.NoError(t, err)
		assert.Equal(t, members, again)
	})
}
