package storetest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// races: of two writers of one key at the same time one wins, and what is there is his, whole.
func (s Suite) races(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	for _, size := range []int{0, 10, objstore.MinPart * 2} {
		for round := range 3 {
			key := fmt.Sprintf("races/%d-%d", size, round)
			var wg sync.WaitGroup
			errs := make([]error, 4)
			data := make([][]byte, len(errs))
			for i := range errs {
				data[i] = append(Bytes(size, uint64(i)), byte(i))
				wg.Go(func() {
					_, errs[i] = store.Put(t.Context(), key, stream(data[i]), objstore.PutOptions{IfAbsent: true})
				})
			}
			wg.Wait()
			got, winner := get(t, store, key, objstore.Whole()), -1
			for i, err := range errs {
				switch {
				case err == nil && winner >= 0:
					t.Errorf("%s: %d and %d both won", key, winner, i)
				case err == nil:
					winner = i
				case !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Connection):
					t.Errorf("%s: %v", key, err)
				}
			}
			if winner < 0 || !bytes.Equal(got, data[winner]) {
				t.Errorf("%s: %d won, and %d bytes of somebody else are there: %v", key, winner, len(got), errs)
			}
			if _, err := store.Put(t.Context(), key, stream(data[0]), objstore.PutOptions{IfAbsent: true}); !fault.Is(err, fault.Conflict) || fault.HintOf(err) == "" {
				t.Errorf("%s: a late writer: %v", key, err)
			}
		}
	}
	if m, is := store.(objstore.Multipart); is {
		for u, err := range m.Uploads(t.Context(), "races/") {
			t.Errorf("an upload is left: %+v, %v", u, err)
		}
	}
}
