// Package clouds is the way to the drivers of the clouds, which are in a program of
// their own, holdfast-clouds: with the clients of EC2, Compute Engine and Azure in
// it every other program would be twice as large, on disk and in memory, also where
// nobody makes snapshots.
//
// Start is the side of whoever needs a provider, Serve that of the program. They
// speak HTTP/2 over a pair of connected sockets, with JSON: each method of a
// provider is a path. The program ends when the other side does. It knows no single
// driver, and keeps nothing.
package clouds
