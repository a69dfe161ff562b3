package s3

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// silent accepts connections and never answers.
func silent(t *testing.T) (address string, accepted *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted = &atomic.Int64{}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String(), accepted
}

// TestAServerThatHangs is waited for once, and not once for every request and
// retry.
func TestAServerThatHangs(t *testing.T) {
	t.Parallel()
	address, accepted := silent(t)
	var calls []func(context.Context, storage.Bucket) error
	for range 20 {
		calls = append(calls, func(ctx context.Context, b storage.Bucket) error {
			_, err := storage.ReadAll(ctx, b, "x", 10)
			return err
		}, func(ctx context.Context, b storage.Bucket) error {
			_, err := b.Create(ctx, "x", strings.NewReader("x"), 1)
			return err
		}, func(ctx context.Context, b storage.Bucket) error {
			for _, err := range b.List(ctx, "", "") {
				return err
			}
			return nil
		})
	}
	b, err := Open(t.Context(), Config{Bucket: "b", Endpoint: "http://" + address, Region: "x", AccessKeyID: "a", SecretAccessKey: Secret("b"), PathStyle: aws.Bool(true), StallTimeout: 100 * time.Millisecond})
	if err != nil && fault.Find(err) == nil {
		t.Fatal(err)
	}
	if err == nil {
		for _, call := range calls {
			if err := call(t.Context(), b); err == nil || !errors.Is(err, fault.Storage) {
				t.Errorf("%v", err)
			}
		}
	}
	// A few at once may have been on their way before it was known.
	if n := accepted.Load(); n == 0 || n > 4 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	const stall = time.Minute
	h, now := &health{}, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	asked := func(want bool) {
		t.Helper()
		if err := h.ask(now, stall); (err == nil) != want {
			t.Errorf("%s: %v", now.Format(time.TimeOnly), err)
		}
	}
	asked(true)
	h.answered(now)
	now = now.Add(30 * time.Second)
	h.stalled(now, stall) // others were answered meanwhile
	asked(true)
	now = now.Add(time.Minute)
	h.stalled(now, stall)
	asked(false)
	now = now.Add(firstTrial)
	asked(true)  // one
	asked(false) // and no other with it
	now = now.Add(stall)
	h.stalled(now, stall)
	now = now.Add(firstTrial)
	asked(false) // twice as long
	now = now.Add(firstTrial)
	asked(true)
	h.answered(now)
	asked(true)
	asked(true)
	for range 100 {
		now = now.Add(time.Hour)
		h.stalled(now, stall)
	}
	now = now.Add(mostTrial)
	asked(true)
}
