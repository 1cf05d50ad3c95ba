package config

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
)

// model is a section that overrides the options of a server while it is active.
type model struct {
	name    string
	cluster string
	layer   layer
}

// model reads a section as a model; false when it is a server's.
func (l *loader) model(s *section) (*model, bool) {
	set, problems := decode(s, 'M', l.sections[defaultsSection])
	var read Server
	_, _ = resolve(reflect.ValueOf(&read).Elem(), serverOptions, set)
	if !read.Model {
		return nil, false
	}
	l.noteDecoded(problems)
	if read.Cluster == "" {
		l.noteSection(Problem{File: s.file, Line: s.line, Section: s.name, Message: "a model without a cluster fits no server",
			Hint: "set cluster to that of the servers that it is for"})
	}
	return &model{name: s.name, cluster: read.Cluster, layer: set}, true
}

// activeModel is the model that config-switch activated for a server.
func activeModel(s *Server, models map[string]*model, read func(string) (string, error)) (*model, *Problem) {
	if s.BackupDirectory == "" {
		return nil, nil
	}
	path := filepath.Join(s.BackupDirectory, activeModelFile)
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	bad := &Problem{File: path, Section: s.Name}
	if err != nil {
		bad.Message = "the name of the active model cannot be read: " + cause(err)
		bad.Hint = "make it readable"
		return nil, bad
	}
	name := strings.TrimSpace(text)
	m := models[name]
	switch {
	case m == nil:
		bad.Message = "the active model is not in the files"
		bad.Hint = "define it, or choose another with config-switch"
		if printableName(name) != "" {
			bad.Message = "the active model " + name + " is not in the files"
		}
		return nil, bad
	case m.cluster != s.Cluster:
		bad.Message = "the active model " + name + " is for cluster " + m.cluster + ", the server belongs to " + s.Cluster
		bad.Hint = "choose another with config-switch"
		return nil, bad
	}
	return m, nil
}

// Models are the names of all models, each with the cluster that it is for.
func (c *Config) Models() map[string]string { return maps.Clone(c.models) }
