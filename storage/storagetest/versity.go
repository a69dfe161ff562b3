package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a running versitygw, a real S3 server that keeps its objects in a
// folder. Versioning can be switched on per bucket.
type Server struct {
	Endpoint string // http://127.0.0.1:PORT
	Access   string // the root user
	Secret   string
	Folder   string // where the server keeps objects: Folder/BUCKET/KEY

	program string
	cmd     *exec.Cmd
	exited  chan struct{}
	log     *tail
	once    sync.Once
}

// VersityGW starts a server whose life is the test's. A missing program is a
// failure, not a skip: a suite that skips its only real server proves nothing.
func VersityGW(t testing.TB) *Server {
	t.Helper()
	// Not t.TempDir: a path this short also suits a mount point, and a server
	// that still holds files must not fail the test that is over.
	dir, err := os.MkdirTemp("", "versitygw-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := StartVersityGW(dir)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("versitygw said:\n%s", s.log)
		}
	})
	return s
}

// StartVersityGW starts a server that keeps everything below dir, which must
// exist, and returns when it answers. Close ends it.
func StartVersityGW(dir string) (*Server, error) {
	program, err := findVersityGW()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	data, versions, iam := filepath.Join(dir, "data"), filepath.Join(dir, "versions"), filepath.Join(dir, "iam")
	for _, d := range []string{data, versions, iam} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	// Between finding a free port and taking it another process may have it.
	for try := 0; ; try++ {
		s, err := startOnce(program, data, versions, iam)
		if err == nil || try == 4 {
			return s, err
		}
	}
}

func startOnce(program, data, versions, iam string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	s := &Server{
		Endpoint: "http://" + addr, Access: "emsafe", Secret: "emsafe-secret", Folder: data,
		program: program, exited: make(chan struct{}), log: &tail{},
	}
	s.cmd = exec.Command(program, "--quiet", "--port", addr, "--iam-dir", iam, "--health", "/health",
		"posix", "--versioning-dir", versions, data)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.Access, "ROOT_SECRET_KEY="+s.Secret)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start versitygw: %w", err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.ready(30 * time.Second); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) ready(limit time.Duration) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get(s.Endpoint + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return fmt.Errorf("versitygw ended at once: %s", s.log)
		case <-deadline.C:
			return fmt.Errorf("versitygw does not answer after %v: %s", limit, s.log)
		case <-tick.C:
		}
	}
}

// Close kills the server and waits until it is gone.
func (s *Server) Close() {
	s.once.Do(func() {
		_ = s.cmd.Process.Kill()
		<-s.exited
	})
}

// Pid is the server's process, for tests that stop and continue it.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// MakeBucket creates a bucket owned by the root user.
func (s *Server) MakeBucket(name string) error {
	return s.request(http.MethodPut, "/"+name, "", "")
}

// MakeLockedBucket makes a bucket with versioning and Object Lock.
func (s *Server) MakeLockedBucket(name string) error {
	return s.request(http.MethodPut, "/"+name, "", "", "X-Amz-Bucket-Object-Lock-Enabled", "true")
}

// Versioning switches a bucket's versioning on.
func (s *Server) Versioning(bucket string) error {
	return s.request(http.MethodPut, "/"+bucket, "versioning=",
		`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`)
}

// AddUser makes an ordinary user, who may do nothing yet.
func (s *Server) AddUser(access, secret string) error {
	cmd := exec.Command(s.program, "admin", "--access", s.Access, "--secret", s.Secret, "--endpoint-url", s.Endpoint,
		"create-user", "--access", access, "--secret", secret, "--role", "user")
	// A CA bundle in the environment is for real servers, not for this one.
	cmd.Env = append(os.Environ(), "AWS_CA_BUNDLE=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create user %s: %w: %s", access, err, out)
	}
	return nil
}

// Allow replaces the bucket's policy by one that lets access do the actions
// ("s3:PutObject", "s3:ListBucket") and nothing else.
func (s *Server) Allow(bucket, access string, actions ...string) error {
	var onBucket, onObjects []string
	for _, a := range actions {
		if strings.HasPrefix(a, "s3:List") && a != "s3:ListMultipartUploadParts" {
			onBucket = append(onBucket, a)
		} else {
			onObjects = append(onObjects, a)
		}
	}
	var statements []string
	add := func(actions []string, resource string) {
		if len(actions) > 0 {
			statements = append(statements, fmt.Sprintf(
				`{"Effect":"Allow","Principal":{"AWS":[%q]},"Action":["%s"],"Resource":[%q]}`,
				access, strings.Join(actions, `","`), resource))
		}
	}
	add(onBucket, "arn:aws:s3:::"+bucket)
	add(onObjects, "arn:aws:s3:::"+bucket+"/*")
	return s.Policy(bucket, `{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`)
}

// Overwrite stores an object over whatever is there, as an intruder does. It
// returns its version, in a bucket that has them.
func (s *Server) Overwrite(bucket, key, body string) (version string, err error) {
	header, err := s.send(http.MethodPut, "/"+bucket+"/"+key, "", body)
	return header.Get("X-Amz-Version-Id"), err
}

// Erase removes one version of an object for good, or a delete marker.
func (s *Server) Erase(bucket, key, version string) error {
	return s.request(http.MethodDelete, "/"+bucket+"/"+key, "versionId="+version, "")
}

// Delete removes an object, as whoever may; in a bucket with versions it puts a
// delete marker over it, whose version it returns.
func (s *Server) Delete(bucket, key string) (marker string, err error) {
	header, err := s.send(http.MethodDelete, "/"+bucket+"/"+key, "", "")
	return header.Get("X-Amz-Version-Id"), err
}

// Policy replaces the bucket's policy.
func (s *Server) Policy(bucket, policy string) error {
	return s.request(http.MethodPut, "/"+bucket, "policy=", policy)
}

func (s *Server) request(method, path, query, body string, headers ...string) error {
	_, err := s.send(method, path, query, body, headers...)
	return err
}

// send sends one signed request as the root user, with headers by name and
// value.
func (s *Server) send(method, path, query, body string, headers ...string) (http.Header, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	u := s.Endpoint + path
	if query != "" {
		u += "?" + query
	}
	req, err := http.NewRequestWithContext(ctx, method, u, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	sign(req, []byte(body), s.Access, s.Secret, time.Now())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, (&url.URL{Path: path, RawQuery: query}).String(), resp.Status, said)
	}
	return resp.Header, nil
}

func findVersityGW() (string, error) {
	if p, err := exec.LookPath("versitygw"); err == nil {
		return p, nil
	}
	var folders []string
	if bin := os.Getenv("GOBIN"); bin != "" {
		folders = append(folders, bin)
	}
	for _, p := range filepath.SplitList(os.Getenv("GOPATH")) {
		folders = append(folders, filepath.Join(p, "bin"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		folders = append(folders, filepath.Join(home, "go", "bin"))
	}
	for _, dir := range folders {
		if p, err := exec.LookPath(filepath.Join(dir, "versitygw")); err == nil {
			return p, nil
		}
	}
	return "", errors.New("versitygw is not installed: run `make test`, which installs what the tests need")
}

// tail keeps the last part of what a process says.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf.Len() > 64<<10 {
		w.buf.Reset()
	}
	return w.buf.Write(p)
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
