package bundle

import (
	"crypto/rand"
	"errors"

	"github.com/minio/highwayhash"
)

// Tag is HighwayHash-128 of a segment's content, a fifth of the work of a SHA-256: by it a segment is found
// in the object of the backup before.
type Tag [highwayhash.Size128]byte

// TagKey makes tags ones that only the readers of records can foresee: nobody else can make a change that
// would pass for what was there before.
type TagKey [highwayhash.Size]byte

func newTagKey() *TagKey {
	k := new(TagKey)
	rand.Read(k[:])
	return k
}

func (k *TagKey) tag(content []byte) Tag { return highwayhash.Sum128(content, k[:]) }

// MarshalText implements encoding.TextMarshaler.
func (k *TagKey) MarshalText() ([]byte, error) { return base64Text.AppendEncode(nil, k[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *TagKey) UnmarshalText(text []byte) error {
	if err := decode(k[:], string(text)); err != nil {
		return errors.New("the key of the tags is none") // and is not repeated
	}
	return nil
}
