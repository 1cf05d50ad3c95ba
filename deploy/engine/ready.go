package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// makeReady returns once every namespace answers and knows every search attribute; a database that
// an older version created gets those that it lacks.
func makeReady(ctx context.Context, target string, o options) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, namespace := range o.namespaces {
		for _, step := range []func() error{
			func() error { return count(ctx, conn, namespace, "") },
			func() error { return addAttributes(ctx, conn, namespace, o.attributes) },
			func() error { return queryAttributes(ctx, conn, namespace, o.attributes) },
		} {
			if err := until(ctx, step); err != nil {
				return fmt.Errorf("namespace %s is not ready: %w", namespace, err)
			}
		}
	}
	if o.uiPort == 0 {
		return nil
	}
	return until(ctx, func() error { return answers(ctx, address(dialable(o.ip), o.uiPort)) })
}

// answers reports whether something listens on the UI's port.
func answers(ctx context.Context, target string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", target)
	if err != nil {
		return err
	}
	return conn.Close()
}

// until repeats a step until it succeeds or the time is over.
func until(ctx context.Context, step func() error) error {
	for {
		err := step()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func count(ctx context.Context, conn grpc.ClientConnInterface, namespace, query string) error {
	_, err := workflowservice.NewWorkflowServiceClient(conn).CountWorkflowExecutions(ctx,
		&workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query}, grpc.WaitForReady(true))
	return err
}

func addAttributes(ctx context.Context, conn grpc.ClientConnInterface, namespace string, wanted map[string]enumspb.IndexedValueType) error {
	operator := operatorservice.NewOperatorServiceClient(conn)
	have, err := operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	missing := map[string]enumspb.IndexedValueType{}
	for name, kind := range wanted {
		if _, ok := have.GetCustomAttributes()[name]; !ok {
			missing[name] = kind
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	return err
}

// queryAttributes fails while the server's caches do not know all attributes. It asks one question
// for all of them, because the server limits how many it answers in a second.
func queryAttributes(ctx context.Context, conn grpc.ClientConnInterface, namespace string, wanted map[string]enumspb.IndexedValueType) error {
	var conditions []string
	for name := range wanted {
		conditions = append(conditions, name+" IS NULL")
	}
	return count(ctx, conn, namespace, strings.Join(conditions, " AND "))
}
