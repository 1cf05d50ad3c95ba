// Package azure makes snapshots of Azure's managed disks with Microsoft's library for
// the Resource Manager.
//
// A snapshot carries tags with its owner, backup and attempt from the call that makes
// it, and its name is that of the resource; so a call whose answer was lost makes no
// second one. It mounts nothing; only mains import it.
package azure
