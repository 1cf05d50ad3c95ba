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
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// making is where parts lie that are not yet an object.
const making = ".holdfast-store"

// resource is an object as the JSON API tells of it.
type resource struct {
	Name        string            `json:"name"`
	Size        int64             `json:"size,string"`
	Generation  string            `json:"generation"`
	CRC32C      string            `json:"crc32c"`
	TimeCreated time.Time         `json:"timeCreated"`
	Metadata    map[string]string `json:"metadata"`
	Retention   struct {
		Mode            string    `json:"mode"`
		RetainUntilTime time.Time `json:"retainUntilTime"`
	} `json:"retention"`
	RetentionExpirationTime time.Time `json:"retentionExpirationTime"`
	TemporaryHold           bool      `json:"temporaryHold"`
	EventBasedHold          bool      `json:"eventBasedHold"`
}

// fields are those of them that are asked for.
const fields = "name,size,generation,crc32c,timeCreated,metadata"

// object is a resource under its key. Its ETag is its generation.
func (s *Store) object(r resource) objstore.Object {
	return objstore.Object{Key: s.ours(r.Name), Size: r.Size, ETag: r.Generation, Modified: r.TimeCreated, CRC32C: objstore.DecodeCRC32C(r.CRC32C)}
}

// ours is the key below the location of a name in the bucket.
func (s *Store) ours(name string) string {
	if s.at.Prefix == "" {
		return name
	}
	return strings.TrimPrefix(name, s.at.Prefix+"/")
}

func (s *Store) bucketPath() string { return "/storage/v1/b/" + url.PathEscape(s.at.Bucket) }

func (s *Store) uploadPath() string { return "/upload" + s.bucketPath() + "/o" }

// path is that of the object of a key.
func (s *Store) path(key string) string {
	return s.bucketPath() + "/o/" + url.PathEscape(s.at.Key(key))
}

// check refuses what is no key here.
func check(key string) error {
	if err := objstore.CheckKey(key); err != nil {
		return err
	}
	if hidden(key) {
		return fault.New(fault.Usage, "use", key, "it is where Holdfast keeps what is not complete").WithHint("choose another name for the object")
	}
	return nil
}

// hidden reports whether a key belongs to what is not complete, here or below.
func hidden(key string) bool { return slices.Contains(strings.Split(key, "/"), making) }

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if err := check(key); err != nil {
		return objstore.Object{}, err
	}
	return objstore.PutStream(ctx, s.policy, s, key, r, o)
}

// PutBytes implements objstore.Parts.
func (s *Store) PutBytes(ctx context.Context, key string, data []byte, o objstore.PutOptions) (objstore.Object, error) {
	if err := check(key); err != nil {
		return objstore.Object{}, err
	}
	return s.insert(ctx, key, data, o, s.options.HoldfastTags)
}

// insert stores bytes in one request, with their checksum, which the store compares.
func (s *Store) insert(ctx context.Context, key string, data []byte, o objstore.PutOptions, metadata map[string]string) (objstore.Object, error) {
	crc := crc32.Checksum(data, objstore.Castagnoli)
	given := crc
	if o.CRC32C != nil {
		given = *o.CRC32C
	}
	about, err := json.Marshal(map[string]any{"name": s.at.Key(key), "contentType": contentType, "crc32c": objstore.EncodeCRC32C(given), "metadata": metadata})
	if err != nil {
		return objstore.Object{}, fault.Wrap(fault.Internal, "describe", key, err)
	}
	boundary := rand.Text()
	head := fmt.Appendf(nil, "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--%s\r\nContent-Type: %s\r\n\r\n", boundary, about, boundary, contentType)
	tail := []byte("\r\n--" + boundary + "--\r\n")
	q := s.creation(o)
	q.Set("uploadType", "multipart")
	r := request{op: "put", key: key, method: http.MethodPost, path: s.uploadPath(), query: q,
		header: http.Header{"Content-Type": {"multipart/related; boundary=" + boundary}},
		body: func() io.Reader {
			return io.MultiReader(bytes.NewReader(head), bytes.NewReader(data), bytes.NewReader(tail))
		}, size: int64(len(head) + len(data) + len(tail))}
	object := objstore.Object{Key: key, Size: int64(len(data)), CRC32C: &crc}
	err = s.policy.Do(ctx, func(ctx context.Context, again bool) error {
		var stored resource
		err := s.once(ctx, r, &stored)
		if given != crc && fault.Is(err, fault.Unavailable) {
			return objstore.Mismatch("put", key)
		}
		if err != nil {
			return objstore.OwnAfterAll(ctx, &object, again, err, s.statObject)
		}
		object = s.object(stored)
		return s.compare(ctx, object, given)
	})
	return object, err
}

const contentType = "application/octet-stream"

// creation are the parameters of what makes an object.
func (s *Store) creation(o objstore.PutOptions) url.Values {
	q := url.Values{}
	if o.IfAbsent {
		q.Set("ifGenerationMatch", "0")
	}
	if s.options.HoldfastGCSKMSKey != "" {
		q.Set("kmsKeyName", s.options.HoldfastGCSKMSKey)
	}
	return q
}

