package bundle

import (
	"crypto/rand"
	"errors"

	"github.com/minio/highwayhash"

	"github.com/holdfast-pg/holdfast/internal/nh"
)

// Tag is a hash of a segment's content, a fifth or less of the work of a SHA-256: by it a segment is found
// in the object of the backup before.
type Tag [nh.Size]byte

// Tags is a way to make tags.
type Tags string

const (
	// Highway is HighwayHash-128 of the content.
	Highway Tags = ""
	// NH is nh.Key.Sum of the content.
	NH Tags = "nh"
)

// quickest is that of a new object.
func quickest() Tags {
	if nh.Fast {
		return NH
	}
	return Highway
}

// TagKey makes tags ones that only the readers of records can foresee: nobody else can make a change that
// would pass for what was there before.
type TagKey [nh.SecretSize]byte

func newTagKey() *TagKey {
	k := new(TagKey)
	rand.Read(k[:])
	return k
}

// tagger makes tags with a key.
func (t Tags) tagger(k *TagKey) func(content []byte) Tag {
	if t == NH {
		key := nh.NewKey((*[nh.SecretSize]byte)(k))
		return func(content []byte) Tag { return key.Sum(content) }
	}
	return func(content []byte) Tag { return highwayhash.Sum128(content, k[:]) }
}

// MarshalText implements encoding.TextMarshaler.
func (k *TagKey) MarshalText() ([]byte, error) { return base64Text.AppendEncode(nil, k[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *TagKey) UnmarshalText(text []byte) error {
	if err := decode(k[:], string(text)); err != nil {
		return errors.New("the key of the tags is none") // and is not repeated
	}
	return nil
}
