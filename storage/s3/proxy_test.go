package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"emsafe/internal/fault"
	"emsafe/storage"
)

// meddled is a bucket on a real server behind a proxy. meddle sees each
// request and the way on to the server, and may do with both as it likes.
func meddled(t *testing.T, server string, cfg Config, meddle func(w http.ResponseWriter, r *http.Request, server http.Handler)) *Bucket {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	// The Host header stays as it came: it is signed.
	way := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { drop(w) },
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { meddle(w, r, way) }))
	t.Cleanup(proxy.Close)
	cfg.Endpoint = proxy.URL
	return opened(t, cfg)
}

// drop resets the connection instead of answering.
func drop(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// unanswered lets the server do its work and loses the reply.
func unanswered(w http.ResponseWriter, r *http.Request, server http.Handler) {
	server.ServeHTTP(httptest.NewRecorder(), r)
	drop(w)
}

// creates: the request that makes the object appear.
func creates(r *http.Request) bool {
	return r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") || r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

func looks(r *http.Request) bool {
	return r.Method == http.MethodHead || r.Method == http.MethodGet
}

var bodySizes = map[string]int{"small": 100, "large": 9 << 20}

// The server stores the object and its reply is lost, once or always: Create
// finds out that the object is its own.
func TestLostReply(t *testing.T) {
	s, cfg := served(t)
	if err := errors.Join(s.AddUser("user", "user-secret"),
		s.Allow(cfg.Bucket, "user", "s3:PutObject", "s3:ListBucket", "s3:AbortMultipartUpload")); err != nil {
		t.Fatal(err)
	}
	for size, n := range bodySizes {
		for _, losses := range []int32{1, 100} {
			for _, user := range []string{cfg.AccessKeyID, "user"} {
				t.Run(fmt.Sprint(size, losses, user), func(t *testing.T) {
					cfg := cfg
					cfg.Prefix = strings.ReplaceAll(t.Name(), "/", "-")
					if user == "user" {
						cfg.AccessKeyID, cfg.SecretAccessKey = user, "user-secret"
					}
					var lost atomic.Int32
					b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
						if creates(r) && lost.Add(1) <= losses {
							unanswered(w, r, server)
							return
						}
						server.ServeHTTP(w, r)
					})
					info, err := b.Create(t.Context(), "key", strings.NewReader(strings.Repeat("x", n)), -1)
					if err != nil || info.Size != int64(n) {
						t.Errorf("%+v, %v", info, err)
					}
					if lost.Load() == 0 {
						t.Error("nothing was lost")
					}
				})
			}
		}
	}
}

// A rival takes the key, and our own reply (a refusal) is lost: the object
// that is found is not ours.
func TestLostReplyAndRival(t *testing.T) {
	s, cfg := served(t)
	for size, n := range bodySizes {
		for _, same := range []bool{false, true} {
			t.Run(fmt.Sprint(size, same), func(t *testing.T) {
				cfg := cfg
				cfg.Prefix = strings.ReplaceAll(t.Name(), "/", "-")
				rival := opened(t, cfg)
				body := strings.Repeat("x", n)
				theirs := strings.Repeat("y", n)
				if same {
					theirs = body // equal content does not make it ours
				}
				var once atomic.Bool
				b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
					if creates(r) && once.CompareAndSwap(false, true) {
						if _, err := rival.Create(context.Background(), "key", strings.NewReader(theirs), -1); err != nil {
							t.Error(err)
						}
						unanswered(w, r, server)
						return
					}
					server.ServeHTTP(w, r)
				})
				if _, err := b.Create(t.Context(), "key", strings.NewReader(body), -1); !errors.Is(err, storage.ErrExists) {
					t.Errorf("%v, want ErrExists", err)
				}
				noUploads(t, rival)
			})
		}
	}
}

// The reply is lost and nothing can be asked: Create says that it does not know.
func TestUnsettled(t *testing.T) {
	s, cfg := served(t)
	for size, n := range bodySizes {
		t.Run(size, func(t *testing.T) {
			cfg := cfg
			cfg.Prefix = size
			b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				switch {
				case creates(r):
					unanswered(w, r, server)
				case looks(r):
					drop(w)
				default:
					server.ServeHTTP(w, r)
				}
			})
			_, err := b.Create(t.Context(), "key", strings.NewReader(strings.Repeat("x", n)), -1)
			refused(t, err, fault.Storage, "could not be found out")
			if !errors.Is(err, storage.ErrUnsettled) {
				t.Errorf("%v does not wrap ErrUnsettled", err)
			}
		})
	}
}

// The completing request never arrives: the upload is aborted, so the failure
// is certain and not unsettled.
func TestCompletionNeverArrives(t *testing.T) {
	s, cfg := served(t)
	b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if creates(r) {
			_, _ = io.Copy(io.Discard, r.Body)
			drop(w)
			return
		}
		server.ServeHTTP(w, r)
	})
	err := create(t, b, 9<<20)
	refused(t, err, fault.Storage, "CompleteMultipartUpload", "after 6 attempts")
	if errors.Is(err, storage.ErrUnsettled) {
		t.Error("the upload is aborted: there is nothing unsettled")
	}
	noUploads(t, b)
}

