// Package replicas lets several object stores be used as one: what is stored goes to all
// of them at the same time, out of the same memory. One that fails is set aside, as long
// as enough others are left.
//
// Which stores these are, which backups they lack, and who brings those to them later is
// known elsewhere.
package replicas
