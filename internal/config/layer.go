package config

import (
	"reflect"
	"strings"
)

// setting is one option as one section sets it.
type setting struct {
	value   reflect.Value
	unset   bool // None: hides what lies below
	origin  Origin
	raw     string   // shown instead of the value when references could have brought a secret into it
	problem *Problem // the value is bad, and must not be replaced by another
}

// layer is what one section sets.
type layer map[*Option]setting

// settled is where the values of a struct came from.
type settled struct {
	origin map[*Option]Origin
	raw    map[*Option]string
}

// resolve sets each field of dst from the first layer that has its option.
func resolve(dst reflect.Value, options []*Option, layers ...layer) (settled, []Problem) {
	from := settled{map[*Option]Origin{}, map[*Option]string{}}
	var problems []Problem
	for _, o := range options {
		if o.Scope == "" {
			continue
		}
		field := dst.FieldByIndex(o.index)
		field.Set(o.zero)
		for _, l := range layers {
			set, is := l[o]
			if !is {
				continue
			}
			from.origin[o] = set.origin
			switch {
			case set.problem != nil:
				problems = append(problems, *set.problem)
			case !set.unset:
				field.Set(set.value)
				if set.raw != "" {
					from.raw[o] = set.raw
				}
			}
			break
		}
	}
	return from, problems
}

// decoder turns the entries of one section into a layer.
type decoder struct {
	section  *section
	scope    byte // G, S or M
	defaults *section
	layer    layer
	problems []Problem
}

func decode(s *section, scope byte, defaults *section) (layer, []Problem) {
	d := &decoder{section: s, scope: scope, defaults: defaults, layer: layer{}}
	for _, name := range s.order {
		d.entry(s.entries[name])
	}
	if defaults != nil {
		for _, name := range defaults.order {
			e := defaults.entries[name]
			// What no option is called there is a variable for references.
			if o := anyOption(name); o != nil && o.In(scope) {
				if _, own := s.entries[name]; !own {
					d.entry(e)
				}
			}
		}
	}
	return d.layer, d.problems
}

func anyOption(name string) *Option {
	if o := named(serverOptions, name); o != nil {
		return o
	}
	return named(globalOptions, name)
}

func (d *decoder) entry(e entry) {
	o := anyOption(e.name)
	if o == nil {
		name := printableName(e.name)
		if name == "" {
			d.report(e, "", "what stands before the = is not the name of an option", "it is ignored")
			return
		}
		hint := didYouMean(name, names(serverOptions, globalOptions))
		if hint == "" {
			hint = "it is ignored"
		}
		d.report(e, "", "there is no such option", hint)
		return
	}
	if !o.In(d.scope) {
		d.report(e, "", "the option has no effect here", placeOf(o))
		return
	}
	x := expander{lookup: d.lookup}
	text, err := x.expand(e.raw, 0)
	if err != nil {
		d.reject(o, e, "", true, err.Error(), "a percent sign that is meant as such is written %%")
		return
	}
	text = unquote(text)
	set := setting{origin: Origin{File: e.file, Line: e.line, Section: d.section.name}}
	if d.scope == 'M' {
		set.origin.Model = d.section.name
	}
	shown := o.redact(text)
	if d.mayHoldSecret(x.names) && !o.secret() {
		shown = o.redact(unquote(e.raw))
		set.raw = shown
	}
	if o.kind.text && (text == "" || text == "None" || o.Type == "enum" && strings.EqualFold(text, "none")) {
		set.unset = true
		d.layer[o] = set
		return
	}
	value, ok := o.kind.parse(o, text)
	if !ok {
		d.reject(o, e, shown, o.Strict, "expected "+o.Expects(), badValueHint(o, text))
		return
	}
	set.value = fit(value, o.zero.Type())
	if o.Instead != "" {
		d.report(e, shown, "the option is deprecated", "use "+o.Instead)
	}
	d.layer[o] = set
}

func badValueHint(o *Option, text string) string {
	switch {
	case text == "":
		return "remove the line to leave the option unset"
	case o.Type == "enum":
		return didYouMean(strings.ToLower(text), o.Values)
	case o.Type == "dsn":
		return "put single quotes around values that hold blanks, and encode special characters in a URI"
	case o.Type == "path", o.Type == "place":
		return "begin it with a slash"
	}
	return ""
}

// placeOf says in which sections an option is read.
func placeOf(o *Option) string {
	switch {
	case o.Scope == "":
		return "it is not set in files"
	case o.Scope == "G":
		return "it belongs into [barman]"
	case !o.In('G'):
		return "it belongs into the section of a server"
	}
	return "it belongs into [barman] or into the section of a server"
}

// reject records a value that cannot be used; only one that is not fatal may be
// replaced by that of [barman] or by the default.
func (d *decoder) reject(o *Option, e entry, shown string, fatal bool, message, hint string) {
	p := d.problem(e, shown, message, hint)
	if fatal {
		p.Warning = false
		d.layer[o] = setting{problem: &p, origin: Origin{File: e.file, Line: e.line, Section: d.section.name}}
	} else if p.Hint == "" {
		p.Hint = "the line is ignored"
	}
	d.problems = append(d.problems, p)
}

func (d *decoder) report(e entry, shown, message, hint string) {
	d.problems = append(d.problems, d.problem(e, shown, message, hint))
}

func (d *decoder) problem(e entry, shown, message, hint string) Problem {
	return Problem{File: e.file, Line: e.line, Section: d.section.name, Option: printableName(e.name), Value: shown,
		Message: message, Hint: hint, Warning: true}
}

func (d *decoder) lookup(name string) (string, bool) {
	if e, is := d.section.entries[name]; is {
		return e.raw, true
	}
	if d.defaults != nil {
		if e, is := d.defaults.entries[name]; is {
			return e.raw, true
		}
	}
	return "", false
}

// mayHoldSecret: variables that are no options are used for passwords.
func (d *decoder) mayHoldSecret(names []string) bool {
	for _, name := range names {
		if o := anyOption(name); o == nil || o.secret() {
			return true
		}
	}
	return false
}