// broken lets n bytes of each reply to a GetObject through, then resets, for
// the first so many replies.
func broken(n int64, times int32, gets *atomic.Int32) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method != http.MethodGet || r.URL.Query().Has("list-type") || gets.Add(1) > times {
			server.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		server.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = io.CopyN(w, rec.Body, n)
		_ = http.NewResponseController(w).Flush()
		drop(w)
	}
}

func TestResume(t *testing.T) {
	s, cfg := served(t)
	data := bytes.Repeat([]byte("0123456789abcde"), 200_000)
	if _, err := opened(t, cfg).Create(t.Context(), "key", bytes.NewReader(data), -1); err != nil {
		t.Fatal(err)
	}
	var gets atomic.Int32
	b := meddled(t, s.Endpoint, cfg, broken(300_001, 4, &gets))
	got, err := storage.ReadAll(t.Context(), b, "key", 1<<30)
	if err != nil || !bytes.Equal(got, data) || gets.Load() != 5 {
		t.Errorf("%d of %d bytes after %d requests, %v", len(got), len(data), gets.Load(), err)
	}

	gets.Store(0)
	r, err := b.Open(t.Context(), "key", 1000, 2_000_000)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[1000:2_001_000]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
}

// Connections that always break: an error, not an endless loop, and not io.EOF.
func TestResumeIsBounded(t *testing.T) {
	s, cfg := served(t)
	if err := create(t, opened(t, cfg), 1<<20); err != nil {
		t.Fatal(err)
	}
	var gets atomic.Int32
	b := meddled(t, s.Endpoint, cfg, broken(1000, 1<<30, &gets))
	got, err := storage.ReadAll(t.Context(), b, "key", 1<<30)
	refused(t, err, fault.Storage, "GetObject", "before the end")
	if len(got) > 0 || gets.Load() > 2*int32(b.cfg.MaxAttempts) {
		t.Errorf("%d bytes after %d requests", len(got), gets.Load())
	}
}

// The object is another one when the stream is taken up again.
func TestResumeOfAnotherObject(t *testing.T) {
	s, cfg := served(t)
	direct := opened(t, cfg)
	if err := create(t, direct, 1<<20); err != nil {
		t.Fatal(err)
	}
	var gets atomic.Int32
	cut := broken(1000, 1, &gets)
	b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if gets.Load() == 1 {
			if err := direct.Delete(context.Background(), "key"); err != nil {
				t.Error(err)
			}
			if _, err := direct.Create(context.Background(), "key", strings.NewReader(strings.Repeat("y", 1<<20)), -1); err != nil {
				t.Error(err)
			}
		}
		cut(w, r, server)
	})
	_, err := storage.ReadAll(t.Context(), b, "key", 1<<30)
	refused(t, err, fault.Storage, "PreconditionFailed")
}

// A body that ends early and cleanly, as from a proxy that closes.
func TestShortBody(t *testing.T) {
	b, _ := faked(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = buf.WriteString("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 100\r\nConnection: close\r\n\r\n0123456789")
		_ = buf.Flush()
	})
	_, err := storage.ReadAll(t.Context(), b, "key", 1<<30)
	refused(t, err, fault.Storage)
	// Without a length nobody could tell whether all came.
	b, _ = faked(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "0123")
		_ = http.NewResponseController(w).Flush()
	})
	_, err = b.Open(t.Context(), "key", 0, -1)
	refused(t, err, fault.Storage, "how long")
}

// A server that ignores ranges must not pass the beginning for the middle.
func TestIgnoredRange(t *testing.T) {
	b, _ := faked(t, says(200, strings.Repeat("x", 100)))
	_, err := b.Open(t.Context(), "key", 10, 20)
	refused(t, err, fault.Storage, "bytes=10-29")
	b, _ = faked(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-19/100")
		says(206, strings.Repeat("x", 20))(w, nil)
	})
	_, err = b.Open(t.Context(), "key", 10, 20)
	refused(t, err, fault.Storage, "bytes 0-19/100")
}

// Servers that stop in the middle of anything: the stall is noticed and named.
func TestStalled(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) }) // before the servers' own cleanup waits
	for name, answer := range map[string]http.HandlerFunc{
		"at once": func(http.ResponseWriter, *http.Request) { <-hang },
		"in the body": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(404)
				return
			}
			if r.Header.Get("Range") != "" {
				<-hang
			}
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("ETag", `"x"`)
			_, _ = io.WriteString(w, "<ListBucketResult>")
			_ = http.NewResponseController(w).Flush()
			<-hang
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			srv := httptest.NewServer(answer)
			t.Cleanup(func() { srv.CloseClientConnections() })
			b := opened(t, Config{Bucket: "backups", Endpoint: srv.URL, AccessKeyID: "key", SecretAccessKey: "the-secret",
				StallTimeout: 20 * time.Millisecond, MaxAttempts: 2})
			every(t, b, func(t *testing.T, err error) {
				if (err == nil || strings.HasSuffix(t.Name(), "/Create")) && name == "in the body" {
					return // the headers alone are an answer to these
				}
				refused(t, err, fault.Storage, "stalled", srv.URL)
			})
		})
	}
}

// A small object whose answer proves it is one request: a delta every second
// must not cost six.
func TestASmallCreateIsOneRequest(t *testing.T) {
	s, cfg := served(t)
	var requests atomic.Int64
	b := meddled(t, s.Endpoint, cfg, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		requests.Add(1)
		server.ServeHTTP(w, r)
	})
	if _, err := b.Create(t.Context(), "small", strings.NewReader("a small one"), 11); err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}
