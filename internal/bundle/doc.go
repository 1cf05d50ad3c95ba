// Package bundle stores one object that is a compressed stream made of segments, and
// reads ranges of its content back.
//
// Write compresses segments in parallel, in bounded memory, and sends parts while the
// next ones are made. Its Record says where each segment lies and what it holds, and
// joins the checksums of the runs into that of the object. Given the record of an
// earlier object, segments that are unchanged are neither compressed nor sent: the store
// copies ranges of the earlier object, or all of it. The result depends on no other
// object.
//
// A store copies no range of less than objstore.MinPart into the middle of an object, and
// takes no smaller part there. Such parts are woven in the store out of what it has and what
// is sent; where it cannot, unchanged runs that fill them up are fetched and sent.
//
// What the segments are cut from (files, tar headers), which objects there are, and
// where records are kept, is not its business.
package bundle
