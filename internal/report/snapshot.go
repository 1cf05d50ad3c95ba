package report

import (
	"cmp"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// snapshotSection is snapshots_info for people, as Barman prints it.
func snapshotSection(info pylit.Value) Section {
	s := Section{Title: "Snapshot information"}
	if provider, ok := info.Get("provider"); ok {
		s.Rows = append(s.Rows, Row{"provider", plain(provider)})
	}
	add := func(dict pylit.Value) {
		pairs := slices.Clone(dict.Pairs)
		slices.SortFunc(pairs, func(a, b pylit.Pair) int { return cmp.Compare(a.Key.Str, b.Key.Str) })
		for _, p := range pairs {
			s.Rows = append(s.Rows, Row{p.Key.Str, plain(p.Value)})
		}
	}
	where, _ := info.Get("provider_info")
	add(where)
	list, _ := info.Get("snapshots")
	for _, one := range list.Items {
		s.Rows = append(s.Rows, Row{})
		provider, _ := one.Get("provider")
		add(provider)
		mount, _ := one.Get("mount")
		point, _ := mount.Get("mount_point")
		options, _ := mount.Get("mount_options")
		s.Rows = append(s.Rows, Row{"Mount point", plain(point)}, Row{"Mount options", plain(options)})
	}
	return s
}

// plain is a string as it is, and any other value as Python shows it.
func plain(v pylit.Value) string {
	if v.Kind == pylit.String {
		return v.Str
	}
	return v.String()
}
