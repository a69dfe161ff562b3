package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"
)

// Mail is a channel by SMTP.
type Mail struct {
	Name     string
	Server   string // host:port
	Security string // "tls" from the first byte, "starttls", or "none", which is for this machine only
	User     string
	Password string
	From     string
	To       []string
	Roots    *x509.CertPool // nil: the system's
}

// Label is its name.
func (c Mail) Label() string { return c.Name }

// Check reports what is not right.
func (c Mail) Check() error {
	host, _, err := net.SplitHostPort(c.Server)
	if err != nil {
		return fmt.Errorf("mail %s: the server is a host and a port, as in mail.example:465", c.Name)
	}
	if ip := net.ParseIP(host); c.Security == "none" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("mail %s: without encryption to this machine only", c.Name)
	}
	if c.Security != "tls" && c.Security != "starttls" && c.Security != "none" {
		return fmt.Errorf("mail %s: security is tls, starttls or none", c.Name)
	}
	if len(c.To) == 0 {
		return fmt.Errorf("mail %s: to nobody", c.Name)
	}
	for _, a := range append([]string{c.From}, c.To...) {
		if _, err := mail.ParseAddress(a); err != nil {
			return fmt.Errorf("mail %s: %q is not an address", c.Name, a)
		}
	}
	return nil
}

// Send delivers the message to the server.
func (c Mail) Send(ctx context.Context, m Message) error {
	if err := c.Check(); err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	// net/smtp knows no contexts: closing the connection ends what it waits
	// for, the server's greeting as well.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	client, err := c.greet(conn)
	if err == nil {
		err = c.converse(client, m)
	}
	var answer *textproto.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &answer) && answer.Code >= 500:
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	return err
}

// greet makes the connection a conversation, encrypted as it was asked for.
func (c Mail) greet(conn net.Conn) (*smtp.Client, error) {
	host, _, _ := net.SplitHostPort(c.Server) //nolint:errcheck // checked
	settings := &tls.Config{ServerName: host, RootCAs: c.Roots, MinVersion: tls.VersionTLS12}
	if c.Security == "tls" {
		conn = tls.Client(conn, settings)
	}
	client, err := smtp.NewClient(conn, host)
	if err != nil || c.Security != "starttls" {
		return client, err
	}
	if ok, _ := client.Extension("STARTTLS"); !ok {
		return nil, fmt.Errorf("%w: the server offers no STARTTLS", errPermanent)
	}
	return client, client.StartTLS(settings)
}

func (c Mail) converse(client *smtp.Client, m Message) error {
	if c.User != "" {
		host, _, _ := net.SplitHostPort(c.Server) //nolint:errcheck // checked
		if err := client.Auth(smtp.PlainAuth("", c.User, c.Password, host)); err != nil {
			return fmt.Errorf("log in: %w", err)
		}
	}
	if err := client.Mail(address(c.From)); err != nil {
		return err
	}
	for _, to := range c.To {
		if err := client.Rcpt(address(to)); err != nil {
			return err
		}
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(c.compose(m)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	client.Quit() //nolint:errcheck // it is delivered
	return nil
}

func address(s string) string {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return s
	}
	return a.Address
}

// compose writes the mail. Titles are one line, and coded where they are not
// plain: what an error says cannot become a header.
func (c Mail) compose(m Message) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	domain := address(c.From)[strings.LastIndex(address(c.From), "@")+1:]
	header("From", c.From)
	header("To", strings.Join(c.To, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", oneLine(headline(m))))
	header("Date", m.At.Format(time.RFC1123Z))
	header("Message-ID", "<"+rand.Text()+"@"+domain+">")
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	q.Write([]byte(strings.ReplaceAll(plain(m), "\n", "\r\n") + "\r\n")) //nolint:errcheck // to memory
	q.Close()                                                            //nolint:errcheck // to memory
	return b.Bytes()
}
