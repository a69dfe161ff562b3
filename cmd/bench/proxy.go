package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// proxy stands before the S3 server and counts requests.
type proxy struct {
	endpoint string
	server   *http.Server

	mu     sync.Mutex
	counts map[string]int // by method
}

func startProxy(to string) (*proxy, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{endpoint: "http://" + l.Addr().String(), counts: map[string]int{}}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}, ErrorLog: log.New(io.Discard, "", 0)}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.counts[r.Method]++
		p.mu.Unlock()
		forward.ServeHTTP(w, r)
	})}
	go p.server.Serve(l) //nolint:errcheck // it ends with Close
	return p, nil
}

func (p *proxy) close() { p.server.Close() }

// take says how many requests came since it was asked last, and of what kind.
func (p *proxy) take() (n int, kinds string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for method, count := range p.counts {
		n += count
		list = append(list, fmt.Sprintf("%d %s", count, method))
	}
	slices.Sort(list)
	p.counts = map[string]int{}
	return n, strings.Join(list, ", ")
}
