package gcs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// An upload is an empty object below uploads, whose metadata names the key, and its parts below parts.
const (
	uploads = making + "/uploads/"
	parts   = making + "/parts/"
	keyName = "holdfast-key"
)

// composeAtOnce is how many objects Google composes in one request.
const composeAtOnce = 32

// Begin implements objstore.Multipart.
func (s *Store) Begin(ctx context.Context, key string) (objstore.Upload, error) {
	u := objstore.Upload{Key: key, ID: rand.Text()}
	if err := check(key); err != nil {
		return u, err
	}
	// Escaped, for metadata may come back in other headers.
	_, err := s.insert(ctx, uploads+u.ID, nil, objstore.PutOptions{}, map[string]string{keyName: url.PathEscape(key)})
	return u, err
}

// isID keeps others' names out of ours.
func isID(id string) bool {
	return id != "" && !strings.ContainsFunc(id, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '2' || r > '7') })
}

// partKey is where a part lies; those of level 0 were sent, those above are composed.
func partKey(u objstore.Upload, level, number int) string {
	return fmt.Sprintf("%s%s/%d-%05d", parts, u.ID, level, number)
}

// PutPart implements objstore.Multipart.
func (s *Store) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	p := objstore.Part{Number: number, Size: int64(len(data))}
	if number < 1 || number > objstore.MaxParts || !isID(u.ID) {
		return p, fault.New(fault.Usage, "put", u.Key, "there is no part %d of an upload %q", number, u.ID)
	}
	o, err := s.insert(ctx, partKey(u, 0, number), data, objstore.PutOptions{}, nil)
	crc := crc32.Checksum(data, objstore.Castagnoli)
	p.ETag, p.CRC32C = o.ETag, &crc
	return p, err
}

// source is an object of which another one is composed.
type source struct {
	key, generation string
}

// Complete implements objstore.Multipart.
func (s *Store) Complete(ctx context.Context, u objstore.Upload, sent []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	if err := check(u.Key); err != nil {
		return objstore.Object{}, err
	}
	if !isID(u.ID) || len(sent) == 0 {
		return objstore.Object{}, objstore.Absent("put", u.Key)
	}
	sent = slices.SortedFunc(slices.Values(sent), func(a, b objstore.Part) int { return a.Number - b.Number })
	object := objstore.Object{Key: u.Key, Size: objstore.Size(sent), CRC32C: objstore.PartsCRC32C(sent)}
	if o.CRC32C != nil && object.CRC32C != nil && *o.CRC32C != *object.CRC32C {
		return object, objstore.Mismatch("put", u.Key)
	}
	var from []source
	for _, p := range sent {
		from = append(from, source{partKey(u, 0, p.Number), p.ETag})
	}
	for level := 1; len(from) > composeAtOnce; level++ {
		var err error
		if from, err = s.gather(ctx, u, level, from); err != nil {
			return object, err
		}
	}
	err := s.policy.Do(ctx, func(ctx context.Context, again bool) error {
		made, err := s.compose(ctx, u.Key, u.Key, from, o)
		if err != nil {
			return objstore.OwnAfterAll(ctx, &object, again, err, s.statObject)
		}
		if object.CRC32C != nil {
			if err := s.compare(ctx, made, *object.CRC32C); err != nil {
				return err
			}
		}
		object = made
		return nil
	})
	if err == nil {
		_ = s.Abort(ctx, u) // the object is there; what is left of its parts is listed by Uploads
	}
	return object, err
}

// gather composes as many sources as can be at once, again and again, in parallel.
func (s *Store) gather(ctx context.Context, u objstore.Upload, level int, from []source) ([]source, error) {
	groups := slices.Collect(slices.Chunk(from, composeAtOnce))
	next := make([]source, len(groups))
	return next, objstore.Each(ctx, len(groups), func(ctx context.Context, i int) error {
		key := partKey(u, level, i+1)
		return s.policy.Do(ctx, func(ctx context.Context, _ bool) error {
			made, err := s.compose(ctx, key, u.Key, groups[i], objstore.PutOptions{})
			next[i] = source{key, made.ETag}
			return err
		})
	})
}

// compose makes an object of others; key is for messages.
func (s *Store) compose(ctx context.Context, to, key string, from []source, o objstore.PutOptions) (objstore.Object, error) {
	type condition struct {
		IfGenerationMatch string `json:"ifGenerationMatch"`
	}
	type part struct {
		Name                string    `json:"name"`
		ObjectPreconditions condition `json:"objectPreconditions"`
	}
	var body struct {
		SourceObjects []part `json:"sourceObjects"`
		Destination   struct {
			ContentType string            `json:"contentType"`
			Metadata    map[string]string `json:"metadata,omitempty"`
		} `json:"destination"`
	}
	for _, f := range from {
		body.SourceObjects = append(body.SourceObjects, part{s.at.Key(f.key), condition{f.generation}})
	}
	body.Destination.ContentType = contentType
	body.Destination.Metadata = s.options.HoldfastTags
	text, err := json.Marshal(body)
	if err != nil {
		return objstore.Object{}, fault.Wrap(fault.Internal, "describe", key, err)
	}
	var made resource
	err = s.once(ctx, request{op: "put", key: key, method: http.MethodPost, path: s.path(to) + "/compose", query: s.creation(o),
		header: http.Header{"Content-Type": {"application/json"}}, body: func() io.Reader { return bytes.NewReader(text) }, size: int64(len(text))}, &made)
	return s.object(made), err
}

