// Package aws makes snapshots of EBS volumes, through EC2's API with the vendor's
// client. A snapshot has its owner, backup and attempt in tags from the call that makes
// it. EC2 knows no token for that call, and lists what was just made a little later: so
// a call whose answer was lost may be made twice, and the proof of a backup removes what
// no record names. It mounts nothing.
package aws
