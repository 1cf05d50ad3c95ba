// Package lanes is a checksum made of sixteen SHA-256, so that a processor can work on all of
// them at the same time: within one, each step waits for the one before.
package lanes
