// Package activities is where workflows touch the world. Each struct groups
// the activities of one noun; its fields are small interfaces, declared here,
// that the worker's main fills with drivers. It is the only package that
// heartbeats, and the only one that turns our errors into Temporal's.
//
// Inputs and results are names, counters and references: no file lists, no
// bytes, no secrets.
package activities
