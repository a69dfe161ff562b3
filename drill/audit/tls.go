package audit

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// tls asks for everything that a handshake tells.
func (a *audit) tls(ctx context.Context) {
	if a.URL.Scheme != "https" {
		a.fail("EMS-TLS-001", "", "the service is used in clear", a.home.line())
		for _, r := range tlsRules[1:] {
			a.skip(r.ID, "there is no TLS (EMS-TLS-001)")
		}
		return
	}
	state, err := a.handshake(ctx, &tls.Config{ServerName: a.URL.Hostname()})
	if err != nil {
		for _, r := range tlsRules {
			a.failed(r.ID, "", err)
		}
		return
	}
	a.pass("EMS-TLS-001", "", tls.VersionName(state.Version))
	a.certificate(state.PeerCertificates)
	a.refuses(ctx, "EMS-TLS-004", "TLS 1.1 and older", &tls.Config{ServerName: a.URL.Hostname(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}) //nolint:gosec // that is the question
	var weak []uint16
	for _, s := range tls.InsecureCipherSuites() {
		weak = append(weak, s.ID)
	}
	a.refuses(ctx, "EMS-TLS-005", "weak suites", &tls.Config{ServerName: a.URL.Hostname(), MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, CipherSuites: weak}) //nolint:gosec // that is the question
	a.nameless(ctx)
	a.plain(ctx)
}

// errDial tells that there was no connection to shake hands on.
var errDial = errors.New("no connection")

func (a *audit) handshake(ctx context.Context, cfg *tls.Config) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if a.c.made.Add(1) > a.c.limit {
		return tls.ConnectionState{}, errBudget
	}
	raw, err := a.c.dial(ctx, "tcp", hostPort(a.URL))
	if err != nil {
		return tls.ConnectionState{}, fmt.Errorf("%w: %w", errDial, err)
	}
	defer raw.Close()
	cfg.InsecureSkipVerify = true // the certificate has rules of its own
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

// refuses passes if a handshake fails.
func (a *audit) refuses(ctx context.Context, id, what string, cfg *tls.Config) {
	state, err := a.handshake(ctx, cfg)
	switch {
	case errors.Is(err, errDial), errors.Is(err, errBudget):
		a.failed(id, "", err)
	case err != nil:
		a.pass(id, "", what+" are refused", err.Error())
	default:
		a.fail(id, "", what+" are taken", tls.VersionName(state.Version)+" "+tls.CipherSuiteName(state.CipherSuite))
	}
}

func (a *audit) certificate(chain []*x509.Certificate) {
	leaf, now := chain[0], a.Now()
	evidence := []string{"names " + strings.Join(append(leaf.DNSNames, ips(leaf)...), ", "), "issued by " + leaf.Issuer.String(), "until " + leaf.NotAfter.UTC().Format(time.DateTime) + " UTC"}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	at := now
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter // its age is another rule's
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: a.URL.Hostname(), Roots: a.Roots, Intermediates: between, CurrentTime: at}); err != nil {
		a.fail("EMS-TLS-002", "", err.Error(), evidence...)
	} else {
		a.pass("EMS-TLS-002", "", "verified", evidence...)
	}
	left := leaf.NotAfter.Sub(now)
	words := fmt.Sprintf("%d days are left", int(left.Hours()/24))
	switch {
	case left <= 0:
		a.fail("EMS-TLS-003", "", "it has expired", evidence[2])
	case left < 14*24*time.Hour && left < leaf.NotAfter.Sub(leaf.NotBefore)/5:
		a.fail("EMS-TLS-003", "", words, evidence[2])
	default: // the short-lived ones are renewed every few days
		a.pass("EMS-TLS-003", "", words, evidence[2])
	}
}

func ips(c *x509.Certificate) (list []string) {
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

// nameless shakes hands without a name, and asks by address.
func (a *audit) nameless(ctx context.Context) {
	if net.ParseIP(a.URL.Hostname()) != nil {
		a.skip("EMS-TLS-006", "the service is asked by its address, not by a name")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a.c.made.Add(1)
	raw, err := a.c.dial(ctx, "tcp", hostPort(a.URL))
	if err != nil {
		a.failed("EMS-TLS-006", "", err)
		return
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // that is the question
	if err := conn.HandshakeContext(ctx); err != nil {
		a.pass("EMS-TLS-006", "", "the handshake is refused", err.Error())
		return
	}
	conn.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // a read without an end is bounded by ctx's closing
	host := raw.RemoteAddr().String()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nConnection: close\r\n\r\n", host, agent)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		a.pass("EMS-TLS-006", "", "not answered", err.Error())
		return
	}
	defer resp.Body.Close()
	x := answer{request: request{method: "GET", path: "/", host: host}, status: resp.StatusCode, header: resp.Header}
	x.body, _ = readBody(resp)
	if x.status == a.home.status && same(x, a.home) && x.status != 421 {
		a.fail("EMS-TLS-006", "", "served to whoever has the address", x.line())
		return
	}
	a.pass("EMS-TLS-006", "", "not served", x.line())
}

// plain asks the port without TLS.
func (a *audit) plain(ctx context.Context) {
	if a.Plain == nil {
		a.skip("EMS-TLS-007", "the service has an unusual port; --http URL names its plain one")
		return
	}
	x := a.c.do(ctx, request{path: "/", to: a.Plain})
	if x.err != nil {
		if errors.Is(x.err, errBudget) {
			a.failed("EMS-TLS-007", "", x.err)
			return
		}
		a.pass("EMS-TLS-007", a.Plain.Host, "nothing answers there", x.line())
		return
	}
	to, err := url.Parse(x.header.Get("Location"))
	evidence := x.line() + ", Location: " + x.header.Get("Location")
	switch {
	case err != nil || x.status < 300 || x.status > 399 || to.Scheme != "https":
		a.fail("EMS-TLS-007", a.Plain.Host, "served in clear", x.line())
	case to.Hostname() != a.URL.Hostname():
		a.fail("EMS-TLS-007", a.Plain.Host, "leads to another host", evidence)
	case x.status != http.StatusMovedPermanently && x.status != http.StatusPermanentRedirect:
		a.warn("EMS-TLS-007", a.Plain.Host, "the redirect is not for ever, so that browsers ask in clear again", evidence)
	default:
		a.pass("EMS-TLS-007", a.Plain.Host, "redirected", evidence)
	}
}
