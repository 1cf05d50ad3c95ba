//go:build integration

package azure_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

func TestConformance(t *testing.T) {
	a := storetest.StartAzure(t, "container")
	a.Setenv(t)
	storetest.Suite{
		Open: func(t *testing.T, p *objstore.Policy) objstore.Store {
			return open(t, a.Address+"/container/a b+c/ü", config.CloudOptions{}, p)
		},
		Abilities: []string{"multipart", "copy", "range copy", "locks"},
		Refused:   `\`,
		Keys:      600,
		Kill:      a.Kill, Start: a.Start,
	}.Run(t)
	root := open(t, a.Address+"/container", config.CloudOptions{}, &objstore.Policy{})
	n := 0
	for o, err := range root.List(t.Context(), "") {
		if n++; err != nil || !strings.HasPrefix(o.Key, "a b+c/ü/") {
			t.Errorf("beside the prefix: %+v, %v", o, err)
		}
	}
	if n == 0 {
		t.Error("nothing lies below the prefix")
	}
}

// TestSignature: a shared access signature does all that a key does.
func TestSignature(t *testing.T) {
	a := storetest.StartAzure(t, "container")
	a.Setenv(t)
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint="+a.Address+";SharedAccessSignature="+a.SAS("container"))
	s := open(t, a.Address+"/container/x", config.CloudOptions{}, &objstore.Policy{})
	for _, size := range []int{10, objstore.MinPart + 1} {
		if _, err := s.Put(t.Context(), "from", strings.NewReader(strings.Repeat("x", size)), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if o, err := s.Copy(t.Context(), "from", "to"); err != nil || o.Size != int64(size) {
			t.Errorf("%+v, %v", o, err)
		}
		from, err := s.Stat(t.Context(), "from")
		if err != nil {
			t.Fatal(err)
		}
		if o, err := objstore.CopyParts(t.Context(), s, from, "pieces", objstore.MinPart); err != nil || o.Size != int64(size) {
			t.Errorf("%+v, %v", o, err)
		}
	}
	if err := s.Delete(t.Context(), "from", "to", "pieces"); err != nil {
		t.Error(err)
	}
	t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "BlobEndpoint="+a.Address+";SharedAccessSignature="+strings.Replace(a.SAS("container"), "sig=", "sig=x", 1))
	if _, err := open(t, a.Address+"/container/x", config.CloudOptions{}, &objstore.Policy{}).Stat(t.Context(), "x"); !fault.Is(err, fault.Permission) || strings.Contains(err.Error()+fault.HintOf(err), "sig=") {
		t.Errorf("a wrong signature: %v (%s)", err, fault.HintOf(err))
	}
}

func TestTrouble(t *testing.T) {
	a := storetest.StartAzure(t, "container")
	a.Setenv(t)
	storetest.Trouble(t, a.Front, func(t *testing.T, p *objstore.Policy) objstore.Store {
		return open(t, a.Address+"/container/trouble", config.CloudOptions{}, p)
	}, func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.RawQuery == "" })
}
