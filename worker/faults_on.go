//go:build faults

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
)

// faultsEnv names the socket of whoever decides what dies where.
const faultsEnv = "HOLDFAST_FAULTS_SOCKET"

// interceptors announce every named point of a worker that was built with the
// tag faults, and go on when they are told to; the listener may kill us instead.
func interceptors(role string) []interceptor.WorkerInterceptor {
	socket := os.Getenv(faultsEnv)
	if socket == "" {
		return nil
	}
	atomicfile.Hook = func(step, path string) {
		announce(socket, role, fmt.Sprintf("file:%s:%s", step, filepath.Base(path)))
	}
	return []interceptor.WorkerInterceptor{&killPoints{socket: socket, role: role}}
}

// announce blocks until the listener answers or goes away.
func announce(socket, role, point string) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "%s %d %s\n", role, os.Getpid(), point); err != nil {
		return
	}
	_, _ = bufio.NewReader(c).ReadString('\n')
}

type killPoints struct {
	interceptor.WorkerInterceptorBase
	socket, role string
}

func (k *killPoints) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &killPointsInbound{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, killPoints: k}
}

type killPointsInbound struct {
	interceptor.ActivityInboundInterceptorBase
	*killPoints
}

func (k *killPointsInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	announce(k.socket, k.role, "before:"+name)
	out, err := k.Next.ExecuteActivity(ctx, in)
	announce(k.socket, k.role, "after:"+name)
	return out, err
}
