package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

func (s Suite) listing(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	want := make([]string, s.Keys)
	var wg sync.WaitGroup
	slots := make(chan bool, 8)
	for i := range want {
		want[i] = fmt.Sprintf("listing/%03d/k-%d", i%7, i)
		wg.Go(func() {
			slots <- true
			defer func() { <-slots }()
			if _, err := store.Put(t.Context(), want[i], stream([]byte{1}), objstore.PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	put(t, store, "listing-x", []byte{1})
	slices.Sort(want)
	if got := keys(t, store, "listing/"); !slices.Equal(got, want) {
		t.Errorf("%d keys are listed, not %d", len(got), len(want))
	}
	some := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return !strings.HasPrefix(k, "listing/003/k-1") })
	if got := keys(t, store, "listing/003/k-1"); !slices.Equal(got, some) {
		t.Errorf("%d keys of a part of a name, not %d", len(got), len(some))
	}
	if got := keys(t, store, "listing/9"); len(got) > 0 {
		t.Errorf("nothing begins so, but %q", got)
	}
	if by, is := store.(objstore.Levels); is {
		levels(t, by, want)
	}
	n := 0
	for _, err := range store.List(t.Context(), "listing") {
		if n++; n == 3 || err != nil {
			if err != nil {
				t.Error(err)
			}
			break
		}
	}
	if err := store.Delete(t.Context(), append(want, "listing-x")...); err != nil {
		t.Error(err)
	}
	if got := keys(t, store, "listing"); len(got) > 0 {
		t.Errorf("%d keys are left", len(got))
	}
}

// levels lists what listing has stored, level by level.
func levels(t *testing.T, store objstore.Levels, want []string) {
	t.Helper()
	level := func(prefix string) (names []string) {
		for o, err := range store.ListLevel(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if folder := strings.HasSuffix(o.Key, "/"); folder != (o.Size == 0) {
				t.Errorf("%+v", o)
			}
			names = append(names, o.Key)
		}
		return names
	}
	var folders, third []string
	for i := range 7 {
		folders = append(folders, fmt.Sprintf("listing/%03d/", i))
	}
	for _, k := range want {
		if strings.HasPrefix(k, "listing/003/") {
			third = append(third, k)
		}
	}
	if got := level("listing/"); !slices.Equal(got, folders) {
		t.Errorf("a level of folders: %q", got)
	}
	if got := level("listing/003/"); !slices.Equal(got, third) {
		t.Errorf("%d objects on a level, not %d", len(got), len(third))
	}
	if got := level(""); !slices.Contains(got, "listing/") || !slices.Contains(got, "listing-x") || !slices.IsSorted(got) {
		t.Errorf("the first level: %q", got)
	}
	if got := level("listing/9/"); len(got) > 0 {
		t.Errorf("an empty level: %q", got)
	}
}
