package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// maxFile is far above any configuration; what is larger was named by mistake.
const maxFile = 4 << 20

const (
	globalSection   = "barman"
	defaultsSection = "DEFAULT"
)

// Config is everything that the files say. It does not change once loaded.
type Config struct {
	Path     string
	Files    []string        // in the order in which they were read
	Sources  map[string]bool // all that was looked for, and whether it exists
	Global   Global
	Problems []Problem

	servers map[string]*Server
	models  map[string]string // the cluster of each
}

// Servers are all servers, the disabled ones included, sorted by name.
func (c *Config) Servers() []*Server {
	out := make([]*Server, 0, len(c.servers))
	for _, name := range sortedKeys(c.servers) {
		out = append(out, c.servers[name])
	}
	return out
}

// Server is a server that can be used.
func (c *Config) Server(name string) (*Server, error) {
	s, is := c.servers[name]
	if !is {
		known := sortedKeys(c.servers)
		hint := didYouMean(name, known)
		if hint == "" {
			hint = "the files know no server"
			if len(known) > 0 {
				hint = "the files know " + strings.Join(known, ", ")
			}
		}
		return nil, fault.New(fault.NotFound, "find server", name, "%s does not know it", c.Path).WithHint("%s", hint)
	}
	if bad := errorsOf(s.problems); len(bad) > 0 {
		lines := make([]string, len(bad))
		for i, p := range bad {
			lines[i] = p.String()
		}
		return nil, fault.New(fault.Config, "use server", name, "its configuration has errors:\n%s", strings.Join(lines, "\n")).
			WithHint("correct %s; holdfast config check shows everything that is wrong", c.Path)
	}
	return s, nil
}

// Load reads a configuration file and those that it leads to. The error is for
// a file that says nothing at all; whatever else is wrong is a Problem.
func Load(path string) (*Config, error) { return loadWith(path, readFile) }

func loadWith(path string, read func(string) (string, error)) (*Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.Wrap(fault.Config, "read configuration", path, err)
	}
	l := &loader{cfg: &Config{Path: path, servers: map[string]*Server{}, models: map[string]string{}, Sources: map[string]bool{}}, sections: map[string]*section{}, bySection: map[string][]Problem{}}
	l.read = func(path string) (string, error) {
		text, err := read(path)
		l.looked(path, err)
		return text, err
	}
	text, err := l.read(path)
	if err != nil {
		return nil, &fault.Error{Op: "read configuration", Subject: path, Kind: fault.Config, Err: err,
			Hint: "name a readable file with -c or HOLDFAST_CONFIG"}
	}
	l.main(path, text)
	if len(l.sections) == 0 {
		message := "it holds no section"
		if len(l.cfg.Problems) > 0 {
			message = l.cfg.Problems[0].String()
		}
		return nil, fault.New(fault.Config, "read configuration", path, "%s", message).
			WithHint("it needs a section [barman] with barman_home, and a section for each server")
	}
	l.global()
	l.included()
	l.servers()
	sortProblems(l.cfg.Problems)
	return l.cfg, nil
}

// loader gathers sections and sorts problems by whom they concern.
type loader struct {
	read      func(path string) (string, error)
	cfg       *Config
	sections  map[string]*section
	order     []string
	barman    layer
	shared    []Problem            // errors that disable every server
	bySection map[string][]Problem // what concerns one server or model
}

func (l *loader) note(p Problem) { l.cfg.Problems = append(l.cfg.Problems, p) }

func (l *loader) share(p Problem) {
	l.note(p)
	if !p.Warning {
		l.shared = append(l.shared, p)
	}
}

func (l *loader) noteSection(p Problem) {
	l.note(p)
	l.bySection[p.Section] = append(l.bySection[p.Section], p)
}

// noteDecoded leaves errors to the servers that would use the bad value.
func (l *loader) noteDecoded(problems []Problem) {
	for _, p := range problems {
		if p.Warning {
			l.noteSection(p)
		} else {
			l.note(p)
		}
	}
}

func (l *loader) main(path, text string) {
	l.cfg.Files = append(l.cfg.Files, path)
	sections, problems := parseINI(path, text)
	for _, p := range problems {
		if p.Section == "" || p.Section == globalSection || p.Section == defaultsSection {
			l.share(p)
		} else {
			l.noteSection(p)
		}
	}
	for _, s := range sections {
		l.sections[s.name] = s
		l.order = append(l.order, s.name)
	}
}

func (l *loader) global() {
	barman := l.sections[globalSection]
	if barman == nil {
		l.share(Problem{File: l.cfg.Path, Section: globalSection, Message: "the section is missing",
			Hint: "add it, with barman_home"})
		return
	}
	var problems []Problem
	l.barman, problems = decode(barman, 'G', l.sections[defaultsSection])
	for _, p := range problems {
		l.note(p)
	}
	g := &l.cfg.Global
	_, bad := resolve(reflect.ValueOf(g).Elem(), globalOptions, l.barman)
	l.shared = append(l.shared, bad...)
	if g.BarmanHome == "" && len(bad) == 0 {
		l.share(Problem{File: barman.file, Line: barman.line, Section: globalSection, Message: "barman_home is missing",
			Hint: "set it to the directory that is to hold everything"})
	}
	g.compute()
}

