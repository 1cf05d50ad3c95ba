// Package storetest is the conformance suite that every driver of objstore passes,
// and real servers for it, on free ports and with data of their own. Nothing but
// tests imports it.
package storetest
