// Package nh is a keyed hash by which content is found again that was seen before: NH, the universal hash
// of UMAC (Black, Halevi, Krawczyk, Krovetz and Rogaway, CRYPTO '99; RFC 4418), four times with independent keys, and a
// SHA-256 of what it gives.
package nh
