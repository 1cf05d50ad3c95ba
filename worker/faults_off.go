//go:build !faults

package main

import "go.temporal.io/sdk/interceptor"

// interceptors of a worker that was not built for fault injection.
func interceptors(string) []interceptor.WorkerInterceptor { return nil }