// compare removes what was stored and is not what was sent.
func (s *Store) compare(ctx context.Context, stored objstore.Object, crc uint32) error {
	if stored.CRC32C == nil || *stored.CRC32C == crc {
		return nil
	}
	r := request{op: "delete", key: stored.Key, method: http.MethodDelete, path: s.path(stored.Key), query: url.Values{"generation": {stored.ETag}}}
	if err := s.once(ctx, r, nil); err != nil && !fault.Is(err, fault.NotFound) {
		return fault.Wrap(fault.Corrupt, "remove what arrived damaged of", stored.Key, err)
	}
	return objstore.Mismatch("put", stored.Key)
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	if err := check(key); err != nil {
		return nil, objstore.Object{}, err
	}
	return objstore.Read(ctx, s.policy, s, key, r, func(ctx context.Context, from, to int64, etag string) (io.ReadCloser, objstore.Object, error) {
		ask := request{op: "read", key: key, method: http.MethodGet, path: "/download" + s.path(key), query: url.Values{"alt": {"media"}},
			header: http.Header{"Accept-Encoding": {"gzip"}}} // or objects with that encoding come decoded
		if from > 0 || to >= 0 {
			ask.header.Set("Range", objstore.ByteRange(from, to))
		}
		if etag != "" {
			ask.query.Set("ifGenerationMatch", etag)
		}
		resp, err := s.send(ctx, ask)
		if err != nil {
			return nil, objstore.Object{}, err
		}
		o, err := described(key, resp)
		if err == nil && etag != "" && o.ETag != etag {
			err = fault.New(fault.Conflict, "read", key, "it was replaced while it was read").WithHint("read it again")
		}
		if err != nil {
			resp.Body.Close()
			return nil, o, err
		}
		return resp.Body, o, nil
	})
}

// described is the object whose content an answer has.
func described(key string, resp *http.Response) (objstore.Object, error) {
	o := objstore.Object{Key: key, ETag: resp.Header.Get("X-Goog-Generation")}
	o.Modified, _ = http.ParseTime(resp.Header.Get("Last-Modified"))
	for _, hashes := range resp.Header.Values("X-Goog-Hash") {
		for text := range strings.SplitSeq(hashes, ",") {
			if crc, is := strings.CutPrefix(strings.TrimSpace(text), "crc32c="); is {
				o.CRC32C = objstore.DecodeCRC32C(crc)
			}
		}
	}
	var err error
	o.Size, err = objstore.RangeTotal(key, resp.Header.Get("Content-Range"), resp.ContentLength)
	return o, err
}

// Stat implements objstore.Store.
func (s *Store) Stat(ctx context.Context, key string) (o objstore.Object, err error) {
	if err := check(key); err != nil {
		return o, err
	}
	err = s.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		o, err = s.statObject(ctx, key)
		return err
	})
	return o, err
}

func (s *Store) statObject(ctx context.Context, key string) (objstore.Object, error) {
	r, err := s.stat(ctx, "stat", key)
	return s.object(r), err
}

func (s *Store) stat(ctx context.Context, op, key string) (r resource, err error) {
	err = s.once(ctx, request{op: op, key: key, method: http.MethodGet, path: s.path(key)}, &r)
	return r, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return s.objects(ctx, prefix, "")
}

// ListLevel implements objstore.Levels.
func (s *Store) ListLevel(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return s.objects(ctx, prefix, "/")
}

func (s *Store) objects(ctx context.Context, prefix, delimiter string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		for p, err := range s.pages(ctx, "list", prefix, delimiter) {
			if err != nil {
				yield(objstore.Object{}, err)
				return
			}
			var all []objstore.Object
			for _, r := range p.Items {
				all = append(all, s.object(r))
			}
			for _, folder := range p.Prefixes {
				all = append(all, objstore.Object{Key: s.ours(folder)})
			}
			slices.SortFunc(all, func(a, b objstore.Object) int { return strings.Compare(a.Key, b.Key) })
			for _, o := range all {
				if !hidden(o.Key) && !yield(o, nil) {
					return
				}
			}
		}
	}
}

// page is what one answer lists.
type page struct {
	Items         []resource
	Prefixes      []string
	NextPageToken string
}

// pages are all answers to a listing.
func (s *Store) pages(ctx context.Context, op, prefix, delimiter string) iter.Seq2[page, error] {
	if s.at.Prefix != "" {
		prefix = s.at.Prefix + "/" + prefix
	}
	r := request{op: op, key: s.at.String(), method: http.MethodGet, path: s.bucketPath() + "/o",
		query: url.Values{"prefix": {prefix}, "maxResults": {"1000"}, "fields": {"nextPageToken,prefixes,items(" + fields + ")"}}}
	if delimiter != "" {
		r.query.Set("delimiter", delimiter)
	}
	return func(yield func(page, error) bool) {
		for {
			var p page
			err := s.ask(ctx, r, &p)
			if !yield(p, err) || err != nil || p.NextPageToken == "" {
				return
			}
			r.query.Set("pageToken", p.NextPageToken)
		}
	}
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := check(key); err != nil {
			return err
		}
	}
	return s.remove(ctx, "delete", keys)
}

// remove deletes what is there of many keys.
func (s *Store) remove(ctx context.Context, op string, keys []string) error {
	return objstore.Each(ctx, len(keys), func(ctx context.Context, i int) error {
		err := s.ask(ctx, request{op: op, key: keys[i], method: http.MethodDelete, path: s.path(keys[i])}, nil)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	})
}