// looked notes what was looked for.
func (l *loader) looked(path string, err error) {
	l.cfg.Sources[path] = l.cfg.Sources[path] || !errors.Is(err, fs.ErrNotExist)
}

// included reads the directory of further files, then what config-update wrote.
func (l *loader) included() {
	if dir := l.cfg.Global.ConfigurationFilesDirectory; dir != "" {
		entries, err := os.ReadDir(dir)
		l.looked(dir, err)
		if err != nil {
			l.note(Problem{File: dir, Section: globalSection, Message: "the directory of further files cannot be read: " + cause(err), Warning: true})
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
				l.include(filepath.Join(dir, e.Name()), true)
			}
		}
	}
	if home := l.cfg.Global.BarmanHome; home != "" {
		auto := filepath.Join(home, autoFile)
		if _, err := l.read(auto); !errors.Is(err, fs.ErrNotExist) {
			l.include(auto, false)
		}
	}
}

// include merges a file into what was read before. Overriding an earlier file is
// the purpose of .barman.auto.conf, and suspicious elsewhere.
func (l *loader) include(path string, warn bool) {
	text, err := l.read(path)
	if err != nil {
		l.note(Problem{File: path, Message: "the file cannot be read: " + cause(err),
			Hint: "make it readable; the servers in it are unknown until then"})
		return
	}
	l.cfg.Files = append(l.cfg.Files, path)
	sections, problems := parseINI(path, text)
	for _, p := range problems {
		l.noteSection(p)
	}
	for _, s := range sections {
		if s.name == globalSection || s.name == defaultsSection {
			l.share(Problem{File: path, Line: s.line, Section: s.name, Message: "only the main file may have this section",
				Hint: "move its options to " + l.cfg.Path})
			continue
		}
		before := l.sections[s.name]
		if before == nil {
			l.sections[s.name] = s
			l.order = append(l.order, s.name)
			continue
		}
		for _, name := range s.order {
			e := s.entries[name]
			if old, there := before.entries[name]; there && warn {
				l.noteSection(Problem{File: path, Line: e.line, Section: s.name, Option: printableName(name),
					Message: "it replaces the value of " + Origin{File: old.file, Line: old.line, Section: s.name}.String(),
					Hint:    "set it in one place", Warning: true})
			}
			before.set(e)
		}
	}
}

func (l *loader) servers() {
	models := map[string]*model{}
	own := map[string]layer{}
	for _, name := range l.order {
		s := l.sections[name]
		if name == globalSection || name == defaultsSection {
			continue
		}
		if p := badName(s); p != nil {
			l.note(*p)
			continue
		}
		m, is := l.model(s)
		if is {
			models[name] = m
			l.cfg.models[name] = m.cluster
			continue
		}
		var problems []Problem
		own[name], problems = decode(s, 'S', l.sections[defaultsSection])
		l.noteDecoded(problems)
	}
	for _, name := range sortedKeys(own) {
		l.cfg.servers[name] = l.server(l.sections[name], own[name], models)
	}
	for _, s := range l.cfg.Servers() {
		s.checkRules()
	}
	checkSharedPaths(l.cfg.Servers())
	for _, s := range l.cfg.Servers() {
		for _, p := range s.problems {
			if !slices.Contains(l.cfg.Problems, p) {
				l.note(p)
			}
		}
	}
}

// badName refuses what cannot be the name of a directory below barman_home.
func badName(s *section) *Problem {
	var message string
	switch {
	case s.name == "all":
		message = "the name all stands for all servers"
	case strings.ContainsAny(s.name, "/\x00 \t") || strings.HasPrefix(s.name, ".") || strings.HasPrefix(s.name, "-"):
		message = "a server's name becomes the name of a directory and a word on the command line"
	default:
		return nil
	}
	return &Problem{File: s.file, Line: s.line, Section: s.name, Message: message, Hint: "use letters, digits, _ and -"}
}

func (l *loader) server(s *section, own layer, models map[string]*model) *Server {
	srv := &Server{Name: s.name, ConfigFile: l.cfg.Path, header: Origin{File: s.file, Line: s.line, Section: s.name}}
	dst := reflect.ValueOf(srv).Elem()
	srv.settled, _ = resolve(dst, serverOptions, own, l.barman)
	srv.compute(&l.cfg.Global)
	layers := []layer{own, l.barman}
	m, err := activeModel(srv, models, l.read)
	if m != nil {
		layers = slices.Insert(layers, 0, m.layer)
	}
	*srv = Server{Name: srv.Name, ConfigFile: srv.ConfigFile, header: srv.header}
	var bad []Problem
	srv.settled, bad = resolve(dst, serverOptions, layers...)
	srv.compute(&l.cfg.Global)
	srv.problems = append(slices.Clone(l.shared), l.bySection[s.name]...)
	if m != nil {
		srv.ActiveModel = m.name
		srv.problems = append(srv.problems, l.bySection[m.name]...)
	}
	srv.problems = append(srv.problems, bad...)
	if err != nil {
		srv.problems = append(srv.problems, *err)
	}
	return srv
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = errors.New("it is larger than 4 MiB, which no configuration is")
	}
	return string(data), err
}

// cause is an error without the path that the message names already.
func cause(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
