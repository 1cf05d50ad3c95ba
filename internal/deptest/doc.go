// Package deptest proves the direction of imports between the parts of Holdfast
// on what is really linked, transitively; the linter sees only direct imports.
// It proves, too, that every refusal in their sources says what to do instead.
// It has nothing but tests.
package deptest
