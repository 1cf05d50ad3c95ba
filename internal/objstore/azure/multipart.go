package azure

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"hash/crc32"
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

// The name of a block is that of its upload, the number of its part, and its place in it; Azure wants
// names of one length. The upload's begins with the second in which it was begun.
const (
	idLength  = 8 + 12
	idForm    = "%08x%s"
	blockForm = "%s-%05d-%05d"
)

func blockID(u objstore.Upload, number, piece int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, blockForm, u.ID, number, piece))
}

// uploadOf is the upload that a block belongs to, "" when it is not one of ours.
func uploadOf(block string) string {
	text, err := base64.StdEncoding.DecodeString(block)
	if err != nil || len(text) != len(fmt.Sprintf(blockForm, strings.Repeat("x", idLength), 0, 0)) || !isID(string(text[:idLength])) {
		return ""
	}
	return string(text[:idLength])
}

func isID(id string) bool {
	if len(id) != idLength {
		return false
	}
	_, err := strconv.ParseUint(id[:8], 16, 32)
	return err == nil
}

// begun is when an upload of ours was begun.
func begun(id string) time.Time {
	if !isID(id) {
		return time.Time{}
	}
	seconds, _ := strconv.ParseUint(id[:8], 16, 32) // isID has read it
	return time.Unix(int64(seconds), 0)
}

// Begin implements objstore.Multipart. A block that no part has is what Uploads finds.
func (s *Store) Begin(ctx context.Context, key string) (objstore.Upload, error) {
	u := objstore.Upload{Key: key, ID: fmt.Sprintf(idForm, time.Now().Unix(), rand.Text()[:12])}
	if err := check(key); err != nil {
		return u, err
	}
	_, err := s.block(ctx, u, 0, []byte{0})
	return u, err
}

// BeginCopy implements objstore.RangeCopier.
func (s *Store) BeginCopy(ctx context.Context, key string) (objstore.Upload, error) {
	u, err := s.Begin(ctx, key)
	u.Copies = true
	return u, err
}

// block sends one block.
func (s *Store) block(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	sum, crc := md5.Sum(data), crc32.Checksum(data, objstore.Castagnoli)
	h := s.scope()
	h.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
	_, err := s.ask(ctx, request{op: "put", key: u.Key, method: http.MethodPut, name: s.at.Key(u.Key), header: h, body: data,
		query: url.Values{"comp": {"block"}, "blockid": {blockID(u, number, 0)}}}, nil)
	return objstore.Part{Number: number, Size: int64(len(data)), ETag: "1", CRC32C: &crc}, err
}

// PutPart implements objstore.Multipart. The ETag of a part is the number of its blocks.
func (s *Store) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	if err := checkPart(u, number); err != nil {
		return objstore.Part{}, err
	}
	return s.block(ctx, u, number, data)
}

func checkPart(u objstore.Upload, number int) error {
	if number < 1 || number > objstore.MaxParts || !isID(u.ID) {
		return fault.New(fault.Usage, "put", u.Key, "there is no part %d of an upload %q", number, u.ID)
	}
	return nil
}

// copyBlock is what Azure copies into one block.
const copyBlock = 100 << 20

// CopyPart implements objstore.RangeCopier.
func (s *Store) CopyPart(ctx context.Context, u objstore.Upload, number int, from string, r objstore.Range) (objstore.Part, error) {
	p := objstore.Part{Number: number, Size: r.Length}
	if err := checkPart(u, number); err != nil {
		return p, err
	}
	if r.Length <= 0 || r.Offset < 0 {
		return p, fault.New(fault.Usage, "copy", from, "a range of %d bytes at %d cannot be copied", r.Length, r.Offset)
	}
	n := 0
	for at, end := r.Offset, r.Offset+r.Length; at < end; at += copyBlock {
		h := s.scope()
		h.Set("X-Ms-Source-Range", objstore.ByteRange(at, min(at+copyBlock, end)))
		if _, err := s.ask(ctx, request{op: "copy", key: from, method: http.MethodPut, name: s.at.Key(u.Key), header: h, from: s.at.Key(from),
			query: url.Values{"comp": {"block"}, "blockid": {blockID(u, number, n)}}}, nil); err != nil {
			return p, err
		}
		n++
	}
	p.ETag = strconv.Itoa(n)
	return p, nil
}

