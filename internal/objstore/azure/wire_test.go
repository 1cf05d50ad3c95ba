package azure_test

import (
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/azure"
)

func open(t *testing.T, where string, o config.CloudOptions, p *objstore.Policy) *azure.Store {
	t.Helper()
	at, err := objstore.ParseURL(where)
	if err != nil {
		t.Fatal(err)
	}
	s, err := azure.Open(at, o, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
