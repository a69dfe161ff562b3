package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"
	"time"
)

// post office: a small SMTP server, with or without TLS.
type office struct {
	addr     string
	roots    *x509.CertPool
	mails    chan string // commands and the mail, as they came
	implicit bool
	refuse   string // answer to RCPT
	silent   bool   // accepts and says nothing
	accepted chan struct{}
}

func newOffice(t *testing.T, o *office) *office {
	certificate := httptest.NewUnstartedServer(nil) // for its certificate
	certificate.StartTLS()
	t.Cleanup(certificate.Close)
	settings := &tls.Config{Certificates: certificate.TLS.Certificates}
	o.roots = x509.NewCertPool()
	o.roots.AddCert(certificate.Certificate())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o.addr, o.mails, o.accepted = l.Addr().String(), make(chan string, 10), make(chan struct{}, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go o.serve(conn, settings)
		}
	}()
	return o
}

func (o *office) serve(conn net.Conn, settings *tls.Config) {
	defer func() { conn.Close() }()
	o.accepted <- struct{}{}
	if o.silent {
		io.Copy(io.Discard, conn) //nolint:errcheck // until the client has had enough
		return
	}
	if o.implicit {
		conn = tls.Server(conn, settings)
	}
	r := bufio.NewReader(conn)
	say := func(line string) { io.WriteString(conn, line+"\r\n") } //nolint:errcheck // the client will notice
	say("220 office")
	var seen strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		seen.WriteString(line)
		switch verb, _, _ := strings.Cut(strings.TrimSpace(strings.ToUpper(line)), " "); verb {
		case "EHLO":
			say("250-office")
			if _, secure := conn.(*tls.Conn); !secure {
				say("250-STARTTLS")
			}
			say("250 AUTH PLAIN")
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, settings)
			r = bufio.NewReader(conn)
		case "RCPT":
			if o.refuse != "" {
				say(o.refuse)
			} else {
				say("250 ok")
			}
		case "AUTH":
			say("235 welcome")
		case "DATA":
			say("354 go on")
			for line := ""; line != ".\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					return
				}
				seen.WriteString(line)
			}
			say("250 taken")
			o.mails <- seen.String()
		default:
			say("250 ok")
		}
	}
}

func TestMail(t *testing.T) {
	t.Parallel()
	m := Message{Host: "h", Severity: Problem, Title: "app\r\nBcc: thief@example.com\r\nfailed: ü", Text: "line 1\n.\nline 2 with ü and " + strings.Repeat("long ", 100), At: start}
	for _, security := range []string{"tls", "starttls", "none"} {
		o := newOffice(t, &office{implicit: security == "tls"})
		c := Mail{Name: "mail", Server: o.addr, Security: security, User: "me", Password: "hunter2", From: "Emsafe <emsafe@example.com>", To: []string{"a@example.com", "b@example.com"}, Roots: o.roots}
		if err := c.Send(t.Context(), m); err != nil {
			t.Errorf("%s: %v", security, err)
			continue
		}
		got := <-o.mails
		commands, data, _ := strings.Cut(got, "DATA\r\n")
		if want := "MAIL FROM:<emsafe@example.com>"; !strings.Contains(commands, want) || strings.Count(commands, "RCPT TO:") != 2 || (security == "starttls") != strings.Contains(commands, "STARTTLS") {
			t.Errorf("%s: %q", security, commands)
		}
		parsed, err := mail.ReadMessage(strings.NewReader(strings.TrimSuffix(data, ".\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		subject, _ := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
		body, err := io.ReadAll(quotedprintable.NewReader(parsed.Body))
		if subject != "[problem] h: app Bcc: thief@example.com failed: ü" || parsed.Header.Get("Bcc") != "" || err != nil ||
			!strings.Contains(string(body), "line 1\r\n..\r\nline 2 with ü") && !strings.Contains(string(body), "line 1\r\n.\r\nline 2 with ü") {
			t.Errorf("%s: %q %q %v", security, subject, body, err)
		}
		if _, err := parsed.Header.Date(); err != nil {
			t.Error(err)
		}
	}
}

func TestMailFails(t *testing.T) {
	t.Parallel()
	good := newOffice(t, &office{})
	c := Mail{Name: "mail", Server: good.addr, Security: "starttls", From: "a@example.com", To: []string{"b@example.com"}}
	if err := c.Send(t.Context(), Message{}); err == nil || errors.Is(err, errPermanent) {
		t.Error("a certificate that nobody vouches for:", err)
	}
	c.Roots = newOffice(t, &office{}).roots
	for answer, permanent := range map[string]bool{"550 no such user": true, "450 later": false} {
		o := newOffice(t, &office{refuse: answer})
		c.Server, c.Roots = o.addr, o.roots
		if err := c.Send(t.Context(), Message{}); err == nil || errors.Is(err, errPermanent) != permanent {
			t.Errorf("%s: %v", answer, err)
		}
	}
	silent := newOffice(t, &office{silent: true})
	ctx, cancel := context.WithCancel(t.Context())
	c.Server = silent.addr
	done := make(chan error)
	go func() { done <- c.Send(ctx, Message{}) }()
	<-silent.accepted
	time.Sleep(50 * time.Millisecond) // so that it waits for the greeting
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("a server that says nothing cannot be left")
	}
	for _, bad := range []Mail{
		{Server: "mail.example.com", Security: "tls", From: "a@x", To: []string{"b@x"}},
		{Server: "mail.example.com:25", Security: "none", From: "a@x", To: []string{"b@x"}},
		{Server: "localhost:25", Security: "", From: "a@x", To: []string{"b@x"}},
		{Server: "localhost:25", Security: "none", From: "a@x"},
		{Server: "localhost:25", Security: "none", From: "a@x", To: []string{"b"}},
	} {
		if err := bad.Send(t.Context(), Message{}); !errors.Is(err, errPermanent) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
