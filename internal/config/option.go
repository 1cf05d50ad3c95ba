package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Option is the declaration of one option, as the tags of its field give it:
//
//	ini       name in the files
//	type      one of kinds
//	values    what an enum or csv may hold
//	default   value when nobody sets it
//	computed  the same, in words, when it depends on other options
//	scope     where it may stand: G [barman], S server, M model; empty for nowhere
//	min, max  range of a number
//	strict    a bad value disables the server instead of being replaced
//	backup    what a backup by this version does not implement: "refused" for
//	          every value but the default, "only:a,b" for all but these
//	methods   the methods to which that applies; all unless given
//	text      "true" makes None and the empty value mean "unset", see kind
//	instead   the option that replaced a deprecated one
//	doc       one line for the reference
type Option struct {
	Name, Type, Default, Computed, Scope, Backup, Instead, Doc, Topic string

	Values   []string
	Methods  []string
	Min, Max *int
	Strict   bool

	kind  kind
	index []int
	zero  reflect.Value // the parsed default, or the zero value
}

var (
	serverOptions = declared(reflect.TypeFor[Server]())
	globalOptions = declared(reflect.TypeFor[Global]())
)

// declared collects the options of a struct and of those that it embeds. A
// wrong declaration is a bug, found by the first start of any program.
func declared(t reflect.Type) []*Option {
	var out []*Option
	for _, f := range reflect.VisibleFields(t) {
		if _, is := f.Tag.Lookup("ini"); !is {
			continue
		}
		o := &Option{
			Name: f.Tag.Get("ini"), Type: f.Tag.Get("type"), Default: f.Tag.Get("default"),
			Computed: f.Tag.Get("computed"), Scope: f.Tag.Get("scope"), Backup: f.Tag.Get("backup"),
			Instead: f.Tag.Get("instead"), Doc: f.Tag.Get("doc"), Strict: f.Tag.Get("strict") == "true",
			index: f.Index, Min: number(f, "min"), Max: number(f, "max"),
		}
		for i := range len(f.Index) {
			if topic := t.FieldByIndex(f.Index[:i+1]).Tag.Get("topic"); topic != "" {
				o.Topic = topic
			}
		}
		o.Values, o.Methods = list(f, "values"), list(f, "methods")
		var known bool
		if o.kind, known = kinds[o.Type]; !known {
			panic("config: " + o.Name + " has the unknown type " + o.Type)
		}
		o.kind.text = o.kind.text || f.Tag.Get("text") == "true"
		o.zero = reflect.Zero(f.Type)
		if o.Default != "" {
			v, ok := o.kind.parse(o, o.Default)
			if !ok {
				panic("config: the default of " + o.Name + " does not fit its type")
			}
			o.zero = fit(v, f.Type)
		}
		out = append(out, o)
	}
	return out
}

func number(f reflect.StructField, tag string) *int {
	text, is := f.Tag.Lookup(tag)
	if !is {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic("config: " + tag + " of " + f.Name + " is not a number")
	}
	return &n
}

func list(f reflect.StructField, tag string) []string {
	if text := f.Tag.Get(tag); text != "" {
		return strings.Split(text, ",")
	}
	return nil
}

// fit turns a parsed value into that of a field; pointers tell 0 from unset.
func fit(v any, t reflect.Type) reflect.Value {
	if t.Kind() == reflect.Pointer {
		p := reflect.New(t.Elem())
		p.Elem().Set(reflect.ValueOf(v).Convert(t.Elem()))
		return p
	}
	return reflect.ValueOf(v).Convert(t)
}

func named(list []*Option, name string) *Option {
	for _, o := range list {
		if o.Name == name {
			return o
		}
	}
	return nil
}

func names(lists ...[]*Option) []string {
	var out []string
	for _, list := range lists {
		for _, o := range list {
			out = append(out, o.Name)
		}
	}
	return out
}

// In reports whether the option may stand in a section of scope G, S or M.
func (o *Option) In(scope byte) bool { return strings.IndexByte(o.Scope, scope) >= 0 }

// Expects says what a value has to be.
func (o *Option) Expects() string {
	text := o.kind.expects
	switch {
	case o.Type == "enum":
		text = "one of " + strings.Join(o.Values, ", ")
	case o.Type == "csv":
		text = "some of " + strings.Join(o.Values, ", ") + ", separated by commas"
	case o.Min != nil && o.Max != nil:
		text += fmt.Sprintf(" from %d to %d", *o.Min, *o.Max)
	case o.Min != nil:
		text += fmt.Sprintf(", at least %d", *o.Min)
	}
	return text
}

// oneOf finds the declared spelling of a value.
func (o *Option) oneOf(s string) (string, bool) {
	for _, v := range o.Values {
		if strings.EqualFold(v, s) {
			return v, true
		}
	}
	return "", false
}

// show is a value as a file could hold it, without secrets; "" when unset.
func (o *Option) show(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	} else if v.IsZero() && o.Default == "" && o.Type != "bool" {
		return ""
	}
	if o.kind.format != nil {
		return o.kind.format(v.Interface())
	}
	return fmt.Sprint(v.Interface())
}

// redact is what a message may repeat of a value that the file holds.
func (o *Option) redact(text string) string {
	switch o.Type {
	case "dsn":
		text = DSN{text}.String()
	case "secret", "secret URI":
		text = Secret{text}.String()
	case "endpoint":
		if strings.ContainsAny(text, "@?") { // a password or a token
			text = redacted
		}
	}
	return strings.ReplaceAll(text, "\n", " ")
}

func (o *Option) secret() bool { return o.Type == "dsn" || strings.HasPrefix(o.Type, "secret") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
