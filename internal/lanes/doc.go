// Package lanes is a checksum of SHA-256 that a processor can make of sixteen messages at
// once: of one message alone it waits for the result of each step before the next one.
package lanes
