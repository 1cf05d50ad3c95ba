package azure

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"hash/crc32"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Names of metadata: the checksum of an object, and a blob that is to take an upload's blocks with it.
const (
	crcName     = "holdfast_crc32c"
	abortedName = "holdfast_aborted"
	metaPrefix  = "X-Ms-Meta-"
)

// check refuses what is no key here.
func check(key string) error {
	if err := objstore.CheckKey(key); err != nil {
		return err
	}
	if strings.Contains(key, `\`) {
		return fault.New(fault.Usage, "use", key, "Azure takes a backslash for a slash").WithHint("choose another name for the object")
	}
	return nil
}

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
	crc, sum := crc32.Checksum(data, objstore.Castagnoli), md5.Sum(data)
	damaged := o.CRC32C != nil && *o.CRC32C != crc
	if damaged {
		sum[0] ^= 1 // the service is to refuse it, as it would what is damaged on the way
	}
	h := s.creation(o)
	h.Set("X-Ms-Blob-Type", "BlockBlob")
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	h.Set(metaPrefix+crcName, objstore.EncodeCRC32C(crc))
	object, err := s.make(ctx, objstore.Object{Key: key, Size: int64(len(data)), CRC32C: &crc}, request{header: h, body: data})
	if damaged && fault.Is(err, fault.Unavailable) { // Azurite has another code for it
		err = objstore.Mismatch("put", key)
	}
	return object, err
}

// make does the request that makes an object.
func (s *Store) make(ctx context.Context, object objstore.Object, r request) (objstore.Object, error) {
	r.op, r.key, r.method, r.name = "put", object.Key, http.MethodPut, s.at.Key(object.Key)
	err := s.policy.Do(ctx, func(ctx context.Context, again bool) error {
		h, err := s.once(ctx, r, nil)
		if err != nil {
			return objstore.OwnAfterAll(ctx, &object, again, err, s.statObject)
		}
		object.ETag = h.Get("Etag")
		return nil
	})
	return object, err
}

// creation are the headers of what makes an object.
func (s *Store) creation(o objstore.PutOptions) http.Header {
	h := s.scope()
	if o.IfAbsent {
		h.Set("If-None-Match", "*")
	}
	if len(s.options.HoldfastTags) > 0 {
		q := url.Values{}
		for name, value := range s.options.HoldfastTags {
			q.Set(name, value)
		}
		h.Set("X-Ms-Tags", q.Encode())
	}
	return h
}

// scope is the header of what is encrypted.
func (s *Store) scope() http.Header {
	h := http.Header{}
	if s.options.HoldfastAzureEncryptionScope != "" {
		h.Set("X-Ms-Encryption-Scope", s.options.HoldfastAzureEncryptionScope)
	}
	return h
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	if err := check(key); err != nil {
		return nil, objstore.Object{}, err
	}
	return objstore.Read(ctx, s.policy, s, key, r, func(ctx context.Context, from, to int64, etag string) (io.ReadCloser, objstore.Object, error) {
		ask := request{op: "read", key: key, method: http.MethodGet, name: s.at.Key(key), header: http.Header{}}
		if from > 0 || to >= 0 {
			ask.header.Set("X-Ms-Range", objstore.ByteRange(from, to))
		}
		if etag != "" {
			ask.header.Set("If-Match", etag)
		}
		resp, err := s.send(ctx, ask)
		if err != nil {
			return nil, objstore.Object{}, err
		}
		o, err := described("read", key, resp.Header, resp.ContentLength)
		if err != nil {
			resp.Body.Close()
			return nil, o, err
		}
		return resp.Body, o, nil
	})
}

// described is the object that an answer's headers tell of.
func described(op, key string, h http.Header, size int64) (objstore.Object, error) {
	o := objstore.Object{Key: key, ETag: h.Get("Etag"), CRC32C: objstore.DecodeCRC32C(h.Get(metaPrefix + crcName))}
	if h.Get(metaPrefix+abortedName) != "" {
		return o, objstore.Absent(op, key)
	}
	o.Modified, _ = http.ParseTime(h.Get("Last-Modified"))
	sum := h.Get("X-Ms-Blob-Content-Md5") // of a range
	if sum == "" {
		sum = h.Get("Content-Md5")
	}
	if value, err := base64.StdEncoding.DecodeString(sum); err == nil && len(value) == md5.Size {
		o.Other = &objstore.Sum{New: md5.New, Value: value}
	}
	var err error
	o.Size, err = objstore.RangeTotal(key, h.Get("Content-Range"), size)
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
	h, err := s.head(ctx, "stat", key)
	if err != nil {
		return objstore.Object{}, err
	}
	size, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err != nil {
		return objstore.Object{}, fault.New(fault.Unavailable, "stat", key, "the store tells no length").WithHint("see whether it is Azure Blob Storage")
	}
	return described("stat", key, h, size)
}

func (s *Store) head(ctx context.Context, op, key string) (http.Header, error) {
	return s.once(ctx, request{op: op, key: key, method: http.MethodHead, name: s.at.Key(key)}, nil)
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
		for p, err := range s.pages(ctx, "list", prefix, delimiter, "metadata") {
			if err != nil {
				yield(objstore.Object{}, err)
				return
			}
			var all []objstore.Object
			for _, b := range p.Blobs {
				if b.Metadata.Aborted == "" {
					all = append(all, s.object(b))
				}
			}
			for _, folder := range p.Folders {
				all = append(all, objstore.Object{Key: s.ours(folder.Name)})
			}
			slices.SortFunc(all, func(a, b objstore.Object) int { return strings.Compare(a.Key, b.Key) })
			for _, o := range all {
				if !yield(o, nil) {
					return
				}
			}
		}
	}
}

// name is that of a blob in a listing.
type name struct {
	Text    string `xml:",chardata"`
	Encoded bool   `xml:"Encoded,attr"`
}

// blob is one of a listing.
type blob struct {
	Name       name
	Properties struct {
		LastModified string `xml:"Last-Modified"`
		ETag         string `xml:"Etag"`
		Size         int64  `xml:"Content-Length"`
	}
	Metadata struct {
		CRC32C  string `xml:"holdfast_crc32c"`
		Aborted string `xml:"holdfast_aborted"`
	}
}

// page is what one answer lists.
type page struct {
	Blobs      []blob                `xml:"Blobs>Blob"`
	Folders    []struct{ Name name } `xml:"Blobs>BlobPrefix"`
	NextMarker string
}

func (s *Store) object(b blob) objstore.Object {
	o := objstore.Object{Key: s.ours(b.Name), Size: b.Properties.Size, ETag: quoted(b.Properties.ETag), CRC32C: objstore.DecodeCRC32C(b.Metadata.CRC32C)}
	o.Modified, _ = time.Parse(time.RFC1123, b.Properties.LastModified)
	return o
}

// quoted is an ETag as headers have it; listings leave the quotes out.
func quoted(etag string) string {
	if etag == "" || strings.HasPrefix(etag, `"`) {
		return etag
	}
	return `"` + etag + `"`
}

