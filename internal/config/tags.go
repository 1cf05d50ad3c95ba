package config

import (
	"strings"

	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// Tags are names and values that stored objects carry.
type Tags map[string]string

// mostTags is how many S3 and Azure take.
const mostTags = 10

// What every store takes; Azure knows the fewest characters.
var (
	tagName  = lazyregexp.New(`^[A-Za-z0-9 +./:_-]{1,128}$`)
	tagValue = lazyregexp.New(`^[A-Za-z0-9 +./:_-]{0,256}$`)
)

func parseTags(s string) (Tags, bool) {
	tags := Tags{}
	for pair := range strings.SplitSeq(s, ",") {
		name, value, is := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if _, twice := tags[name]; !is || twice || !tagName.MatchString(name) || !tagValue.MatchString(value) {
			return nil, false
		}
		tags[name] = value
	}
	return tags, len(tags) <= mostTags
}

// String is in the order of the names.
func (t Tags) String() string {
	var pairs []string
	for _, name := range sortedKeys(t) {
		pairs = append(pairs, name+"="+t[name])
	}
	return strings.Join(pairs, ",")
}
