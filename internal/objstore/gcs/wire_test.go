package gcs_test

import (
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/gcs"
)

func open(t *testing.T, where string, o config.CloudOptions, p *objstore.Policy) *gcs.Store {
	t.Helper()
	at, err := objstore.ParseURL(where)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gcs.Open(at, o, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