// Abort implements objstore.Multipart. What names the upload goes last.
func (s *Store) Abort(ctx context.Context, u objstore.Upload) error {
	if !isID(u.ID) {
		return nil
	}
	for p, err := range s.pages(ctx, "abort", parts+u.ID+"/", "") {
		if err != nil {
			return err
		}
		var keys []string
		for _, r := range p.Items {
			keys = append(keys, s.ours(r.Name))
		}
		if err := s.remove(ctx, "abort", keys); err != nil {
			return err
		}
	}
	return s.remove(ctx, "abort", []string{uploads + u.ID})
}

// Uploads implements objstore.Multipart.
func (s *Store) Uploads(ctx context.Context, prefix string) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) {
		for p, err := range s.pages(ctx, "list uploads of", uploads, "") {
			if err != nil {
				yield(objstore.Upload{}, err)
				return
			}
			for _, r := range p.Items {
				key, err := url.PathUnescape(r.Metadata[keyName])
				u := objstore.Upload{Key: key, ID: strings.TrimPrefix(s.ours(r.Name), uploads), Begun: r.TimeCreated}
				if err == nil && isID(u.ID) && strings.HasPrefix(key, prefix) && !yield(u, nil) {
					return
				}
			}
		}
	}
}

// Copy implements objstore.Copier.
func (s *Store) Copy(ctx context.Context, from, to string) (objstore.Object, error) {
	if err := check(to); err != nil {
		return objstore.Object{}, err
	}
	o, err := s.Stat(ctx, from)
	if err != nil {
		return objstore.Object{}, err
	}
	r := request{op: "copy", key: from, method: http.MethodPost, path: s.path(from) + "/rewriteTo/b/" + url.PathEscape(s.at.Bucket) + "/o/" + url.PathEscape(s.at.Key(to)),
		query: url.Values{"ifSourceGenerationMatch": {o.ETag}}}
	if s.options.HoldfastGCSKMSKey != "" {
		r.query.Set("destinationKmsKeyName", s.options.HoldfastGCSKMSKey)
	}
	if len(s.options.HoldfastTags) > 0 {
		text, err := json.Marshal(map[string]any{"contentType": contentType, "metadata": s.options.HoldfastTags})
		if err != nil {
			return objstore.Object{}, fault.Wrap(fault.Internal, "describe", to, err)
		}
		r.header, r.body, r.size = http.Header{"Content-Type": {"application/json"}}, func() io.Reader { return bytes.NewReader(text) }, int64(len(text))
	}
	for {
		var step struct {
			Done         bool     `json:"done"`
			RewriteToken string   `json:"rewriteToken"`
			Resource     resource `json:"resource"`
		}
		if err := s.ask(ctx, r, &step); err != nil {
			return objstore.Object{}, err
		}
		if step.Done {
			return s.object(step.Resource), nil
		}
		r.query.Set("rewriteToken", step.RewriteToken)
	}
}

// LockOf implements objstore.Locker.
func (s *Store) LockOf(ctx context.Context, key string) (l objstore.Lock, err error) {
	if err := check(key); err != nil {
		return l, err
	}
	err = s.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		r, err := s.stat(ctx, "read the lock of", key)
		l = objstore.Lock{Mode: r.Retention.Mode, Until: r.Retention.RetainUntilTime, Hold: r.TemporaryHold || r.EventBasedHold}
		if r.RetentionExpirationTime.After(l.Until) {
			l.Mode, l.Until = "bucket retention policy", r.RetentionExpirationTime
		}
		return err
	})
	return l, err
}

// NewLocks implements objstore.Locker.
func (s *Store) NewLocks(ctx context.Context) (string, error) {
	var bucket struct {
		RetentionPolicy struct {
			RetentionPeriod int64 `json:"retentionPeriod,string"` // seconds
			IsLocked        bool  `json:"isLocked"`
		} `json:"retentionPolicy"`
		DefaultEventBasedHold bool `json:"defaultEventBasedHold"`
	}
	r := request{op: "read the locks of", key: s.at.Bucket, method: http.MethodGet, path: s.bucketPath(), query: url.Values{"fields": {"retentionPolicy,defaultEventBasedHold"}}}
	if err := s.ask(ctx, r, &bucket); err != nil {
		return "", err
	}
	var all []string
	if n := bucket.RetentionPolicy.RetentionPeriod; n > 0 {
		what := fmt.Sprintf("retention policy of %d seconds", n)
		if bucket.RetentionPolicy.IsLocked {
			what = "locked " + what
		}
		all = append(all, what)
	}
	if bucket.DefaultEventBasedHold {
		all = append(all, "event-based hold")
	}
	return strings.Join(all, ", "), nil
}