// ours is the key below the location of a name in the container.
func (s *Store) ours(n name) string {
	text := n.Text
	if n.Encoded {
		if decoded, err := url.PathUnescape(text); err == nil {
			text = decoded
		}
	}
	if s.at.Prefix == "" {
		return text
	}
	return strings.TrimPrefix(text, s.at.Prefix+"/")
}

// pages are all answers to a listing.
func (s *Store) pages(ctx context.Context, op, prefix, delimiter, include string) iter.Seq2[page, error] {
	if s.at.Prefix != "" {
		prefix = s.at.Prefix + "/" + prefix
	}
	r := request{op: op, key: s.at.String(), method: http.MethodGet, query: url.Values{"restype": {"container"}, "comp": {"list"}, "include": {include}}}
	if prefix != "" {
		r.query.Set("prefix", prefix)
	}
	if delimiter != "" {
		r.query.Set("delimiter", delimiter)
	}
	return func(yield func(page, error) bool) {
		for {
			var p page
			_, err := s.ask(ctx, r, &p)
			if !yield(p, err) || err != nil || p.NextMarker == "" {
				return
			}
			r.query.Set("marker", p.NextMarker)
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
	return objstore.Each(ctx, len(keys), func(ctx context.Context, i int) error { return s.remove(ctx, "delete", keys[i], "") })
}

// remove deletes one blob, with its snapshots; with an ETag only that one.
func (s *Store) remove(ctx context.Context, op, key, etag string) error {
	r := request{op: op, key: key, method: http.MethodDelete, name: s.at.Key(key), header: http.Header{"X-Ms-Delete-Snapshots": {"include"}}}
	if etag != "" {
		r.header.Set("If-Match", etag)
	}
	if _, err := s.ask(ctx, r, nil); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}
