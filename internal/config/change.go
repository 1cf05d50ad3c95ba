package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// Change is the next content of a file that belongs to the configuration and
// that a command writes; nil removes the file.
type Change struct {
	Path string
	Text *string
}

// The files that commands write.
const (
	activeModelFile = ".active-model.auto" // in the server's backup directory
	autoFile        = ".barman.auto.conf"  // in barman_home
)

// SwitchModel is the change that makes a model the active one of a server; ""
// makes none active.
func (c *Config) SwitchModel(server, model string) (Change, error) {
	s := c.servers[server]
	if s == nil {
		_, err := c.Server(server)
		return Change{}, err
	}
	if s.BackupDirectory == "" {
		return Change{}, fault.New(fault.Config, "switch the model of", server, "it has no backup directory").WithHint("set barman_home")
	}
	ch := Change{Path: filepath.Join(s.BackupDirectory, activeModelFile)}
	if model == "" {
		return ch, nil
	}
	fitting := c.fitting(s)
	if !slices.Contains(fitting, model) {
		e := fault.New(fault.NotFound, "switch the model of", server, "there is no model %s for its cluster %s", model, s.Cluster)
		switch near := nearest(model, fitting); {
		case near != "":
			return ch, e.WithHint("did you mean %s?", near)
		case len(fitting) == 0:
			return ch, e.WithHint("a model is a section with model = true and cluster = %s", s.Cluster)
		}
		return ch, e.WithHint("its models are %s", strings.Join(fitting, ", "))
	}
	text := model + "\n"
	ch.Text = &text
	return ch, nil
}

// fitting are the names of the models for a server.
func (c *Config) fitting(s *Server) []string {
	var out []string
	for name, cluster := range c.models {
		if cluster == s.Cluster {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Update is the change of .barman.auto.conf that JSON documents ask for, each of
// which names a scope (server or model), the server_name or model_name, and
// options with their values; null takes an option out of that file.
func (c *Config) Update(documents []byte) (Change, error) {
	bad := func(format string, args ...any) (Change, error) {
		return Change{}, fault.New(fault.Usage, "read", "the changes", format, args...).
			WithHint(`write them as [{"scope": "server", "server_name": "main", "archiver": "on"}]`)
	}
	if c.Global.BarmanHome == "" {
		return Change{}, fault.New(fault.Config, "update the configuration", c.Path, "barman_home is not set")
	}
	dec := json.NewDecoder(bytes.NewReader(documents))
	dec.UseNumber()
	var list []map[string]any
	if err := dec.Decode(&list); err != nil {
		return bad("they are no JSON array of objects")
	}
	ch := Change{Path: filepath.Join(c.Global.BarmanHome, autoFile)}
	old, err := readFile(ch.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ch, fault.Wrap(fault.Config, "read", ch.Path, err)
	}
	sections, problems := parseINI(ch.Path, old)
	if len(problems) > 0 {
		return ch, fault.New(fault.Config, "update", ch.Path, "%s", problems[0]).WithHint("correct it by hand, or remove the file")
	}
	for i, doc := range list {
		if sections, err = merge(sections, doc); err != nil {
			return bad("document %d: %w", i+1, err)
		}
	}
	text := encodeINI(sections)
	ch.Text = &text
	return ch, nil
}

// changedName is what a server or a model may be called.
var changedName = lazyregexp.New(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// merge applies one document.
func merge(sections []*section, doc map[string]any) ([]*section, error) {
	nameKey, letter := "server_name", byte('S')
	switch doc["scope"] {
	case "server":
	case "model":
		nameKey, letter = "model_name", 'M'
	default:
		return nil, fmt.Errorf("the scope is server or model, not %v", doc["scope"])
	}
	name, ok := doc[nameKey].(string)
	if !ok || !changedName.MatchString(name) || name == globalSection || name == defaultsSection {
		return nil, fmt.Errorf("%s is missing, or no name of letters, digits, _ and -", nameKey)
	}
	i := slices.IndexFunc(sections, func(s *section) bool { return s.name == name })
	if i < 0 {
		i = len(sections)
		sections = append(sections, &section{name: name, entries: map[string]entry{}})
	}
	s := sections[i]
	if letter == 'M' {
		s.set(entry{name: "model", raw: "true"})
	}
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		if key == "scope" || key == nameKey {
			continue
		}
		if err := s.change(key, doc[key], letter); err != nil {
			return nil, err
		}
	}
	return sections, nil
}

// change sets or removes an option.
func (s *section) change(key string, value any, scope byte) error {
	o := named(serverOptions, key)
	if o == nil || !o.In(scope) {
		if near := nearest(key, names(serverOptions)); near != "" && o == nil {
			return fmt.Errorf("there is no option %s; did you mean %s?", key, near)
		}
		return fmt.Errorf("the option %s does not belong there", key)
	}
	var text string
	switch v := value.(type) {
	case nil:
		delete(s.entries, key)
		s.order = slices.DeleteFunc(s.order, func(n string) bool { return n == key })
		return nil
	case string:
		text = v
	case bool, json.Number:
		text = fmt.Sprint(v)
	default:
		return fmt.Errorf("the value of %s is neither text nor a number", key)
	}
	if strings.ContainsAny(text, "\n\r\x00") {
		return fmt.Errorf("the value of %s has more than one line", key)
	}
	text = strings.ReplaceAll(text, "%", "%%")
	if text != strings.TrimSpace(text) || text != unquote(text) {
		text = `"` + text + `"`
	}
	s.set(entry{name: key, raw: text})
	return nil
}

func encodeINI(sections []*section) string {
	var b strings.Builder
	b.WriteString("# Written by config-update. What stands here overrides the other files.\n")
	for _, s := range sections {
		if len(s.order) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n[%s]\n", s.name)
		for _, name := range s.order {
			fmt.Fprintf(&b, "%s = %s\n", name, strings.ReplaceAll(s.entries[name].raw, "\n", "\n\t"))
		}
	}
	return b.String()
}

// Try reads the configuration as it would be after a change, and refuses one
// that would disable a server or be ignored in part.
func (c *Config) Try(ch Change) (*Config, error) {
	next, err := loadWith(c.Path, func(path string) (string, error) {
		if path != ch.Path {
			return readFile(path)
		}
		if ch.Text == nil {
			return "", fs.ErrNotExist
		}
		return *ch.Text, nil
	})
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, p := range next.Problems {
		if p.File == ch.Path {
			lines = append(lines, p.String())
		}
	}
	for _, s := range next.Servers() {
		if old := c.servers[s.Name]; old != nil && old.Disabled() {
			continue
		}
		for _, p := range errorsOf(s.problems) {
			lines = append(lines, p.String())
		}
	}
	lines = slices.Compact(slices.Sorted(slices.Values(lines)))
	if len(lines) > 0 {
		return nil, fault.New(fault.Config, "change", ch.Path, "the configuration would have errors, and was left as it is:\n%s", strings.Join(lines, "\n")).
			WithHint("correct the values and try again")
	}
	return next, nil
}
