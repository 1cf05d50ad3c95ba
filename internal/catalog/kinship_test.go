package catalog_test

import (
	"slices"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
)

func childOf(parent backup.ID) func(*backupinfo.Info) {
	return func(i *backupinfo.Info) { i.Parent = &parent }
}

func children(t *testing.T, c *catalog.Catalog, id backup.ID) []backup.ID {
	t.Helper()
	info, err := c.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return info.Children
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAdoptAndDisown(t *testing.T) {
	c := newCatalog(t)
	add(t, c, first, backup.Done, nil)
	a, b := add(t, c, third, backup.Started, childOf(first)), add(t, c, second, backup.Done, childOf(first))
	for range 2 { // each may be repeated
		must(t, c.Adopt(a))
		must(t, c.Adopt(b))
	}
	if got := children(t, c, first); !slices.Equal(got, []backup.ID{second, third}) {
		t.Errorf("%v", got)
	}
	for range 2 {
		must(t, c.Disown(a))
	}
	if got := children(t, c, first); !slices.Equal(got, []backup.ID{second}) {
		t.Errorf("%v", got)
	}
	orphan := add(t, c, fourth, backup.Done, childOf("20250101T000000"))
	must(t, c.Adopt(orphan))
	must(t, c.Disown(orphan))
}

// Whoever died between two records, and whatever Barman wrote, the lists agree
// with the children afterwards.
func TestMendChildren(t *testing.T) {
	c := newCatalog(t)
	add(t, c, first, backup.Done, func(i *backupinfo.Info) { i.Children = []backup.ID{"20250101T000000", fourth} })
	add(t, c, second, backup.Done, childOf(first))
	add(t, c, third, backup.Started, childOf(second))
	add(t, c, fourth, backup.Failed, childOf(first))
	for range 2 {
		must(t, c.MendChildren())
		for id, want := range map[backup.ID][]backup.ID{first: {second}, second: {third}, third: nil, fourth: nil} {
			if got := children(t, c, id); !slices.Equal(got, want) {
				t.Errorf("%s: %v", id, got)
			}
		}
	}
}
