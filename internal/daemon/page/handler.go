package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"emsafe/internal/fault"
	"emsafe/internal/report"
)

// Options are what a page may have besides its overview.
type Options struct {
	// Report writes the page of one drill; ErrNotExist if there is none.
	// Without it drills are listed and not opened.
	Report func(ctx context.Context, w io.Writer, id string) error
	// Every is how often the overview is asked at most; the default is 2 s.
	Every time.Duration
	Now   func() time.Time
}

// ErrNotExist is that there is no such report.
var ErrNotExist = errors.New("there is no such report")

// Handler serves the pages, to be read only: / for everything,
// /databases/NAME, /drills, /drills/ID and /overview.json. All links are
// relative, so that it can be mounted anywhere that ends in a slash.
func Handler(overview func(context.Context) (Overview, error), o Options) http.Handler {
	if o.Every == 0 {
		o.Every = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &server{overview: overview, o: o}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page(func(w io.Writer, v view, _ *http.Request) (bool, error) { return true, v.writeOverview(w) }, ""))
	mux.HandleFunc("GET /drills", s.page(func(w io.Writer, v view, _ *http.Request) (bool, error) { return true, v.writeDrills(w) }, ""))
	mux.HandleFunc("GET /databases/{name}", s.page(func(w io.Writer, v view, r *http.Request) (bool, error) {
		return v.writeDatabase(w, r.PathValue("name"))
	}, "../"))
	mux.HandleFunc("GET /overview.json", s.json)
	mux.HandleFunc("GET /drills/{id}", s.report)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "this page is only for reading", http.StatusMethodNotAllowed)
			return
		}
		http.Error(w, "there is no such page", http.StatusNotFound)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		mux.ServeHTTP(w, r)
	})
}

// harden keeps a browser from doing anything but showing the page.
func harden(h http.Header) {
	for _, line := range [][2]string{
		{"Content-Security-Policy", report.Policy()}, {"X-Content-Type-Options", "nosniff"}, {"X-Frame-Options", "DENY"}, {"Referrer-Policy", "no-referrer"},
		{"Cross-Origin-Resource-Policy", "same-origin"}, {"Cross-Origin-Opener-Policy", "same-origin"}, {"Cache-Control", "no-store"},
		{"Permissions-Policy", "camera=(), geolocation=(), microphone=()"},
	} {
		h.Set(line[0], line[1])
	}
}

type server struct {
	overview func(context.Context) (Overview, error)
	o        Options

	mu    sync.Mutex
	last  Overview
	asked time.Time
}

// ask gives the overview, at most one every while old, and asks once for
// however many wait.
func (s *server) ask(ctx context.Context) (Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.o.Now()
	if age := now.Sub(s.asked); !s.asked.IsZero() && age >= 0 && age < s.o.Every {
		return s.last, nil
	}
	o, err := s.overview(ctx)
	if err != nil {
		return Overview{}, err
	}
	s.last, s.asked = o, now
	return o, nil
}

func (s *server) page(write func(io.Writer, view, *http.Request) (bool, error), root string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o, err := s.ask(r.Context())
		if err != nil {
			failed(w, err)
			return
		}
		var b bytes.Buffer
		switch found, err := write(&b, view{Overview: o, root: root}, r); {
		case err != nil:
			failed(w, err)
		case !found:
			http.Error(w, "there is no such database", http.StatusNotFound)
		default:
			send(w, "text/html; charset=utf-8", b.Bytes())
		}
	}
}

func (s *server) json(w http.ResponseWriter, r *http.Request) {
	o, err := s.ask(r.Context())
	if err != nil {
		failed(w, err)
		return
	}
	text, err := json.Marshal(struct {
		State report.State `json:"state"`
		Overview
	}{o.State(), o})
	if err != nil {
		failed(w, err)
		return
	}
	send(w, "application/json", append(text, '\n'))
}

func (s *server) report(w http.ResponseWriter, r *http.Request) {
	err := ErrNotExist
	var b bytes.Buffer
	if s.o.Report != nil {
		err = s.o.Report(r.Context(), &b, r.PathValue("id"))
	}
	switch {
	case errors.Is(err, ErrNotExist):
		http.Error(w, "there is no such report", http.StatusNotFound)
	case err != nil:
		failed(w, err)
	default:
		send(w, "text/html; charset=utf-8", b.Bytes())
	}
}

// failed says what went wrong as plain text: nothing is known then about how
// things are, and no page may look as if it were.
func failed(w http.ResponseWriter, err error) {
	http.Error(w, "emsafe cannot tell how things are: "+err.Error(), http.StatusServiceUnavailable)
}

func send(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Write(body) //nolint:errcheck // nobody is there to be told
}

// Guard lets in who may see the page. With a token: who shows it as a bearer
// token, or as the password of any user. Without: who came over a loopback
// address or a socket and asked for a name of this machine; a page elsewhere
// cannot reach it by a name of its own that leads here.
func Guard(next http.Handler, token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		if token == "" {
			if !local(r) {
				http.Error(w, "this page is for this machine only", http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		_, given, ok := r.BasicAuth()
		if bearer, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
			given, ok = bearer, true
		}
		got := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="emsafe", charset="UTF-8"`)
			http.Error(w, "the token of the page is needed, as the password", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func local(r *http.Request) bool {
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	ip := net.ParseIP(name)
	named := name == "localhost" || ip != nil && ip.IsLoopback()
	at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch a := at.(type) {
	case *net.UnixAddr:
		return true // its mode says who may
	case *net.TCPAddr:
		return named && a.IP.IsLoopback()
	}
	return false
}

// CheckAddress refuses to serve beyond loopback without a token.
func CheckAddress(address, token string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fault.New(fault.Config, "the page's address %q: %w", address, err)
	}
	ip := net.ParseIP(host)
	if host == "localhost" || ip != nil && ip.IsLoopback() || len(token) >= 16 {
		return nil
	}
	why := "has no token"
	if token != "" {
		why = "has a token of less than 16 characters"
	}
	return fault.New(fault.Config, "the page would be seen beyond this machine at %s and %s", address, why).
		WithRemedy("Listen on 127.0.0.1, or give it a token of at least 16 characters and put a proxy with TLS in front.")
}