// Complete implements objstore.Multipart.
func (s *Store) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	parts = slices.SortedFunc(slices.Values(parts), func(a, b objstore.Part) int { return a.Number - b.Number })
	object := objstore.Object{Key: u.Key, Size: objstore.Size(parts), CRC32C: objstore.PartsCRC32C(parts)}
	switch {
	case object.CRC32C == nil:
		object.CRC32C = o.CRC32C
	case o.CRC32C != nil && *o.CRC32C != *object.CRC32C:
		return object, objstore.Mismatch("put", u.Key)
	}
	var list struct {
		XMLName xml.Name `xml:"BlockList"`
		Latest  []string
	}
	for _, p := range parts {
		n, err := strconv.Atoi(p.ETag)
		if err != nil || checkPart(u, p.Number) != nil {
			return object, objstore.Absent("put", u.Key)
		}
		for piece := range n {
			list.Latest = append(list.Latest, blockID(u, p.Number, piece))
		}
	}
	body, err := xml.Marshal(list)
	if err != nil {
		return object, fault.Wrap(fault.Internal, "list the blocks of", u.Key, err)
	}
	h := s.creation(o)
	if object.CRC32C != nil {
		h.Set(metaPrefix+crcName, objstore.EncodeCRC32C(*object.CRC32C))
	}
	made, err := s.make(ctx, object, request{query: url.Values{"comp": {"blocklist"}}, header: h, body: append([]byte(xml.Header), body...)})
	if o.IfAbsent && fault.Is(err, fault.NotFound) {
		// Somebody else's completion has taken our blocks along with the key.
		if _, serr := s.Stat(ctx, u.Key); serr == nil {
			err = objstore.Taken(u.Key)
		}
	}
	return made, err
}

