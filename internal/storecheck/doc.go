// Package storecheck finds out whether an object store does what Holdfast needs, by
// doing it below a prefix of its own, and takes away what it made. It is the users'
// version of the suite that the drivers pass; it does not measure speed.
package storecheck
