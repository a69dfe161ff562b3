package daemon

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Webhook posts a message in the shape that a service wants.
type Webhook struct {
	Name   string
	URL    string            // a secret with most services
	Shape  string            // one of Shapes
	Token  string            // ntfy, gotify, matrix: what they ask for besides the URL
	Room   string            // telegram: the chat; matrix: the room
	Header map[string]string // more headers, for json
}

// request is what a shape makes of a message.
type request struct {
	method string // "": POST
	path   string // below the URL
	kind   string // content type; "": JSON
	body   any    // JSON, or []byte
	header map[string]string
}

var shapes = map[string]func(Webhook, Message) request{
	"json":     func(w Webhook, m Message) request { return request{body: m, header: w.Header} },
	"slack":    slack,
	"discord":  discord,
	"ntfy":     ntfy,
	"gotify":   gotify,
	"telegram": telegram,
	"matrix":   matrix,
}

// Shapes are the services that are known.
func Shapes() []string { return slices.Sorted(maps.Keys(shapes)) }

// headline is the first line of every message.
func headline(m Message) string { return fmt.Sprintf("[%s] %s: %s", m.Severity, m.Host, m.Title) }

// plain is a message for people.
func plain(m Message) string {
	var b strings.Builder
	b.WriteString(headline(m))
	if m.Text != "" {
		b.WriteString("\n" + m.Text)
	}
	if !m.Since.IsZero() && m.Severity != Problem {
		fmt.Fprintf(&b, "\nsince %s, %d times", m.Since.Format("2006-01-02 15:04 MST"), m.Times)
	}
	if m.Run != "" {
		b.WriteString("\nrun " + m.Run)
	}
	return b.String()
}

func slack(_ Webhook, m Message) request {
	return request{body: map[string]any{"text": strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(plain(m))}}
}

func discord(_ Webhook, m Message) request {
	text := []rune(plain(m))
	return request{body: map[string]any{"content": string(text[:min(len(text), 2000)]), "allowed_mentions": map[string]any{"parse": []string{}}}}
}

func ntfy(w Webhook, m Message) request {
	priority, tag := "4", "rotating_light"
	switch m.Severity {
	case Recovered, Info:
		priority, tag = "3", "white_check_mark"
	}
	header := map[string]string{"Title": mime.BEncoding.Encode("utf-8", oneLine(headline(m))), "Priority": priority, "Tags": tag}
	if w.Token != "" {
		header["Authorization"] = "Bearer " + w.Token
	}
	text, _ := strings.CutPrefix(plain(m), headline(m))
	return request{kind: "text/plain; charset=utf-8", body: []byte(strings.TrimPrefix(text, "\n")), header: header}
}

func gotify(w Webhook, m Message) request {
	priority := 8
	if m.Severity == Recovered || m.Severity == Info {
		priority = 4
	}
	return request{path: "message", body: map[string]any{"title": headline(m), "message": plain(m), "priority": priority}, header: map[string]string{"X-Gotify-Key": w.Token}}
}

func telegram(w Webhook, m Message) request {
	return request{path: "bot" + w.Token + "/sendMessage", body: map[string]any{"chat_id": w.Room, "text": plain(m), "disable_web_page_preview": true}}
}

func matrix(w Webhook, m Message) request {
	return request{
		method: http.MethodPut, path: "_matrix/client/v3/rooms/" + url.PathEscape(w.Room) + "/send/m.room.message/" + rand.Text(),
		body:   map[string]any{"msgtype": "m.text", "body": plain(m)},
		header: map[string]string{"Authorization": "Bearer " + w.Token},
	}
}

// oneLine keeps a text from becoming two headers.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, unicode.IsControl), " ")
}

// Label is its name.
func (w Webhook) Label() string { return w.Name }

// Check reports what is missing.
func (w Webhook) Check() error {
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf("webhook %s: its URL is not one of http or https", w.Name)
	}
	if shapes[w.Shape] == nil {
		return fmt.Errorf("webhook %s: the shape %q is not known; there are %s", w.Name, w.Shape, strings.Join(Shapes(), ", "))
	}
	if needs := w.Shape == "gotify" || w.Shape == "matrix" || w.Shape == "telegram"; needs && w.Token == "" {
		return fmt.Errorf("webhook %s: %s needs a token", w.Name, w.Shape)
	}
	if needs := w.Shape == "matrix" || w.Shape == "telegram"; needs && w.Room == "" {
		return fmt.Errorf("webhook %s: %s needs a room", w.Name, w.Shape)
	}
	return nil
}

// Send posts the message.
func (w Webhook) Send(ctx context.Context, m Message) error {
	if err := w.Check(); err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	r := shapes[w.Shape](w, m)
	body, raw := r.body.([]byte)
	if !raw {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("%w: %w", errPermanent, err)
		}
	}
	target := w.URL
	if r.path != "" {
		target = strings.TrimSuffix(w.URL, "/") + "/" + r.path
	}
	if r.kind == "" {
		r.kind = "application/json"
	}
	if r.method == "" {
		r.method = http.MethodPost
	}
	return post(ctx, r.method, target, r.kind, body, r.header)
}

// poster follows no redirects: they would take a token to somebody else.
var poster = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// post sends one request. The URL is a secret, and in no error.
func post(ctx context.Context, method, target, kind string, body []byte, header map[string]string) error {
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: the URL cannot be used", errPermanent)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "emsafe")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := poster.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("%s: %w", req.URL.Hostname(), err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode/100 == 5, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("%s: HTTP %d %s", req.URL.Hostname(), resp.StatusCode, oneLine(string(answer)))
	}
	return fmt.Errorf("%s: %w: HTTP %d %s", req.URL.Hostname(), errPermanent, resp.StatusCode, oneLine(string(answer)))
}