// blocks are the uploads that a key has blocks of without a list, "" for those of others.
func (s *Store) blocks(ctx context.Context, op, key string) ([]string, error) {
	var list struct {
		Names []string `xml:"UncommittedBlocks>Block>Name"`
	}
	_, err := s.ask(ctx, request{op: op, key: key, method: http.MethodGet, name: s.at.Key(key),
		query: url.Values{"comp": {"blocklist"}, "blocklisttype": {"uncommitted"}}}, &list)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	var ids []string
	for _, n := range list.Names {
		ids = append(ids, uploadOf(n))
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// Abort implements objstore.Multipart. Azure deletes no blocks: they go when an empty list is put under their
// name; the blob that this makes is deleted at once, and until then is no object. Where there is an object, or another
// upload, they are left to Azure, which drops them after a week.
func (s *Store) Abort(ctx context.Context, u objstore.Upload) error {
	if err := check(u.Key); err != nil {
		return err
	}
	ids, err := s.blocks(ctx, "abort", u.Key)
	if err != nil || len(ids) > 0 && !slices.Equal(ids, []string{u.ID}) {
		return err
	}
	if len(ids) > 0 {
		h := s.scope()
		h.Set("If-None-Match", "*")
		h.Set(metaPrefix+abortedName, "yes")
		_, err = s.ask(ctx, request{op: "put", key: u.Key, method: http.MethodPut, name: s.at.Key(u.Key), header: h,
			query: url.Values{"comp": {"blocklist"}}, body: []byte(xml.Header + "<BlockList></BlockList>")}, nil)
		if err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return s.removeAborted(ctx, u.Key)
}

// removeAborted deletes what an Abort has put, this one or one that was killed.
func (s *Store) removeAborted(ctx context.Context, key string) error {
	var h http.Header
	err := s.policy.Do(ctx, func(ctx context.Context, _ bool) (err error) {
		h, err = s.head(ctx, "abort", key)
		return err
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || h.Get(metaPrefix+abortedName) == "" {
		return err
	}
	if err := s.remove(ctx, "abort", key, h.Get("Etag")); !fault.Is(err, fault.Conflict) {
		return err
	}
	return nil // an object has taken its place
}

// Uploads implements objstore.Multipart. Blocks beside an object of their key are not listed.
func (s *Store) Uploads(ctx context.Context, prefix string) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) {
		for p, err := range s.pages(ctx, "list uploads of", prefix, "", "uncommittedblobs,metadata") {
			if err != nil {
				yield(objstore.Upload{}, err)
				return
			}
			for _, b := range p.Blobs {
				if b.Properties.Size > 0 {
					continue
				}
				for u, err := range s.uploadsOf(ctx, s.ours(b.Name), b.Metadata.Aborted != "") {
					if !yield(u, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// uploadsOf yields the uploads of a key that has no content. What a killed Abort has left is one, too.
func (s *Store) uploadsOf(ctx context.Context, key string, aborted bool) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) {
		if aborted {
			yield(objstore.Upload{Key: key}, nil)
			return
		}
		ids, err := s.blocks(ctx, "list uploads of", key)
		if err != nil {
			yield(objstore.Upload{}, err)
			return
		}
		if len(ids) == 0 {
			return
		}
		if _, err := s.Stat(ctx, key); !fault.Is(err, fault.NotFound) {
			if err != nil {
				yield(objstore.Upload{}, err)
			}
			return // an empty object
		}
		for _, id := range ids {
			if !yield(objstore.Upload{Key: key, ID: id, Begun: begun(id)}, nil) {
				return
			}
		}
	}
}

// copyAtOnce is what Azure copies in one request, copyPiece what longer objects are cut into.
const (
	copyAtOnce = 256 << 20
	copyPiece  = 10 * copyBlock
)

// Copy implements objstore.Copier.
func (s *Store) Copy(ctx context.Context, from, to string) (objstore.Object, error) {
	if err := check(to); err != nil {
		return objstore.Object{}, err
	}
	o, err := s.Stat(ctx, from)
	if err != nil {
		return objstore.Object{}, err
	}
	if o.Size > copyAtOnce {
		return objstore.CopyParts(ctx, s, o, to, copyPiece)
	}
	h := s.creation(objstore.PutOptions{})
	h.Set("X-Ms-Requires-Sync", "true")
	h.Set("X-Ms-Source-If-Match", o.ETag)
	if _, err := s.ask(ctx, request{op: "copy", key: from, method: http.MethodPut, name: s.at.Key(to), header: h, from: s.at.Key(from)}, nil); err != nil {
		return objstore.Object{}, err
	}
	return s.Stat(ctx, to)
}

// LockOf implements objstore.Locker.
func (s *Store) LockOf(ctx context.Context, key string) (l objstore.Lock, err error) {
	if err := check(key); err != nil {
		return l, err
	}
	err = s.policy.Do(ctx, func(ctx context.Context, _ bool) error {
		h, err := s.head(ctx, "read the lock of", key)
		if err == nil {
			l = objstore.Lock{Mode: h.Get("X-Ms-Immutability-Policy-Mode"), Hold: h.Get("X-Ms-Legal-Hold") == "true"}
			l.Until, _ = http.ParseTime(h.Get("X-Ms-Immutability-Policy-Until-Date"))
		}
		return err
	})
	return l, err
}

// NewLocks implements objstore.Locker.
func (s *Store) NewLocks(ctx context.Context) (string, error) {
	h, err := s.ask(ctx, request{op: "read the locks of", key: s.at.Bucket, method: http.MethodGet, query: url.Values{"restype": {"container"}}}, nil)
	if _, signed := s.access.(sas); signed && fault.Is(err, fault.Permission) {
		return "not known, for only a signature of the account may ask", nil
	}
	var all []string
	if h.Get("X-Ms-Has-Immutability-Policy") == "true" {
		all = append(all, "immutability policy of the container")
	}
	if h.Get("X-Ms-Has-Legal-Hold") == "true" {
		all = append(all, "legal hold of the container")
	}
	return strings.Join(all, ", "), err
}
